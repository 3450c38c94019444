"""The page's own lines bring an image to the size as `predict` does, to the last level."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from convolve.export.inputs import natural_images
from convolve.transforms.preprocess import Preprocess, fit_image

PAGE = Path(__file__).parents[2] / "docs" / "export.md"


@pytest.mark.parametrize("size", [(90, 41), (37, 120), (9, 7), (151, 203), (24, 32)])
@pytest.mark.parametrize(
    ("resize", "interpolation", "ratio"),
    [("square", "linear", 1.0), ("square", "linear", 0.85), ("cover", "area", 1.0), ("cover", "area", 0.85),
     ("squash", "linear", 1.0), ("squash", "linear", 0.85)],
)  # fmt: skip
def test_the_lines_for_pixels_are_the_preprocessing(
    resize: Any, interpolation: Any, ratio: float, size: tuple[int, int], tmp_path: Path
) -> None:
    [code] = [text for text in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.S) if "image[None]" in text]
    lines = code[code.index("height, width = ") : code.index("[logits]")]
    [image_CHW] = natural_images(1, (3, *size), np.random.default_rng(0))
    path = tmp_path / "image.png"
    cv2.imwrite(str(path), image_CHW.transpose(1, 2, 0))
    preprocess = Preprocess(3, 24, 32, resize=resize, interpolation=interpolation, crop_ratio=ratio)
    values: dict[str, Any] = {"cv2": cv2, "want": preprocess.mapping()}
    exec(lines.replace('"cat.jpg"', repr(str(path))), values)
    expected_CHW, _ = fit_image(cv2.imread(str(path)), preprocess)  # type: ignore[arg-type]
    np.testing.assert_array_equal(values["image"].transpose(2, 0, 1), expected_CHW)
