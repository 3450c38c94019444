"""Damaged files by the thousand: `python tests/faults/mutants.py [COUNT] [--seed N] [--only WORD] [--keep FOLDER]`.

Of each format in formats_table.py, one to three values or bytes of a sound case are damaged, and it is read in a
process of its own. What must come of it: an answer, or a ConvolveError of one line; never another error, never another
answer where there are checksums, never more than 1 GiB beyond what the sound case takes, never more than 10 s.
"""

from __future__ import annotations

import argparse
import random
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
sys.path[:0] = [str(FOLDER), *(str(FOLDER.parent / name) for name in (".", "importers", "serve", "data", "report"))]

import cv2  # noqa: E402
import torch  # noqa: E402
from damage import damaged  # noqa: E402
from damage_folders import Place, forged  # noqa: E402
from formats_table import FORMATS  # noqa: E402
from trials import ANSWERED, FAULT, MOST_SECONDS, REFUSED, Row, Trial, in_large_pages, report, trial, warm  # noqa: E402

MOST_BYTES = 1 << 30  # beyond what the sound case takes
LONGEST = 1800  # letters of a message: a screen
OF_FOLDERS = 0.15  # the share of damages to files as a whole; of those with checksums that are written anew
SOMEBODYS = b"of somebody else\n"
_OBEYED = re.compile("[\\0-\\x1f\\x7f-\\x9f\\u2028-\\u202e\\u2066-\\u2069\\ud800-\\udfff]")  # by terminals
SAME, OTHER = "same answer", "another answer"


@dataclass(frozen=True)
class Mutant:
    """A copy of the `case` with a `damage`; `exact`: only the answer of the sound one may come of it."""

    case: str
    damage: str
    place: Path
    exact: bool


class Mutants:
    """The cases of one format, and what reading each takes while it is sound."""

    def __init__(self, name: str, place: Path) -> None:
        self.name, self.format, self.place = name, FORMATS[name], place
        self.sound, self.work, self.known = place / "sound", place / "work", dict[str, Trial]()
        self.work.mkdir(parents=True)
        self.outside = place / "outside.txt"
        self.outside.write_bytes(SOMEBODYS)
        made = trial(lambda: self.format.make(self.work) and None)
        assert made.kind == ANSWERED, f"{name}: {made.answer}"
        self.work.rename(self.sound)  # copies of it lie where it was made, which caches and tables remember
        self.cases = sorted(path.name for path in self.sound.iterdir())
        assert warm(lambda: self._read(self._copied(self.cases[0]))).kind != FAULT
        if self.format.warm:
            self._read(self._copied(self.cases[0]))
        in_large_pages()

    def _read(self, case: Path) -> Any:
        return self.format.read(case)

    def _copied(self, case: str) -> Path:
        shutil.rmtree(self.work, ignore_errors=True)
        return Path(shutil.copytree(self.sound / case, self.work / case))

    def _sound(self, case: str) -> Trial:
        if case not in self.known:
            copy = self._copied(case)
            self.known[case] = trial(lambda: self._read(copy))
            assert self.known[case].kind != FAULT, f"{self.name}, {case}, sound: {self.known[case].answer}"
        return self.known[case]

    def mutant(self, seed: str) -> Mutant:
        """The same for the same seed."""
        rng = random.Random(seed)
        case = rng.choice(self.cases)
        copy = self._copied(case)
        files = [path for path in sorted(copy.glob(rng.choice(self.format.files))) if path.is_file()]
        chosen = rng.choice(files)
        told, exact = str(chosen.relative_to(copy)), self.format.exact
        if rng.random() < OF_FOLDERS:
            others = [self.sound / name for name in self.cases]
            done = Place(rng, copy, chosen, files, self.outside, others).damage()
            return Mutant(case, f"{told}, {done}", copy, exact)
        before = chosen.read_bytes()
        chosen.write_bytes(damaged(rng, before, chosen.name))
        if rng.random() < OF_FOLDERS and forged(copy, before, chosen):
            return Mutant(case, f"{told}, with its checksum", copy, exact and self.format.sealed)
        return Mutant(case, told, copy, exact)

    def run(self, count: int, seed: int, keep: Path | None = None) -> Row:
        row = Row(self.name)
        for number in range(count):
            told = f"{self.name} {seed} {number}"
            mutant = self.mutant(told)
            if mutant.case not in self.known:
                self._sound(mutant.case)  # in the same place
                self.mutant(told)
            grown = bytes_in(mutant.place) - bytes_in(self.sound / mutant.case)
            sound, found = self.known[mutant.case], trial(partial(self._read, mutant.place))
            found = replace(found, extra_bytes=found.extra_bytes - max(0, grown))  # a larger file may take as much
            outcome, failure = judged(found, sound, mutant.exact, self.format.place)
            if self.outside.read_bytes() != SOMEBODYS:
                self.outside.write_bytes(SOMEBODYS)
                failure = "wrote through a link"
            row.n, row.seconds = row.n + 1, max(row.seconds, found.seconds)
            row.extra_bytes = max(row.extra_bytes, found.extra_bytes - sound.extra_bytes)
            row.outcomes[outcome] += 1
            if failure:
                row.failures.append(f"{told}: {mutant.case}/{mutant.damage}: {failure}")
                self._keep(told, keep)
        return row

    def _keep(self, told: str, keep: Path | None) -> None:
        if keep:
            self.mutant(told)
            with suppress(shutil.Error, OSError):  # pipes cannot be copied
                shutil.copytree(self.work, keep / told.replace(" ", "-"), symlinks=True, dirs_exist_ok=True)


def bytes_in(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir())


def judged(found: Trial, sound: Trial, exact: bool, place: str) -> tuple[str, str]:
    """(what became of a mutant, what is wrong with that)."""
    said = str(found.answer)
    outcome = found.kind if found.kind != ANSWERED else SAME if found.answer == sound.answer else OTHER
    if found.kind == FAULT:
        return outcome, said
    if found.seconds - sound.seconds > MOST_SECONDS:
        return outcome, f"{found.seconds:.1f} s"
    if found.extra_bytes - sound.extra_bytes > MOST_BYTES:
        return outcome, f"{(found.extra_bytes - sound.extra_bytes) >> 20} MiB"
    if found.kind == REFUSED and ("\n" in said or len(said) > LONGEST or _OBEYED.search(said)):
        return outcome, f"not one plain line: {said[:200]!r}"
    if found.kind == REFUSED and not re.search(place, said):
        return outcome, f"no place in: {said}"
    return outcome, "another answer without a word" if outcome == OTHER and exact else ""


def mutants(count: int, seed: int = 0, only: str = "", keep: Path | None = None) -> Iterator[Row]:
    """`count` of them, of all formats alike."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    names = [only] if only in FORMATS else [name for name in FORMATS if only in name]
    for number, name in enumerate(names):
        with tempfile.TemporaryDirectory() as folder:
            each = count * (number + 1) // len(names) - count * number // len(names)
            yield Mutants(name, Path(folder)).run(each, seed, keep)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("count", type=int, nargs="?", default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="formats whose name has this in it")
    parser.add_argument("--keep", type=Path, help="a folder for mutants that fail")
    parser.add_argument("--json", type=Path, help="write what became of each format to this file")
    asked = parser.parse_args()
    return report(mutants(asked.count, asked.seed, asked.only, asked.keep), asked.json)


if __name__ == "__main__":
    sys.exit(main())
