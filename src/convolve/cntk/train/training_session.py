"""`training_session`: a training with checkpoints, cross-validation and a test, by CNTK's counts."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any, NamedTuple

from convolve.cntk.io.config import FULL_DATA_SWEEP, INFINITELY_REPEAT
from convolve.cntk.io.memory import MinibatchSourceFromData, next_data
from convolve.cntk.io.streams import Streams
from convolve.cntk.layers.typing import VariableType
from convolve.cntk.learners import Schedule, minibatch_size_schedule
from convolve.cntk.train.trainer import Trainer


class DataUnit(IntEnum):
    """What frequencies are counted in."""

    sweep = 0
    sample = 1
    minibatch = 2


class _Every(NamedTuple):
    period: int
    unit: DataUnit


class _OlderNames:
    """What CNTK called `minibatch_source` and `minibatch_size` before."""

    minibatch_source: Any
    minibatch_size: Any
    model_inputs_to_streams: Any
    criterion: Any
    source: Any
    mb_size: Any

    def __post_init__(self) -> None:
        source = self.minibatch_source if self.source is None else self.source
        self.minibatch_source, self.model_inputs_to_streams = as_source(
            source, self.model_inputs_to_streams, self.criterion
        )
        self.sizes = as_sizes(self.mb_size or self.minibatch_size, "minibatch_size")


@dataclass
class CheckpointConfig:
    """Where the state is saved, and after how many samples (none: at the end)."""

    filename: Any
    frequency: Any = None
    restore: bool = True
    preserve_all: bool = False

    def __post_init__(self) -> None:
        if self.filename is None and self.frequency:
            raise ValueError("Checkpoint frequency cannot be specified without checkpoint_filename")


@dataclass
class CrossValidationConfig(_OlderNames):
    """What is evaluated after every `frequency` samples, or so many of a `DataUnit` (none: at the end)."""

    minibatch_source: Any = None
    frequency: Any = None
    minibatch_size: Any = 32
    callback: Callable[..., bool] | None = None
    max_samples: Any = None
    model_inputs_to_streams: Any = None
    criterion: Any = None
    source: Any = None
    mb_size: Any = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.frequency and self.minibatch_source is None and self.callback is None:
            raise ValueError("Either minibatch_source of callback should be specified.")


@dataclass
class TestConfig(_OlderNames):
    """What is evaluated at the end."""

    __test__ = False

    minibatch_source: Any = None
    minibatch_size: Any = 32
    model_inputs_to_streams: Any = None
    criterion: Any = None
    source: Any = None
    mb_size: Any = None


class TrainingSession:
    def __init__(
        self, trainer: Trainer, mb_source: Any, mb_size: Any, model_inputs_to_streams: Any, max_samples: Any,
        progress_frequency: Any, checkpoint_config: CheckpointConfig | None, cv_config: CrossValidationConfig | None,
        test_config: TestConfig | None,
    ) -> None:  # fmt: skip
        if trainer is None:
            raise ValueError("Trainer must not be None.")
        if mb_source is None:
            raise ValueError("Training minibatch source must not be None.")
        source, streams = as_source(mb_source, model_inputs_to_streams, trainer.loss_function, repeats=True)
        if not streams:
            raise ValueError("Mapping between input vars and streams should not be empty.")
        self.trainer, self.source, self.streams = trainer, source, streams
        self.sizes = as_sizes(mb_size, "mb_size")
        self.max_samples = INFINITELY_REPEAT if max_samples is None else max_samples
        self.checkpoint, self.validation, self.test = checkpoint_config, cv_config, test_config
        if checkpoint_config and checkpoint_config.filename is None:
            self.checkpoint = None
        if cv_config and cv_config.minibatch_source is None and cv_config.callback is None:
            self.validation = None
        self.progress_frequency = _every(progress_frequency)
        self.saved = self.validations = self.minibatches = self.sweeps = 0

    def train(self, device: Any = None) -> None:
        """Until the source ends or `max_samples` are seen; a checkpoint of an earlier run goes on."""
        frequencies = {
            "progress": self.progress_frequency,
            "checkpoint": _every(self.checkpoint.frequency) if self.checkpoint else None,
            "validation": _every(self.validation.frequency) if self.validation else None,
        }
        if self.checkpoint and self.checkpoint.restore:
            self._restore()
        done = {what: self._periods(every) for what, every in frequencies.items()}
        self.validations, self.saved = done["validation"], done["checkpoint"]  # numbers go on after a restart
        last = dict.fromkeys(frequencies, self.trainer.total_number_of_samples_seen)
        while True:
            wanted = self._next_size()
            partition = self.trainer.partition
            data = next_data(self.source, wanted, self.streams, **partition) if wanted else {}
            if not data and not (wanted and partition):  # of several workers, the others may have data still
                break
            if not self.trainer.train_minibatch(data):
                break
            self.minibatches += 1
            self.sweeps += any(each.end_of_sweep for each in data.values())
            before, done = done, {what: self._periods(every) for what, every in frequencies.items()}
            due = [what for what in frequencies if done[what] > before[what]]
            last |= dict.fromkeys(due, self.trainer.total_number_of_samples_seen)
            if not all(getattr(self, f"_on_{what}")() for what in due):
                return
        self._end(last)

    def _next_size(self) -> int:
        seen = self.trainer.total_number_of_samples_seen
        return int(min(self.sizes[seen], self.max_samples - seen))

    def _counted(self, unit: DataUnit) -> int:
        """Since training began, restarts included."""
        if unit is DataUnit.sample:
            return self.trainer.total_number_of_samples_seen
        return self.minibatches if unit is DataUnit.minibatch else self.sweeps

    def _periods(self, every: _Every | None) -> int:
        return self._counted(every.unit) // every.period if every else 0

    def _end(self, last: dict[str, int]) -> None:
        """Once more what was not done at the last minibatch; `last`: after how many samples it was."""
        self.trainer.sync()
        within = {what for what, samples in last.items() if samples != self.trainer.total_number_of_samples_seen}
        if "progress" in within:
            self._on_progress()
        if self.validation and "validation" in within:
            self._on_validation()
        if self.checkpoint and "checkpoint" in within:
            self._on_checkpoint()
        if self.test:
            self._evaluate(self.test, FULL_DATA_SWEEP)
            self.trainer.summarize_test_progress()

    def _on_progress(self) -> bool:
        self.trainer.summarize_training_progress()
        return True

    def _on_checkpoint(self) -> bool:
        assert self.checkpoint
        name = str(self.checkpoint.filename)
        if self.checkpoint.preserve_all:
            self._save(f"{name}{self.saved}")
            self.saved += 1
        self._save(name)
        return True

    def _on_validation(self) -> bool:
        assert self.validation
        config = self.validation
        metric, samples, minibatches = 0.0, 0, 0
        if config.minibatch_source is not None:
            metric, samples, minibatches = self._evaluate(config, config.max_samples or FULL_DATA_SWEEP)
            self.trainer.summarize_test_progress()
        self.validations += 1
        return config.callback is None or bool(config.callback(self.validations - 1, metric, samples, minibatches))

    def _evaluate(self, config: Any, max_samples: int) -> tuple[float, int, int]:
        """(the mean of the trainer's metric, samples, minibatches)"""
        source, streams = config.minibatch_source, config.model_inputs_to_streams or self.streams
        state, total, samples, minibatches = source.get_checkpoint_state(), 0.0, 0, 0
        while samples < max_samples:
            data = next_data(source, int(min(config.sizes[samples], max_samples - samples)), streams)
            if not data:
                break
            count = max(each.num_samples for each in data.values())
            total += self.trainer.test_minibatch(data) * count
            samples, minibatches = samples + count, minibatches + 1
            if max_samples == FULL_DATA_SWEEP and any(each.end_of_sweep for each in data.values()):
                break
        source.restore_from_checkpoint(state)
        return total / max(samples, 1), samples, minibatches

    def _save(self, name: str) -> None:
        self.trainer.save_checkpoint(name, {"TrainingMinibatchSource": self.source.get_checkpoint_state()})

    def _restore(self) -> None:
        """The last state that was saved."""
        assert self.checkpoint
        path = Path(str(self.checkpoint.filename))
        numbered = {}
        for each in path.parent.glob(f"{path.name}*") if path.parent.exists() else ():
            if match := re.fullmatch(re.escape(path.name) + r"(\d+)", each.name):
                numbered[int(match.group(1))] = each
        last = path if path.exists() else numbered.get(max(numbered, default=-1))
        state = self.trainer.restore_from_checkpoint(str(last)) if last else {}
        if last and self.trainer.parameter_learners:
            learner = self.trainer.parameter_learners[0]
            self.minibatches, self.sweeps = (
                learner.total_number_of_minibatches_seen,
                learner.total_number_of_sweeps_seen,
            )
        if "TrainingMinibatchSource" in state:
            self.source.restore_from_checkpoint(state["TrainingMinibatchSource"])


def _every(frequency: Any) -> _Every | None:
    count, unit = frequency if isinstance(frequency, tuple) else (frequency, DataUnit.sample)
    return None if not count or count >= FULL_DATA_SWEEP else _Every(int(count), DataUnit(unit))


def as_sizes(given: Any, what: str) -> Schedule:
    """The sizes of minibatches: a number of samples, or what minibatch_size_schedule gives."""
    if given is None:
        raise ValueError(f"{what} must not be None.")
    if not isinstance(given, Schedule | int):
        raise ValueError(
            f"{what} of type ({type(given)}) not supported. it must be an int or the result of the "
            "minibatch_size_schedule() function"
        )
    return given if isinstance(given, Schedule) else minibatch_size_schedule(given)


def as_source(source: Any, streams: Any, criterion: Any, repeats: bool = False) -> tuple[Any, Any]:
    """(source, argument -> stream) of a source, or of arrays in the order of the criterion's arguments."""
    if source is None or isinstance(source, Streams):
        return source, streams
    arrays = source if isinstance(source, tuple) else (source,)
    if criterion is None:
        raise ValueError("when passing data directly in place of a minibatch source, criterion must be given")
    arguments = criterion.signature
    if len(arguments) != len(arrays):
        raise ValueError(
            f"to pass data directly in place of a minibatch source, pass a tuple of {len(arguments)} numpy or scipy "
            "arrays, in the order of the arguments of the criterion function. You passed "
            f"{len(arrays)} value(s)"
        )
    if streams is not None:
        raise ValueError("mapping must not be provided when data is passed directly")
    kinds = [VariableType(argument.shape, argument.dynamic_axes) for argument in arguments]
    limit = INFINITELY_REPEAT if repeats else _rows(arrays[0])
    named = {f"stream_{at}": each for at, each in enumerate(zip(arrays, kinds, strict=True))}
    made = MinibatchSourceFromData(named, max_samples=limit)
    return made, {argument: made.streams[name] for argument, name in zip(arguments, named, strict=True)}


def _rows(array: Any) -> int:
    return array.shape[0] if hasattr(array, "shape") else len(array)


def training_session(
    trainer: Any = None, mb_source: Any = None, mb_size: Any = 32, model_inputs_to_streams: Any = None,
    max_samples: Any = None, progress_frequency: Any = None, checkpoint_config: Any = None, cv_config: Any = None,
    test_config: Any = None,
) -> TrainingSession:  # fmt: skip
    return TrainingSession(
        trainer, mb_source, mb_size, model_inputs_to_streams, max_samples, progress_frequency=progress_frequency,
        checkpoint_config=checkpoint_config, cv_config=cv_config, test_config=test_config,
    )  # fmt: skip
