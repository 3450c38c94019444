"""`criterion.train(...)` and `criterion.test(...)`: a trainer, a source and a loop in one call."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from convolve.cntk.io.config import FULL_DATA_SWEEP
from convolve.cntk.io.memory import MinibatchSourceFromData, next_data
from convolve.cntk.learners import Schedule, minibatch_size_schedule
from convolve.cntk.ops.functions import Function, as_function
from convolve.cntk.train.trainer import Evaluator, Trainer, listed
from convolve.cntk.train.training_session import CheckpointConfig, CrossValidationConfig, TestConfig
from convolve.cntk.variables import Record


def _source(data: Any, criterion: Function, streams: Any, max_samples: int) -> tuple[Any, dict[Any, Any]]:
    """(source, argument -> stream) of a source, or of arrays in the order of the arguments."""
    arguments = criterion.signature
    if isinstance(data, np.ndarray | list | tuple):
        arrays = data if isinstance(data, tuple | list) and len(arguments) > 1 else (data,)
        named = {f"stream{at}": array for at, array in enumerate(arrays)}
        data = MinibatchSourceFromData(named, max_samples=max_samples)
    found = [data.streams[name] for name in data.streams]
    if streams is None:
        return data, dict(zip(arguments, found, strict=True))
    return data, dict(zip(arguments, streams, strict=True)) if isinstance(streams, Sequence) else streams


def train(
    criterion: Function, minibatch_source: Any, minibatch_size: Any = 32, streams: Any = None,
    model_inputs_to_streams: Any = None, parameter_learners: Any = (), callbacks: Any = (),
    progress_frequency: Any = None,
    max_epochs: int = 1, epoch_size: Any = None, max_samples: Any = None,
) -> Record:  # fmt: skip
    """Losses and metrics: `updates` of each minibatch, `epoch_summaries` of each epoch."""
    writers, configs = _sorted(callbacks)
    _warn_of_passed_over(configs)
    count = len(minibatch_source[0]) if isinstance(minibatch_source, tuple) else None
    epoch = epoch_size or count or FULL_DATA_SWEEP
    limit = max_samples or (max_epochs * epoch if epoch < FULL_DATA_SWEEP else FULL_DATA_SWEEP)
    source, mapped = _source(minibatch_source, criterion, model_inputs_to_streams or streams, limit)
    outputs = criterion.outputs
    trainer = Trainer(None, tuple(outputs[:2]), listed(parameter_learners), writers)
    sizes = minibatch_size if isinstance(minibatch_size, Schedule) else minibatch_size_schedule(minibatch_size)
    updates: list[Record] = []
    summaries: list[Record] = []
    start = 0
    while trainer.total_number_of_samples_seen < limit:
        seen = trainer.total_number_of_samples_seen
        wanted = int(min(sizes[seen], limit - seen, epoch - seen % epoch))
        data = next_data(source, wanted, mapped)
        if not data or not trainer.train_minibatch(data):
            break
        updates.append(_figures(trainer, len(outputs) > 1))
        if trainer.total_number_of_samples_seen % epoch == 0:
            summaries.append(_mean(updates[start:]))
            start = len(updates)
            trainer.summarize_training_progress()
    if updates[start:]:
        summaries.append(_mean(updates[start:]))
        trainer.summarize_training_progress()
    found = Record(updates=updates, epoch_summaries=summaries)
    for config in configs:
        if isinstance(config, TestConfig) and config.minibatch_source is not None:
            result = test(criterion, config.minibatch_source, config.minibatch_size)
            found = found.updated_with(test_summary=result)
    return found


def test(
    criterion: Function, minibatch_source: Any, minibatch_size: Any = 32, streams: Any = None,
    model_inputs_to_streams: Any = None, callbacks: Any = None,
) -> Record:  # fmt: skip
    """The mean of the metric, which is the last output."""
    writers, _ = _sorted(callbacks or ())
    count = len(minibatch_source[0]) if isinstance(minibatch_source, tuple) else FULL_DATA_SWEEP
    source, mapped = _source(minibatch_source, criterion, model_inputs_to_streams or streams, count)
    evaluator = Evaluator(as_function(criterion.outputs[-1]), writers)
    total, samples = 0.0, 0
    size = int(minibatch_size[0] if isinstance(minibatch_size, Schedule) else minibatch_size)
    while data := next_data(source, size, mapped):
        taken = max(each.num_samples for each in data.values())
        total += evaluator.test_minibatch(data) * taken
        samples += taken
    evaluator.summarize_test_progress()
    return Record(metric=total / max(samples, 1), samples=samples)


def _sorted(callbacks: Any) -> tuple[list[Any], list[Any]]:
    """(progress writers, configurations)"""
    every = listed(callbacks)
    configs = [c for c in every if isinstance(c, CheckpointConfig | CrossValidationConfig | TestConfig)]
    return [c for c in every if c not in configs], configs


def _warn_of_passed_over(configs: list[Any]) -> None:
    for config in configs:
        if not isinstance(config, TestConfig):
            what = type(config).__name__
            warnings.warn(f"criterion.train passes over its {what}; training_session does what it says", stacklevel=3)


def _figures(trainer: Trainer, has_metric: bool) -> Record:
    metric = trainer.previous_minibatch_evaluation_average if has_metric else 0.0
    return Record(
        loss=trainer.previous_minibatch_loss_average, metric=metric, samples=trainer.previous_minibatch_sample_count
    )


def _mean(updates: list[Record]) -> Record:
    samples = sum(update.samples for update in updates)
    means = {name: sum(u[name] * u.samples for u in updates) / samples for name in ("loss", "metric")}
    return Record(**means, samples=samples)
