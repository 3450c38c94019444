"""Decoding and deterministic transforms against the pixels that CNTK 2.7 delivered."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from convolve.formats.decode import Decoding, decode_image
from convolve.formats.mean_xml import read_mean_xml
from convolve.transforms.crop import VIEWS, Crop, cut_box
from convolve.transforms.scale import Scale

GOLDEN = Path(__file__).parents[1] / "golden" / "img"
CASES = json.loads((GOLDEN / "cases.json").read_text())
PIXELS = np.load(GOLDEN / "cases.npz")
SPECS = {"crop": Crop, "scale": Scale, "mean": dict}
CUBIC_GRAY_LEVELS = 1  # OpenCV 3.1, which CNTK used, rounds its cubic coefficients otherwise
FLOAT_ERROR = 2e-4  # the float resize of OpenCV 3.1 adds in another order; values reach 255


def specs_of(case):
    for mapping in case["transforms"]:
        kind = SPECS[mapping["kind"]]
        names = mapping.keys() - {"kind"} if kind is dict else {f.name for f in fields(kind)} & mapping.keys()
        values = {name: mapping[name] for name in names}
        yield kind(**{name: tuple(v) if isinstance(v, list) else v for name, v in values.items()})


def without_mean(image, file="", layout="interleaved_bgr", wrong_size="refuse", values_bgr=()):
    mean = read_mean_xml(GOLDEN / file, layout) if file else np.array(values_bgr, np.float32)
    if wrong_size == "ignore" and mean.shape[:2] != image.shape[:2]:  # CNTK skips it
        return image
    return image.astype(np.float32) - mean


def apply(image, spec, view):
    if isinstance(spec, Crop):
        return cut_box(image, spec.draw(np.random.default_rng(0), *image.shape[:2], view))
    return without_mean(image, **spec) if isinstance(spec, dict) else spec.apply(image)


def ours(case, channels):
    """N, C, H, W; all ten views of a "multiview10" case, one image after the other."""
    specs = list(specs_of(case))
    views = VIEWS if any(isinstance(s, Crop) and s.crop_type == "multiview10" for s in specs) else 1
    for file in case["files"]:
        for view in range(views):
            image = decode_image((GOLDEN / file).read_bytes(), file, Decoding(gray=channels == 1))
            for spec in specs:
                image = apply(image, spec, view)
            yield image.transpose(2, 0, 1)


@pytest.mark.parametrize("name", CASES)
def test_pixels_equal_cntk(name):
    expected = PIXELS[name]
    got = np.stack(list(ours(CASES[name], expected.shape[1])))
    assert got.shape == expected.shape
    assert got.dtype == expected.dtype
    allowed = CUBIC_GRAY_LEVELS if "cubic" in name else FLOAT_ERROR if name.startswith("mean_before_scale") else 0
    assert np.abs(got.astype(np.float64) - expected).max() <= allowed


def test_there_are_cases_of_every_kind():
    assert len(CASES) == len(PIXELS.files) >= 30
