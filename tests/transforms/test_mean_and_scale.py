"""What the CNTK cases leave open: refusals, grey and float images, constants."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from convolve.errors import DataError
from convolve.formats.mean_xml import write_mean_xml
from convolve.transforms.image_spec import Mean, Scale
from convolve.transforms.mean import apply_mean, load_mean
from convolve.transforms.scale import apply_scale

GOLDEN = Path(__file__).parents[1] / "golden" / "img"
IMAGE = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)


def test_constants_and_channel_means():
    for values in ((114.0,), (104.0, 117.0, 123.0)):
        result = apply_mean(IMAGE, load_mean(Mean(values_bgr=values)))
        assert result.dtype == np.float32
        assert np.array_equal(result, IMAGE - np.array(values, np.float32))
    assert np.array_equal(
        apply_mean(IMAGE[..., :1], load_mean(Mean(values_bgr=(7.0,)))), IMAGE[..., :1] - np.float32(7)
    )


def test_mean_images_of_another_size_are_refused_or_skipped(tmp_path):
    mean = load_mean(Mean(file=str(GOLDEN / "mean32.xml")))
    with pytest.raises(
        DataError, match="the mean is 32x32 with 3 channels, the image 30x20 with 3 channels; scale or crop"
    ):
        apply_mean(IMAGE, mean)
    assert apply_mean(IMAGE, mean, "ignore") is IMAGE
    write_mean_xml(tmp_path / "grey.xml", np.zeros((20, 30, 3), np.float32))
    for wrong_size in ("refuse", "ignore"):  # CNTK stops too where only the channels differ
        with pytest.raises(DataError, match="3 channels, the image 30x20 with 1 channel;"):
            apply_mean(IMAGE[..., :1], load_mean(Mean(file=str(tmp_path / "grey.xml"))), wrong_size)


def test_both_readings_of_a_file_are_offered(tmp_path):
    mean = IMAGE.astype(np.float32)
    write_mean_xml(tmp_path / "mean.xml", mean, "planar_rgb")
    file = str(tmp_path / "mean.xml")
    assert np.abs(apply_mean(IMAGE, load_mean(Mean(file=file, layout="planar_rgb")))).max() == 0
    assert np.abs(apply_mean(IMAGE, load_mean(Mean(file=file)))).max() > 100


@pytest.mark.parametrize("interpolation", ["linear", "nearest", "cubic", "lanczos"])
@pytest.mark.parametrize("mode", ["fill", "crop", "pad"])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_grey_images_equal_one_channel_of_colour_ones(interpolation, mode, dtype):
    spec = Scale(17, 11, interpolation, mode, pad_value=9)
    image = IMAGE.astype(dtype)
    colour = apply_scale(image, spec)
    assert colour.shape == (11, 17, 3)
    assert colour.dtype == dtype
    grey = apply_scale(np.ascontiguousarray(image[..., 1:2]), spec)
    assert grey.shape == (11, 17, 1)
    allowed = 1e-4 if dtype is np.float32 else 0  # OpenCV adds floats in another order for one channel
    assert np.abs(grey[..., 0].astype(float) - colour[..., 1]).max() <= allowed


@pytest.mark.parametrize("mode", ["fill", "crop", "pad"])
def test_the_same_size_changes_nothing(mode):
    assert np.array_equal(apply_scale(IMAGE, Scale(30, 20, scale_mode=mode)), IMAGE)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 50), (50, 1), (7, 8)])
@pytest.mark.parametrize("mode", ["fill", "crop", "pad"])
def test_every_shape_comes_out_in_the_size_asked_for(height, width, mode):
    image = np.full((height, width, 3), 77, np.uint8)
    for spec in (Scale(24, 16, scale_mode=mode), Scale(3, 40, "cubic", mode)):
        result = apply_scale(image, spec)
        assert result.shape == (spec.height, spec.width, 3)
        assert set(np.unique(result)) == {77}  # -1 pads with the border


def test_a_picture_too_narrow_to_cut_does_not_take_all_memory():
    with pytest.raises(DataError, match="1 x 60000 pixels are too narrow to be cut to 224 x 224"):
        apply_scale(np.zeros((60000, 1, 3), np.uint8), Scale(224, 224, scale_mode="crop"))
    assert apply_scale(np.zeros((60000, 1, 3), np.uint8), Scale(224, 224, scale_mode="pad")).shape == (224, 224, 3)
