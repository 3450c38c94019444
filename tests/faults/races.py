"""Three processes start on one run folder at random moments: one trains, two are refused, and these touch nothing.

`python tests/faults/races.py [ROUNDS] [SEED]` prints counts, or fails with what went wrong.
"""

from __future__ import annotations

import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from commands import make_inputs, train
from events import Trial, finished, start
from sweeps import Reference, import_all, tree_of

CHANGES = ("remove ", "rename ", "rmdir ", "truncate ")


def race(place: Path, rounds: int, draw: random.Random) -> str:
    make_inputs(place, place / "logs")
    trees, began = [], 0.0
    for _ in range(2):  # the first in this process tree is slower
        began = time.monotonic()
        assert meet(place, [0.0])[0].code == 0
        trees.append(tree_of(place / "trial"))
    duration, reference, refusals = time.monotonic() - began, Reference(*trees), Counter[str]()
    for number in range(rounds):
        within = duration * draw.choice([0.02, 0.1, 0.3, 1.2])  # all at once, or spread over the whole of a run
        done = meet(place, [draw.uniform(0, within) for _ in range(3)])
        assert sorted(one.code for one in done) == [0, 2, 2], f"round {number}: {done}"
        for one in done:
            if one.code:
                assert not any(event.startswith(CHANGES) for event in one.events), one
                assert one.err.count("\n") == 1, one
                refusals["at work" if "another process is at work" in one.err else "finished"] += 1
                assert "another process is at work" in one.err or "holds a finished run" in one.err, one
        reference.require_same(tree_of(place / "trial"))
    return f"{rounds} rounds: {rounds} trained, {refusals['at work']} refused at work, {refusals['finished']} finished"


def meet(place: Path, delays: list[float]) -> list[Trial]:
    """The same training in a process for each of `delays`, seconds that it waits."""
    shutil.rmtree(place / "trial", ignore_errors=True)
    logs = [place / f"logs{number}" for number in range(len(delays))]
    numbers = []
    for log, seconds in zip(logs, delays, strict=True):
        log.mkdir(exist_ok=True)
        numbers.append(start(train(), place / "trial", log, delay=partial(time.sleep, seconds)))
    return [finished(number, log) for number, log in zip(numbers, logs, strict=True)]


def main(rounds: int = 200, seed: int = 0) -> str:
    import_all()
    with tempfile.TemporaryDirectory() as place:
        return race(Path(place).resolve(), rounds, random.Random(seed))


if __name__ == "__main__":
    print(main(*map(int, sys.argv[1:])))
