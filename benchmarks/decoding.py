"""Photographs a second and core: JPEG decoders alone, and from the file to the center that a network sees.

    python benchmarks/decoding.py MODEL [MODEL ...] --data DIR [--rounds 5]

DIR holds imagenet-sample.tar (200 photographs as they are): any JPEG files in an archive of this name do. The sides are
measured in turn, round after round, in processor time, so that other work on the machine matters less; every library is
told to use one thread. The files are in the disk's cache.

Decoders: OpenCV, which convolve uses, also at a half, a quarter and an eighth of the size; Pillow; simplejpeg, if it is
installed. Centers, for each MODEL, each side in a process of its own: what `convolve evaluate` makes of the files,
beside Pillow, which decodes them whole and then cuts the square and scales it, or scales the image and cuts the center,
as torchvision's Resize and CenterCrop. `other top-1` counts the photographs for which MODEL's first answer is another
than for ours: where OpenCV decodes each whole, where Pillow does and the rest is ours, and for Pillow's own centers,
which are smoothed where they shrink; CNTK's are not. Results go to benchmarks/results/PROCESSOR/decoding.json.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from convolve.atomic import write_json
from convolve.data.evaluation import eval_dataset
from convolve.data.sources.files import FileSource
from convolve.data.sources.map_file import open_map_file
from convolve.formats.decode import decode_image
from convolve.loading import load
from convolve.model import Model
from convolve.training.memory import keep_freed_memory
from convolve.transforms.preprocess import Preprocess, fit_image
from image_peers import lay_out
from images import CASES, is_installed
from rounds import conditions, in_turn, measure_apart, medians, ratio, results_of

# Legend: N images, C channels (R, G, B), H rows, W columns.

PHOTOS, BATCH = 200, 32
RESULTS = results_of("decoding")
OURS = "convolve"
PEERS = {"pillow": "PIL", "simplejpeg": "simplejpeg"}  # distribution -> package


def decoders() -> dict[str, Callable[[bytes], object]]:
    """What turns an encoded photograph into 8-bit colors."""
    flags = {
        "OpenCV": cv2.IMREAD_COLOR, "OpenCV, 1/2": cv2.IMREAD_REDUCED_COLOR_2,
        "OpenCV, 1/4": cv2.IMREAD_REDUCED_COLOR_4, "OpenCV, 1/8": cv2.IMREAD_REDUCED_COLOR_8,
    }  # fmt: skip
    found: dict[str, Callable[[bytes], object]] = {name: partial(_opencv, flag) for name, flag in flags.items()}
    found["Pillow"] = _pillow
    if is_installed("simplejpeg"):
        found["simplejpeg"] = import_module("simplejpeg").decode_jpeg
    return found


def _opencv(flag: int, encoded: bytes) -> object:
    return cv2.imdecode(np.frombuffer(encoded, np.uint8), flag | cv2.IMREAD_IGNORE_ORIENTATION)


def _pillow(encoded: bytes) -> Image.Image:
    return Image.open(io.BytesIO(encoded)).convert("RGB")


def _opencv_whole(encoded: bytes) -> NDArray[np.uint8]:
    return decode_image(encoded, "a photograph")


def _pillow_whole(encoded: bytes) -> NDArray[np.uint8]:
    return np.ascontiguousarray(np.asarray(_pillow(encoded))[:, :, ::-1])


def _square(picture: Image.Image, want: Preprocess) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of the central square."""
    side = round(want.crop_ratio * min(picture.size))
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    return left, top, left + side, top + side


def cut_and_scale(picture: Image.Image, want: Preprocess) -> Image.Image:
    square = picture.crop(_square(picture, want))
    return square.resize((want.width, want.height), Image.Resampling.BILINEAR)


def scale_and_cut(picture: Image.Image, want: Preprocess) -> Image.Image:
    ratio = want.height / want.crop_ratio / min(picture.size)
    scaled = picture.resize((round(picture.width * ratio), round(picture.height * ratio)), Image.Resampling.BILINEAR)
    left, top = (scaled.width - want.width) // 2, (scaled.height - want.height) // 2
    return scaled.crop((left, top, left + want.width, top + want.height))


