"""The page's scaling, `web/fit.js`, in Node: the pixels that OpenCV takes, where its rounding of a scale decides."""

from __future__ import annotations

import json
import shutil
import subprocess
from importlib import resources
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from convolve.transforms.preprocess import Preprocess, fit_image

pytestmark = pytest.mark.skipif(not shutil.which("node"), reason="node runs it")

RUN = """
import fs from "node:fs";
import { fit } from "./fit.mjs";
const made = JSON.parse(fs.readFileSync("cases.json")).map(([data, width, height, preprocess]) => {
  const rgba = data ?? Array.from({ length: width }, (_, at) => [at % 256, at >> 8, 0, 255]).flat();
  return [...fit({ data: Uint8Array.from(rgba), width, height }, preprocess).data];
});
fs.writeFileSync("made.json", JSON.stringify(made));
"""


def fitted(folder: Path, cases: list[tuple[np.ndarray | None, int, int, Preprocess]]) -> list[list[int]]:
    """What fit.js makes of images in RGB; None: a line whose pixels have their number in red and green."""
    shutil.copy(str(resources.files("convolve.web") / "fit.js"), folder / "fit.mjs")
    (folder / "run.mjs").write_text(RUN)
    told: list[Any] = []
    for image_HWC, width, height, preprocess in cases:
        alpha = None if image_HWC is None else np.dstack([image_HWC, np.full((height, width), 255, np.uint8)])
        about = preprocess.mapping() | {"size_before_crop": preprocess.size_before_crop}
        told.append([None if alpha is None else alpha.ravel().tolist(), width, height, about])
    (folder / "cases.json").write_text(json.dumps(told))
    subprocess.run(["node", "run.mjs"], cwd=folder, check=True)
    made: list[list[int]] = json.loads((folder / "made.json").read_text())
    return made


def test_nearest_takes_the_pixels_that_opencv_takes(tmp_path: Path) -> None:
    """Of 2,000 pairs of lengths, 95 of which need OpenCV's own rounding of the scale."""
    pairs = [(length, full) for full in (6, 24, 30, 40, 96) for length in range(1, 401)]
    turning = [pair for pair in pairs if (taken(*pair, pair[0] / pair[1]) != by_opencv(*pair)).any()]
    assert len(turning) == 95
    ways = [Preprocess(3, 1, full, resize="squash", interpolation="nearest") for _, full in pairs]
    made = fitted(tmp_path, [(None, length, 1, way) for (length, _), way in zip(pairs, ways, strict=True)])
    for (length, full), values in zip(pairs, made, strict=True):
        found = np.array(values).reshape(full, 3) @ [1, 256, 0]
        assert (found == by_opencv(length, full)).all(), (length, full)


def taken(length: int, full: int, scale: float) -> np.ndarray:
    return np.minimum(np.floor(np.arange(full) * scale).astype(int), length - 1)


def by_opencv(length: int, full: int) -> np.ndarray:
    numbers = np.arange(length)
    line = np.stack([numbers % 256, numbers >> 8], axis=1).astype(np.uint8)[None]
    return cv2.resize(line, (full, 1), interpolation=cv2.INTER_NEAREST)[0].astype(int) @ [1, 256]


def test_area_where_one_way_shrinks_and_the_other_grows(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (9, width, 3)).astype(np.uint8) for width in (186, 198, 210, 246, 372, 200, 33)]
    ways = [Preprocess(3, 20, 32, resize="squash", interpolation="area")] * len(images)
    made = fitted(tmp_path, [(image, image.shape[1], 9, way) for image, way in zip(images, ways, strict=True)])
    for image_HWC, values, way in zip(images, made, ways, strict=True):
        wanted_CHW, _ = fit_image(np.ascontiguousarray(image_HWC[:, :, ::-1]), way)
        assert (np.array(values).reshape(20, 32, 3).transpose(2, 0, 1) == wanted_CHW).all(), image_HWC.shape
