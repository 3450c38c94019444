"""`criterion.train(...)` and `criterion.test(...)`: a trainer and a training session in one call."""

import sys
from typing import Any

from convolve.cntk.io.memory import next_data
from convolve.cntk.io.streams import Streams
from convolve.cntk.logging.writer import NEVER, ProgressWriter
from convolve.cntk.ops.functions import Function, as_function
from convolve.cntk.train.trainer import Evaluator, Trainer, listed
from convolve.cntk.train.training_session import (
    CheckpointConfig,
    CrossValidationConfig,
    TestConfig,
    TrainingSession,
    as_sizes,
    as_source,
)
from convolve.cntk.variables import Record


class _Collector(ProgressWriter):
    """Keeps what progress writers are told: means of every `period` minibatches, of each epoch, of each evaluation."""

    def __init__(self, period: int = sys.maxsize) -> None:
        self.period = period
        self.updates: list[Record] = []
        self.epochs: list[Record] = []
        self.tests: list[Record] = []
        super().__init__(*(self.period, 0), *(NEVER, 0), *(NEVER, 0))

    def on_write_training_update(self, samples: Any, updates: Any, aggregate_loss: Any, aggregate_metric: Any) -> None:
        count, loss, metric = (pair[1] - pair[0] for pair in (samples, aggregate_loss, aggregate_metric))
        self.updates.append(_means(count, loss, metric))

    def on_write_training_summary(
        self, samples: int, updates: int, summaries: int, aggregate_loss: float, aggregate_metric: float,
        elapsed_milliseconds: int,
    ) -> None:  # fmt: skip
        self.epochs.append(_means(samples, aggregate_loss, aggregate_metric))

    def on_write_test_summary(
        self, samples: int, updates: int, summaries: int, aggregate_metric: float, elapsed_milliseconds: int
    ) -> None:
        self.tests.append(Record(metric=aggregate_metric / max(samples, 1), samples=samples))


def _means(samples: int, loss: float, metric: float) -> Record:
    count = max(samples, 1)
    return Record(loss=loss / count, metric=metric / count, samples=samples)


def train(
    criterion: Function, minibatch_source: Any, minibatch_size: Any = 32, streams: Any = None,
    model_inputs_to_streams: Any = None, parameter_learners: Any = (), callbacks: Any = (),
    progress_frequency: Any = None, max_epochs: Any = None, epoch_size: Any = None, max_samples: Any = None,
) -> Record:  # fmt: skip
    """Losses and metrics: `updates` every `period` minibatches, `epoch_summaries`, a TestConfig's `test_summary`."""
    sizes = _sizes(minibatch_size)
    if max_samples is not None and max_epochs is not None:
        raise ValueError("max_epochs and max_samples are mutually exclusive.")
    if max_samples is None:
        epoch_size = _count(minibatch_source) if epoch_size is None else epoch_size
        max_samples = int((1 if max_epochs is None else max_epochs) * epoch_size)
    every = listed(callbacks)
    configs: list[Any] = []
    for kind in (CheckpointConfig, CrossValidationConfig, TestConfig):
        found = [each for each in every if isinstance(each, kind)]
        configs.append(found[0] if found else None)
    writers = [each for each in every if hasattr(each, "update_training")]
    if progress_frequency is None:
        progress_frequency = epoch_size
    period = sys.maxsize if progress_frequency is None else progress_frequency // int(sizes[0])
    collector = _Collector(writers[0].freq if writers else period)
    trainer = Trainer(None, criterion, listed(parameter_learners), [*writers, collector])
    TrainingSession(
        trainer, minibatch_source, sizes, _mapped(criterion, streams, model_inputs_to_streams), max_samples,
        progress_frequency=progress_frequency, checkpoint_config=configs[0], cv_config=configs[1],
        test_config=configs[2],
    ).train()  # fmt: skip
    nothing = [_means(0, 0.0, 0.0)]
    made = Record(updates=collector.updates, epoch_summaries=collector.epochs)
    found_any = made if collector.epochs else Record(updates=nothing, epoch_summaries=nothing)
    return found_any.updated_with(test_summary=collector.tests[-1]) if configs[2] else found_any


def test(
    criterion: Function, minibatch_source: Any, minibatch_size: Any = 32, streams: Any = None,
    model_inputs_to_streams: Any = None, callbacks: Any = None,
) -> Record:  # fmt: skip
    """The mean of the metric, which is the second output, or of the loss if there is no other output."""
    sizes = _sizes(minibatch_size)
    mapped = _mapped(criterion, streams, model_inputs_to_streams)
    source, mapped = as_source(minibatch_source, mapped, criterion)
    if source.is_infinite():
        raise ValueError("minibatch_source must have a limited number of samples or sweeps.")
    collector = _Collector()
    evaluator = Evaluator(as_function(criterion.outputs[:2][-1]), [*listed(callbacks), collector])
    while data := next_data(source, int(sizes[collector.tested_samples]), mapped):
        evaluator.test_minibatch(data)
    evaluator.summarize_test_progress()
    return collector.tests[-1]


def _sizes(given: Any) -> Any:
    if given is None:
        raise ValueError("minibatch_size must not be None.")
    return as_sizes(given, "minibatch_size")


def _mapped(criterion: Function, streams: Any, given: Any) -> Any:
    if not streams:
        return given
    if given:
        raise ValueError("streams and model_inputs_to_streams are mutually exclusive.")
    return criterion.argument_map(*streams)


def _count(source: Any) -> int:
    if isinstance(source, Streams):
        raise ValueError(
            "epoch_size must be specified, unless max_samples is given or input is given as numpy/scipy arrays."
        )
    first = source[0] if isinstance(source, tuple) else source
    return first.shape[0] if hasattr(first, "shape") else len(first)