PILLOW = {"Pillow, cut and scaled": cut_and_scale, "Pillow, scaled and cut": scale_and_cut}
DECODED = {"OpenCV, decoded whole": _opencv_whole, "Pillow, decoded whole": _pillow_whole}


def listed(folder: Path) -> FileSource:
    return open_map_file(folder / "train_map.txt")


def centers(side: str, pictures: FileSource, want: Preprocess) -> NDArray[np.uint8]:
    """images_NCHW, the centers of all photographs as `side` makes them out of their files, batch by batch."""
    if side == OURS:
        batches = eval_dataset(pictures, want, threads=1).batches(np.arange(len(pictures)), BATCH)
        return np.concatenate([images_NCHW.numpy() for images_NCHW, _ in batches])
    encoded = (pictures.read(index) for index in range(len(pictures)))
    if side in DECODED:
        return np.stack([fit_image(DECODED[side](photo), want)[0] for photo in encoded])
    shown = (np.asarray(PILLOW[side](_pillow(photo), want)) for photo in encoded)
    return np.stack([image_HWC.transpose(2, 0, 1) for image_HWC in shown])


def photos_a_second(work: Callable[[], object]) -> float:
    """Of processor time, all threads of this process together; once before that to warm up."""
    work()
    start = time.process_time()
    work()
    return PHOTOS / (time.process_time() - start)


def measured(sides: Iterable[str], rounds: int, measure: Callable[[str], float]) -> dict[str, Any]:
    """Rates of all sides, and of the first over each other."""
    first, *others = sides
    rates = in_turn([first, *others], rounds, measure)
    ratios = {f"{first} / {other}": ratio(rates, first, other) for other in others}
    return {"photos_per_second_and_core": medians(rates), "ratios": ratios, "all_rounds": rates}


def measure_decoders(pictures: FileSource, rounds: int) -> dict[str, Any]:
    encoded = [pictures.read(index) for index in range(len(pictures))]
    table = decoders()
    return measured(table, rounds, lambda side: photos_a_second(lambda: [table[side](photo) for photo in encoded]))


def other_answers(model: Model, pictures: FileSource) -> dict[str, int]:
    """For how many photographs the first answer is another than for what `convolve evaluate` makes of them."""
    answers = {
        side: model.probabilities(centers(side, pictures, model.preprocess)).argmax(1)
        for side in (OURS, *DECODED, *PILLOW)
    }
    classes = len(answers[OURS].unique())
    print(f"{classes} classes among {len(pictures)} first answers", file=sys.stderr)
    return {side: int((found_N != answers[OURS]).sum()) for side, found_N in answers.items() if side != OURS} | {
        "classes among our answers": classes
    }


def side_rate(path: Path, pictures: FileSource, side: str) -> float:
    want = load(path).preprocess
    if side == OURS:
        keep_freed_memory()  # as `convolve evaluate` does
    return photos_a_second(lambda: centers(side, pictures, want))


def measure_centers(path: Path, pictures: FileSource, folder: Path, rounds: int) -> dict[str, Any]:
    model = load(path)
    apart = partial(measure_apart, __file__, str(path), "--folder", str(folder), "--side")
    rates = measured([OURS, *PILLOW], rounds, apart)
    return {"sees": str(model.preprocess), **rates, "other top-1": other_answers(model, pictures)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--data", type=Path, help="the folder with the archive")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--side", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    if arguments.side:
        print(side_rate(arguments.models[0], listed(arguments.folder), arguments.side))
        return
    if not arguments.data:
        parser.error("--data DIR is missing: the folder with the archive")
    case = replace(CASES["photos"], images=PHOTOS)
    peers = {name: version(name) for name, package in PEERS.items() if is_installed(package)}
    result: dict[str, Any] = {"conditions": conditions(arguments.rounds, 0) | {"photos": PHOTOS, "peers": peers}}
    with tempfile.TemporaryDirectory() as place:
        lay_out(arguments.data / case.archive, case, Path(place))
        pictures = listed(Path(place))
        result["decoders"] = measure_decoders(pictures, arguments.rounds)
        for path in arguments.models:
            result[path.resolve().name] = measure_centers(path, pictures, Path(place), arguments.rounds)
    write_json(RESULTS, result)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
