"""How the benchmarks measure: sides in turn, each in a process of its own, round after round; ratios within a round."""

from __future__ import annotations

import json
import os
import re
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from convolve.environment import hardware, versions

Rates = dict[str, list[float]]  # side -> its rate in each round, higher is better


def results_of(name: str) -> Path:
    """Where the figures of a benchmark on this processor go: another processor's stay beside them."""
    short = "-short" if os.environ.get("BENCHMARKS_SHORT") else ""  # as all.py sets it
    return Path(__file__).parent / "results" / f"{processor()}{short}" / f"{name}.json"


def processor() -> str:
    """Its name with the widest instructions, as a folder is called: amd-epyc-avx512-bf16."""
    found = hardware()
    return re.sub(r"[^a-z0-9]+", "-", f"{found['cpu']} {found['instructions']}".lower()).strip("-")


def measure_apart(script: str, *arguments: str) -> float:
    """The number that `script` prints, run in a fresh process, so that no side inherits another's memory or threads."""
    return float(_printed(script, *arguments))


def figures_apart(script: str, *arguments: str) -> dict[str, float]:
    """As `measure_apart`, of a script that prints several numbers as JSON."""
    return dict(json.loads(_printed(script, *arguments)))


def _printed(script: str, *arguments: str) -> str:
    return subprocess.run([sys.executable, script, *arguments], check=True, stdout=subprocess.PIPE, text=True).stdout


def in_turn(sides: Iterable[str], rounds: int, measure: Callable[[str], float]) -> Rates:
    """`measure` of each side, `rounds` times, the sides in turn."""
    rates: Rates = {side: [] for side in sides}
    for number in range(rounds):
        for side, values in rates.items():
            values.append(measure(side))
            print(f"round {number + 1}  {side:<28}{values[-1]:>8.0f}", file=sys.stderr)
    return rates


def settle(place: Path) -> None:
    """Every file below `place` written out and read once: else the first side alone pays for both."""
    os.sync()
    for file in place.rglob("*.jpg"):
        file.read_bytes()


def medians(rates: Rates) -> dict[str, float]:
    return {side: statistics.median(values) for side, values in rates.items()}


def of_rounds(rounds: list[dict[str, dict[str, float]]]) -> dict[str, Any]:
    """The median of each figure of each side over the rounds, and all of them."""
    found = {
        side: {name: statistics.median(one[side][name] for one in rounds) for name in figures}
        for side, figures in rounds[0].items()
    }
    return found | {"all_rounds": rounds}


def ratio(rates: Rates, one: str, other: str) -> float:
    """The median over the rounds of `one` over `other`."""
    return statistics.median(a / b for a, b in zip(rates[one], rates[other], strict=True))


def conditions(rounds: int, steps: int) -> dict[str, Any]:
    return {"hardware": hardware(), "versions": versions(), "rounds": rounds, "steps": steps}
