"""What a tracker is, the table of them, and who tells them of a run."""

from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from convolve.errors import ConvolveError, look_up
from convolve.recipe import to_mapping
from convolve.records.reading import to_json
from convolve.registry import Registry
from convolve.tracking.mlflow import MLflow
from convolve.tracking.tensorboard import TensorBoard
from convolve.tracking.wandb import WeightsAndBiases
from convolve.training.events import Callback
from convolve.training.run_folder import RunFolder

Figures = dict[str, float]


class Tracker(Protocol):
    """Made without arguments, before anything is trained; raises UsageError where its package is missing. It follows a
    run from `begin` to `close`, then maybe another."""

    def begin(self, run: Path, folder: Path, parameters: dict[str, Any]) -> None:
        """A run in the folder `run` begins or goes on. `folder` is the tracker's own within it: what it left there is
        there again when the run goes on, and not when it is started over. `parameters` have dotted paths."""

    def minibatch(self, step: int, figures: Figures) -> None:
        """Now and then: loss, error where there is one, and learning rate."""

    def epoch(self, epoch: int, figures: Figures) -> None:
        """What is known after an epoch, from 1: the numbers of its line in metrics.jsonl."""

    def finish(self, report: Path, model: Path, figures: Figures) -> None:
        """Everything is written: the page, the folder of the model, the numbers of result.json."""

    def close(self, failed: bool) -> None:
        """This process is done with the run; one that `failed` or was stopped may go on later."""


TRACKERS: Registry[Callable[[], Tracker]] = Registry(
    "convolve.trackers", {"tensorboard": TensorBoard, "mlflow": MLflow, "wandb": WeightsAndBiases}
)


class Tracking:
    """A callback for the events of runs, one after the other, that tells `shown` and the trackers called `names`.

    A tracker that cannot begin ends the command; one that fails later is let go with a warning, and the training is
    not. `report` is the `write_report` of `convolve.train`, after which the trackers get all that there is.
    """

    def __init__(self, names: Iterable[str], shown: Callback, write_report: Callable[[Path], object]) -> None:
        self.shown, self.write_report, self.run = shown, write_report, Path()
        self.trackers = {name: look_up(TRACKERS, name, "tracker", "--log")() for name in dict.fromkeys(names)}
        self.following: dict[str, Tracker] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close(failed=kind is not None)

    def __call__(self, event: str, values: dict[str, Any]) -> None:
        self.shown(event, values)
        if event == "start":
            self._begin(Path(values["folder"]))
        elif event == "progress":
            kept = ("loss", "error", "learning_rate")
            self._tell("minibatch", values["step"], {name: values[name] for name in kept if name in values})
        elif event == "epoch":
            self._tell("epoch", values["epoch"], _numbers(values))

    def report(self, run: Path) -> None:
        """The run in the folder `run` is whole but for its report."""
        self.write_report(run)
        if run != self.run:
            self._begin(run)  # it was killed when only this was left to do
        self._tell("finish", run / "report.html", run / "model", _numbers(to_json(RunFolder(run).result())))
        self._close(failed=False)

    def _begin(self, run: Path) -> None:
        self._close(failed=False)
        self.run = run
        for name, tracker in self.trackers.items():
            stored, folder = RunFolder(run), run / "tracking" / name
            try:
                folder.mkdir(parents=True, exist_ok=True)
                tracker.begin(run, folder, _flat(to_mapping(stored.recipe())) | _flat(to_json(stored.start())))
            except Exception as error:  # whatever the tool's own code raises
                raise ConvolveError(f"--log {name}: {_in_a_line(error)}; train without it, or mend that") from error
            self.following[name] = tracker

    def _tell(self, what: str, *values: object) -> None:
        for name, tracker in [*self.following.items()]:
            try:
                getattr(tracker, what)(*values)
            except Exception as error:  # a server that is away for a while must not cost the training
                message = f"--log {name}: {_in_a_line(error)}; it hears no more of this run"
                self.shown("warning", {"message": message})
                del self.following[name]

    def _close(self, failed: bool) -> None:
        self._tell("close", failed)
        self.following = {}


def _in_a_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]


def _numbers(values: dict[str, Any]) -> Figures:
    """Those of the values that are figures, inner ones by dotted paths."""
    found = _flat(values).items()
    return {name: each for name, each in found if isinstance(each, float | int) and not isinstance(each, bool)}


def _flat(values: dict[str, Any], within: str = "") -> dict[str, Any]:
    """Inner values by their dotted paths, as `--set` names them."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= _flat(value, f"{within}{name}.") if isinstance(value, dict) else {within + name: value}
    return flat
