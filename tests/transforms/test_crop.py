"""Rectangles that a crop draws against those that CNTK 2.7 drew, and against the formulas of its crop transform."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from convolve.formats.decode import decode_image
from convolve.transforms.crop import Crop, CropBox, cut_box
from convolve.transforms.flip import Flip, mirrored
from convolve.transforms.scale import Scale

GOLDEN = Path(__file__).parents[1] / "golden" / "img"
CASES = json.loads((GOLDEN / "crops.json").read_text())
THEIRS = np.load(GOLDEN / "crops.npz")
LEFT, TOP, WIDTH, HEIGHT, MIRRORED = range(5)
DRAWS = 4000


def spec_of(case):
    return Crop(**{name: tuple(value) if isinstance(value, list) else value for name, value in case["crop"].items()})


def draw_many(spec, height, width, count=DRAWS, seed=0):
    rng = np.random.default_rng(seed)
    boxes = [spec.draw(rng, height, width) for _ in range(count)]
    return np.array([(box.left, box.top, box.width, box.height, box.mirrored) for box in boxes])


def assert_same_distribution(one, other):
    """Two-sample Kolmogorov-Smirnov at a level of 0.1 %."""
    values = np.union1d(one, other)
    distance = np.abs(
        np.searchsorted(np.sort(one), values, "right") / len(one)
        - np.searchsorted(np.sort(other), values, "right") / len(other)
    ).max()
    assert distance <= 1.95 * math.sqrt(1 / len(one) + 1 / len(other))


def assert_uniform(values, outcomes):
    """Each of `outcomes` about equally often: within five standard deviations."""
    expected = len(values) / len(outcomes)
    assert set(values) == set(outcomes)
    for outcome in outcomes:
        assert abs((values == outcome).sum() - expected) < 5 * math.sqrt(expected)


@pytest.mark.parametrize("name", CASES)
def test_boxes_are_distributed_as_cntks(name):
    case, theirs = CASES[name], THEIRS[name].astype(int)
    ours = draw_many(spec_of(case), case["height"], case["width"])
    for column in (LEFT, TOP, WIDTH, HEIGHT, MIRRORED):
        assert_same_distribution(ours[:, column], theirs[:, column])
    slack_ours, slack_theirs = (case["width"] - boxes[:, WIDTH] - boxes[:, LEFT] for boxes in (ours, theirs))
    assert_same_distribution(slack_ours, slack_theirs)


@pytest.mark.parametrize("name", [name for name in CASES if "jitter_type" not in CASES[name]["crop"]])
def test_sizes_without_jitter_are_exactly_cntks(name):
    case = CASES[name]
    theirs = set(map(tuple, THEIRS[name][:, [WIDTH, HEIGHT]].astype(int)))
    ours = Counter(map(tuple, draw_many(spec_of(case), case["height"], case["width"])[:, [WIDTH, HEIGHT]]))
    often = {
        size for size, count in ours.items() if count > DRAWS / 10
    }  # CNTK drew 100 times: it cannot have missed these
    assert often <= theirs <= set(ours)


def test_positions_and_mirroring_are_uniform():
    boxes = draw_many(Crop(crop_type="randomside", side_ratio=(0.8,)), 40, 40)
    assert set(boxes[:, WIDTH]) == set(boxes[:, HEIGHT]) == {32}
    assert_uniform(boxes[:, LEFT], range(9))
    assert_uniform(boxes[:, TOP], range(9))
    assert_uniform(boxes[:, MIRRORED], range(2))
    assert_uniform(boxes[:, LEFT] * 18 + boxes[:, TOP] * 2 + boxes[:, MIRRORED], range(162))  # all three independent


def test_a_range_without_jitter_means_its_minimum():
    spec = Crop(crop_type="randomside", side_ratio=(0.5, 0.9))
    assert set(draw_many(spec, 60, 80)[:, WIDTH]) == {30}


def test_side_ratios_are_uniform():
    boxes = draw_many(Crop(crop_type="randomside", side_ratio=(0.25, 0.75), jitter_type="uniratio"), 1000, 2000)
    assert_same_distribution(boxes[:, WIDTH], np.linspace(250, 750, 4000))
    assert np.array_equal(boxes[:, WIDTH], boxes[:, HEIGHT])


def test_area_ratios_are_uniform():
    boxes = draw_many(Crop(crop_type="randomarea", area_ratio=(0.1, 0.9), jitter_type="uniratio"), 1000, 1000)
    assert_same_distribution(boxes[:, WIDTH] ** 2 / 1e6, np.linspace(0.1, 0.9, 4000))


def test_aspect_ratios_are_uniform_and_flat_as_often_as_tall():
    spec = Crop(side_ratio=(0.3,), aspect_ratio=(0.4, 0.8), jitter_type="uniratio")
    boxes = draw_many(spec, 3000, 3000)
    flat = boxes[:, WIDTH] > boxes[:, HEIGHT]
    assert abs(flat.mean() - 0.5) < 5 * 0.5 / math.sqrt(DRAWS)
    short, long = boxes[:, [WIDTH, HEIGHT]].min(axis=1), boxes[:, [WIDTH, HEIGHT]].max(axis=1)
    assert_same_distribution(short / long, np.linspace(0.4, 0.8, 4000))
    assert np.abs(short * long / 900**2 - 1).max() < 0.01


def test_an_aspect_ratio_above_one_is_as_its_inverse():
    """Golden: CNTK's reader with crop(center, side_ratio=0.5, aspect_ratio=1.5), scale(28, 28)."""
    image = decode_image((GOLDEN / "a_97x61.jpg").read_bytes(), "a")
    theirs = np.load(GOLDEN / "aspect_ratio.npz")
    crop, rng, seen = Crop(side_ratio=(0.5,), aspect_ratio=(1.5,)), np.random.default_rng(0), set()
    for _ in range(20):
        box = crop.draw(rng, *image.shape[:2])
        name = "flat" if box.width > box.height else "tall"
        np.testing.assert_array_equal(Scale(28, 28).apply(cut_box(image, box)).transpose(2, 0, 1), theirs[name])
        seen.add((box.width, box.height))
    assert seen == {(25, 37), (37, 25)}
    both = Crop("randomarea", area_ratio=(0.08, 1.0), aspect_ratio=(0.75, 1.3333), jitter_type="uniratio")
    boxes = draw_many(both, 255, 255)
    flatness = boxes[:, WIDTH] / boxes[:, HEIGHT]
    assert both.varies and 0.7 < flatness.min() < 0.8 and 1.25 < flatness.max() < 1.45


