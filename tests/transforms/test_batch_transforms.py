"""Whole-batch transforms against independent ways of computing the same."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from convolve.data.loader import normalize
from convolve.transforms.affine import Affine
from convolve.transforms.crop import Crop
from convolve.transforms.cutout import Cutout
from convolve.transforms.flip import Flip
from convolve.transforms.normalize import mean_of, normalize_in_one_thread
from convolve.transforms.pad import Pad
from convolve.transforms.preprocess import Preprocess
from convolve.transforms.shift import Shift
from convolve.transforms.transform import Transform, WholeBatch


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randint(0, 256, (5, 3, 9, 7), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def transformed(images: torch.Tensor, transforms: tuple[Transform, ...], seed: int) -> torch.Tensor:
    return transform_batch(images, transforms, WholeBatch(np.random.default_rng(seed), len(images), slice(None)))


def transform_batch(images: torch.Tensor, transforms: tuple[Transform, ...], whole: WholeBatch) -> torch.Tensor:
    for transform in transforms:
        images = transform.on_batch(images, whole)
    return images


def test_shift_equals_slicing(images: torch.Tensor) -> None:
    offsets_N2 = np.array([[0, 0], [1, -2], [-2, 1], [2, 2], [-1, 0]])
    shifted = Shift().apply_batch(images, offsets_N2).numpy()
    for image, moved, (down, right) in zip(images.numpy(), shifted, offsets_N2, strict=True):
        expected = np.zeros_like(image)
        rows, columns = image.shape[1:]
        expected[:, max(down, 0) : rows + min(down, 0), max(right, 0) : columns + min(right, 0)] = image[
            :, max(-down, 0) : rows + min(-down, 0), max(-right, 0) : columns + min(-right, 0)
        ]
        np.testing.assert_array_equal(moved, expected)


def test_shift_draws_every_offset_alike() -> None:
    offsets_N2 = Shift(2).draw_batch(np.random.default_rng(0), 20_000)
    counts = np.zeros((5, 5))
    np.add.at(counts, (offsets_N2[:, 0] + 2, offsets_N2[:, 1] + 2), 1)
    chi_square = ((counts - 800) ** 2 / 800).sum()
    assert chi_square < 51.2  # the 99.9 % point with 24 degrees of freedom


def test_cutout_equals_slicing(images: torch.Tensor) -> None:
    before, centers_N2 = images.clone(), np.array([[0, 0], [4, 3], [8, 6], [2, 6], [8, 0]])
    covered = Cutout(pixels=5, value=77).apply_batch(images, centers_N2).numpy()
    for image, found, (row, column) in zip(images.numpy(), covered, centers_N2, strict=True):
        expected = image.copy()
        expected[:, max(row - 2, 0) : row + 3, max(column - 2, 0) : column + 3] = 77
        np.testing.assert_array_equal(found, expected)
    assert torch.equal(images, before)


def test_cutout_is_centered_anywhere() -> None:
    centers_N2 = Cutout().draw_batch(np.random.default_rng(0), 9 * 7 * 300, 9, 7)
    counts = np.zeros((9, 7))
    np.add.at(counts, tuple(centers_N2.T), 1)
    assert ((counts - 300) ** 2 / 300).sum() < 102.2  # the 99.9 % point of chi square with 62 degrees of freedom


def test_affine_equals_opencv(images: torch.Tensor) -> None:
    """The same matrix through cv2.warpAffine, whose coordinates count from the corner pixel's center."""
    matrices = Affine(20, 0.2, 10, 1.5).draw_batch(np.random.default_rng(1), len(images))
    warped = Affine().apply_batch(images, matrices).numpy()
    height, width = images.shape[2:]
    center = np.array([(width - 1) / 2, (height - 1) / 2])
    for image, moved, matrix in zip(images.numpy(), warped, matrices, strict=True):
        linear = matrix[:, :2].astype(np.float64)
        offset = matrix[:, 2] + center - linear @ center
        expected = cv2.warpAffine(
            np.pad(image.transpose(1, 2, 0).astype(np.float32), ((4, 4), (4, 4), (0, 0))),
            np.column_stack([linear, offset + 4 - linear @ [4.0, 4.0]]),
            (width + 8, height + 8),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        )[4:-4, 4:-4]
        # OpenCV rounds the weights to 1/32 of a pixel.
        np.testing.assert_allclose(moved.transpose(1, 2, 0), expected, atol=255 * 3 / 32)
        assert np.abs(moved.transpose(1, 2, 0) - expected).mean() < 2.5


