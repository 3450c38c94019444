"""Decoding and deterministic transforms against the pixels that CNTK 2.7 delivered."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from convolve.formats.decode import decode_image
from convolve.transforms.crop import VIEWS, apply_crop, draw_crop
from convolve.transforms.image_spec import Crop, Mean, Scale
from convolve.transforms.mean import apply_mean, load_mean
from convolve.transforms.scale import apply_scale

GOLDEN = Path(__file__).parents[1] / "golden" / "img"
CASES = json.loads((GOLDEN / "cases.json").read_text())
PIXELS = np.load(GOLDEN / "cases.npz")
SPECS = {"crop": Crop, "scale": Scale, "mean": Mean}
CUBIC_GREY_LEVELS = 1  # OpenCV 3.1, which CNTK used, rounds its cubic coefficients otherwise
FLOAT_ERROR = 2e-4  # the float resize of OpenCV 3.1 adds in another order; values reach 255


def specs_of(case):
    for mapping in case["transforms"]:
        kind = SPECS[mapping["kind"]]
        values = {f.name: mapping[f.name] for f in fields(kind) if f.name in mapping}
        if "file" in values:
            values["file"] = str(GOLDEN / values["file"])
        yield kind(**{name: tuple(v) if isinstance(v, list) else v for name, v in values.items()})


def apply(image, spec, view):
    if isinstance(spec, Crop):
        return apply_crop(image, draw_crop(spec, *image.shape[:2], np.random.default_rng(0), view))
    if isinstance(spec, Mean):
        return apply_mean(image, load_mean(spec), spec.wrong_size)
    return apply_scale(image, spec)


def ours(case, channels):
    """N, C, H, W; all ten views of a "multiview10" case, one image after the other."""
    specs = list(specs_of(case))
    views = VIEWS if any(isinstance(s, Crop) and s.crop_type == "multiview10" for s in specs) else 1
    for file in case["files"]:
        for view in range(views):
            image = decode_image((GOLDEN / file).read_bytes(), file, grey=channels == 1)
            for spec in specs:
                image = apply(image, spec, view)
            yield image.transpose(2, 0, 1)


@pytest.mark.parametrize("name", CASES)
def test_pixels_equal_cntk(name):
    expected = PIXELS[name]
    got = np.stack(list(ours(CASES[name], expected.shape[1])))
    assert got.shape == expected.shape
    assert got.dtype == expected.dtype
    allowed = CUBIC_GREY_LEVELS if "cubic" in name else FLOAT_ERROR if name.startswith("mean_before_scale") else 0
    assert np.abs(got.astype(np.float64) - expected).max() <= allowed


def test_there_are_cases_of_every_kind():
    assert len(CASES) == len(PIXELS.files) >= 30
