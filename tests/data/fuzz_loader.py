"""Load seeded damaged images, every second one whole: `python fuzz_loader.py COUNT [SEED]`.

COUNT damaged files stand in a map file among as many good ones. The loader must give each good image, and either give
a damaged one or name its line, quickly and in bounded memory, whichever of its threads meets it.
"""

from __future__ import annotations

import faulthandler
import resource
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

sys.path.append(str(Path(__file__).parents[1] / "formats"))
from fuzz_images import SECONDS_A_FILE, damaged_files

from convolve.data.dataset import Dataset
from convolve.data.sources.map_file import open_map_file
from convolve.errors import DataError
from convolve.transforms.preprocess import Preprocess
from convolve.transforms.tta import views_of

BATCH, THREADS = 8, 2
MEMORY_BYTES = 3 << 29  # two images of 67 million pixels, their scaled versions and the decoders' copies
WANT = Preprocess(3, 24, 24)


def write_set(folder: Path, count: int, seed: int) -> Path:
    """`count` good images of one gray level each, in PNG, every one followed by a damaged file; a map of them all."""
    lines = []
    for number, (name, content) in enumerate(damaged_files(count, seed)):
        good = cv2.imencode(".png", np.full((30, 30), number % 251, np.uint8))[1].tobytes()
        (folder / f"{number}.png").write_bytes(good)
        (folder / name).write_bytes(content)
        lines += [f".../{number}.png\t0\n", f".../{name}\t1\n"]
    (folder / "map.txt").write_text("".join(lines))
    return folder / "map.txt"


def load_all(path: Path) -> tuple[int, int]:
    """(images that came, images that were named): after each that is named, the loading starts again behind it."""
    pictures = open_map_file(path)
    samples = Dataset(pictures, lambda image_HWC, _: views_of(image_HWC, WANT, 1), threads=THREADS)
    came = named = first = 0
    while first < len(pictures):
        began = time.process_time()
        try:
            for images_NCHW, labels_N in samples.batches(np.arange(first, len(pictures)), BATCH):
                for image_CHW, label in zip(images_NCHW, labels_N, strict=True):
                    assert label or (image_CHW == first // 2 % 251).all(), f"line {first + 1}: not the image"
                    came, first = came + 1, first + 1
                assert time.process_time() - began < BATCH * SECONDS_A_FILE, f"line {first}: took too long"
                began = time.process_time()
        except DataError as error:
            line = int(str(error).removeprefix(f"{path}: line ").partition(":")[0])
            assert line % 2 == 0, f"a good image is refused: {error}"
            assert "\n" not in str(error), f"more than one line: {str(error)!r}"
            came, named, first = came + line - 1 - first, named + 1, line
    return came, named


def main(count: int, seed: int = 0) -> None:
    faulthandler.enable()
    cv2.setNumThreads(1)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    with tempfile.TemporaryDirectory() as folder:
        came, named = load_all(write_set(Path(folder), count, seed))
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
    assert came + named == 2 * count
    assert grown < MEMORY_BYTES, f"memory grew by {grown >> 20} MB"
    assert min(came - count, named) >= count // 10, f"a fuzz that tests nothing: {came} came, {named} named"
    print(f"{2 * count} files: {came} loaded, {named} named with their lines; at most {grown >> 20} MB")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
