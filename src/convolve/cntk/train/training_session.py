"""`training_session`: a training with checkpoints, cross-validation and a test, by CNTK's counts."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any, NamedTuple

from convolve.cntk.io.config import FULL_DATA_SWEEP, INFINITELY_REPEAT
from convolve.cntk.io.memory import next_data
from convolve.cntk.learners import Schedule, minibatch_size_schedule
from convolve.cntk.ops.functions import as_function
from convolve.cntk.train.trainer import Evaluator, Trainer


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
    source: Any
    mb_size: Any

    def __post_init__(self) -> None:
        self.minibatch_source = self.minibatch_source if self.source is None else self.source
        self.minibatch_size = self.mb_size or self.minibatch_size


@dataclass
class CheckpointConfig:
    """Where the state is saved, and after how many samples (none: at the end)."""

    filename: Any
    frequency: Any = None
    restore: bool = True
    preserve_all: bool = False


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
        self.trainer, self.source, self.streams = trainer, mb_source, model_inputs_to_streams
        self.sizes = mb_size if isinstance(mb_size, Schedule) else minibatch_size_schedule(mb_size)
        self.max_samples = INFINITELY_REPEAT if max_samples is None else max_samples
        self.checkpoint, self.validation, self.test = checkpoint_config, cv_config, test_config
        self.progress_frequency = _every(progress_frequency)
        self.saved = self.validations = self.minibatches = self.sweeps = 0

    def train(self, device: Any = None) -> None:
        """Until the source ends or `max_samples` are seen; a checkpoint of an earlier run goes on."""
        if self.checkpoint and self.checkpoint.restore:
            self._restore()
        frequencies = {
            "progress": self.progress_frequency,
            "checkpoint": _every(self.checkpoint.frequency) if self.checkpoint else None,
            "validation": _every(self.validation.frequency) if self.validation else None,
        }
        done = {what: self._periods(every) for what, every in frequencies.items()}
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
            if not all(getattr(self, f"_on_{what}")() for what in frequencies if done[what] > before[what]):
                return
        self._end(frequencies)

    def _next_size(self) -> int:
        seen = self.trainer.total_number_of_samples_seen
        return int(min(self.sizes[seen], self.max_samples - seen))

    def _counted(self, unit: DataUnit) -> int:
        """Minibatches and sweeps are counted from this start, samples from the first."""
        if unit is DataUnit.sample:
            return self.trainer.total_number_of_samples_seen
        return self.minibatches if unit is DataUnit.minibatch else self.sweeps

    def _periods(self, every: _Every | None) -> int:
        return self._counted(every.unit) // every.period if every else 0

    def _is_within(self, every: _Every | None) -> bool:
        """Whether a period is not over yet; without a frequency the whole training is one."""
        return every is None or self._counted(every.unit) % every.period > 0

    def _end(self, frequencies: dict[str, _Every | None]) -> None:
        self.trainer.sync()
        if frequencies["progress"] and self._is_within(frequencies["progress"]):
            self._on_progress()
        if self.validation and self._is_within(frequencies["validation"]):
            self._on_validation()
        if self.checkpoint and self._is_within(frequencies["checkpoint"]):
            self._save(str(self.checkpoint.filename))
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
        if config.minibatch_source is None and config.callback:
            self.validations += 1
            return bool(config.callback(self.validations - 1, None, 0, 0))
        metric, samples = self._evaluate(config, config.max_samples or FULL_DATA_SWEEP)
        self.trainer.summarize_test_progress()
        self.validations += 1
        if config.callback:
            return bool(config.callback(self.validations - 1, metric, samples, 0))
        return True

    def _evaluate(self, config: Any, max_samples: int) -> tuple[float, int]:
        source, streams = config.minibatch_source, config.model_inputs_to_streams or self.streams
        size = (
            config.minibatch_size
            if isinstance(config.minibatch_size, Schedule)
            else minibatch_size_schedule(config.minibatch_size)
        )
        evaluator: Evaluator = self.trainer
        if config.criterion is not None:
            criterion = as_function(config.criterion)
            evaluator = Evaluator(as_function(criterion.outputs[-1]), self.trainer.writers)
        state, total, samples = source.get_checkpoint_state(), 0.0, 0
        while samples < max_samples:
            data = next_data(source, int(min(size[samples], max_samples - samples)), streams)
            if not data:
                break
            count = max(each.num_samples for each in data.values())
            total += evaluator.test_minibatch(data) * count
            samples += count
            if max_samples == FULL_DATA_SWEEP and any(each.end_of_sweep for each in data.values()):
                break
        source.restore_from_checkpoint(state)
        return total / max(samples, 1), samples

    def _save(self, name: str) -> None:
        self.trainer.save_checkpoint(name, {"TrainingMinibatchSource": self.source.get_checkpoint_state()})

    def _restore(self) -> None:
        assert self.checkpoint
        name = str(self.checkpoint.filename)
        if not Path(name).exists():
            folder, found = Path(name).parent, []
            for path in folder.glob(f"{Path(name).name}*") if folder.exists() else ():
                if match := re.fullmatch(re.escape(Path(name).name) + r"(\d+)", path.name):
                    found.append((int(match.group(1)), str(path)))
            if not found:
                return
            number, name = max(found)
            self.saved = number + 1
        state = self.trainer.restore_from_checkpoint(name)
        if "TrainingMinibatchSource" in state:
            self.source.restore_from_checkpoint(state["TrainingMinibatchSource"])


def _every(frequency: Any) -> _Every | None:
    count, unit = frequency if isinstance(frequency, tuple) else (frequency, DataUnit.sample)
    return None if not count or count >= FULL_DATA_SWEEP else _Every(int(count), DataUnit(unit))


def training_session(
    trainer: Any = None, mb_source: Any = None, mb_size: Any = 32, model_inputs_to_streams: Any = None,
    max_samples: Any = None, progress_frequency: Any = None, checkpoint_config: Any = None, cv_config: Any = None,
    test_config: Any = None,
) -> TrainingSession:  # fmt: skip
    return TrainingSession(
        trainer, mb_source, mb_size, model_inputs_to_streams, max_samples, progress_frequency=progress_frequency,
        checkpoint_config=checkpoint_config, cv_config=cv_config, test_config=test_config,
    )  # fmt: skip
