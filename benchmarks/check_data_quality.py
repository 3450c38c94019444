"""Blurred, dark and near-copied pictures planted among photographs: how many are found, how many others are named.

    python benchmarks/check_data_quality.py photos-flowers.tar --cleanvision VENV/bin/python

The archive holds photographs in class folders. 500 of them are taken, evenly spaced; with --half odd from the half that
the limits of `convolve check-data` were chosen on, else from the other (docs/experiments.md). 50 of them are blurred
(a Gaussian of 2 to 8 pixels where the longer side has 500), 50 darkened (to 0.1 to 0.3 of their brightness), and of 50
there is a near copy (JPEG of quality 50, half the size, 15 % brighter, or 2 % cut off at each side). The same folder is
given to `convolve check-data` and to cleanvision (0.3.7, in an environment of its own), one process each, start
included. Results go to benchmarks/results/PROCESSOR/check_data_quality.json.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from convolve.atomic import write_json
from convolve.formats.decode import decode_image
from rounds import conditions, results_of, settle

IMAGES, PLANTED = 500, 50
SIGMAS, GAINS = (2, 3, 4, 6, 8), (0.1, 0.15, 0.2, 0.25, 0.3)
RESULTS = results_of("check_data_quality")
KINDS = ("blurred", "dark", "copied")

Found = dict[str, set[str]]  # kind -> names of files


# What runs in the environment of cleanvision.
THEIRS = """
import json, sys
from cleanvision import Imagelab

lab = Imagelab(data_path=sys.argv[1])
lab.find_issues(verbose=False)
flags = {"blurred": ["blurry"], "dark": ["dark"], "copied": ["near_duplicates", "exact_duplicates"]}
rows = {k: [str(f) for name in flags[k] for f in lab.issues.index[lab.issues[f"is_{name}_issue"]]] for k in flags}
open(sys.argv[2], "w").write(json.dumps(rows))
"""


def ours(folder: Path) -> Found:
    command = [sys.executable, "-m", "convolve", "check-data", str(folder), "--json"]
    findings = json.loads(subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True).stdout)["findings"]
    kinds = {"blurred": "blurred", "dark": "dark", "duplicate": "copied", "two labels": "copied", "leak": "copied"}
    found: Found = {kind: set() for kind in KINDS}
    for finding in findings:
        if finding["kind"] in kinds:
            names = [finding["place"], *finding["what"].split(" as ")[1:]]
            found[kinds[finding["kind"]]] |= {Path(name.partition(";")[0]).name for name in names}
    return found


def theirs(python: Path, folder: Path) -> Found:
    with tempfile.NamedTemporaryFile() as out:
        subprocess.run([python, "-c", THEIRS, str(folder), out.name], check=True, capture_output=True)
        return {kind: {Path(file).name for file in files} for kind, files in json.load(out).items()}


def plant(archive: Path, folder: Path, odd: bool) -> Found:
    """The pictures, in `folder`; returns which of them have which fault."""
    random = np.random.default_rng(0)
    with tarfile.open(archive) as tar:
        half = sorted((m for m in tar if m.name.endswith(".jpg")), key=lambda member: member.name)[odd::2]
        members = [half[n] for n in np.linspace(0, len(half) - 1, IMAGES).astype(int)]
        chosen = random.permutation(IMAGES)
        planted: Found = {kind: set() for kind in KINDS}
        for number, member in enumerate(members):
            content = tar.extractfile(member).read()  # type: ignore[union-attr]  # a file
            file = folder / Path(member.name).parent.name / f"{number:03d}.jpg"
            file.parent.mkdir(exist_ok=True)
            turn, which = divmod(int(chosen[number]), PLANTED)
            if turn < 2:
                content = _encoded((_blurred, _dark)[turn](_decoded(content), which))
            elif turn == 2:
                copy = file.with_stem(f"{number:03d}-copy")
                copy.write_bytes(_copied(_decoded(content), which))
                planted["copied"].add(copy.name)
            if turn < 2:
                planted[KINDS[turn]].add(file.name)
            file.write_bytes(content)
    settle(folder)
    return planted


def _decoded(content: bytes) -> np.ndarray:
    return decode_image(content, "a photograph")


def _encoded(image_HWC: np.ndarray, quality: int = 90) -> bytes:
    return cv2.imencode(".jpg", image_HWC, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


def _blurred(image_HWC: np.ndarray, which: int) -> np.ndarray:
    return cv2.GaussianBlur(image_HWC, (0, 0), SIGMAS[which % len(SIGMAS)] * max(image_HWC.shape) / 500)


def _dark(image_HWC: np.ndarray, which: int) -> np.ndarray:
    return np.rint(image_HWC * GAINS[which % len(GAINS)]).astype(np.uint8)


def _copied(image_HWC: np.ndarray, which: int) -> bytes:
    height, width = image_HWC.shape[:2]
    if which % 4 == 0:
        return _encoded(image_HWC, 50)
    if which % 4 == 1:
        return _encoded(cv2.resize(image_HWC, (width // 2, height // 2), interpolation=cv2.INTER_AREA))
    if which % 4 == 2:
        return _encoded(np.clip(np.rint(1.15 * image_HWC), 0, 255).astype(np.uint8))
    return _encoded(image_HWC[height // 50 : -height // 50, width // 50 : -width // 50])


def measure(find: Callable[[], Found], planted: Found) -> dict[str, object]:
    """Of each kind how many are found, and how many others that have no fault of any kind."""
    start = time.perf_counter()
    found = find()
    seconds = time.perf_counter() - start
    originals = {name.replace("-copy", "") for name in planted["copied"]}
    spoilt = set.union(*planted.values()) | originals
    return {
        "seconds": seconds,
        **{kind: {"found": len(found[kind] & planted[kind]), "others": sorted(found[kind] - spoilt)} for kind in KINDS},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--cleanvision", type=Path, help="the Python of an environment with cleanvision 0.3.7")
    parser.add_argument("--half", choices=("odd", "even"), default="even")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        planted = plant(arguments.photos, Path(place), arguments.half == "odd")
        result = {"convolve": measure(lambda: ours(Path(place)), planted)}
        if arguments.cleanvision:
            result["cleanvision"] = measure(lambda: theirs(arguments.cleanvision, Path(place)), planted)
    counts = {kind: len(names) for kind, names in planted.items()}
    result = {"conditions": conditions(1, 0) | {"half": arguments.half, "planted": counts}, **result}
    print(json.dumps(result, indent=2))
    if arguments.half == "even" and arguments.cleanvision:
        write_json(RESULTS, result)


if __name__ == "__main__":
    main()
