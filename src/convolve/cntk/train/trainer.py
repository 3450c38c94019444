"""The trainer: one minibatch after the other."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from convolve.cntk import feeding, precision, running
from convolve.cntk.logging.writer import ProgressWriter
from convolve.cntk.ops.functions import Function, as_function
from convolve.cntk.train.distributed import Communicator, DistributedLearner
from convolve.cntk.variables import Variable
from convolve.training.precision import Precision


def listed(value: Any) -> list[Any]:
    return [] if value is None else list(value) if isinstance(value, list | tuple) else [value]


class Evaluator:
    """The mean of a metric over minibatches."""

    def __init__(self, eval_function: Any, progress_writers: Any = None) -> None:
        if eval_function is None and not isinstance(self, Trainer):
            raise ValueError("Eval function is not allowed to be null.")
        self.evaluation_function = None if eval_function is None else as_function(eval_function)
        self.writers = listed(progress_writers)
        for writer in self.writers:
            if not isinstance(writer, ProgressWriter):
                raise NotImplementedError(f"a progress writer is needed, such as ProgressPrinter, not {writer!r}")

    def progress_writers(self) -> tuple[Any, ...]:
        return tuple(self.writers)

    def test_minibatch(self, arguments: Any, device: Any = None) -> float:
        if self.evaluation_function is None:
            raise ValueError(
                "Evaluator::TestMinibatch: Cannot test when no evaluation function was specified during construction."
            )
        outputs = (self.evaluation_function.output,)
        given = running.fed(outputs, running.arguments_of(outputs, arguments, ()))
        with torch.no_grad():
            [found] = running.passed(outputs, given, training=False)
        samples = _samples(outputs[0], found, given)
        total = float(found.double().sum())
        for writer in self.writers:
            writer.update_test(samples, total)
        return total / samples

    def print_node_timing(self) -> None:
        """Does nothing: nothing is timed."""

    def summarize_test_progress(self) -> None:
        for writer in self.writers:
            writer.on_test_summary()


class Trainer(Evaluator):
    """`criterion`: the loss, or the loss and a metric; each gives one number per sample."""

    def __init__(self, model: Any, criterion: Any, parameter_learners: Any, progress_writers: Any = None) -> None:
        loss, metric = self._get_loss_metric(criterion)
        super().__init__(metric, progress_writers)
        self.loss_function = loss
        self.model = None if model is None else as_function(model)
        self.parameter_learners = tuple(listed(parameter_learners))
        _require_learners(self.parameter_learners, [each for each in (self.model, loss, metric) if each is not None])
        if len({isinstance(learner, DistributedLearner) for learner in self.parameter_learners}) > 1:
            raise RuntimeError("Cannot use distributed learners together with others: distribute all of them")
        self._last = (0.0, 0.0, 0)
        self._precision: Precision | None = None  # of the steps; chosen by the first minibatch

    @staticmethod
    def _get_loss_metric(criterion: Any) -> tuple[Function, Function | None]:
        """(loss, metric or None) of a trainer's criterion. Private in CNTK, but programs use it."""
        is_both = isinstance(criterion, Function) and len(criterion.outputs) > 1
        found = list(criterion.outputs if is_both else listed(criterion))
        if criterion is None or found[:1] == [None]:
            raise TypeError(f"criterion: a loss is needed, or a loss and a metric, not {criterion!r}")
        if not 1 <= len(found) <= 2:
            raise ValueError("criterion parameter must be a singleton or a tuple of 2 elements")
        return as_function(found[0]), as_function(found[1]) if found[1:] not in ([], [None]) else None

    def train_minibatch(self, arguments: Any, outputs: Any = None, device: Any = None, is_sweep_end: Any = None) -> Any:
        """Whether anything was learned: there were samples, and a rate was not 0. With `outputs`, also their values."""
        wanted = [getattr(each, "output", each) for each in outputs or ()]
        targets = [self.loss_function.output]
        if self.evaluation_function is not None:
            targets.append(self.evaluation_function.output)
        every = tuple(dict.fromkeys([*targets, *wanted]))
        given, found = self._forward(every, arguments)
        samples = _samples(targets[0], found[targets[0]], given) if found else 0
        figures = [float(found[target].detach().double().sum()) if samples else 0.0 for target in targets]
        sharing = self._sharing()
        *figures, total = sharing.totals([*figures, samples]) if sharing else [*figures, samples]
        if not total:
            self._last = (0.0, 0.0, 0)
            self.sync()
            return False if not wanted else (False, {})
        loss = found[targets[0]].sum() if samples else None
        if loss is not None and loss.requires_grad:
            learned = [p.data for learner in self.parameter_learners for p in learner.parameters]
            (loss if sharing else loss / samples).backward(inputs=learned)
        is_end = _is_sweep_end(arguments) if is_sweep_end is None else is_sweep_end
        has_learned = self._step(samples, int(total), bool(sharing), is_end)
        self._count(figures[0], figures[1] if len(targets) > 1 else 0.0, int(total))
        values = {v: feeding.shown(v, found[v].detach(), given, True) for v in wanted if found}
        return (has_learned, running.named(outputs, values)) if wanted else has_learned

    def _forward(self, every: tuple[Variable, ...], arguments: Any) -> tuple[Any, dict[Variable, torch.Tensor]]:
        """(what was fed, the values); nothing for a worker whose part of the minibatch is empty."""
        is_mapping = isinstance(arguments, Mapping)
        if is_mapping and not any(getattr(each, "num_samples", 1) for each in arguments.values()):
            return {}, {}
        given = running.fed(every, running.arguments_of(every, arguments, ()))
        if self._precision is None:
            root = (self.loss_function if self.model is None else self.model).outputs[0]
            self._precision = precision.choose(root, given)
        with torch.enable_grad():
            found = precision.passed(self._precision, every, given, self)
        return given, dict(zip(every, found, strict=True))

    def _step(self, samples: int, total: int, is_shared: bool, is_sweep_end: bool) -> bool:
        """Whether any learner has learned."""
        learned = [
            learner.shared_step(samples, total, is_sweep_end) if is_shared else learner.step(total, is_sweep_end)
            for learner in self.parameter_learners
        ]
        for learner in self.parameter_learners:
            for parameter in learner.parameters:
                parameter.data.grad = None
        return any(learned)

    def _sharing(self) -> Any:
        """The learner that speaks for all, if several workers train together now; else None."""
        first = self.parameter_learners[0] if self.parameter_learners else None
        is_shared = isinstance(first, DistributedLearner) and first.shares(self.total_number_of_samples_seen)
        return first if is_shared else None

    def sync(self) -> None:
        """Give all workers equal weights, if each steps on its own."""
        if sharing := self._sharing():
            sharing.sync()

    @property
    def partition(self) -> dict[str, int]:
        """This worker's part of a minibatch, as arguments of a source's `next_minibatch`."""
        if self._sharing() is None:
            return {}
        return {"num_data_partitions": Communicator.num_workers(), "partition_index": Communicator.rank()}

    def _count(self, loss: float, metric: float, samples: int) -> None:
        self._last = (loss, metric, samples)
        rates = [(each, pair) for each in self.parameter_learners for pair in getattr(each, "rates_used", {}).items()]
        for learner, (what, value) in rates:
            if learner.rates_told.get(what) != value:
                learner.rates_told[what] = value
                self._tell(what, value)
        for writer in self.writers:
            writer.update_training(samples, loss, metric)

    def _tell(self, what: str, value: float) -> None:
        for writer in self.writers:
            writer.write(what, value)

    @property
    def total_number_of_samples_seen(self) -> int:
        """The count of the first learner, which may include samples of an earlier trainer."""
        return int(self.parameter_learners[0].samples_seen)

    @property
    def previous_minibatch_loss_average(self) -> float:
        return self._average(self._last[0])

    def _average(self, total: float) -> float:
        if not self._last[2]:
            raise RuntimeError("There was no preceding call to TrainMinibatch or the minibatch was empty.")
        return total / self._last[2]

    @property
    def previous_minibatch_evaluation_average(self) -> float:
        if self.evaluation_function is None:
            raise ValueError(
                "Trainer::PreviousMinibatchEvaluationAverage: Cannot get evaluation criterion value when no evaluation "
                "function was specified during 'this' trainer's construction"
            )
        return self._average(self._last[1])

    @property
    def previous_minibatch_sample_count(self) -> int:
        return self._last[2]

    def summarize_training_progress(self) -> None:
        self.sync()
        for writer in self.writers:
            writer.on_training_summary()

    def save_checkpoint(self, filename: str, external_state: Any = None) -> None:
        from convolve.cntk import checkpoint

        self.sync()
        if Communicator.is_main():
            checkpoint.save(self, str(filename), {} if external_state is None else external_state)
        Communicator.barrier()

    def restore_from_checkpoint(self, filename: str) -> Any:
        from convolve.cntk import checkpoint

        return checkpoint.restore(self, str(filename))


