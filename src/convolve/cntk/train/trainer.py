"""The trainer: one minibatch after the other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from convolve.cntk import feeding, running
from convolve.cntk.ops.functions import Function, as_function
from convolve.cntk.variables import Variable


def listed(value: Any) -> list[Any]:
    return [] if value is None else list(value) if isinstance(value, list | tuple) else [value]


class Evaluator:
    """The mean of a metric over minibatches."""

    def __init__(self, evaluation_function: Any, progress_writers: Any = None) -> None:
        self.evaluation_function = None if evaluation_function is None else as_function(evaluation_function)
        self.writers = listed(progress_writers)

    def test_minibatch(self, arguments: Any, device: Any = None) -> float:
        if self.evaluation_function is None:
            raise ValueError(
                "Evaluator::TestMinibatch: Cannot test when no evaluation function was specified during construction."
            )
        outputs = (self.evaluation_function.output,)
        given = running.fed(outputs, running.arguments_of(outputs, arguments, ()))
        with torch.no_grad():
            [found] = running.passed(outputs, given, training=False)
        samples = _samples(given)
        total = float(found.double().sum())
        for writer in self.writers:
            writer.update_test(samples, total)
        return total / samples

    def summarize_test_progress(self) -> None:
        for writer in self.writers:
            writer.on_test_summary()


class Trainer(Evaluator):
    """`criterion`: the loss, or the loss and a metric; each gives one number for each sample."""

    def __init__(self, model: Any, criterion: Any, parameter_learners: Any, progress_writers: Any = None) -> None:
        found = (
            criterion.outputs if isinstance(criterion, Function) and len(criterion.outputs) > 1 else listed(criterion)
        )
        found = [each for each in found if each is not None]
        if not found:
            raise ValueError("criterion must be a loss, or a loss and a metric")
        super().__init__(found[1] if len(found) > 1 else None, progress_writers)
        self.loss_function = as_function(found[0])
        self.model = None if model is None else as_function(model)
        self.parameter_learners = listed(parameter_learners)
        self.total_number_of_samples_seen = 0
        self._last = (0.0, 0.0, 0)
        self._total = 0
        self._updates = 0

    def train_minibatch(self, arguments: Any, outputs: Any = None, device: Any = None, is_sweep_end: Any = None) -> Any:
        """Whether there was anything to train on; with `outputs`, their values too."""
        wanted = [getattr(each, "output", each) for each in outputs or ()]
        targets = [self.loss_function.output]
        if self.evaluation_function is not None:
            targets.append(self.evaluation_function.output)
        every = tuple(dict.fromkeys([*targets, *wanted]))
        if isinstance(arguments, Mapping) and not arguments:
            return False if not wanted else (False, {})
        given = running.fed(every, running.arguments_of(every, arguments, ()))
        samples = _samples(given)
        with torch.enable_grad():
            found = dict(zip(every, running.passed(every, given, training=True), strict=True))
        loss = found[targets[0]].sum()
        if loss.requires_grad:
            (loss / samples).backward()
        for learner in self.parameter_learners:
            learner.step(samples)
        for learner in self.parameter_learners:
            for parameter in learner.parameters:
                parameter.data.grad = None
        metric = found[targets[1]].detach().double().sum() if len(targets) > 1 else None
        self._count(
            float(found[targets[0]].detach().double().sum()), None if metric is None else float(metric), samples
        )
        values = {v: feeding.shown(v, found[v].detach(), given, True) for v in wanted}
        return (True, values) if wanted else True

    def _count(self, loss: float, metric: float | None, samples: int) -> None:
        self._last = (loss, metric or 0.0, samples)
        self._total += samples
        self.total_number_of_samples_seen = self._total
        for writer in self.writers:
            for learner in self.parameter_learners:
                for what, value in getattr(learner, "rates_used", {}).items():
                    writer.note_rate(learner, what, value)
            writer.update_training(samples, loss, metric)

    def resume_at(self, samples: int) -> None:
        self._total = self.total_number_of_samples_seen = samples

    @property
    def previous_minibatch_loss_average(self) -> float:
        loss, _, samples = self._last
        return loss / samples if samples else 0.0

    @property
    def previous_minibatch_evaluation_average(self) -> float:
        if self.evaluation_function is None:
            raise ValueError(
                "Trainer::PreviousMinibatchEvaluationAverage: Cannot get evaluation criterion value when no evaluation "
                "function was specified during 'this' trainer's construction"
            )
        _, metric, samples = self._last
        return metric / samples if samples else 0.0

    @property
    def previous_minibatch_sample_count(self) -> int:
        return self._last[2]

    def summarize_training_progress(self) -> None:
        for writer in self.writers:
            writer.on_training_summary()

    def save_checkpoint(self, filename: str, external_state: Any = None) -> None:
        from convolve.cntk import checkpoint

        checkpoint.save(self, str(filename), external_state or {})

    def restore_from_checkpoint(self, filename: str) -> Any:
        from convolve.cntk import checkpoint

        return checkpoint.restore(self, str(filename))


def _samples(given: Mapping[Variable, feeding.Fed]) -> int:
    return max((len(each.tensor) for each in given.values()), default=1)
