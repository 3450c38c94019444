"""A command is killed, or fails, at each of its events: `python tests/faults/sweeps.py [COUNT] [--only NAME]`.

kills    it ends before an event that changes something; then the same command (with one thread) ends with the same
         bits, and nothing else is left
errors   an event fails, reads too, as on a full (ENOSPC, from there on), broken (EIO) or forbidden (EACCES) disk: one
         sentence and its exit code, or an answer that is right all the same; nothing half-written has a final name,
         and the same command ends as if undisturbed
room     no file may grow beyond so many bytes, for each size that one of the files has, and less: as errors
"""

from __future__ import annotations

import argparse
import errno
import gc
import importlib
import json
import os
import random
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from commands import COMMANDS, installed, make_inputs, nothing
from events import KILLED, Fault, Trial, import_as_before, run
from trials import Row, report

ERRORS = (Fault(0, errno.ENOSPC, lasting=True), Fault(0, errno.EIO), Fault(0, errno.EACCES))
KINDS = ("kill", "error", "room")
CODES = (1, 3)  # of what failed, and of data that cannot be read
_NUMBER = re.compile(r"[0-9a-f]{12,}|[0-9]+")
Tree = dict[str, bytes]


class WrongError(Exception):
    """What a trial found."""


def require(holds: object, said: str) -> None:
    if not holds:
        raise WrongError(said)


def tree_of(folder: Path) -> Tree:
    """Every file and empty folder below `folder`: its content, or where a link leads."""
    found: Tree = {}
    for above, folders, names in os.walk(folder):
        place = Path(above)
        for name in names + [each for each in folders if (place / each).is_symlink()]:
            path = place / name
            content = os.fsencode(path.readlink()) if path.is_symlink() else path.read_bytes()
            found[str(path.relative_to(folder))] = content
        if not names and not folders:
            found[f"{place.relative_to(folder)}/"] = b""
    return found


class Reference:
    """What the undisturbed command leaves; what two of them have in common is what every trial must have."""

    def __init__(self, one: Tree, other: Tree) -> None:
        differ = _kept(one).keys() ^ _kept(other).keys()
        require(not differ, f"two undisturbed commands differ: {differ}")
        self.tree = _kept(one)
        self.cached = {"tmp/", "cache/", *map(_masked, one), *map(_masked, other)}
        self.loose = {name: _loose(one[name], other[name]) for name in self.tree if one[name] != other.get(name)}

    def has(self, name: str, content: bytes) -> bool:
        """Whether a file is as it must be in the end."""
        if name not in self.tree:
            return False
        if name in self.loose:
            return self.loose[name](content)
        return content == self.tree[name]

    def require_same(self, tree: Tree) -> None:
        kept = _kept(tree)
        differ = sorted(kept.keys() ^ self.tree.keys())
        require(not differ, f"files left over or missing: {differ}")
        for name, content in kept.items():
            require(self.has(name, content), f"{name} is another")
        over = [name for name in tree if name not in kept and not self._is_cached(_masked(name))]
        require(not over, f"left over: {over}")

    def _is_cached(self, name: str) -> bool:
        """Whether a cache has this, or a folder in which nothing was left to keep."""
        return name in self.cached or (name.endswith("/") and any(each.startswith(name) for each in self.cached))


def _kept(tree: Tree) -> Tree:
    """Without what has other names each time: temporary files, packs in the cache, the files of TensorBoard."""
    return {name: content for name, content in tree.items() if not name.startswith(_ANEW)}


def _masked(name: str) -> str:
    """A name that is another each time, without its numbers."""
    return _NUMBER.sub("#", name) if name.startswith(_ANEW) else name


def _loose(one: bytes, other: bytes) -> Callable[[bytes], bool]:
    """What tells whether a file is whole that has times in it: of JSON, all that two of them have in common."""
    try:
        ours, theirs = json.loads(one), json.loads(other)
    except ValueError:
        end = one[-8:]
        return lambda content: content.endswith(end) and is_whole(content)
    return lambda content: is_whole(content) and _alike(json.loads(content), ours, theirs)


def _alike(value: Any, ours: Any, theirs: Any) -> bool:
    if isinstance(ours, dict) and isinstance(theirs, dict) and isinstance(value, dict):
        same = (_alike(value[key], ours[key], theirs.get(key)) for key in ours if key not in _LONGER)
        return value.keys() == ours.keys() and all(same)
    return ours != theirs or bool(value == ours)