def test_crop_size_wins_over_ratios_and_stops_at_the_border():
    spec = Crop(crop_type="randomside", crop_width=100, crop_height=20, side_ratio=(0.5,), aspect_ratio=(0.5,))
    boxes = draw_many(spec, 60, 80)
    assert set(map(tuple, boxes[:, [WIDTH, HEIGHT]])) == {(80, 20)}
    assert_uniform(boxes[:, TOP], range(41))


def test_ten_failed_attempts_give_the_whole_image():
    boxes = draw_many(Crop(side_ratio=(1.0,), aspect_ratio=(0.5,)), 60, 60)
    assert set(map(tuple, boxes)) == {(0, 0, 60, 60, 0)}


def test_at_least_one_pixel_is_left():
    assert Crop(side_ratio=(0.1,)).draw(np.random.default_rng(0), 3, 5) == CropBox(2, 1, 1, 1)  # CNTK crashes here


@pytest.mark.parametrize(
    ("crop_type", "hflip", "mirrors"),
    [
        ("center", None, False),
        ("center", True, True),
        ("randomside", None, True),
        ("randomside", False, False),
        ("randomarea", None, True),
        ("multiview10", True, False),
    ],
)
def test_who_mirrors(crop_type, hflip, mirrors):
    spec = Crop(crop_type=crop_type, side_ratio=(0.5,), hflip=hflip)
    assert spec.mirrors == mirrors
    assert abs(draw_many(spec, 20, 20)[:, MIRRORED].mean() - (0.5 if mirrors else 0)) < 5 * 0.5 / math.sqrt(DRAWS)


def test_the_ten_views():
    spec = Crop(crop_type="multiview10", side_ratio=(0.5,))
    boxes = [spec.draw(np.random.default_rng(0), 20, 30, view) for view in range(10)]
    corners = [(0, 0), (20, 0), (0, 10), (20, 10), (10, 5)]
    assert boxes == [CropBox(left, top, 10, 10, mirrored) for mirrored in (False, True) for left, top in corners]


def test_the_same_generator_draws_the_same():
    spec = Crop(crop_type="randomarea", area_ratio=(0.1, 1.0), aspect_ratio=(0.5, 1.0), jitter_type="uniratio")
    assert np.array_equal(draw_many(spec, 50, 70, 50, seed=3), draw_many(spec, 50, 70, 50, seed=3))
    assert not np.array_equal(draw_many(spec, 50, 70, 50, seed=3), draw_many(spec, 50, 70, 50, seed=4))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_applying_cuts_and_mirrors(channels, dtype):
    image = np.random.default_rng(0).integers(0, 256, (9, 11, channels)).astype(dtype)
    before = image.copy()
    cut = cut_box(image, CropBox(2, 1, 5, 7))
    assert np.array_equal(cut, image[1:8, 2:7])
    turned = cut_box(image, CropBox(2, 1, 5, 7, mirrored=True))
    assert turned.dtype == dtype
    assert np.array_equal(turned, image[1:8, 2:7][:, ::-1])
    assert np.array_equal(mirrored(image), image[:, ::-1])
    assert np.array_equal(image, before)


def test_flips_come_with_their_probability():
    rng = np.random.default_rng(0)
    for probability in (0.0, 0.2, 0.5, 1.0):
        share = np.mean([Flip(probability).draw(rng) for _ in range(DRAWS)])
        assert abs(share - probability) <= 5 * math.sqrt(probability * (1 - probability) / DRAWS)
