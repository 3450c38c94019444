"""Any image becomes what the model wants, and it is said what was done."""

import cv2
import numpy as np
import pytest

from convolve.transforms.preprocess import Preprocess, fit_image

GREY = Preprocess(1, 28, 28, 0.0, 1 / 256)
COLOUR = Preprocess(3, 28, 28, 0.0, 1 / 256)
RNG = np.random.default_rng(0)


def test_a_fitting_image_is_untouched() -> None:
    image = RNG.integers(0, 256, (28, 28, 1), dtype=np.uint8)
    fitted, done = fit_image(image, GREY)
    np.testing.assert_array_equal(fitted, image.transpose(2, 0, 1))
    assert done == ""


def test_bgr_becomes_rgb_planes() -> None:
    image = RNG.integers(0, 256, (28, 28, 3), dtype=np.uint8)
    fitted, done = fit_image(image, COLOUR)
    np.testing.assert_array_equal(fitted, cv2.cvtColor(image, cv2.COLOR_BGR2RGB).transpose(2, 0, 1))
    assert done == ""


def test_colour_becomes_grey_and_grey_three_planes() -> None:
    image = RNG.integers(0, 256, (28, 28, 3), dtype=np.uint8)
    fitted, done = fit_image(image, GREY)
    np.testing.assert_array_equal(fitted[0], cv2.cvtColor(image, cv2.COLOR_BGR2GRAY))
    assert done == "made grey"
    fitted, done = fit_image(image[:, :, :1], COLOUR)
    np.testing.assert_array_equal(fitted, np.repeat(image[:, :, :1], 3, axis=2).transpose(2, 0, 1))
    assert "three planes" in done


@pytest.mark.parametrize("size", [(56, 56), (100, 40), (40, 100), (1, 1), (28, 500), (13, 27), (2000, 3)])
def test_any_size_is_brought_to_the_wanted_one(size: tuple[int, int]) -> None:
    image = np.full((*size, 1), 77, np.uint8)
    fitted, done = fit_image(image, GREY)
    assert fitted.shape == (1, 28, 28)
    assert (fitted == 77).all()
    assert f"from {size[1]}x{size[0]} to 28x28" in done


def test_shrinking_averages_areas() -> None:
    """A factor of two is the mean of each 2x2 square, so a one-pixel stroke does not vanish."""
    image = RNG.integers(0, 256, (56, 56, 1), dtype=np.uint8)
    fitted, _ = fit_image(image, GREY)
    means = image.reshape(28, 2, 28, 2).astype(float).mean(axis=(1, 3))
    assert np.abs(fitted[0] - means).max() <= 0.5


def test_the_centre_is_what_is_kept() -> None:
    image = np.zeros((28, 84, 1), np.uint8)
    image[:, 28:56] = 200
    fitted, _ = fit_image(image, GREY)
    assert (fitted == 200).all()
