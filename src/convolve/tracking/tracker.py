"""The tracker interface, the table of trackers, and the callback that informs them about a run."""

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
    """Made without arguments, before anything is trained; raises UsageError if its package is missing. It follows a run
    from `begin` to `close`, then perhaps another."""

    def begin(self, run: Path, folder: Path, parameters: dict[str, Any]) -> None:
        """A run in the folder `run` starts or is resumed.

        `folder` is the tracker's own folder in it, kept when the run is resumed and emptied when it is started over.
        `parameters` have dotted paths.
        """

    def minibatch(self, step: int, figures: Figures) -> None:
        """From time to time: loss, error if there is one, and learning rate."""

    def epoch(self, epoch: int, figures: Figures) -> None:
        """The metrics after an epoch, from 1: the numbers of its line in metrics.jsonl."""

    def finish(self, report: Path, model: Path, figures: Figures) -> None:
        """Everything is written: the report, the model folder, the numbers of result.json."""

    def close(self, failed: bool) -> None:
        """This process is done with the run; a run that `failed` or was stopped may be resumed later."""


TRACKERS: Registry[Callable[[], Tracker]] = Registry(
    "convolve.trackers", {"tensorboard": TensorBoard, "mlflow": MLflow, "wandb": WeightsAndBiases}
)


class Tracking:
    """A callback for the events of consecutive runs, which passes them to `shown` and to the trackers called `names`.

    A tracker that cannot start ends the command; one that fails later is dropped with a warning, and the training
    continues. `report` wraps the `write_report` of `convolve.train`; afterwards the trackers get all results.
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
        """The run in the folder `run` is complete except for its report."""
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
            except Exception as error:  # any exception of the tool's own code
                raise ConvolveError(f"--log {name}: {_in_a_line(error)}; fix that, or train without it") from error
            self.following[name] = tracker

    def _tell(self, what: str, *values: object) -> None:
        for name, tracker in [*self.following.items()]:
            try:
                getattr(tracker, what)(*values)
            except Exception as error:  # a temporary server failure must not end the training
                message = f"--log {name}: {_in_a_line(error)}; it gets no more of this run"
                self.shown("warning", {"message": message})
                del self.following[name]

    def _close(self, failed: bool) -> None:
        self._tell("close", failed)
        self.following = {}


def _in_a_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]


def _numbers(values: dict[str, Any]) -> Figures:
    """The numeric values, nested ones by dotted paths."""
    found = _flat(values).items()
    return {name: each for name, each in found if isinstance(each, float | int) and not isinstance(each, bool)}


def _flat(values: dict[str, Any], within: str = "") -> dict[str, Any]:
    """Nested values by their dotted paths, as `--set` names them."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= _flat(value, f"{within}{name}.") if isinstance(value, dict) else {within + name: value}
    return flat
