"""`training_session`: a training with checkpoints, cross-validation and a test, at the intervals that CNTK counts."""

import operator
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any, NamedTuple

from convolve.cntk import checkpoint
from convolve.cntk.io.config import FULL_DATA_SWEEP, INFINITELY_REPEAT
from convolve.cntk.io.memory import MinibatchSourceFromData, next_data
from convolve.cntk.io.streams import Streams
from convolve.cntk.layers.typing import VariableType
from convolve.cntk.schedules import MinibatchSizes, minibatch_size_schedule
from convolve.cntk.train.trainer import Trainer
from convolve.training.checkpoint import inside


class DataUnit(IntEnum):
    """The unit of frequencies."""

    sample = 1
    minibatch = 2
    sweep = 0


class _Every(NamedTuple):
    period: int
    unit: DataUnit


class _OlderNames:
    """The names that CNTK used for `minibatch_source` and `minibatch_size` before."""

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
    """Where the state is saved, and after how many samples (None: at the end)."""

    filename: Any
    frequency: Any = None
    restore: bool = True
    preserve_all: bool = False

    def __post_init__(self) -> None:
        if self.filename is None and self.frequency:
            raise ValueError("Checkpoint frequency cannot be specified without checkpoint_filename")
        self.every = _every(self.frequency)
        if self.filename == "" and self.every:
            raise ValueError("Checkpoint file name must not be empty if checkpoint frequency is non zero.")