def _is_sweep_end(arguments: Any) -> bool:
    values = arguments.values() if isinstance(arguments, Mapping) else ()
    return any(getattr(each, "end_of_sweep", False) for each in values)


def _require_learners(learners: Sequence[Any], functions: Sequence[Function]) -> None:
    """There must be at least one learner; each parameter must have one learner only and be part of the network."""
    if not learners:
        raise ValueError("There must be at least one learner.")
    known = {parameter for function in functions for parameter in function.parameters}
    seen: set[Any] = set()
    for learner in learners:
        if not hasattr(learner, "parameters"):
            raise NotImplementedError(f"a learner is needed, such as sgd(...), not {learner!r}")
        for parameter in learner.parameters:
            if parameter in seen:
                raise ValueError(f"Parameter '{parameter}' is covered by 2 different learners")
            if parameter not in known:
                raise ValueError(
                    f"Trainer: the learner's parameter '{parameter}' is not part of the model, the loss or the metric"
                )
        seen.update(learner.parameters)


def _samples(variable: Variable, values: torch.Tensor, given: Mapping[Variable, feeding.Fed]) -> int:
    """How many samples a criterion covers: a loss of sequences has one value per sequence."""
    has_samples = variable.has_batch_axis and values.dim()  # the top-5 error is a single number
    return len(values) if has_samples else max((len(each.tensor) for each in given.values()), default=1)
