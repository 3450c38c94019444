"""Any image becomes what the model wants, and it is said what was done."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import cv2
import numpy as np
import pytest
import torch

from convolve.data.loader import normalize
from convolve.errors import UsageError
from convolve.formats.decode import decode_image
from convolve.transforms.normalize import mean_of, normalize_in_one_thread, scale_of
from convolve.transforms.preprocess import Preprocess, Resize, fit_image, fit_size
from convolve.transforms.scale import Interpolation

GOLDEN = Path(__file__).parents[1] / "golden" / "img"
GRAY = Preprocess(1, 28, 28, 0.0, 1 / 256)
COLOR = Preprocess(3, 28, 28, 0.0, 1 / 256)
RNG = np.random.default_rng(0)


def test_a_fitting_image_is_untouched() -> None:
    image = RNG.integers(0, 256, (28, 28, 1), dtype=np.uint8)
    fitted, done = fit_image(image, GRAY)
    np.testing.assert_array_equal(fitted, image.transpose(2, 0, 1))
    assert done == ""


def test_a_part_scaled_to_the_size_of_the_whole_is_told() -> None:
    image = RNG.integers(0, 256, (28, 28, 1), dtype=np.uint8)
    fitted, done = fit_image(image, replace(GRAY, resize="square", crop_ratio=0.5))
    assert not np.array_equal(fitted[0], image[:, :, 0])
    assert done == "scaled and center-cropped from 28x28 to 28x28"


def test_bgr_becomes_rgb_planes() -> None:
    image = RNG.integers(0, 256, (28, 28, 3), dtype=np.uint8)
    fitted, done = fit_image(image, COLOR)
    np.testing.assert_array_equal(fitted, cv2.cvtColor(image, cv2.COLOR_BGR2RGB).transpose(2, 0, 1))
    assert done == ""


def test_color_becomes_gray_and_gray_three_planes() -> None:
    image = RNG.integers(0, 256, (28, 28, 3), dtype=np.uint8)
    fitted, done = fit_image(image, GRAY)
    np.testing.assert_array_equal(fitted[0], cv2.cvtColor(image, cv2.COLOR_BGR2GRAY))
    assert done == "made gray"
    fitted, done = fit_image(image[:, :, :1], COLOR)
    np.testing.assert_array_equal(fitted, np.repeat(image[:, :, :1], 3, axis=2).transpose(2, 0, 1))
    assert "three planes" in done


@pytest.mark.parametrize("size", [(56, 56), (100, 40), (40, 100), (1, 1), (28, 500), (13, 27), (2000, 3)])
def test_any_size_is_brought_to_the_wanted_one(size: tuple[int, int]) -> None:
    image = np.full((*size, 1), 77, np.uint8)
    fitted, done = fit_image(image, GRAY)
    assert fitted.shape == (1, 28, 28)
    assert (fitted == 77).all()
    assert f"from {size[1]}x{size[0]} to 28x28" in done


def test_shrinking_averages_areas() -> None:
    """A factor of two is the mean of each 2x2 square, so a one-pixel stroke does not vanish."""
    image = RNG.integers(0, 256, (56, 56, 1), dtype=np.uint8)
    fitted, _ = fit_image(image, GRAY)
    means = image.reshape(28, 2, 28, 2).astype(float).mean(axis=(1, 3))
    assert np.abs(fitted[0] - means).max() <= 0.5


def test_the_center_is_what_is_kept() -> None:
    image = np.zeros((28, 84, 1), np.uint8)
    image[:, 28:56] = 200
    fitted, _ = fit_image(image, GRAY)
    assert (fitted == 200).all()


WIDE_HWC = np.zeros((40, 80, 1), np.uint8)
WIDE_HWC[:, :20], WIDE_HWC[:, 60:] = 200, 100  # what tells it from others lies at its ends


def test_each_way_to_the_size_keeps_what_it_says() -> None:
    def fitted(height: int, width: int, **values: Any) -> np.ndarray:
        return fit_image(WIDE_HWC, Preprocess(1, height, width, **values))[0][0]

    assert (fitted(20, 20, resize="cover") == 0).all()
    assert fitted(20, 20, resize="squash")[:, [0, -1]].tolist() == [[200, 100]] * 20
    boxed_HW = fitted(20, 20, resize="letterbox", padding_value=114)
    assert boxed_HW[:, 0].tolist() == [114] * 5 + [200] * 10 + [114] * 5
    assert fitted(20, 20, resize="letterbox", padding_value=-1)[:, 0].tolist() == [200] * 20
    assert (fitted(20, 20, resize="square") == 0).all()
    assert fitted(20, 40, resize="cover")[:, [0, -1]].tolist() == [[200, 100]] * 20
    assert fitted(20, 40, resize="letterbox")[:, [0, -1]].tolist() == [[200, 100]] * 20


@pytest.mark.parametrize("resize", ["cover", "squash"])
def test_a_crop_ratio_leaves_the_center_of_what_is_scaled(resize: Resize) -> None:
    """The usual 224 of 256, as Resize and CenterCrop of other tools."""
    image_HWC = RNG.integers(0, 256, (80, 120, 3), dtype=np.uint8)
    want = Preprocess(3, 28, 28, resize=resize, crop_ratio=0.875)
    larger = Preprocess(3, 32, 48 if resize == "cover" else 32, resize=resize)
    left = 10 if resize == "cover" else 2
    np.testing.assert_array_equal(fit_size(image_HWC, want), fit_size(image_HWC, larger)[2:30, left : left + 28])
    exact_HWC = image_HWC[:28, :28]
    assert fit_image(exact_HWC, want)[1] == "scaled and center-cropped from 28x28 to 28x28"


@pytest.mark.parametrize("resize", ["cover", "letterbox", "squash"])
def test_images_of_the_size_are_left_alone_whatever_its_form(resize: Resize) -> None:
    image_HWC = RNG.integers(0, 256, (20, 40, 3), dtype=np.uint8)
    fitted_CHW, done = fit_image(image_HWC, Preprocess(3, 20, 40, channel_order="bgr", resize=resize))
    assert done == "" and (fitted_CHW == image_HWC[:, :, ::-1].transpose(2, 0, 1)).all()


def test_how_an_image_is_scaled_is_a_choice() -> None:
    image_HWC = RNG.integers(0, 256, (56, 56, 1), dtype=np.uint8)
    by_default = {way: Preprocess(1, 28, 28, resize=way).filter for way in get_args(Resize)}
    assert by_default == {"cover": "area", "letterbox": "area", "squash": "linear", "square": "linear"}
    made = {
        how: fit_size(image_HWC, Preprocess(1, 28, 28, resize="squash", interpolation=how))
        for how in get_args(Interpolation)
    }
    assert len({pixels.tobytes() for pixels in made.values()}) >= 4  # a half by area and by line may be the same
    np.testing.assert_array_equal(made["area"], fit_size(image_HWC, Preprocess(1, 28, 28, resize="cover")))


def test_a_preprocess_says_what_it_does() -> None:
    said = {
        ("32x32 RGB,", "turned as EXIF says"): {},
        ("image scaled to cover 36x36, of which the central 32x32 RGB,", "as stored, whatever EXIF says"): {
            "crop_ratio": 32 / 36, "orientation": "stored",
        },
        ("whole image within 32x32 RGB,", ""): {"resize": "letterbox"},
        ("whole image scaled to 64x64, of which the central 32x32 RGB,", ""): {"resize": "squash", "crop_ratio": 0.5},
        ("central 0.5 of the shorter side scaled to 32x32 RGB,", "as by CNTK"): {
            "resize": "square", "crop_ratio": 0.5, "orientation": "cntk",
        },
    }  # fmt: skip
    for (begin, end), values in said.items():
        words = str(Preprocess(3, 32, 32, **values))  # type: ignore[arg-type]
        assert words.startswith(begin) and words.endswith(end)


@pytest.mark.parametrize(
    ("case", "resize", "ratio"),
    [
        ("center_side_0875", "square", 0.875),
        ("cifar_center_08", "square", 0.8),
        ("scale_64_linear", "squash", 1.0),
        ("bmp_fill", "squash", 1.0),
    ],
)
def test_imported_models_see_what_cntk_delivered(case: str, resize: Resize, ratio: float) -> None:
    """Golden: what CNTK's reader made of these files with Scale, after Crop(center, sideRatio) for "square"."""
    expected_NCHW = np.load(GOLDEN / "cases.npz")[case]
    _, channels, height, width = expected_NCHW.shape
    want = Preprocess(channels, height, width, channel_order="bgr", resize=resize, crop_ratio=ratio)
    files = json.loads((GOLDEN / "cases.json").read_text())[case]["files"]
    for file, expected_CHW in zip(files, expected_NCHW, strict=True):
        fitted_CHW, _ = fit_image(decode_image((GOLDEN / file).read_bytes(), file), want)
        [got_CHW] = normalize(torch.from_numpy(fitted_CHW)[None], 0.0, 1.0, bgr=True).numpy()
        np.testing.assert_array_equal(got_CHW, expected_CHW)


