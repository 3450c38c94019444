"""Seconds and memory of `convolve check-data` over class folders of many small images, beside a plain loop in Pillow.

    python benchmarks/check_data.py [--images 1000000]

The images are JPEG files of 64x64 pixels, all different, 1,000 to a class. The plain loop is what people write
themselves: it decodes every file, so that damaged ones are named, and keeps a hash of its bytes, so that exact copies
are; it finds no near ones. One process each, as a user would start it, one after the other. A million images take
4 GB of the temporary folder. Results go to benchmarks/results/PROCESSOR/check_data.json.
"""

from __future__ import annotations

import argparse
import hashlib
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
from rounds import conditions, results_of, settle

CLASS_IMAGES, SIDE, COARSE_SIDE = 1000, 64, 9  # pixels; coarse: of the random colors that an image is grown from
RESULTS = results_of("check_data")
SIDES = {
    "ours": [sys.executable, "-m", "convolve", "check-data"],
    "Pillow": [sys.executable, __file__, "--plain"],
}


def make_images(place: Path, count: int) -> None:
    """`count` different images in class folders below `place`."""
    random = np.random.default_rng(0)
    for first in range(0, count, CLASS_IMAGES):
        folder = place / f"c{first // CLASS_IMAGES:04d}"
        folder.mkdir()
        size = (min(CLASS_IMAGES, count - first), COARSE_SIDE, COARSE_SIDE, 3)
        for number, coarse_HWC in enumerate(random.integers(0, 256, size, dtype=np.uint8)):
            image_HWC = cv2.resize(coarse_HWC, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
            _, encoded = cv2.imencode(".jpg", image_HWC, [cv2.IMWRITE_JPEG_QUALITY, 75])
            (folder / f"{number:03d}.jpg").write_bytes(encoded.tobytes())


def check_plainly(place: Path) -> None:
    """What people write themselves: every file decoded, its bytes compared with those of all others by their hash."""
    from PIL import Image

    seen: dict[bytes, Path] = {}
    for file in sorted(place.glob("*/*.jpg")):
        try:
            with Image.open(file) as image:
                image.load()
        except OSError as error:
            print(f"{file}: {error}")
        same = seen.setdefault(hashlib.sha256(file.read_bytes()).digest(), file)
        if same is not file:
            print(f"{file}: the same as {same}")


def measure(command: list[str]) -> dict[str, float]:
    """Seconds and the most memory of a command that finds nothing, its start included."""
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    if os.waitstatus_to_exitcode(status):
        raise RuntimeError(f"{' '.join(command)} found something, or failed:\n{output}")
    return {"seconds": time.perf_counter() - start, "megabytes": usage.ru_maxrss / 1024}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--plain", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.plain:
        check_plainly(arguments.plain)
        return
    with tempfile.TemporaryDirectory() as place:
        make_images(Path(place), arguments.images)
        settle(Path(place))
        figures = {side: measure([*command, place]) for side, command in SIDES.items()}
    result = {"conditions": conditions(1, 0) | {"images": arguments.images}, **figures}
    write_json(RESULTS, result)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