def test_affine_draws_within_limits() -> None:
    matrices = Affine(degrees=30, scale_fraction=0, shear_degrees=0, pixels=0).draw_batch(
        np.random.default_rng(0), 1000
    )
    angles = np.degrees(np.arctan2(matrices[:, 0, 1], matrices[:, 0, 0]))
    assert 29 < angles.max() <= 30.001
    assert -30.001 <= angles.min() < -29
    np.testing.assert_allclose(np.linalg.det(matrices[:, :, :2]), 1, atol=1e-5)
    scaled = Affine(0, 0.2, 0, 3.0).draw_batch(np.random.default_rng(0), 1000)
    scales_N2 = 1 / scaled[:, [0, 1], [0, 1]]  # the map is the inverse one
    np.testing.assert_allclose(scales_N2.min(0), 0.8, rtol=0.01)
    np.testing.assert_allclose(scales_N2.max(0), 1.2, rtol=0.01)
    assert abs(np.corrcoef(scales_N2.T)[0, 1]) < 0.1  # each axis by its own amount
    assert np.abs(scaled[:, :, 2]).max() == pytest.approx(3, rel=0.01)


def test_what_happens_to_a_batch_is_a_function_of_its_generator(images: torch.Tensor) -> None:
    transforms = (Shift(1), Affine())
    one, again, other = (transformed(images, transforms, seed) for seed in (3, 3, 4))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_a_part_of_a_batch_becomes_what_it_becomes_in_the_whole(images: torch.Tensor) -> None:
    crop = Crop("randomside", crop_width=9, crop_height=8)
    transforms = (Pad(2, 9), crop, Flip(0.5), Cutout(3), Shift(2), Affine())
    whole = transformed(images, transforms, 3)
    for mine in (slice(0, 2), slice(2, len(images)), slice(1, 2)):
        drawn = WholeBatch(np.random.default_rng(3), len(images), mine)
        part = transform_batch(images[mine], transforms, drawn)
        torch.testing.assert_close(part, whole[mine], rtol=0, atol=1e-4)


def test_normalize(images: torch.Tensor) -> None:
    expected = (images.numpy().astype(np.float64) - 128) / 256
    for source in (images, images.float()):
        kept = source.clone()
        np.testing.assert_allclose(normalize(source, 128, 1 / 256).numpy(), expected, atol=1e-7)
        assert torch.equal(source, kept)


@pytest.mark.parametrize("kind", ["number", "one a channel", "image"])
@pytest.mark.parametrize(("channels", "bgr"), [(1, False), (3, False), (3, True)])
def test_a_thread_alone_normalizes_to_the_same_bits(kind: str, channels: int, bgr: bool) -> None:
    rng = np.random.default_rng(0)
    want = Preprocess(channels, 5, 7, (104.1,) * channels if kind == "one a channel" else 104.1)
    if kind == "image":
        want = replace(want, mean_image_CHW=rng.uniform(0, 255, (channels, 5, 7)).astype(np.float32))
    pixels = torch.from_numpy(rng.integers(0, 256, (4, 5, 7, channels), dtype=np.uint8)).permute(0, 3, 1, 2)
    for images_NCHW in (pixels, pixels.float(), pixels.contiguous()):
        kept = images_NCHW.clone()
        expected = normalize(images_NCHW, mean_of(want), 1 / 58, bgr)
        got = normalize_in_one_thread(images_NCHW, mean_of(want), 1 / 58, bgr)
        assert torch.equal(got, expected) and torch.equal(images_NCHW, kept)
        assert got.is_contiguous(memory_format=torch.channels_last)
