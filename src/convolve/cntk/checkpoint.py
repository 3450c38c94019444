"""A trainer's state <-> `X`, the model, and `X.ckp`, which the real CNTK 2.7 reads and writes too."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from convolve.atomic import cannot_write, put, replacing
from convolve.cntk import saving
from convolve.cntk.learners import Learner, Schedule
from convolve.cntk.nodes import Node
from convolve.cntk.ops.functions import Function
from convolve.cntk.variables import shape_in_words
from convolve.cntk.wire_writer import message
from convolve.errors import ConvolveError
from convolve.importers.cntk.checkpoint import LearnerState, read_checkpoint
from convolve.importers.cntk.model import ALL_AXES
from convolve.importers.cntk.wire import Axis as StoredAxis
from convolve.training.checkpoint import inside

if TYPE_CHECKING:
    from convolve.cntk.train.trainer import Trainer

# The tensors of an optimizer's state, in the order in which CNTK lays their blocks side by side.
_SLOTS = {
    "sgd": (), "momentum_sgd": ("velocity",), "nesterov": ("velocity",), "adagrad": ("square",),
    "adadelta": ("square", "delta_square"), "adam": ("square", "mean"), "fsadagrad": ("square", "mean"),
    "rmsprop": ("square", "sign", "factor"),
}  # fmt: skip
_COUNTS = {"adam": "updates", "fsadagrad": "samples_smoothed", "rmsprop": "updates"}


def save(trainer: Trainer, filename: str, external_state: dict[str, Any]) -> None:
    if not isinstance(external_state, Mapping):
        raise AttributeError(f"external_state must be a dictionary, not {type(external_state)}")
    if unnamed := [key for key in external_state if not isinstance(key, str)]:
        raise TypeError(f"the keys of external_state must be strings, not {unnamed[0]!r}")
    model, state = Path(filename), Path(f"{filename}.ckp")
    values = {
        "Version": 1, "Learners": [_inner(learner).create_checkpoint() for learner in trainer.parameter_learners],
        "ExternalState": external_state, "DistributedState": {},
    }  # fmt: skip
    content = message(saving.model_values(_whole(trainer), trainer))
    finish(filename)
    with replacing(_next(model)) as temporary:
        temporary.write_bytes(content)
    with replacing(_next(state)) as temporary:
        temporary.write_bytes(message(values))
    state.unlink(missing_ok=True)  # a new model beside an old state would train on to other weights
    finish(filename)


def finish(filename: str) -> None:
    """Give the files of a checkpoint their names, also where a process was killed as it did so. A checkpoint counts
    from the moment that its state is complete under the name of the next one; its model is so before."""
    for file in (Path(filename), Path(f"{filename}.ckp")) if _next(Path(f"{filename}.ckp")).exists() else ():
        try:
            with suppress(FileNotFoundError):  # it has its name already, or another worker was faster
                put(_next(file), file)
        except OSError as error:
            raise cannot_write(file, error) from error


def finish_all(path: Path) -> None:
    """As `finish`, for all checkpoints whose names begin with that of `path`."""
    for left in inside(path.parent):
        if left.name.startswith(f".{path.name}") and left.name.endswith(".ckp.next"):
            finish(str(path.with_name(left.name.removeprefix(".").removesuffix(".ckp.next"))))


def _next(file: Path) -> Path:
    return file.with_name(f".{file.name}.next")


def restore(trainer: Trainer, filename: str) -> dict[str, Any]:
    finish(filename)
    try:
        state = read_checkpoint(f"{filename}.ckp")
    except ConvolveError as error:
        raise RuntimeError(str(error)) from None
    if len(state.learners) != len(trainer.parameter_learners):
        raise RuntimeError(
            f"{filename}.ckp holds {len(state.learners)} learners, but the trainer has "
            f"{len(trainer.parameter_learners)}"
        )
    for learner, stored in zip(trainer.parameter_learners, state.learners, strict=True):
        _require_fit(_inner(learner), stored, filename)
    saving.take_values(_whole(trainer), saving.load(filename))
    for learner, stored in zip(trainer.parameter_learners, state.learners, strict=True):
        _inner(learner).restore_from_checkpoint(stored.values)
    return dict(state.external)


def _whole(trainer: Trainer) -> Function:
    """What is saved, as by CNTK: model, loss and metric together, and the sums of loss and metric."""
    outputs = [] if trainer.model is None else list(trainer.model.outputs)
    for part, name in (
        (trainer.loss_function, "aggregateLoss"),
        (trainer.evaluation_function, "aggregateEvalMetric"),
    ):
        if part is not None:
            outputs += [part.output, *([_sum(part, name).output] if part.output.has_batch_axis else [])]
    return Function(Node("Combine", list(dict.fromkeys(outputs))))


def _sum(part: Function, name: str) -> Function:
    attributes = {"axis": StoredAxis(ALL_AXES, "AllAxes"), "reductionOpName": "Sum", "reductionKeepDimensions": False}
    return Function(Node("ReduceElements", [part.output], attributes, name))


def _inner(learner: Any) -> Any:
    """The learner inside a distributed one; any other learner itself."""
    return getattr(learner, "learner", learner)


def of_learner(learner: Learner) -> dict[str, Any]:
    values = of_counts(learner) | {
        "noise_injection_seed": learner.noise_seed, "master_parameter_updated": True,
        "smoothed_gradients": [_blocks(learner, weight) for weight in _weights(learner)],
    }  # fmt: skip
    if learner.kind in _COUNTS:
        state = learner.optimizer.state[_weights(learner)[0]]
        values["smoothed_count"] = float(state.get(_COUNTS[learner.kind], torch.zeros(())))
    return values


def restore_learner(learner: Learner, values: Mapping[str, Any]) -> None:
    """Restore what `of_learner` returned, or what a file holds."""
    restore_counts(learner, values)
    learner.noise_seed = values.get("noise_injection_seed", 1)
    slots, count = _SLOTS[learner.kind], values.get("smoothed_count", 0.0)
    for weight, array in zip(_weights(learner), values["smoothed_gradients"], strict=True):
        parts = [array] if len(slots) == 1 else np.split(array, len(slots)) if slots else []
        state = learner.optimizer.state[weight]
        for slot, part in zip(slots, parts, strict=True):
            state[slot] = torch.from_numpy(np.array(part, order="C")).reshape(weight.shape).to(weight)
        if learner.kind in _COUNTS:
            state[_COUNTS[learner.kind]] = torch.tensor(count, dtype=torch.float64)


def of_counts(learner: Any) -> dict[str, Any]:
    """The state of a learner that has only counts."""
    return {
        "type": "Learner", "version": 3, "sample_count": learner.samples_seen,
        "minibatchCount": learner.minibatches_seen, "sweepCount": learner.sweeps_seen,
        "noise_injection_seed": 1, "master_parameter_updated": False,
        "learnig_rate_schedule": _schedule(learner.learning_rate_schedule),
        "smoothed_gradients": [np.zeros((), np.float32) for _ in learner.parameters],
    }  # fmt: skip


def restore_counts(learner: Any, values: Mapping[str, Any]) -> None:
    learner.samples_seen = values.get("sample_count", 0)
    learner.minibatches_seen = values.get("minibatchCount", 0)
    learner.sweeps_seen = values.get("sweepCount", 0)
    if stored := values.get("learnig_rate_schedule"):  # as in CNTK, these rates replace the program's
        schedule = learner.learning_rate_schedule.meant_for(stored["ref_mb_size"])
        schedule.ends = sorted((int(end), value) for end, value in stored["schedule"].items())
        schedule.is_by_sweep, schedule.epoch_size = not stored["epoch_size"], stored["epoch_size"] or 1
        learner.learning_rate_schedule = schedule


def _weights(learner: Learner) -> list[torch.Tensor]:
    return [parameter.data for parameter in learner.parameters]


def _schedule(schedule: Schedule) -> dict[str, Any]:
    size = 0 if schedule.is_by_sweep else schedule.epoch_size
    return {
        "type": "TrainingParameterSchedule", "version": 2, "epoch_size": size,
        "ref_mb_size": schedule.minibatch_size, "schedule": {str(end): value for end, value in schedule.ends},
    }  # fmt: skip


def _blocks(learner: Learner, weight: torch.Tensor) -> NDArray[np.floating]:
    """The state of one parameter: an array of its shape, several as matrices one after the other, or 0 for none."""
    slots = _SLOTS[learner.kind]
    state = learner.optimizer.state.get(weight, {})
    arrays = [state.get(slot, torch.zeros_like(weight)).cpu().numpy() for slot in slots]
    if len(arrays) == 1:
        return np.array(arrays[0])
    if not arrays:
        return np.zeros((), weight.detach().cpu().numpy().dtype)
    return np.concatenate([_matrix(array) for array in arrays])


def _matrix(array: NDArray[Any]) -> NDArray[Any]:
    """A matrix whose rows (columns for CNTK) are the fastest axis; a vector is one of them."""
    return array.reshape(-1, array.shape[-1]) if array.ndim else array.reshape(1, 1)


def _require_fit(learner: Any, stored: LearnerState, filename: str) -> None:
    """Refuse the state of another learner, or of other parameters, before anything changes."""
    theirs = [array.shape for array in stored.smoothed_gradients]
    if learner.kind not in _SLOTS:
        return
    ours = [_blocks(learner, weight).shape for weight in _weights(learner)]
    if len(ours) != len(theirs):
        raise ValueError(
            f"{filename}.ckp belongs to another network: its learner has {len(theirs)} parameters, not {len(ours)}"
        )
    for parameter, wanted, found in zip(learner.parameters, ours, theirs, strict=True):
        if found != wanted and _SLOTS[learner.kind]:
            raise RuntimeError(
                f"{filename}.ckp: the learner's state of {parameter} has the shape {shape_in_words(found)}, not "
                f"{shape_in_words(wanted)}: it belongs to another kind of learner or network"
            )