def test_means_of_each_kind() -> None:
    image_CHW = RNG.normal(size=(3, 4, 5)).astype(np.float32)
    pixels = torch.from_numpy(RNG.integers(0, 256, (2, 3, 4, 5), dtype=np.uint8))
    for mean, expected in ((7.0, 7.0), ((1.0, 2.0, 3.0), np.array([1, 2, 3])[:, None, None])):
        got = normalize(pixels, mean_of(Preprocess(3, 4, 5, mean)), 0.5)
        np.testing.assert_allclose(got, (pixels.numpy() - expected) * 0.5, rtol=1e-6)
        of_channels = Preprocess(3, 4, 5, mean, (0.5, 0.25, 2.0), channel_order="bgr")
        factors = np.array([0.5, 0.25, 2.0])[:, None, None]
        for function in (normalize, normalize_in_one_thread):
            got = function(pixels, mean_of(of_channels), scale_of(of_channels), bgr=True)
            np.testing.assert_allclose(got, (pixels.numpy()[:, ::-1] - expected) * factors, rtol=1e-6)
        assert " * (0.5, 0.25, 2), " in str(of_channels)
    want = Preprocess(3, 4, 5, channel_order="bgr", mean_image_CHW=image_CHW)
    got = normalize(pixels, mean_of(want), 2.0, bgr=True)
    np.testing.assert_allclose(got, (pixels.numpy()[:, ::-1] - image_CHW) * 2, rtol=1e-6)
    assert "mean image" in str(want)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"channel_order": "gray"}, "channel_order"),
        ({"channel_order": "gbr"}, "did you mean"),
        ({"mean": (1.0, 2.0)}, "one number or 3"),
        ({"mean": float("nan")}, "mean"),
        ({"scale": 0.0}, "scale"),
        ({"scale": (1.0, 2.0)}, "one number other than 0, or 3"),
        ({"scale": (1.0, 0.0, 2.0)}, "scale"),
        ({"crop_ratio": 1.5}, "crop_ratio"),
        ({"resize": "pad"}, "resize"),
        ({"resize": "letterbox", "crop_ratio": 0.9}, "resize=letterbox keeps it whole"),
        ({"interpolation": "bilinear"}, "linear"),
        ({"orientation": "up"}, "orientation"),
        ({"mean_image_CHW": np.zeros((3, 2, 2), np.float32)}, "mean"),
    ],
)
def test_what_does_not_fit_is_refused(values: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        Preprocess(3, 28, 28, **values)  # type: ignore[arg-type]
