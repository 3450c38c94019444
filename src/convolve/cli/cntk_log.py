"""What happens in a run, line by line as CNTK wrote it: people have parsers for these lines."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from convolve.importers.brainscript.job import TrainStep
    from convolve.run_config import Figure


class CntkLog:
    """Hears the events of `run_config.run_job`. The means of a line are over the samples since the line before."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self._step: TrainStep | None = None
        self._samples = 0  # of an epoch
        self._epoch = 0
        self._last = _Sums()
        self._loss_name, self._error_name = "ce", "errs"

    def __call__(self, event: str, values: dict[str, Any]) -> None:
        handlers = {
            "config": self._begin, "progress": self._progress, "epoch": self._finished, "final": self._final,
            "note": self._tell, "warning": self._tell,
        }  # fmt: skip
        if event in handlers:
            handlers[event](values)

    def _tell(self, values: dict[str, Any]) -> None:
        self._write(values["message"])

    def _begin(self, values: dict[str, Any]) -> None:
        step: TrainStep = values["step"]
        self._step, self._samples, self._epoch = step, values["samples"], 0
        roles = step.network.roles
        errors = [node.name for node in roles["evaluationNodes"] if node.kind == "ClassificationError"]
        self._loss_name, self._error_name = roles["criterionNodes"][0].name, errors[0] if errors else "errs"

    def _progress(self, values: dict[str, Any]) -> None:
        """A line where as many minibatches are done as the SGD block asks for, or the epoch is over."""
        step = self._step
        assert step is not None  # "config" comes first
        size, epoch = step.sgd.batch_size, values["epoch"]
        if epoch != self._epoch:
            self._epoch, self._last = epoch, _Sums()
            self._start(values)
        seen = values["samples_seen"] - (epoch - 1) * self._samples
        now = _Sums(seen, values["loss"] * seen, values["error"] * seen, seen / values["images_per_second"])
        first, last, in_all = (-(-samples // size) for samples in (self._last.samples, now.samples, self._samples))
        if last - first < step.sgd.lines_every and last < in_all:
            return
        new = now - self._last
        self._write(
            f" {self._name()}-Minibatch[{first + 1:4d}-{last:4d}, {100 * last / in_all:2.2f}%]: "
            f"{self._metrics(new.loss / new.samples, new.errors / new.samples, new.samples)}; "
            f"time = {new.seconds:.4f}s; samplesPerSecond = {new.samples / new.seconds:.1f}"
        )
        self._last = now

    def _start(self, values: dict[str, Any]) -> None:
        assert self._step is not None
        size, momentum = self._step.sgd.batch_size, values["momentum"]
        time_constant = -size / math.log(momentum) if momentum else 0.0
        self._write(
            f"Starting Epoch {values['epoch']}: learning rate per sample = {values['learning_rate'] / size:.6f}  "
            f"effective momentum = {momentum:.6f}  momentum as time constant = {time_constant:.1f} samples"
        )

    def _finished(self, values: dict[str, Any]) -> None:
        assert self._step is not None
        name, samples = self._name(), self._samples
        self._write(
            f"Finished {name}: [Training] {self._metrics(values['train_loss'], values['train_error'], samples)}; "
            f"totalSamplesSeen = {values['samples_seen']}; "
            f"learningRatePerSample = {values['learning_rate'] / self._step.sgd.batch_size:.8g}; "
            f"epochTime={values['seconds']:.6g}s"
        )
        if self._step.validation is not None:
            loss, error = values["test_loss"], values["test_error"]
            self._write(
                f"Finished {name}: [Validate] {self._loss_name} = {loss:.8f}; {self._error_name} = {100 * error:.3f}%"
            )

    def _final(self, values: dict[str, Any]) -> None:
        samples = values["samples"]
        parts = [_figure(figure, samples) for figure in values["figures"]]
        self._write(f"Final Results: Minibatch[1-{values['batches']}]: {'; '.join(parts)}")

    def _name(self) -> str:
        assert self._step is not None
        epochs = self._step.sgd.epochs
        return f"Epoch[{self._epoch:{len(str(epochs))}d} of {epochs}]"

    def _metrics(self, loss: float, error: float, samples: int) -> str:
        return f"{self._loss_name} = {loss:.8f} * {samples}; {_metric(self._error_name, error)} * {samples}"


class _Sums:
    """Totals since the beginning of an epoch."""

    def __init__(self, samples: int = 0, loss: float = 0.0, errors: float = 0.0, seconds: float = 0.0) -> None:
        self.samples, self.loss, self.errors, self.seconds = samples, loss, errors, seconds

    def __sub__(self, other: _Sums) -> _Sums:
        return _Sums(
            self.samples - other.samples, self.loss - other.loss, self.errors - other.errors,
            self.seconds - other.seconds,
        )  # fmt: skip


def _metric(name: str, value: float) -> str:
    """CNTK writes a metric as a percentage where its name ends in s."""
    return f"{name} = {100 * value:.3f}%" if name.endswith("s") else f"{name} = {value:.8f}"


def _figure(figure: Figure, samples: int) -> str:
    text = f"{_metric(figure.node, figure.value)} * {samples}"
    return text if figure.is_error else f"{text}; perplexity = {math.exp(min(figure.value, 700)):.8f}"
