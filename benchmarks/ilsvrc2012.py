"""ILSVRC2012's size: seconds and memory of `convolve prepare`, and of a training before its first batch.

    python benchmarks/ilsvrc2012.py [--train 1281167] [--val 50000] [--keep DIR]

The files lie as the download has them: training images are empty but for the first, validation images are names of one
photograph, each with an annotation. A training reads no pixel of the others before its first batch. Each side is a
process of its own, importing included. Results go to results/PROCESSOR; --keep leaves the files in
DIR, and finds them there.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

from convolve.atomic import write_json
from rounds import conditions, results_of

CLASSES, TRAIN, VAL = 1000, 1_281_167, 50_000
RESULTS = results_of("ilsvrc2012")

_OBJECT = (
    "<object><name>{}</name><bndbox><xmin>111</xmin><ymin>108</ymin><xmax>441</xmax><ymax>193</ymax></bndbox></object>"
)
_START = """
import sys
from convolve.data.open import open_data
from convolve.data.build import build_data
from convolve.recipes import load_recipe
dataset = open_data(sys.argv[1], "ilsvrc2012")
dataset.fingerprint()
data = build_data(load_recipe("alexnet"), dataset, threads=1)
assert sorted(data.loader.order(0)[:2]) != [0, 1]
"""


def write_download(root: Path, train: int, val: int) -> None:
    """As many images as `train` and `val` say, in `CLASSES` classes."""
    data, annotations = root / "Data" / "CLS-LOC", root / "Annotations" / "CLS-LOC" / "val"
    names = [f"n{1_440_764 + 7919 * k:08d}" for k in range(CLASSES)]
    for k, name in enumerate(names):
        (data / "train" / name).mkdir(parents=True)
        for image in range(train // CLASSES + (k < train % CLASSES)):
            (data / "train" / name / f"{name}_{image}.JPEG").touch()
    photograph = data / "train" / names[0] / f"{names[0]}_0.JPEG"
    photograph.write_bytes(cv2.imencode(".jpg", np.zeros((375, 500, 3), np.uint8))[1].tobytes())
    (data / "val").mkdir()
    annotations.mkdir(parents=True)
    for image in range(val):
        stem = f"ILSVRC2012_val_{image + 1:08d}"
        (data / "val" / f"{stem}.JPEG").hardlink_to(photograph)
        (annotations / f"{stem}.xml").write_text(f"<annotation>{_OBJECT.format(names[image % CLASSES])}</annotation>")


def measured(*command: str | Path) -> dict[str, float]:
    """Seconds of a command and the most memory that it had."""
    began = time.perf_counter()
    process = subprocess.Popen([sys.executable, *command], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0
    return {"seconds": time.perf_counter() - began, "peak_mib": usage.ru_maxrss / 1024}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=int, default=TRAIN)
    parser.add_argument("--val", type=int, default=VAL)
    parser.add_argument("--keep", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        root = arguments.keep or Path(temporary)
        if not (root / "ILSVRC2012").exists():
            write_download(root / "ILSVRC2012", arguments.train, arguments.val)
        prepared = root / "prepared"
        sides = {
            "prepare": measured("-m", "convolve", "prepare", "ilsvrc2012", "--source", root, "--out", prepared),
            "start of a training": measured("-c", _START, prepared),
        }
    result = {"conditions": conditions(1, 1), "images": [arguments.train, arguments.val], **sides}
    if arguments.train == TRAIN:
        write_json(RESULTS, result)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
