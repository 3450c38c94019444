"""The events of a run, line by line as CNTK logged them: people have parsers for these lines."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from convolve.importers.brainscript.job import TrainStep
    from convolve.run_config.evaluation import Figure


class CntkLog:
    """A callback for the events of `run_config.run_job`. Means are over the samples since the previous line. With
    `trace_level` above 0, it also logs each action and the network, as CNTK's binary does."""

    def __init__(self, write: Callable[[str], None], trace_level: int = 0) -> None:
        self._write = write
        self._detail: Callable[[str], None] = write if trace_level > 0 else lambda line: None
        self._describes = trace_level > 0
        self._step: TrainStep | None = None
        self._samples = self._validation_samples = 0  # of an epoch, of its evaluation
        self._epoch = 0
        self._last = _Sums()
        self._names: tuple[str, ...] = ("ce", "errs")

    def __call__(self, event: str, values: dict[str, Any]) -> None:
        handlers: dict[str, Callable[[dict[str, Any]], None]] = {
            "config": self._begin, "progress": self._progress, "epoch": self._finished, "part": self._part,
            "final": self._final, "model": self._model, "best": self._best, "written": self._written,
            "note": self._tell, "warning": self._tell, "action": self._action, "action done": self._action_done,
            "completed": lambda values: self._detail("__COMPLETED__"),
        }  # fmt: skip
        if event in handlers:
            handlers[event](values)

    def _tell(self, values: dict[str, Any]) -> None:
        self._write(values["message"])

    def _action(self, values: dict[str, Any]) -> None:
        title = f"# {values['command']} command ({values['action']} action)"
        rule, empty = "#" * _WIDTH, f"#{' ' * (_WIDTH - 2)}#"
        self._detail("\n".join(["", rule, empty, f"{title:<{_WIDTH - 2}} #", empty, rule, ""]))

    def _action_done(self, values: dict[str, Any]) -> None:
        self._detail(f'\nAction "{values["action"]}" complete.\n')

    def _describe(self, step: TrainStep) -> None:
        from convolve.importers.brainscript.description import network_lines
        from convolve.training.session import choose_device
        from convolve.training.workers import SINGLE_PROCESS

        device = choose_device(step.recipe.run.device, SINGLE_PROCESS)
        for line in network_lines(step.network, "CPU" if device.type == "cpu" else f"GPU {device.index or 0}"):
            self._write(line)

    def _begin(self, values: dict[str, Any]) -> None:
        step: TrainStep = values["step"]
        self._step, self._samples, self._validation_samples, self._epoch = (
            step,
            values["samples"],
            values["held_out_samples"],
            0,
        )
        roles = step.network.roles
        loss = roles["criterionNodes"][0].name
        evaluations = [node.name for node in roles["evaluationNodes"] if node.name != loss]
        self._names = (loss, *(evaluations or ["errs"] * (step.recipe.data.target == "class")))
        if self._describes:
            self._describe(step)

    def _progress(self, values: dict[str, Any]) -> None:
        """Log a line after as many minibatches as the SGD block asks for."""
        step, epoch, batch = self._step, values["epoch"], values["batch"]
        assert step is not None  # "config" comes first
        if epoch != self._epoch:
            self._epoch, self._last = epoch, _Sums()
            self._start(values)
        run = step.recipe.run
        if batch % run.report_batches and batch > run.report_first_batches:
            return
        seen = values["samples_seen"] - (epoch - 1) * self._samples
        means = self._means(values, "")
        now = _Sums(batch, seen, [mean * seen for mean in means], seen / values["images_per_second"])
        new = now - self._last
        part = batch * self._batch_size() / self._samples  # CNTK's count, which a short last minibatch takes beyond 1
        self._write(
            f" {self._name()}-Minibatch[{self._last.batches + 1:4d}-{batch:4d}, {100 * part:2.2f}%]: "
            f"{self._metrics([total / new.samples for total in new.totals], new.samples)}; "
            f"time = {new.seconds:.4f}s; samplesPerSecond = {new.samples / new.seconds:.1f}"
        )
        self._last = now

    def _start(self, values: dict[str, Any]) -> None:
        size, momentum = self._batch_size(), values["momentum"]
        time_constant = -size / math.log(momentum) if momentum else 0.0
        self._write(
            f"Starting Epoch {values['epoch']}: learning rate per sample = {values['learning_rate'] / size:.6f}  "
            f"effective momentum = {momentum:.6f}  momentum as time constant = {time_constant:.1f} samples"
        )
        self._detail("\nStarting minibatch loop.")

    def _finished(self, values: dict[str, Any]) -> None:
        assert self._step is not None
        name = self._name()
        self._write(
            f"Finished {name}: [Training] {self._metrics(self._means(values, 'train_'), self._samples)}; "
            f"totalSamplesSeen = {values['samples_seen']}; "
            f"learningRatePerSample = {values['learning_rate'] / self._batch_size():.8g}; "
            f"epochTime={values['seconds']:.6g}s"
        )
        if self._step.validation is not None:
            figures = self._metrics(self._means(values, "test_"), self._validation_samples)
            self._write(f"Finished {name}: [Validate] {figures}")
        epoch, path = values.get("epoch", self._epoch), self._step.model_path if self._describes else ""
        last = epoch >= self._step.recipe.run.epochs
        self._detail(f"SGD: Saving checkpoint model '{path}{'' if last else f'.{epoch}'}'")
        self._epoch = 0  # an adjusted learning rate may repeat the epoch: its lines then start over

    def _part(self, values: dict[str, Any]) -> None:
        figures = [_metric(figure, values["samples"]) for figure in values["figures"]]
        self._write(f"Minibatch[{values['first']}-{values['last']}]: {'; '.join(figures)}")

    def _final(self, values: dict[str, Any]) -> None:
        figures = [_with_perplexity(figure, values["samples"]) for figure in values["figures"]]
        self._write(f"Final Results: Minibatch[1-{values['batches']}]: {'; '.join(figures)}")

    def _model(self, values: dict[str, Any]) -> None:
        self._write(f"model {values['path']} --> ")

    def _best(self, values: dict[str, Any]) -> None:
        self._write("Best models:\n------------")
        for number, (value, path) in enumerate(values["models"]):
            self._write(f"Based on Err[{number}]: Best model = {path} with min err {value:.8g}")

    def _written(self, values: dict[str, Any]) -> None:
        for number, samples in enumerate(values["batches"]):
            self._write(f"Minibatch[{number}]: ActualMBSize = {samples}")
        self._write(f"Written to {values['path']}*\nTotal Samples Evaluated = {values['samples']}")

    def _name(self) -> str:
        assert self._step is not None
        return f"Epoch[{self._epoch:2d} of {self._step.recipe.run.epochs}]"

    def _batch_size(self) -> int:
        assert self._step is not None
        return self._step.recipe.run.batch_size(self._epoch - 1)

    def _means(self, values: dict[str, Any], part: str) -> list[float]:
        """The means of the criterion and of the metrics in one `part` of an event: "", "train_" or "test_"."""
        nodes, error = values.get(f"{part}nodes") or {}, values.get(f"{part}error")
        found = (nodes.get(name, error) for name in self._names[1:])
        return [values[f"{part}loss"], *(mean for mean in found if mean is not None)]  # numbers have no error rate

    def _metrics(self, means: list[float], samples: int) -> str:
        return "; ".join(f"{_number(name, mean)} * {samples}" for name, mean in zip(self._names, means, strict=False))


_WIDTH = 78  # of the frame around the name of a command


class _Sums:
    """Totals since the beginning of an epoch."""

    def __init__(self, batches: int = 0, samples: int = 0, totals: Sequence[float] = (), seconds: float = 0.0) -> None:
        self.batches, self.samples, self.totals, self.seconds = batches, samples, totals, seconds

    def __sub__(self, other: _Sums) -> _Sums:
        totals = [total - before for total, before in zip_longest(self.totals, other.totals, fillvalue=0.0)]
        return _Sums(self.batches - other.batches, self.samples - other.samples, totals, self.seconds - other.seconds)


def _number(name: str, value: float) -> str:
    """CNTK writes a number as a percentage where the name of its node ends in s."""
    return f"{name} = {100 * value:.3f}%" if name.endswith("s") else f"{name} = {value:.8f}"


def _metric(figure: Figure, samples: int) -> str:
    return f"{_number(figure.node, figure.value)} * {samples}"


def _with_perplexity(figure: Figure, samples: int) -> str:
    text = _metric(figure, samples)
    return text if not figure.is_cross_entropy else f"{text}; perplexity = {math.exp(min(figure.value, 700)):.8f}"
