"""All of it, two processes at a time, and its figures for the page on reliability.

    python tests/faults/attack.py [--mutants 20000] [--requests 10000] [--trials N] [--out docs/reliability.json]

`--trials`: so many kills and errors of each command instead of one before every event.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from convolve.environment import hardware

FOLDER = Path(__file__).parent


def run(words: list[str], place: Path) -> tuple[int, list[dict[str, Any]]]:
    """(exit code, rows) of one of the scripts beside this one; what it prints is printed."""
    file = place / f"{words[0]}.json"
    done = subprocess.run([sys.executable, str(FOLDER / words[0]), *words[1:], "--json", str(file)], check=False)
    return done.returncode, json.loads(file.read_text(encoding="utf-8")) if file.exists() else []


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mutants", type=int, default=20_000)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--trials", type=int)
    parser.add_argument("--out", type=Path)
    asked, began = parser.parse_args(), time.monotonic()
    sweeps = [] if asked.trials is None else [str(asked.trials)]
    scripts = [["mutants.py", str(asked.mutants)], ["sweeps.py", *sweeps], ["hostile_requests.py", str(asked.requests)]]
    with tempfile.TemporaryDirectory() as place, ThreadPoolExecutor(2) as both:
        done = [*both.map(lambda words: run(words, Path(place)), scripts)]
    minutes = round((time.monotonic() - began) / 60)
    parts = {words[0].removesuffix(".py"): rows for words, (_, rows) in zip(scripts, done, strict=True)}
    if asked.out:
        known = hardware()
        told = {"minutes": minutes, "hardware": f"{known['cpu']}, {known['cores']} cores", **parts}
        asked.out.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    failed = sum(len(row["failures"]) for rows in parts.values() for row in rows)
    print(f"{sum(row['n'] for rows in parts.values() for row in rows):,} trials, {failed} failed, {minutes} minutes")
    return int(any(code for code, _ in done))


if __name__ == "__main__":
    sys.exit(main())