def is_whole(content: bytes) -> bool:
    """Whether JSON, a page or a table is there to its end; of others nobody can tell."""
    if content[:1] in (b"{", b"["):
        try:
            [json.loads(line) for line in ([content] if content[:2] in (b"{\n", b"[\n") else content.splitlines())]
        except ValueError:
            return False
    return content.rstrip().endswith(b"</html>") if content[:9].lower() == b"<!doctype" else bool(content)


class Sweep:
    """All trials of one command in `place`/trial."""

    def __init__(self, name: str, place: Path) -> None:
        self.name, self.command, self.place = name, COMMANDS[name], place
        self.trial, self.logs = place / "trial", place / "logs"
        trees = []
        for _ in range(2):
            self.prepare()
            self.initial = tree_of(self.trial)
            done = self.run(self.command.words)
            require(done.code == self.command.code, f"undisturbed: {done.code} {done.err}")
            import_as_before(self.logs)
            trees.append(tree_of(self.trial))
        self.prepare()
        self.changes = done.events
        self.events = self.run(self.command.words, Fault(0), reads=True).events
        self.reference = Reference(*trees)
        outside = [event for event in self.changes if event.startswith("OUTSIDE")]
        require(not outside, f"written elsewhere: {outside}")

    def run(self, words: Any, fault: Fault | None = None, **asked: Any) -> Trial:
        return run(words, self.trial, self.logs, fault, **asked)

    def prepare(self) -> None:
        shutil.rmtree(self.trial, ignore_errors=True)
        self.trial.mkdir()
        self.command.before(self.trial)

    def kill(self, at: int) -> str:
        """End before event `at`, and go on. Returns what became of it."""
        self.prepare()
        done = self.run(self.command.words, Fault(at))
        if done.code != KILLED:  # threads may do less in another order
            require(done.code == self.command.code, f"not killed: {done.code} {done.err}")
        return self.end()

    def fail(self, **asked: Any) -> str:
        """Let an event fail, or a file not grow, and go on."""
        self.prepare()
        done = self.run(self.command.words, **asked)
        self.require_sentence(done)
        self.require_whole(done.code == self.command.code, self.command.before is nothing)
        self.end()
        return "a sentence" if done.code != self.command.code else "an answer all the same"

    def event(self, at: int) -> str:
        return self.events[at - 1].replace(f"{self.trial}/", "") if at <= len(self.events) else ""

    def require_sentence(self, done: Trial) -> None:
        """One sentence that says what failed, or all went well."""
        told = f"code {done.code}, {done.err[-1500:]}"
        apart = ("convolve: worker 1: ", "warning: ")  # another worker says its own, a cache that nothing was kept
        lines = [line for line in done.err.splitlines() if not line.startswith(apart)]
        bad = [line for line in lines if "Traceback" in line or "fault of convolve" in line or "ignored in" in line]
        require(not bad, f"a traceback {told}")
        said = [line for line in lines if line.startswith("convolve: ")]
        if done.code == self.command.code:
            require(len(said) <= (done.code != 0), f"a sentence, and all went well {told}")
        else:
            require(done.code in CODES, f"another exit code {told}")
            require(len(said) == 1 and lines[-1] == said[0], f"not one sentence {told}")

    def require_whole(self, went_well: bool, is_new: bool) -> None:
        """What has a final name is whole, as it was or as it must be."""
        tree = _kept(tree_of(self.trial))
        for name, content in tree.items():
            if is_temporary(name) or self.reference.has(name, content) or self.initial.get(name) == content:
                continue
            require(is_whole(content) or name.endswith("/"), f"{name} is half-written")
            is_ours = name not in self.reference.tree or name in self.reference.loose
            require(is_ours or not is_new or name.endswith(_GROWING), f"{name} is another")
        if went_well:
            missing = self.reference.tree.keys() - tree.keys()
            require(not missing, f"it went well, and {missing} are missing")

    def end(self) -> str:
        """The same command again ends as if undisturbed. Returns what was left to do."""
        done = self.run(self.command.again or self.command.words)
        if self.command.done and done.code == 2 and self.command.done in done.err:
            tree = tree_of(self.trial)
            if self.initial and _kept(tree) == _kept(self.initial):
                return "the old one stands"
            later = {name for name in tree if name.startswith("packed/") and is_temporary(name)}  # who uses it next
            self.reference.require_same({name: content for name, content in tree.items() if name not in later})
            return "nothing was left to do"
        require(done.code == self.command.code, f"again: code {done.code}, {done.err[-1500:]}")
        self.reference.require_same(tree_of(self.trial))
        return "the same bits"

    def room(self) -> list[int]:
        """How large the files are, and a little less."""
        sizes = {len(content) for content in self.reference.tree.values()}
        return sorted({size - less for size in sizes for less in (1, size // 2) if size - less > _LEAST})


_ANEW = (
    "tmp/",
    "cache/",
    ".cache/",
    "packed/",
    "run/tracking/",
)  # .cache: of onnxruntime, which keeps a number of this device
_GROWING = ("state.json", "metrics.jsonl")
_LONGER = (
    "metrics_bytes",
    "seconds",
    "wait_seconds",
    "train_seconds",
)  # of a run that went on, which says so, from wherever
_LEAST = 200  # bytes, so that what is said fits


def is_temporary(name: str) -> bool:
    return bool(re.search(r"\.[0-9]+\.tmp(/|$)|\.partial(/|$)|\.parts(/|$)|/tmp\w{8}/", name))


def trials(sweep: Sweep, in_turn: bool) -> Iterator[tuple[str, str, Callable[[], str]]]:
    """(what, which, the trial) of all trials of a command; errors come `in_turn`, one at each event, or all of them."""
    for at in range(1, len(sweep.changes) + 1):
        yield "kill", f"kill {at}: {sweep.changes[at - 1].replace(f'{sweep.trial}/', '')}", partial(sweep.kill, at)
    for at in range(1, len(sweep.events) + 1):
        for error in (ERRORS[at % len(ERRORS)],) if in_turn else ERRORS:
            fault = Fault(at, error.number, error.lasting)
            yield "error", f"{fault}: {sweep.event(at)}", partial(sweep.fail, fault=fault, reads=True)
    for size in sweep.room():
        yield "room", f"{size} bytes", partial(sweep.fail, most_file_bytes=size)


@dataclass(frozen=True)
class Asked:
    """Which trials: all of each command, or `count` of them."""

    count: int | None
    names: Sequence[str]
    kinds: Sequence[str]
    in_turn: bool


def sweep_over(name: str, place: Path, asked: Asked, draw: random.Random) -> Iterator[Row]:
    """The rows of a command."""
    try:
        sweep = Sweep(name, place)
        in_turn = asked.in_turn or sweep.command.once
        chosen = [each for each in trials(sweep, in_turn) if each[0] in asked.kinds]
    except WrongError as wrong:
        yield Row(f"{name}, undisturbed", 1, failures=[str(wrong)])
        return
    said = {"error": ", in turn"} if in_turn else {}
    if asked.count is not None and asked.count < len(chosen):
        chosen, said = draw.sample(chosen, asked.count), dict.fromkeys(KINDS, ", a sample")
    rows = {kind: Row(f"{name}: {kind}{said.get(kind, '')}") for kind in asked.kinds}
    for kind, which, trial in chosen:
        row, began = rows[kind], os.times()[2:4]
        row.n += 1
        try:
            row.outcomes[trial()] += 1
        except WrongError as wrong:
            row.failures.append(f"{which}: {wrong}")
        row.seconds = max(row.seconds, sum(os.times()[2:4]) - sum(began))
    yield from (row for row in rows.values() if row.n)


def rows(asked: Asked, seed: int) -> Iterator[Row]:
    import_all()
    draw = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder).resolve()
        make_inputs(place, place / "logs")
        for name in asked.names or filter(installed, COMMANDS):
            yield from sweep_over(name, place, asked, draw)


def import_all() -> None:
    """Once, before processes are forked, and before torch has threads."""
    os.environ["OMP_NUM_THREADS"] = "1"
    for name in ("cli.progress", "cli.train", "cli.predict", "report", "run"):
        importlib.import_module(f"convolve.{name}")
    gc.freeze()  # the collector of a child would touch, and so copy, every page


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("count", nargs="?", type=int, help="trials of each command, drawn at random; all of them")
    parser.add_argument("--only", action="append", choices=COMMANDS)
    parser.add_argument("--kind", action="append", choices=KINDS)
    parser.add_argument("--in-turn", action="store_true", help="each event meets one kind of error")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    asked = Asked(given.count, given.only or (), given.kind or KINDS, given.in_turn)
    sys.exit(report(rows(asked, given.seed), given.json))
