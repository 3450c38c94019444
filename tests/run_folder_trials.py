"""Processes that meet in one run folder, or die in it: `python run_folder_trials.py race|kills [N] [SEED]`.

race    three processes start on one folder at random moments, N times: one trains, two are refused, and these touch
        nothing
kills   a process ends before its n-th file-system event, for every n, or N of them drawn at random; then the same
        command runs to the end: the weights have the same bits, and nothing else is left

Each prints counts, or fails with what went wrong.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from convolve.formats.idx import read_idx
from idx_files import write_idx

KILLED = 113
IMAGES = {"train": 64, "t10k": 32}
CHANGES = ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate")


def make_data(folder: Path) -> Path:
    """The first digits of the packaged sample, so few that a training takes a fraction of a second."""
    folder.mkdir()
    sample = resources.files("convolve") / "data" / "sample"
    for part, count in IMAGES.items():
        for name in (f"{part}-images-idx3-ubyte", f"{part}-labels-idx1-ubyte"):
            write_idx(folder / name, read_idx(Path(str(sample / f"{name}.gz")))[:count])
    return folder


def command(data: Path, out: Path, *more: str) -> list[str]:
    """Two updates an epoch and a checkpoint after each, of which the oldest soon go."""
    settings = ("model.variant=tiny", "run.global_batch_size=32", "run.checkpoint_seconds=0.000001")
    words = [*(f"--set={setting}" for setting in settings), "--epochs", "2", "--threads", "1", "--precision", "fp32"]
    return ["train", "mnist", "--data", str(data), *words, "--out", str(out), *more]


class Watch:
    """Counts the events of the file system in `folder`; ends the process before event `last`, if there is one."""

    def __init__(self, folder: Path, last: int | None) -> None:
        self.folder, self.last = str(folder), last
        self.counts: Counter[str] = Counter()

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event not in CHANGES or not isinstance(arguments[0], str | os.PathLike):
            return
        path = os.fspath(arguments[0])
        # `shutil.rmtree` names files from the folder that it is in; nothing else here gives a name without its folder.
        if not path.startswith(self.folder) and os.path.isabs(path):  # noqa: PTH117
            return
        if sum(self.counts.values()) + 1 == self.last:
            os._exit(KILLED)
        self.counts[event] += 1


def start(words: Sequence[str], log: Path, folder: Path, last: int | None = None, delay: float = 0.0) -> int:
    """`convolve` in a process of its own: its number. What it says is in `log`, what it did in `log`.json."""
    number = os.fork()
    if number:
        return number
    code = 99
    try:
        with log.open("w", encoding="utf-8", buffering=1) as file:
            sys.stdout = sys.stderr = file
            from convolve.cli import main

            time.sleep(delay)
            watch = Watch(folder, last)
            sys.addaudithook(watch)
            code = main(list(words))
            log.with_suffix(".json").write_text(json.dumps(watch.counts))
    finally:
        os._exit(code)


def code_of(number: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(number, 0)[1])


def run(words: Sequence[str], log: Path, folder: Path, last: int | None = None) -> int:
    return code_of(start(words, log, folder, last))


def events_in(log: Path) -> Counter[str]:
    return Counter(json.loads(log.with_suffix(".json").read_text()))


def files_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def weights_of(folder: Path) -> str:
    return hashlib.sha256((folder / "model" / "weights.safetensors").read_bytes()).hexdigest()


def require_same(folder: Path, reference: Path, what: str) -> None:
    """`folder` is a finished run with the weights and the files of `reference`."""
    assert files_in(folder) == files_in(reference), f"{what}: {files_in(folder)}"
    assert weights_of(folder) == weights_of(reference), f"{what}: other weights"
    assert json.loads((folder / "state.json").read_text()) == {"state": "reported"}, what
    events = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [event["epoch"] for event in events if event["event"] == "epoch"] == [1, 2], what


def race(place: Path, rounds: int, draw: random.Random) -> str:
    data, reference, log = make_data(place / "data"), place / "reference", place / "log"
    run(command(data, reference), log, reference)  # the first in this process tree is slower
    shutil.rmtree(reference)
    began = time.monotonic()
    assert run(command(data, reference), log, reference) == 0, log.read_text()
    duration, refusals = time.monotonic() - began, Counter[str]()
    for number in range(rounds):
        folder = place / "race"
        logs = [place / f"log{k}" for k in range(3)]
        within = duration * draw.choice([0.02, 0.1, 0.3, 1.2])  # all at once, or spread over the whole of a run
        ids = [start(command(data, folder), one, folder, delay=draw.uniform(0, within)) for one in logs]
        codes = list(map(code_of, ids))
        said = [one.read_text() for one in logs]
        assert sorted(codes) == [0, 2, 2], f"round {number}: {codes}\n{said}"
        for code, one, text in zip(codes, logs, said, strict=True):
            if code:
                done = events_in(one)
                assert not done["os.remove"] + done["os.rename"] + done["os.rmdir"] + done["os.truncate"], (done, text)
                assert text.count("\n") == 1, text
                refusals["at work" if "another process is at work" in text else "finished"] += 1
                assert "another process is at work" in text or "holds a finished run" in text, text
        require_same(folder, reference, f"round {number}")
        shutil.rmtree(folder)
    return f"{rounds} rounds: {rounds} trained, {refusals['at work']} refused at work, {refusals['finished']} finished"


@dataclass(frozen=True)
class Sweep:
    """A command with `first` is killed, then given with `again`. It meets the run `old`, if there is one.

    Where that has not given way yet, the command without --restart is refused, and the old run is whole. It is also
    refused where all was done but for what is printed.
    """

    place: Path
    first: Sequence[str] = ()
    again: Sequence[str] = ()
    old: Path | None = None

    def over(self, count: int | None, draw: random.Random) -> str:
        total = self._events()
        numbers = range(1, total + 1) if count is None else sorted(draw.sample(range(1, total + 1), min(count, total)))
        kept = sum(self._survives(number) for number in numbers)
        name = " then ".join(" ".join(["train", *words]) for words in (self.first, self.again))
        return (
            f"{name}: {len(numbers)} of {total} events, the same bits {len(numbers) - kept} times, the old run {kept}"
        )

    @property
    def _out(self) -> Path:
        return self.place / "killed"

    def _command(self, words: Sequence[str], last: int | None = None) -> tuple[int, str]:
        """The code of the command and what it said."""
        log = self.place / "log"
        code = run(command(self.place / "data", self._out, *words), log, self._out, last)
        return code, log.read_text()

    def _prepare(self) -> None:
        shutil.rmtree(self._out, ignore_errors=True)
        if self.old:
            shutil.copytree(self.old, self._out)

    def _events(self) -> int:
        self._prepare()
        code, said = self._command(self.first)
        assert code == 0, said
        return sum(events_in(self.place / "log").values())

    def _survives(self, number: int) -> bool:
        """Kill before this event. Whether the old run is what was there afterwards."""
        self._prepare()
        what = f"{self}, event {number}"
        code, said = self._command(self.first, number)
        assert code == KILLED, f"{what}: {said}"
        code, said = self._command(self.again)
        is_refused = code == 2 and "holds a finished run" in said
        is_old = bool(is_refused and self.old and weights_of(self._out) == weights_of(self.old))
        assert is_refused or code == 0, f"{what}: {said}"  # refused: nothing was left to do, or the old run stands
        require_same(self._out, self.old if self.old and is_old else self.place / "reference", what)
        return is_old


def kills(place: Path, count: int | None, draw: random.Random) -> str:
    data, log = make_data(place / "data"), place / "log"
    reference, old = place / "reference", place / "old"
    assert run(command(data, reference), log, reference) == 0, log.read_text()
    assert run(command(data, old, "--seed", "1"), log, old) == 0, log.read_text()
    assert weights_of(old) != weights_of(reference)
    sweeps = [
        Sweep(place),
        Sweep(place, ["--restart"], ["--restart"], old),
        Sweep(place, ["--restart"], [], old),
    ]
    return "\n".join(sweep.over(count, draw) for sweep in sweeps)


def main() -> None:
    what, rest = sys.argv[1], [int(word) for word in sys.argv[2:]]
    # Everything is imported once: processes are forked from here, before torch has threads.
    import convolve.cli.progress
    import convolve.cli.train
    import convolve.report
    import convolve.run  # noqa: F401

    draw = random.Random(rest[1] if len(rest) > 1 else 0)
    with tempfile.TemporaryDirectory() as place:
        if what == "race":
            print(race(Path(place), rest[0] if rest else 200, draw))
        else:
            print(kills(Path(place), rest[0] if rest else None, draw))


if __name__ == "__main__":
    main()
