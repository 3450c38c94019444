"""Networks and checkpoints, from `convolve.cntk` to the real CNTK 2.7 and back: `make cntk-round-trip PYTHON_CNTK=...`.

Both run `trip.py`: each saves what it built, each loads what either saved, and all answers are compared.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

PROGRAM = Path(__file__).with_name("trip.py")
TOLERANCE = 1e-5  # of the largest number
OF_CNTK = {"conv_dilated": "CNTK has no dilated convolution on a processor"}


def run(python: list[str], *arguments: object) -> None:
    command = [*python, str(PROGRAM), *map(str, arguments)]
    environment = os.environ | ({} if python[0] == sys.executable else {"PYTHONPATH": ""})
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
    for line in done.stdout.splitlines():
        if line.startswith("cannot"):
            print(line[:300])
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr[-3000:]}")


def has_cntk(python: list[str]) -> bool:
    try:
        done = subprocess.run(
            [*python, "-c", "import cntk"], check=False, capture_output=True, env=os.environ | {"PYTHONPATH": ""}
        )
    except OSError:
        return False
    return done.returncode == 0


def differences(saved_by: str, folder: Path) -> Iterator[str]:
    """What the two say about the networks that one of them saved, where it is not the same."""
    about = {who: json.loads((folder / f"{who}-of-{saved_by}.json").read_text()) for who in ("cntk", "convolve")}
    values = {who: np.load(folder / f"{who}-of-{saved_by}.npz") for who in about}
    for name in sorted(about["cntk"]):
        theirs, ours = about["cntk"][name], about["convolve"][name]
        if theirs != ours and name not in OF_CNTK:
            yield f"{name}: {_first_difference(theirs, ours)}"
        for key in (key for key in values["cntk"].files if key.split("/")[0] == name):
            if not alike(values["cntk"][key], values["convolve"][key]):
                yield f"{key}: other numbers"


def _first_difference(theirs: Any, ours: Any) -> str:
    if isinstance(theirs, str) or isinstance(ours, str):
        return f"{str(theirs)[:150]} | {str(ours)[:150]}"
    pairs = [
        (a, b) for mine, other in zip(theirs, ours, strict=True) for a, b in zip(mine, other, strict=False) if a != b
    ]
    return " | ".join(map(str, pairs[0])) if pairs else "other counts"


def alike(theirs: np.ndarray, ours: np.ndarray) -> bool:
    if theirs.shape != ours.shape or theirs.dtype != ours.dtype:
        return False
    return bool(np.abs(theirs - ours).max() <= TOLERANCE * max(1.0, np.abs(theirs).max()))


def networks(pythons: dict[str, list[str]], folder: Path) -> int:
    failures = 0
    for saved_by, python in pythons.items():
        models = folder / saved_by
        models.mkdir()
        run(python, "save", models)
        for who, other in pythons.items():
            run(other, "answer", models, folder / f"{who}-of-{saved_by}")
        found = list(differences(saved_by, folder))
        print(f"networks saved by {saved_by}: {len(list(models.iterdir()))}, of which {len(found)} differ")
        print(*found, sep="\n", end="\n" if found else "")
        failures += len(found)
    return failures


def checkpoints(pythons: dict[str, list[str]], folder: Path) -> int:
    failures = 0
    for saved_by, python in pythons.items():
        states = folder / f"states-{saved_by}"
        states.mkdir()
        run(python, "train", states, folder / f"{saved_by}.npz")
        whole = np.load(folder / f"{saved_by}.npz")
        for who, other in pythons.items():
            run(other, "resume", states, folder / "resumed.npz")
            resumed = np.load(folder / "resumed.npz")
            bad = [name for name in whole.files if name not in resumed.files or not alike(whole[name], resumed[name])]
            worst = max(np.abs(whole[name] - resumed[name]).max() for name in whole.files if name not in bad)
            print(f"{len(whole.files)} learners, saved by {saved_by}, gone on in {who}: largest difference {worst:.1e}")
            print(*(f"{name}: goes on otherwise" for name in bad), sep="\n", end="\n" if bad else "")
            failures += len(bad)
    return failures


def main(arguments: list[str]) -> int:
    if not arguments or not has_cntk(arguments):
        print(
            "skipped: give the Python 3.6 in which `import cntk` works: make cntk-round-trip PYTHON_CNTK=/path/python"
        )
        return 0
    pythons = {"convolve": [sys.executable, "-m", "convolve.cntk"], "cntk": arguments}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        failures = networks(pythons, folder) + checkpoints(pythons, folder)
    print("all alike" if not failures else f"{failures} differences")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