@dataclass
class CrossValidationConfig(_OlderNames):
    """What is evaluated after every `frequency` samples, or units of a `DataUnit` (None: at the end)."""

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
        self.every = _every(self.frequency)
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
    """A program's own session class overrides the methods that begin with `on_`; CNTK 2.7 calls the same ones."""

    def __init__(
        self, trainer: Trainer, mb_source: Any, mb_size: Any, model_inputs_to_streams: Any, max_samples: Any = None,
        progress_frequency: Any = None, checkpoint_config: CheckpointConfig | None = None,
        cv_config: CrossValidationConfig | None = None, test_config: TestConfig | None = None,
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
        self.max_samples = INFINITELY_REPEAT if max_samples is None else operator.index(max_samples)
        if self.max_samples < 0:
            raise OverflowError(f"max_samples must not be negative, but is {max_samples}")
        if not self.max_samples:
            raise ValueError("maxNumTrainingSamples must not be zero.")
        self.checkpoint = checkpoint_config if checkpoint_config and checkpoint_config.filename is not None else None
        has_validation = cv_config and (cv_config.minibatch_source is not None or cv_config.callback is not None)
        self.validation = cv_config if has_validation else None
        self.test = test_config if test_config and test_config.minibatch_source is not None else None
        frequencies = {
            "progress": _every(progress_frequency, OverflowError),
            "checkpoint": self.checkpoint.every if self.checkpoint else None,
            "validation": self.validation.every if self.validation else None,
        }
        self.frequencies = {what: every for what, every in frequencies.items() if every}
        self.saved = self.validations = self.minibatches = self.sweeps = 0
        self._is_stopped = False

    def train(self, device: Any = None) -> None:
        """Train until the source ends or `max_samples` are seen; a checkpoint of an earlier run is continued."""
        self._require_ends()
        goes_on = bool(self.checkpoint and self.checkpoint.restore and self._restore())
        done = {what: self._periods(every) if goes_on else 0 for what, every in self.frequencies.items()}
        self.validations, self.saved = done.get("validation", 0), done.get("checkpoint", 0)  # also continued
        last = dict.fromkeys(self.frequencies, self.trainer.total_number_of_samples_seen if goes_on else 0)
        is_stopped = False
        while self._train_minibatch(is_stopped):
            before, done = done, {what: self._periods(every) for what, every in self.frequencies.items()}
            due = [what for what in self.frequencies if done[what] != before[what]]
            last |= dict.fromkeys(due, self.trainer.total_number_of_samples_seen)
            went_on = [getattr(self, f"_on_{what}")() for what in due]
            is_stopped = self._is_stopped or not all(went_on)
        self._end(last)

    def _require_ends(self) -> None:
        """Sources for evaluation must end."""
        is_endless = self.validation and not self.validation.max_samples
        for what, config in (("Cross validation", self.validation if is_endless else None), ("Test", self.test)):
            if config and config.minibatch_source is not None and config.minibatch_source.is_infinite():
                raise ValueError(f"{what} minibatch source must have a limited number of samples or sweeps.")

    def _train_minibatch(self, is_stopped: bool) -> bool:
        """Whether anything was learned. At the end, the trainer gets an empty minibatch, as in CNTK."""
        wanted = 0 if is_stopped else self._next_size()
        data = next_data(self.source, wanted, self.streams, **self.trainer.partition) if wanted else {}
        # With several workers, others may have data when one has none.
        has_learned = self.trainer.train_minibatch(data)
        self._is_stopped |= self.on_minibatch_end() is False
        if not has_learned:
            return False
        self.minibatches += 1
        self.sweeps += any(each.end_of_sweep for each in data.values())
        return True

    def get_minibatch_size(self) -> int:
        return int(self.sizes[self.trainer.total_number_of_samples_seen])

    def on_minibatch_end(self) -> Any:
        """Called after each minibatch; False ends the training."""

    def on_checkpoint_end(self, index: int) -> None:
        """Called after the state was saved."""

    def on_cross_validation_end(self, index: int, average_error: float, num_samples: int, num_minibatches: int) -> Any:
        """Called after an evaluation; returns whether the training continues."""
        callback = self.validation.callback if self.validation else None
        return callback is None or callback(index, average_error, num_samples, num_minibatches)

    def _next_size(self) -> int:
        seen = self.trainer.total_number_of_samples_seen
        return int(max(min(self.sizes[seen], self.max_samples - seen), 0))

    def _counted(self, unit: DataUnit) -> int:
        """Counted since training began, including restarts."""
        if unit is DataUnit.sample:
            return self.trainer.total_number_of_samples_seen
        return self.minibatches if unit is DataUnit.minibatch else self.sweeps

    def _periods(self, every: _Every) -> int:
        return self._counted(every.unit) // every.period

    def _end(self, last: dict[str, int]) -> None:
        """At the end, do what was not done at the last minibatch; `last`: after how many samples it was done."""
        self.trainer.sync()
        within = {what for what, samples in last.items() if samples != self.trainer.total_number_of_samples_seen}
        for what in ("progress", "checkpoint", "validation"):
            if what in within:
                getattr(self, f"_on_{what}")()
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
        self._save(name)
        self.on_checkpoint_end(self.saved)
        self.saved += 1
        return True

    def _on_validation(self) -> bool:
        assert self.validation
        config = self.validation
        metric, samples, minibatches = 0.0, 0, 0
        if config.minibatch_source is not None:
            metric, samples, minibatches = self._evaluate(config, config.max_samples or FULL_DATA_SWEEP)
            self.trainer.summarize_test_progress()
        goes_on = self.on_cross_validation_end(self.validations, metric, samples, minibatches)
        self.validations += 1
        if not isinstance(goes_on, bool):
            raise RuntimeError(
                f"the callback of a cross-validation must return True to continue or False to stop, not {goes_on!r}"
            )
        return goes_on

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

    def _restore(self) -> bool:
        """Restore the last saved state, if there is one."""
        assert self.checkpoint
        path = Path(str(self.checkpoint.filename))
        numbered = {}
        checkpoint.finish_all(path)
        for each in inside(path.parent):
            match = re.fullmatch(re.escape(path.name) + r"(\d*)\.ckp", each.name)
            if match and each.with_suffix("").exists():
                numbered[int(match.group(1) or sys.maxsize)] = each.with_suffix("")
        last = numbered.get(max(numbered, default=-1))
        if last:
            self.restore_from_checkpoint(str(last))
        if last and last != path:
            self._save(str(path))  # it was killed while it wrote that one
        return bool(last)

    def restore_from_checkpoint(self, filename: str) -> None:
        state = self.trainer.restore_from_checkpoint(filename)
        learner = self.trainer.parameter_learners[0]
        self.minibatches, self.sweeps = (
            learner.total_number_of_minibatches_seen(),
            learner.total_number_of_sweeps_seen(),
        )
        if "TrainingMinibatchSource" in state:
            self.source.restore_from_checkpoint(state["TrainingMinibatchSource"])


def _every(frequency: Any, negative: type[Exception] = NotImplementedError) -> _Every | None:
    """None: at the end only. 0: never."""
    count, unit = frequency if isinstance(frequency, tuple) and len(frequency) == 2 else (frequency, DataUnit.sample)
    if not (count is None or hasattr(count, "__index__")) or unit not in tuple(DataUnit):
        raise TypeError(f"frequency {frequency!r} is not supported; it is a number of samples, or (number, DataUnit)")
    if count is not None and count < 0:
        raise negative(f"frequency {frequency!r} must not be negative; 0 means never")
    return _Every(FULL_DATA_SWEEP if count is None else int(count), DataUnit(unit)) if count != 0 else None


def as_sizes(given: Any, what: str) -> MinibatchSizes:
    """The sizes of minibatches: a number of samples, or the result of minibatch_size_schedule."""
    if not isinstance(given, MinibatchSizes | int):
        raise ValueError(
            f"{what} of type ({type(given)}) not supported. it must be an int or the result of the "
            "minibatch_size_schedule() function"
        )
    return given if isinstance(given, MinibatchSizes) else minibatch_size_schedule(given)


def as_source(source: Any, streams: Any, criterion: Any, repeats: bool = False) -> tuple[Any, Any]:
    """(source, argument -> stream) for a source, or for arrays in the order of the criterion's arguments."""
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
    trainer: Any, mb_source: Any, mb_size: Any, model_inputs_to_streams: Any, progress_frequency: Any = None,
    max_samples: Any = None, checkpoint_config: Any = None, cv_config: Any = None,
    test_config: Any = None,
) -> TrainingSession:  # fmt: skip
    return TrainingSession(
        trainer, mb_source, mb_size, model_inputs_to_streams, max_samples, progress_frequency=progress_frequency,
        checkpoint_config=checkpoint_config, cv_config=cv_config, test_config=test_config,
    )  # fmt: skip
