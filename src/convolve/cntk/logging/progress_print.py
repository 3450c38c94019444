"""The progress lines that CNTK prints."""

import time
from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import Any

from convolve.cntk.logging.writer import NEVER, ProgressWriter, Sums

_TABLE = "\n".join(
    [
        " average      since    average      since      examples",
        "    loss       last     metric       last              ",
        " ------------------------------------------------------",
    ]
)
_HEARTBEAT_SECONDS = 10.0
_EPOCHS = 300  # what CNTK writes in a log's first lines if no number of epochs is given


class ProgressPrinter(ProgressWriter):
    """Prints means of loss and metric after every `freq` minibatches (0: after 1, 3, 7, 15 ... of them; None: never)
    and after each epoch. `gen_heartbeat` prints a sign of life for schedulers; `distributed_freq` prints nothing."""

    def __init__(
        self, freq: int | None = None, first: int = 0, tag: str = "", log_to_file: str | None = None,
        rank: int | None = None,
        gen_heartbeat: bool = False, num_epochs: int | None = None, test_freq: int | None = None, test_first: int = 0,
        metric_is_pct: bool = True, distributed_freq: int | None = None, distributed_first: int = 0,
    ) -> None:  # fmt: skip
        freq, test_freq, sync_freq = (NEVER if each is None else each for each in (freq, test_freq, distributed_freq))
        super().__init__(*(freq, first), *(test_freq, test_first), *(sync_freq, distributed_first))
        self.first, self.test_freq, self.test_first = first, test_freq, test_first
        self.tag = f"[{tag}] " if tag else ""
        self.num_epochs, self.epochs, self.metric_is_pct, self.rank = num_epochs, 0, metric_is_pct, rank
        self._told = Sums(freq, first)
        self.gen_heartbeat, self._heartbeat = gen_heartbeat, -_HEARTBEAT_SECONDS
        self.file = None if log_to_file is None else f"{log_to_file}{'' if rank is None else f'rank{rank}'}"
        if self.file:
            print(f"Redirecting log to file {self.file}", flush=True)
            Path(self.file).write_text(f"{self.file}\n", encoding="utf-8")
            for what in ("train", "CNTKNoMoreCommands_Total"):
                self.log(f"CNTKCommandTrainInfo: {what} : {num_epochs or _EPOCHS}")
            self.log("CNTKCommandTrainBegin: train")
        if freq == 0:
            self.log(_TABLE)

    def end_progress_print(self, msg: str = "") -> None:
        self.log("CNTKCommandTrainEnd: train")

    def log(self, message: str) -> None:
        if self.file:
            with Path(self.file).open("a", encoding="utf-8") as file:
                file.write(f"{message}\n")
        elif self.rank in (None, 0):
            print(message, flush=True)

    def write(self, key: str, value: Any) -> None:
        self.log(f"{key}: {value}")

    def on_training_update_end(self) -> None:
        if self.gen_heartbeat and time.monotonic() - self._heartbeat > _HEARTBEAT_SECONDS:
            print("PROGRESS: 0.00%", flush=True)
            self._heartbeat = time.monotonic()

    # -- called by trainers
    # -----------------------------------------------------------------------------------------------

    def on_write_training_update(self, samples: Any, updates: Any, aggregate_loss: Any, aggregate_metric: Any) -> None:
        (before, now), loss, metric = samples, aggregate_loss, aggregate_metric
        if self.freq == 0:
            since = now - before
            means = (loss[1] / now, (loss[1] - loss[0]) / since, metric[1] / now, (metric[1] - metric[0]) / since)
            self.log("".join(f" {mean:8.3g}  " for mean in means) + f"  {now:10d}")
        else:
            self.log(self._line(samples, updates, loss, metric))

    def on_write_test_update(self, samples: Any, updates: Any, aggregate_metric: Any) -> None:
        self.log(f" Evaluation{self._line(samples, updates, None, aggregate_metric)}")

    def on_write_training_summary(
        self, samples: int, updates: int, summaries: int, aggregate_loss: float, aggregate_metric: float,
        elapsed_milliseconds: int,
    ) -> None:  # fmt: skip
        if self.freq != 0:
            figures = self._figures(aggregate_loss, aggregate_metric, samples)
            self._epoch(summaries, figures, samples, elapsed_milliseconds / 1000)

    def on_write_test_summary(
        self, samples: int, updates: int, summaries: int, aggregate_metric: float, elapsed_milliseconds: int
    ) -> None:
        figures = self._figures(None, aggregate_metric, samples)
        self.log(f"Finished Evaluation [{summaries}]: Minibatch[1-{updates}]: {figures};")

    def _epoch(self, number: int, figures: str, samples: int, seconds: float) -> None:
        of = f" of {self.num_epochs}" if self.num_epochs else ""
        rate = samples / seconds if seconds > 0 else 0.0
        self.log(f"Finished Epoch[{number}{of}]: {self.tag}{figures} {seconds:0.3f}s ({rate:5.1f} samples/s);")

    def _line(self, samples: Any, updates: Any, loss: Any, metric: Any) -> str:
        gained = None if loss is None else loss[1] - loss[0]
        figures = self._figures(gained, None if metric is None else metric[1] - metric[0], samples[1] - samples[0])
        return f" Minibatch[{updates[0] + 1:4d}-{updates[1]:4d}]: {figures};"

    def _figures(self, loss: float | None, metric: float | None, samples: int) -> str:
        parts = [] if loss is None else [f"loss = {loss / max(samples, 1):0.6f} * {samples:d}"]
        if metric is not None:
            mean = metric / max(samples, 1)
            shown = f"{mean * 100:0.2f}%" if self.metric_is_pct else f"{mean:0.6f}"
            parts.append(f"metric = {shown} * {samples:d}")
        return ", ".join(parts)

    # -- deprecated in CNTK: a program that calls the printer itself
    # ------------------------------------------------------

    def update_with_trainer(self, trainer: Any, with_metric: bool = False) -> None:
        metric = trainer.previous_minibatch_evaluation_average if with_metric else None
        self.update(trainer.previous_minibatch_loss_average, trainer.previous_minibatch_sample_count, metric)

    def update(self, loss: float, minibatch_size: int, metric: float | None = None) -> None:
        """Add the means over one minibatch."""
        due = self._told.add(minibatch_size, loss * minibatch_size, (metric or 0.0) * minibatch_size)
        if due and self.freq == 0:
            self.on_write_training_update(*due)
        elif due:
            samples, updates, losses, metrics = due
            self.log(self._line(samples, updates, losses, None if metric is None else metrics))

    def epoch_summary(self, with_metric: bool = False) -> tuple[float, float, int]:
        """(mean loss, mean metric, samples) since the last summary."""
        means = self.avg_loss_since_start(), self.avg_metric_since_start()
        samples, _, loss, metric = self._told.now
        _, milliseconds = self._told.end()
        self.epochs += 1
        if self.freq != 0:
            figures = self._figures(loss, metric if with_metric else None, samples)
            self._epoch(self.epochs, figures, samples, milliseconds / 1000)
        return (*means, samples)

    def avg_loss_since_start(self) -> float:
        return self._told.means()[0]

    def avg_metric_since_start(self) -> float:
        return self._told.means()[1]

    def avg_loss_since_last(self) -> float:
        return self._told.means(since_last=True)[0]

    def avg_metric_since_last(self) -> float:
        return self._told.means(since_last=True)[1]

    def reset_start(self) -> tuple[float, float, int]:
        samples, _, loss, metric = self._told.now
        self._told.end()
        return loss, metric, samples

    def reset_last(self) -> tuple[float, float, int]:
        samples, _, loss, metric = (now - before for before, now in self._told.since_last())
        return loss, metric, samples


class TrainingSummaryProgressCallback(ProgressWriter):
    """Calls `callback(epoch number, sum of its losses, sum of its metrics, samples)` at the end of each epoch."""

    def __init__(self, epoch_size: int, callback: Callable[[int, float, float, int], Any]) -> None:
        super().__init__(*(NEVER, 0), *(NEVER, 0), *(NEVER, 0))
        self.epoch_size, self.callback = epoch_size, callback

    def on_write_training_summary(
        self, samples: int, updates: int, summaries: int, aggregate_loss: float, aggregate_metric: float,
        elapsed_milliseconds: int,
    ) -> None:  # fmt: skip
        self.callback(summaries - 1, aggregate_loss, aggregate_metric, samples)


def log_number_of_parameters(model: Any, trace_level: int = 0) -> None:
    parameters = model.parameters
    total = sum(prod(parameter.shape) for parameter in parameters)
    print(f"Training {total} parameters in {len(parameters)} parameter tensors.")
    if trace_level > 0:
        print()
        for parameter in parameters:
            print(f"\t{parameter.shape}")
