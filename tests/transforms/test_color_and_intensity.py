"""Color and lighting noise against images that CNTK 2.7 changed.

Its random amounts are read off one part of the pixels; then all of them must fit.
"""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
import pytest

from convolve.formats.decode import Decoding, decode_image
from convolve.formats.mean_xml import read_color_axes
from convolve.transforms.color import Color, ColorChange, apply_color
from convolve.transforms.intensity import Intensity, apply_intensity

GOLDEN = Path(__file__).parents[1] / "golden" / "img"
THEIRS = np.load(GOLDEN / "colors.npz")
AXES = read_color_axes(GOLDEN / "lighting.xml")
GRAY_LEVELS = 1e-4  # float32 at 255
DRAWS = 20_000


def source(name, gray=False):
    return decode_image((GOLDEN / f"noise_{name}.bmp").read_bytes(), name, Decoding(gray=gray))


def changed(name):
    return THEIRS[name].transpose(0, 2, 3, 1)


def unclipped(result):
    return (result > 0) & (result < 255)


@pytest.mark.parametrize("name", ["mid", "wild"])
def test_brightness(name):
    image, mean = source(name), source(name).mean()
    for theirs in changed(f"bright_{name}"):
        amount = np.median((theirs - image)[unclipped(theirs)]) / mean
        assert 0 < abs(amount) <= 0.4
        assert np.abs(apply_color(image, ColorChange(brightness=float(amount))) - theirs).max() < GRAY_LEVELS


@pytest.mark.parametrize("name", ["mid", "wild"])
def test_contrast(name):
    image = source(name)
    for theirs in changed(f"contrast_{name}"):
        usable = unclipped(theirs) & (image > 50)
        amount = np.median(theirs[usable] / image[usable]) - 1
        assert 0 < abs(amount) <= 0.5
        assert np.abs(apply_color(image, ColorChange(contrast=float(amount))) - theirs).max() < GRAY_LEVELS


@pytest.mark.parametrize("name", ["mid", "wild"])
def test_saturation(name):
    image = source(name)
    before = cv2.cvtColor(image.astype(np.float32), cv2.COLOR_BGR2HSV)[:, :, 1]
    for theirs in changed(f"satur_{name}"):
        after = cv2.cvtColor(np.ascontiguousarray(theirs), cv2.COLOR_BGR2HSV)[:, :, 1]
        amount = np.median((after / before)[after < 0.99]) - 1
        assert 0 < abs(amount) <= 0.7
        assert np.abs(apply_color(image, ColorChange(saturation=float(amount))) - theirs).max() < GRAY_LEVELS


@pytest.mark.parametrize("name", ["mid", "wild"])
def test_lighting_noise(name):
    image = source(name)
    for theirs in changed(f"intens_{name}"):
        shift_bgr = [np.median((theirs - image)[..., c][unclipped(theirs[..., c])]) for c in range(3)]
        alphas = np.linalg.solve(AXES.vectors.astype(float), shift_bgr[::-1]) / AXES.values
        assert np.abs(alphas).max() < 0.5 * 5
        assert np.abs(apply_intensity(image, alphas.astype(np.float32), AXES) - theirs).max() < GRAY_LEVELS


def test_gray_images():
    image = source("c", gray=True)
    for theirs in changed("color_grey"):  # brightness, contrast; no saturation
        slope, offset = np.polyfit(image[unclipped(theirs)].astype(float), theirs[unclipped(theirs)], 1)
        change = ColorChange(brightness=float(offset / image.mean()), contrast=float(slope - 1), saturation=0.3)
        assert np.abs(apply_color(image, change) - theirs).max() < GRAY_LEVELS
    for theirs in changed("intens_grey"):  # the first row of the axes alone
        shift = np.median((theirs - image)[unclipped(theirs)])
        alphas = np.array([shift / AXES.vectors[0, 0] / AXES.values[0], 0, 0], np.float32)
        assert np.abs(apply_intensity(image, alphas, AXES) - theirs).max() < GRAY_LEVELS


def assert_distribution(values, cumulative):
    """Kolmogorov-Smirnov at a level of 0.1 %."""
    values = np.sort(values)
    expected = np.array([cumulative(value) for value in values])
    steps = np.arange(len(values) + 1) / len(values)
    distance = max((steps[1:] - expected).max(), (expected - steps[:-1]).max())
    assert distance < 1.95 / math.sqrt(len(values))


def test_color_amounts_are_uniform_in_their_radius():
    rng = np.random.default_rng(0)
    draws = [Color(0.4, 0.2, 0.9).draw(rng) for _ in range(DRAWS)]
    for name, radius in (("brightness", 0.4), ("contrast", 0.2), ("saturation", 0.9)):
        values = np.array([getattr(draw, name) for draw in draws])
        assert np.abs(values).max() <= radius
        assert_distribution(values, lambda value, r=radius: (value + r) / (2 * r))
    pairs = np.array([(draw.brightness, draw.contrast, draw.saturation) for draw in draws])
    assert np.abs(np.corrcoef(pairs.T) - np.eye(3)).max() < 5 / math.sqrt(DRAWS)


def test_radius_zero_changes_nothing():
    rng = np.random.default_rng(0)
    assert Color(contrast_radius=0.1).draw(rng).brightness is None
    change = Color().draw(rng)
    image = source("wild")
    assert change == ColorChange()
    assert apply_color(image, change) is image  # and stays uint8, as in CNTK


def test_lighting_amounts_are_normal():
    rng = np.random.default_rng(0)
    alphas = np.array([Intensity("x.xml", 0.3).draw(rng) for _ in range(DRAWS)])
    for axis in range(3):
        assert_distribution(alphas[:, axis], lambda value: 0.5 * (1 + math.erf(value / 0.3 / math.sqrt(2))))
    assert np.abs(np.corrcoef(alphas.T) - np.eye(3)).max() < 5 / math.sqrt(DRAWS)
    assert not Intensity("x.xml", 0.0).draw(rng).any()


def test_inputs_stay_as_they_are():
    image = source("wild").astype(np.float32)
    before = image.copy()
    apply_color(image, ColorChange(0.3, 0.3, 0.3))
    apply_intensity(image, np.ones(3, np.float32), AXES)
    assert np.array_equal(image, before)
