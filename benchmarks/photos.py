"""Accuracy against processor time on few photographs: `convolve train photos` beside what a person would write by hand.

    python benchmarks/photos.py --data flowers=DIR --data ants-bees=DIR --weights FILE [--shots 5 10 20 50 all]
                                [--splits 10] [--only photos probe] [--python fastai=PYTHON] [--minutes M]
                                [--page PAGE.md]
    python benchmarks/photos.py --page PAGE.md                        # from what was measured

DIR has train/ and val/ with a folder for each class. A split takes so many photographs of each class by chance, the
same for all contestants; with "all" only the seed differs. All are tested on the whole of val/. Each contestant runs in
a process of its own on one thread, and everything counts from its start to its exit: processor seconds, user and
system. FILE is EfficientNet-Lite0 in any form that convolve opens: all start from it. Results are kept one by one in
benchmarks/results/PROCESSOR/photos.json: the same command goes on where it was stopped, and with --minutes begins
no training later than that: all of it takes some seven hours of a core.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from convolve.atomic import write_json, write_text
from convolve.environment import hardware, versions
from rounds import results_of

RESULTS = results_of("photos")
PEERS = Path(__file__).parent / "photos_peers.py"
SHOTS = ("5", "10", "20", "50", "all")
# name -> how the page calls it
CONTESTANTS = {
    "photos": "convolve train photos",
    "probe": "scikit-learn on frozen features",
    "finetune": "PyTorch, the whole network",
    "fastai": "fastai, fine_tune",
}
UNTIMED = (
    "Not timed: the installation, the file of weights, and the drawing of a split. Timed: the start of Python, reading "
    "and decoding of photographs, training, the evaluation on `val/`, and for convolve its report and model as well."
)


def main() -> None:
    asked = _arguments()
    known: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"results": []}
    for name, folder in (each.split("=", 1) for each in asked.data):
        for shots in asked.shots:
            for split in range(asked.splits):
                _measure(known, asked, {"set": name, "shots": shots, "split": split}, Path(folder))
    print(page(known))
    if asked.page:
        write_text(asked.page, page(known))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", action="append", default=[], metavar="NAME=DIR")
    parser.add_argument("--weights")
    parser.add_argument("--shots", nargs="+", default=SHOTS, choices=SHOTS)
    parser.add_argument("--splits", type=int, default=10)
    parser.add_argument("--only", nargs="+", default=list(CONTESTANTS), choices=CONTESTANTS)
    parser.add_argument("--python", action="append", default=[], metavar="NAME=PYTHON", help="another one for a peer")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no training later than that")
    parser.add_argument("--page", type=Path)
    asked = parser.parse_args()
    asked.until = time.monotonic() + 60 * asked.minutes
    if asked.data and not asked.weights:
        parser.error("--data needs --weights")
    return asked


def _measure(known: dict[str, Any], asked: argparse.Namespace, what: dict[str, Any], folder: Path) -> None:
    """Run all contestants on a split that have not been there yet, and write what they come to."""
    pythons = dict(each.split("=", 1) for each in asked.python)
    for name in asked.only:
        row = what | {"contestant": name}
        if time.monotonic() > asked.until or any(row.items() <= each.items() for each in known["results"]):
            continue
        with tempfile.TemporaryDirectory() as place:
            data = drawn(folder, Path(place) / "data", what["shots"], what["split"])
            command = [pythons.get(name, sys.executable)]
            if name == "photos":
                command += ["-m", "convolve", "train", "photos", "--from", asked.weights, "--out", f"{place}/run"]
                command += ["--threads", "1", "--json"]
            else:
                command += [str(PEERS), name, "--weights", asked.weights]
            row |= _run([*command, "--data", str(data), "--seed", str(what["split"])], place)
        print(row, file=sys.stderr)
        known["results"].append(row)
        known |= {"hardware": hardware(), "versions": versions()}
        write_json(RESULTS, known)


def drawn(folder: Path, place: Path, shots: str, split: int) -> Path:
    """A folder with so many photographs of each class in train/, drawn by the number of the split, and all of val/."""
    for part in ("train", "val"):
        for label in sorted(path for path in (folder / part).iterdir() if path.is_dir()):
            files = sorted(label.iterdir())
            if part == "train" and shots != "all":
                files = random.Random(f"{split} {label.name}").sample(files, min(int(shots), len(files)))
            (place / part / label.name).mkdir(parents=True)
            for file in files:
                (place / part / label.name / file.name).symlink_to(file.resolve())
    return place


def _run(command: list[str], place: str) -> dict[str, float]:
    """The accuracy, and the processor seconds of the process and all that it started."""
    one = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "MKL", "OPENBLAS")}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        env=os.environ | one | {"CONVOLVE_CACHE": f"{place}/cache"},
        check=False,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stderr[-2000:]}")
    out = done.stdout.strip()
    accuracy = 1 - json.loads(out)["test_error"] if out.startswith("{") else float(out.splitlines()[-1])
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"accuracy": accuracy, "seconds": round(seconds, 2)}


def page(known: dict[str, Any]) -> str:
    """What was measured, as a page."""
    lines = ["# Photographs: accuracy against processor time", ""]
    if not known["results"]:
        return "\n".join([*lines, "Nothing was measured yet: `python benchmarks/photos.py --help`.", ""])
    machine, packages = known["hardware"], known["versions"]
    where = f"one thread of {machine['cpu']}, torch {packages['torch']}"
    lines += [
        f"`python benchmarks/photos.py`, {where}. Each cell: accuracy on `val/` in percent, its standard deviation "
        "over the splits, and processor seconds of one training. All start from EfficientNet-Lite0.",
        "", UNTIMED, "",
    ]  # fmt: skip
    for name in dict.fromkeys(row["set"] for row in known["results"]):
        rows = [row for row in known["results"] if row["set"] == name]
        shots = [each for each in SHOTS if any(row["shots"] == each for row in rows)]
        lines += [f"## {name}", "", f"| photographs a class | {' | '.join(shots)} |", "| --- |" + " --- |" * len(shots)]
        for contestant, called in CONTESTANTS.items():
            cells = [
                _cell([row for row in rows if (row["shots"], row["contestant"]) == (s, contestant)]) for s in shots
            ]
            lines += [f"| {called} | {' | '.join(cells)} |"] if any(cells) else []
        lines.append("")
    return "\n".join(lines)


def _cell(rows: list[dict[str, Any]]) -> str:
    if not rows:
        return ""
    percent = [100 * row["accuracy"] for row in rows]
    spread = f" ± {statistics.stdev(percent):.1f}" if len(rows) > 1 else ""
    seconds = statistics.mean(row["seconds"] for row in rows)
    return f"{statistics.mean(percent):.1f}{spread} ({seconds:.0f} s, n={len(rows)})"


if __name__ == "__main__":
    main()
