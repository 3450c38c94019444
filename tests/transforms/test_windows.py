"""Whole batches: the same pixels as image by image, and choices of the same distribution."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from convolve.errors import UsageError
from convolve.transforms.affine import Affine
from convolve.transforms.color import Color
from convolve.transforms.crop import Crop, CropBox, CropBoxes, cut_box, cut_boxes
from convolve.transforms.flip import Flip, mirror_some
from convolve.transforms.pad import Pad
from convolve.transforms.scale import Scale
from convolve.transforms.shift import Shift
from convolve.transforms.table import min_size_before, split_transforms
from convolve.transforms.transform import Transform, WholeBatch, size_after, transform_image

RANDOM = Crop("randomside", side_ratio=(0.8,))


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randint(0, 256, (6, 3, 9, 12), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def one(images_NCHW: torch.Tensor, number: int) -> NDArray[np.uint8]:
    """Image `number` as (H, W, C)."""
    return np.ascontiguousarray(images_NCHW[number].numpy().transpose(1, 2, 0))


def chi_square(values: np.ndarray, outcomes: int) -> float:
    """Of `values`, whole numbers from 0, against all outcomes alike."""
    counts, expected = np.bincount(values, minlength=outcomes), len(values) / outcomes
    assert len(counts) == outcomes
    return float(((counts - expected) ** 2 / expected).sum())


def test_windows_are_what_single_crops_are(images: torch.Tensor) -> None:
    rng = np.random.default_rng(0)
    left_N, top_N, mirrored_N = rng.integers(8, size=6), rng.integers(5, size=6), rng.random(6) < 0.5
    cut = cut_boxes(images, CropBoxes(left_N, top_N, mirrored_N, width=5, height=5))
    for number, (left, top, mirrored) in enumerate(zip(left_N, top_N, mirrored_N, strict=True)):
        expected = cut_box(one(images, number), CropBox(left, top, 5, 5, bool(mirrored)))
        np.testing.assert_array_equal(one(cut, number), expected)
    assert cut.shape == (6, 3, 5, 5)


@pytest.mark.parametrize(
    "spec",
    [
        Crop(), Crop(crop_width=4, crop_height=7), Crop(side_ratio=(0.5,)), Crop(area_ratio=(0.3,)),
        Crop(crop_width=40, crop_height=3),
    ],
)  # fmt: skip
def test_the_center_is_the_same_for_all(spec: Crop, images: torch.Tensor) -> None:
    expected = spec.draw(np.random.default_rng(0), 9, 12)
    drawn = spec.draw_batch(np.random.default_rng(0), 6, 9, 12)
    assert set(zip(drawn.left_N, drawn.top_N, drawn.mirrored_N, strict=True)) == {(expected.left, expected.top, False)}
    assert (drawn.width, drawn.height) == (expected.width, expected.height)
    assert size_after([spec], (9, 12)) == (expected.height, expected.width)


def test_random_windows_are_uniform() -> None:
    """Position and mirroring together: 9 x 9 x 2 outcomes, as the crops that CNTK makes of padded 40x40 images."""
    drawn = RANDOM.draw_batch(np.random.default_rng(1), 40_000, 40, 40)
    assert (drawn.width, drawn.height) == (32, 32)
    outcome_N = (drawn.left_N * 9 + drawn.top_N) * 2 + drawn.mirrored_N
    assert chi_square(outcome_N, 162) < 221  # the 99.9 % point with 161 degrees of freedom


def test_single_crops_are_uniform_too() -> None:
    rng = np.random.default_rng(2)
    boxes = [RANDOM.draw(rng, 40, 40) for _ in range(10_000)]
    assert chi_square(np.array([(box.left * 9 + box.top) * 2 + box.mirrored for box in boxes]), 162) < 221


@pytest.mark.parametrize(
    ("crop", "share"), [(RANDOM, 0.5), (Crop("randomside", hflip=False), 0), (Crop(hflip=True), 0.5)]
)
def test_who_is_mirrored(crop: Crop, share: float) -> None:
    drawn = crop.draw_batch(np.random.default_rng(0), 10_000, 40, 40)
    assert abs(drawn.mirrored_N.mean() - share) < 0.02  # four standard deviations


@pytest.mark.parametrize("probability", [0.0, 0.2, 0.5, 1.0])
def test_mirrors_come_with_their_probability(probability: float, images: torch.Tensor) -> None:
    assert abs(Flip(probability).draw_batch(np.random.default_rng(3), 10_000).mean() - probability) < 0.02
    mirrored_N = np.array([True, False, True, False, False, True])
    turned = mirror_some(images, mirrored_N)
    for image, result, mirrored in zip(images, turned, mirrored_N, strict=True):
        np.testing.assert_array_equal(result, np.flip(image.numpy(), 2) if mirrored else image)


def test_padding(images: torch.Tensor) -> None:
    padded = Pad(3, 128).apply_batch(images)
    expected = np.pad(images.numpy(), ((0, 0), (0, 0), (3, 3), (3, 3)), constant_values=128)
    np.testing.assert_array_equal(padded, expected)
    np.testing.assert_array_equal(Pad(3, 128).apply(one(images, 2)), one(padded, 2))


def test_padding_in_proportion(images: torch.Tensor) -> None:
    height, width = images.shape[2:]
    assert (height, width) == (9, 12)
    padded = Pad(value=128, side_ratio=1 / 3).apply_batch(images)
    assert torch.equal(padded, Pad(3, 128).apply_batch(images))
    np.testing.assert_array_equal(Pad(value=128, side_ratio=1 / 3).apply(one(images, 2)), one(padded, 2))
    assert size_after([Pad(side_ratio=0.125)], (32, 40)) == (40, 48)


def test_a_batch_keeps_the_choices_of_its_generator(images: torch.Tensor) -> None:
    transforms = (Pad(4, 128), Crop("randomside", crop_width=12, crop_height=9), Flip(0.5))
    results = []
    for seed in (0, 0, 1):
        whole, changed = WholeBatch(np.random.default_rng(seed), len(images), slice(None)), images
        for transform in transforms:
            changed = transform.on_batch(changed, whole)
        results.append(changed)
    assert results[0].shape == images.shape and results[0].dtype == torch.uint8
    assert torch.equal(results[0], results[1]) and not torch.equal(results[0], results[2])


def test_a_chain_does_one_thing_after_the_other(images: torch.Tensor) -> None:
    image = one(images, 0)
    transforms = (Pad(2, 7), Crop("randomside", crop_width=8, crop_height=8), Flip(1.0), Scale(5, 4))
    rng = np.random.default_rng(5)
    padded: NDArray[np.uint8] = np.pad(image, ((2, 2), (2, 2), (0, 0)), constant_values=7)
    box = transforms[1].draw(rng, 13, 16)
    mirrored: NDArray[np.uint8] = np.ascontiguousarray(cut_box(padded, box)[:, ::-1])
    expected = transform_image(mirrored, (Scale(5, 4),), rng)
    np.testing.assert_array_equal(transform_image(image, transforms, np.random.default_rng(5)), expected)
    assert expected.shape == (4, 5, 3) and size_after(transforms, (9, 12)) == (4, 5)


VARIES = Crop("randomarea", area_ratio=(0.1, 1.0), jitter_type="uniratio")


@pytest.mark.parametrize(
    ("transforms", "alone"),
    [
        ((), 0), ((Pad(4), RANDOM, Flip()), 0), ((Shift(2), Affine()), 0), ((RANDOM, Scale(8, 8)), 2),
        ((RANDOM, Scale(8, 8), Shift(1)), 2), ((Pad(4), RANDOM, Color(0.1), Flip()), 3), ((VARIES, Scale(8, 8)), 2),
    ],
)  # fmt: skip
def test_what_is_done_alone_and_what_together(transforms: tuple[Transform, ...], alone: int) -> None:
    assert split_transforms(transforms) == (transforms[:alone], transforms[alone:])


def test_batch_transforms_cannot_come_first() -> None:
    with pytest.raises(UsageError, match="shift works on images of one size; put it after scale"):
        split_transforms((Shift(2), RANDOM, Scale(8, 8)))


@pytest.mark.parametrize(
    ("crop", "varies"),
    [
        (Crop(), False), (RANDOM, False), (VARIES, True), (Crop(side_ratio=(0.5, 1.0)), False),
        (Crop(side_ratio=(0.5, 1.0), jitter_type="uniratio"), True),
        (Crop(side_ratio=(0.6,), aspect_ratio=(0.5,)), True),
        (Crop(side_ratio=(0.8,), jitter_type="uniratio"), False),
        (Crop(crop_width=4, crop_height=4, aspect_ratio=(0.5,)), False),
    ],
)  # fmt: skip
def test_crops_that_vary_in_size(crop: Crop, varies: bool) -> None:
    rng = np.random.default_rng(0)
    sizes = {(box.width, box.height) for box in (crop.draw(rng, 90, 70) for _ in range(200))}
    assert crop.varies == varies == (len(sizes) > 1)
    assert crop.fits_batches == (not varies)
    assert (size_after([crop], (90, 70)) is None) == varies
    assert size_after([crop, Scale(8, 6)], None) == (6, 8)


@pytest.mark.parametrize(
    "crop",
    [
        Crop(), Crop(side_ratio=(0.8,)), VARIES, Crop("randomarea", area_ratio=(0.4,), aspect_ratio=(0.6,)),
        Crop(aspect_ratio=(1.7,)),
    ],
)  # fmt: skip
def test_the_least_source_leaves_nothing_to_enlarge(crop: Crop) -> None:
    least = min_size_before((crop, Scale(24, 16)))
    assert least is not None
    rng = np.random.default_rng(0)
    boxes = [crop.draw(rng, *least) for _ in range(300)]
    assert min(box.width for box in boxes) >= 23 and min(box.height for box in boxes) >= 16  # rounded down to pixels
    assert min_size_before((Color(0.1), crop, Scale(24, 16))) is None
