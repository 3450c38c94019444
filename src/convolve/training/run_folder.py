"""The run folder: everything about one training, in files that a person can open.

state.json              "new", "running", "finished" or "reported": the progress of the run, to which the files below
belong
recipe.json             the resolved recipe; `convolve train RUN/recipe.json` accepts it back
start.json              decided at the start: precision, threads, device, data and its fingerprint; versions, hardware
metrics.jsonl           one line per event: "start", "progress", "epoch", "resume", "end"
checkpoints/            see checkpoint.py
from/                   the imported network that the training started from, if there is one, in the form of model/
teacher/                the teacher network, if there is one, in the form of model/
model/                  the Model artifact
evaluation.safetensors  the last evaluation: labels_N, probabilities_NK (or numbers_NK); for M errors, kept_indices_M
and kept_images_MHWC
result.json             the final figures
report.html
job                     the --rdzv-id of elastic workers; see `_lock`
tracking/               the files of `convolve train --log`, a folder for each tool
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from convolve.atomic import (
    always_utf8,
    append_to,
    cannot_write,
    claimed,
    parse_json,
    read_whole,
    sweep,
    write_json,
    write_text,
)
from convolve.errors import DataError, InterruptedTraining, TrainingError, UsageError
from convolve.recipe import Recipe, from_mapping, to_mapping
from convolve.records import EVENT_NAMES, EVENTS, EpochEvent, Event, Result, Start, StartEvent
from convolve.records.reading import from_json, read_record, to_json

if TYPE_CHECKING:
    from convolve.training.workers import Workers  # which would load torch

T = TypeVar("T")

# What a run writes beside its state. Starting over removes these, and nothing else.
_JOB = "job"  # the name of the elastic workers that are at work here, torchrun's --rdzv-id
_FILES = ("recipe.json", "start.json", "metrics.jsonl", "evaluation.safetensors", "result.json", "report.html")
_FOLDERS = ("checkpoints", "from", "teacher", "model", "tracking")
_MEND = "start the run over with --restart"


class State(StrEnum):
    NEW = "new"  # nothing of a run, or leftovers that are ignored
    RUNNING = "running"
    FINISHED = "finished"
    REPORTED = "reported"  # finished, and report.html is about it


@dataclass(frozen=True)
class _Stored:
    state: State


@dataclass(frozen=True)
class RunFolder:
    """A small state machine; the file state.json has its state.

    Each state is written when everything that it implies is on disk: a process killed before that leaves the earlier
    state, from which the same command resumes. `restart`: the files of an earlier run are removed as soon as the new
    one begins.
    """

    path: Path
    restart: bool = False
    owner: str = ""  # the name of elastic workers, and of their present start

    @classmethod
    @contextmanager
    def claim(cls, path: Path, restart: bool, reports: bool, workers: Workers | None = None) -> Iterator[RunFolder]:
        """The folder for a run that starts or resumes there; it is locked meanwhile.

        Half-written files of killed processes are removed. A finished run is refused, unless it lacks the report and
        this process `reports`; so are links and files that do not belong to a run. Nothing of an earlier run is removed
        yet, since other errors may be found first. Of several workers, the first one does all this.
        """
        owner = f"{workers.job}\n{secrets.token_hex(8)}" if workers and workers.job else ""
        folder = cls(path, restart, owner)
        if workers and workers.rank:
            yield folder
            return
        if always_utf8(str(path)) != str(path):
            raise UsageError(f"{path} is not valid UTF-8, which safetensors needs to open files; choose another --out")
        with folder._lock(workers.timeout_seconds if workers else 0):
            folder._refuse_links()
            if (path / "state.json").exists():
                for place in (path, *map(path.joinpath, _FOLDERS)):
                    sweep(place)
            else:  # everything else here may be somebody else's
                sweep(path, "state.json")
            folder._refuse_strangers(reports)
            if folder.owner:
                write_text(path / _JOB, folder.owner)
            try:
                yield folder
            except KeyboardInterrupt:
                if folder.started:
                    raise InterruptedTraining(path, restart) from None
                raise
            finally:
                if folder.owner and folder._owner() == folder.owner:
                    (path / _JOB).unlink(missing_ok=True)

    @contextmanager
    def _lock(self, patience_seconds: float) -> Iterator[None]:
        """Lock the folder. Worker 0 of an earlier start of these elastic workers may still be working here, on a host
        that is stopped or cut off: after a wait its lock is ignored, which it notices before it writes again."""
        limit = time.monotonic() + patience_seconds
        with ExitStack() as lock:
            while True:
                try:
                    lock.enter_context(claimed(self.path))
                    break
                except UsageError:
                    if not self.owner or self._owner().split("\n")[0] != self.owner.split("\n")[0]:
                        raise
                    if time.monotonic() > limit:
                        break
                time.sleep(0.1)
            yield

    def _owner(self) -> str:
        try:
            return (self.path / _JOB).read_text(encoding="utf-8")
        except FileNotFoundError:
            return ""

    def require_own(self) -> None:
        """End elastic workers that others have replaced."""
        if self.owner and self._owner() != self.owner:
            raise TrainingError(
                f"other hosts of this job continue in {self.path}, since they got no answer from this one"
            )

    @property
    def state(self) -> State:
        try:
            return read_record(self.path / "state.json", _Stored, "choose another --out").state
        except FileNotFoundError:
            return State.NEW

    @property
    def started(self) -> bool:
        return self.state is not State.NEW

    @property
    def finished(self) -> bool:
        return self.state in (State.FINISHED, State.REPORTED)

    @property
    def resumes(self) -> bool:
        """Whether there is a run to resume; a finished one may lack its report."""
        return not self.restart and self.started

    def _refuse_links(self) -> None:
        """A run from elsewhere may contain links, and everything written must stay in its folder."""
        kinds = {self.path / name: "file" for name in ("state.json", _JOB, *_FILES)}
        kinds |= {self.path / name: "folder" for name in _FOLDERS}
        for name in _FOLDERS:  # a tracker may use links in its own folder
            found = (Path(above, each) for above, folders, _ in os.walk(self.path / name) for each in folders)
            own = self.path.resolve()
            kinds |= {each: "folder" for each in found if not each.resolve().is_relative_to(own)}
        for path, kind in kinds.items():
            with suppress(FileNotFoundError):
                mode = path.lstat().st_mode
                if not (stat.S_ISREG(mode) if kind == "file" else stat.S_ISDIR(mode)):
                    raise UsageError(
                        f"{path} is no {kind} of this run, but a link or the like; remove it, or choose another --out"
                    )

    def _refuse_strangers(self, reports: bool) -> None:
        done = (State.REPORTED,) if reports else (State.FINISHED, State.REPORTED)
        if not self.restart and self.state in done:
            raise UsageError(f"{self.path} holds a finished run; choose another --out, or start it over with --restart")
        if not (self.path / "state.json").exists() and any(each.name != _JOB for each in self.path.iterdir()):
            raise UsageError(f"{self.path} holds other files, but no run; choose another --out")

    def begin(self, recipe: Recipe, start: Start) -> None:
        """Begin a new run. From its first line on, an earlier one is void, and its files are removed."""
        self._enter(State.NEW)
        try:
            for name in _FOLDERS:
                if (self.path / name).exists():
                    shutil.rmtree(self.path / name)
            for name in _FILES:
                (self.path / name).unlink(missing_ok=True)
        except OSError as error:
            raise cannot_write(self.path, error) from error
        write_json(self.path / "recipe.json", to_mapping(recipe))
        write_json(self.path / "start.json", to_json(start))
        self._enter(State.RUNNING)

    def finish(self, result: Result) -> None:
        """Everything is written except the report."""
        write_json(self.path / "result.json", to_json(result))
        self._enter(State.FINISHED)

    def reported(self) -> None:
        """report.html is written; for a run that is not finished, that has no effect."""
        if self.state is State.FINISHED:
            self._enter(State.REPORTED)

    def _enter(self, state: State) -> None:
        write_json(self.path / "state.json", to_json(_Stored(state)))

    def recipe(self) -> Recipe:
        path = self.path / "recipe.json"
        try:
            return from_mapping(parse_json(read_whole(path, DataError).decode("utf-8")))
        except FileNotFoundError:
            raise self._missing(path.name) from None
        except (ValueError, UsageError) as error:
            raise DataError(f"{path} is damaged ({error}); {_MEND}") from None

    def kept_recipe(self) -> Recipe | None:
        """The recipe of the unfinished run that is resumed here, if there is one."""
        return self.recipe() if self.resumes else None

    def start(self) -> Start:
        return self._read("start.json", Start)

    def result(self) -> Result:
        return self._read("result.json", Result)

    def _read(self, name: str, kind: type[T]) -> T:
        try:
            return read_record(self.path / name, kind, _MEND)
        except FileNotFoundError:
            raise self._missing(name) from None

    def _missing(self, name: str) -> UsageError:
        way_out = "give the folder of a training, such as runs/mnist"
        if not self.path.exists():
            return UsageError(f"{self.path} does not exist; {way_out}")
        return UsageError(
            f"{self.path} is not a run folder, or its run did not get that far: {name} is missing; {way_out}"
        )

    def log(self, event: Event) -> dict[str, Any]:
        """Append one event to metrics.jsonl. Returns its values."""
        self.require_own()
        path, now = self.path / "metrics.jsonl", datetime.now(UTC).isoformat(timespec="seconds")
        values = {name: value for name, value in vars(event).items() if value is not None}  # all of them are plain
        line = json.dumps({"event": EVENT_NAMES[type(event)], **values, "time": now}) + "\n"
        length = self.metrics_bytes()
        try:
            with append_to(path) as file:
                file.write(line)
        except OSError as error:
            with suppress(OSError):
                os.truncate(path, length)  # without the piece of a line that a full disk took
            raise cannot_write(path, error) from error
        return values

    def metrics(self) -> list[Event]:
        """All events of metrics.jsonl, in order."""
        path = self.path / "metrics.jsonl"
        try:
            text = read_whole(path, DataError).decode("utf-8", "replace")
        except FileNotFoundError:
            raise self._missing(path.name) from None
        *lines, _torn = text.split("\n")  # a killed run may leave its last line unfinished
        return [self._event(line, number) for number, line in enumerate(lines, start=1)]

    def epochs(self) -> list[EpochEvent]:
        return [event for event in self.metrics() if isinstance(event, EpochEvent)]

    def last_hosts(self) -> tuple[str, ...]:
        """The hosts of the workers that last started or resumed; empty for a single process, and if nothing can be
        read."""
        with suppress(DataError, UsageError):
            starts = [event for event in self.metrics() if isinstance(event, StartEvent)]
            return (starts[-1].hosts or ()) if starts else ()
        return ()

    def _event(self, line: str, number: int) -> Event:
        try:
            values: dict[str, Any] = from_json(dict[str, Any], parse_json(line))
            name = values.pop("event", None)
            if not isinstance(name, str) or name not in EVENTS:
                raise ValueError(f"event must be one of {', '.join(EVENTS)}")
            return from_json(EVENTS[name], values)
        except ValueError as error:
            raise DataError(f"{self.path / 'metrics.jsonl'}, line {number}, is damaged ({error}); {_MEND}") from None

    def metrics_bytes(self) -> int:
        """The length of metrics.jsonl, stored in each checkpoint so that a resumed run writes no event twice."""
        path = self.path / "metrics.jsonl"
        return path.stat().st_size if path.exists() else 0

    def cut_metrics(self, length_bytes: int) -> None:
        path = self.path / "metrics.jsonl"
        if not path.exists():
            return
        try:
            os.truncate(path, min(length_bytes, path.stat().st_size))  # after a power failure it may be shorter
        except OSError as error:
            raise cannot_write(path, error) from error
