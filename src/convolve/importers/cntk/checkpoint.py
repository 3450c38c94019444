"""Trainer checkpoints of CNTK v2 (.ckp): how far a training had come, its learning rates, the state of its learners.

The weights are in the model file beside it. Momentum schedules and regularization are stored nowhere.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from convolve.errors import FormatError, UnsupportedError, brief
from convolve.graph.graph import Array
from convolve.importers.cntk.v2 import read_top, to_numpy
from convolve.importers.cntk.wire import Record, StoredArray
from convolve.importers.loader import read_bytes


@dataclass(frozen=True, eq=False)
class LearnerState:
    """The state of one learner.

    `learning_rates`: (sample from which on, rate); a rate is for `reference_batch_size` samples or, where that is 0,
    for the mean gradient of a batch of any size. `smoothed_gradients`: in the order of the learner's parameters, the
    slowest axis first; for momentum SGD they are velocities that contain the learning rate already.
    """

    samples_seen: int
    minibatches_seen: int
    sweeps_seen: int
    learning_rates: tuple[tuple[int, float], ...]
    period_samples: int
    reference_batch_size: int
    smoothed_gradients: tuple[Array, ...]
    smoothed_count: float = 0.0  # of Adam's updates, or of the samples that FSAdaGrad has averaged
    noise_seed: int = 1  # of the next Gaussian noise
    values: Mapping[str, Any] = field(default_factory=dict)  # all that is stored, by CNTK's names


@dataclass(frozen=True, eq=False)
class TrainerState:
    """`external` holds what the author's program stored, such as a reader's position."""

    learners: tuple[LearnerState, ...]
    external: Mapping[str, Any]


def read_checkpoint(path: str | Path) -> TrainerState:
    """The state in a .ckp file. Raises FormatError with the byte where it is damaged."""
    top = read_top(read_bytes(path), path)
    if "Learners" not in top.values:
        raise FormatError(path, "byte 0", "this is not a trainer's checkpoint: it has no learners")
    external = top.get("ExternalState", Record, Record(path, 0))
    return TrainerState(tuple(map(_learner, top.list("Learners", Record))), _plain(external))


def _learner(record: Record) -> LearnerState:
    if not record.values:  # a learner that the program defines
        return LearnerState(0, 0, 0, (), period_samples=0, reference_batch_size=0, smoothed_gradients=())
    version = record.get("version", int)
    if version < 3:
        raise UnsupportedError(
            f"{record.path}: byte {record.offset}: a learner's state has version {version}; convolve reads versions "
            f"from 3 on"
        )
    schedule = record.get("learnig_rate_schedule", Record)
    rates = schedule.get("schedule", Record)
    smoothed = tuple(to_numpy(array, record.path) for array in record.list("smoothed_gradients", StoredArray))
    return LearnerState(
        samples_seen=record.get("sample_count", int, 0),
        minibatches_seen=record.get("minibatchCount", int, 0),
        sweeps_seen=record.get("sweepCount", int, 0),
        learning_rates=tuple(sorted((_sample(rates, key), rates.get(key, float)) for key in rates.values)),
        period_samples=schedule.get("epoch_size", int, 0),
        reference_batch_size=schedule.get("ref_mb_size", int, 0),
        smoothed_gradients=smoothed,
        smoothed_count=record.get("smoothed_count", float, 0.0),
        noise_seed=record.get("noise_injection_seed", int, 1),
        values=_plain(record) | {"smoothed_gradients": smoothed},
    )


def _sample(rates: Record, key: str) -> int:
    if not (key.isascii() and key.isdigit() and len(key) < 20):
        raise rates.error(f"a learning rate begins at sample {brief(key)}, which is not a number")
    return int(key)


def _plain(value: Any) -> Any:
    """Records as dicts, lists with all that they contain."""
    if isinstance(value, Record):
        return {key: _plain(item) for key, item in value.values.items()}
    return [_plain(item) for item in value] if isinstance(value, list) else value
