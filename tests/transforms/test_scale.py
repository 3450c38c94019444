"""What the CNTK cases leave open: refusals, gray and float images."""

from __future__ import annotations

import numpy as np
import pytest

from convolve.errors import DataError
from convolve.transforms.scale import Scale

IMAGE = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)


@pytest.mark.parametrize("interpolation", ["linear", "nearest", "cubic", "lanczos"])
@pytest.mark.parametrize("mode", ["fill", "crop", "pad"])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_gray_images_equal_one_channel_of_color_ones(interpolation, mode, dtype):
    spec = Scale(17, 11, interpolation, mode, pad_value=9)
    image = IMAGE.astype(dtype)
    color = spec.apply(image)
    assert color.shape == (11, 17, 3)
    assert color.dtype == dtype
    gray = spec.apply(np.ascontiguousarray(image[..., 1:2]))
    assert gray.shape == (11, 17, 1)
    allowed = 1e-4 if dtype is np.float32 else 0  # OpenCV adds floats in another order for one channel
    assert np.abs(gray[..., 0].astype(float) - color[..., 1]).max() <= allowed


@pytest.mark.parametrize("mode", ["fill", "crop", "pad"])
def test_the_same_size_changes_nothing(mode):
    assert np.array_equal(Scale(30, 20, scale_mode=mode).apply(IMAGE), IMAGE)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 50), (50, 1), (7, 8)])
@pytest.mark.parametrize("mode", ["fill", "crop", "pad"])
def test_every_shape_comes_out_in_the_size_asked_for(height, width, mode):
    image = np.full((height, width, 3), 77, np.uint8)
    for spec in (Scale(24, 16, scale_mode=mode), Scale(3, 40, "cubic", mode)):
        result = spec.apply(image)
        assert result.shape == (spec.height, spec.width, 3)
        assert set(np.unique(result)) == {77}  # -1 pads with the border


def test_an_image_too_narrow_to_cut_does_not_take_all_memory():
    with pytest.raises(DataError, match="1 x 60000 pixels are too narrow to be cut to 224 x 224"):
        Scale(224, 224, scale_mode="crop").apply(np.zeros((60000, 1, 3), np.uint8))
    assert Scale(224, 224, scale_mode="pad").apply(np.zeros((60000, 1, 3), np.uint8)).shape == (224, 224, 3)
