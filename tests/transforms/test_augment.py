"""RandAugment, TrivialAugment and random erasing against what torchvision computes (`record_augmentations.py`)."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from record_augmentations import GOLDEN, MAGNITUDES, NAMES, OTHERS, picture, recorded

from convolve.errors import UsageError
from convolve.transforms import rand_augment, trivial_augment
from convolve.transforms.rand_augment import RandAugment
from convolve.transforms.random_erasing import RandomErasing, Rectangle
from convolve.transforms.transform import EachImage, WholeBatch
from convolve.transforms.trivial_augment import TrivialAugment

LOOKED_UP = (
    "brightness", "contrast", "posterize", "solarize", "auto_contrast", "equalize", "translate_x", "translate_y",
)  # fmt: skip
CASES = [(name, channels, m) for name in NAMES for m in MAGNITUDES.get(name, OTHERS) for channels in (1, 3)]
WARPS = ("shear_x", "shear_y", "rotate")


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    return dict(np.load(GOLDEN))


@pytest.mark.parametrize(("name", "channels", "magnitude"), CASES)
def test_operations_are_torchvisions(golden, name, channels, magnitude):
    image_HWC = np.ascontiguousarray(picture(channels)[..., ::-1])  # in OpenCV's order
    done = RandAugment(fill=77).apply(image_HWC, [(name, magnitude)])[..., ::-1].astype(int)
    distance = np.abs(done - golden[f"{name}/{channels}/{magnitude}"])
    if name in WARPS:  # a pixel whose source lies between two may come from either
        assert (distance.max(axis=2) > 0).mean() <= 0.02
    else:
        assert distance.max() <= 1  # rounded, where Pillow drops the fraction


def test_what_is_looked_up_is_torchvisions_to_the_bit(golden):
    image_HWC = np.ascontiguousarray(picture()[..., ::-1])
    for name in (
        "brightness",
        "contrast",
        "posterize",
        "solarize",
        "auto_contrast",
        "equalize",
        "translate_x",
        "translate_y",
    ):
        for magnitude in MAGNITUDES.get(name, OTHERS):
            done = RandAugment(fill=77).apply(image_HWC, [(name, magnitude)])[..., ::-1]
            np.testing.assert_array_equal(done, golden[f"{name}/3/{magnitude}"], err_msg=name)


@pytest.mark.parametrize("policy", [rand_augment, trivial_augment])
def test_magnitudes_are_torchvisions(golden, policy):
    kind, sides = policy.__name__.rpartition(".")[2], {}
    if policy is rand_augment:
        sides = {"translate_x": 18, "translate_y": 15}
    assert set(policy.RANGES) == set(NAMES)
    for name, (first, last, signed) in policy.RANGES.items():
        expected = golden[f"{kind}/{name}"]
        bins = np.linspace(first, last, 31) * sides.get(name, 1)
        if name == "posterize":
            bins = 8 - np.round(8 - bins)
        np.testing.assert_allclose(bins, expected[:31], rtol=1e-6, atol=1e-6)
        assert signed == bool(expected[31])


@pytest.mark.slow  # with torchvision, in an environment whose torch it fits
def test_the_golden_file_is_what_torchvision_computes(golden):
    pytest.importorskip("torchvision")
    found = recorded()
    assert found.keys() == golden.keys()
    for name, values in found.items():
        np.testing.assert_array_equal(values, golden[name], err_msg=name)


def test_rand_augment_draws_two_of_one_magnitude_and_trivial_augment_one_of_any():
    rng, seen = np.random.default_rng(0), {}
    for _ in range(3000):
        drawn = RandAugment(magnitude=15).draw(rng, 200, 100)
        assert len(drawn) == 2
        for name, magnitude in drawn:
            seen.setdefault(name, []).append(round(magnitude, 6))
    assert set(seen) == set(NAMES)
    assert min(map(len, seen.values())) > 340  # 429 expected, four standard deviations of 20
    assert set(seen["rotate"]) == {15.0, -15.0} and set(seen["solarize"]) == {127.5}
    assert set(seen["translate_x"]) == {round(100 * 75 / 331, 6), -round(100 * 75 / 331, 6)}
    turned = [m for [(name, m)] in (TrivialAugment().draw(rng, 9, 9) for _ in range(9000)) if name == "rotate"]
    assert 500 < len(turned) < 800 and len(set(turned)) == 61  # 30 angles each way, and none


@pytest.mark.parametrize(
    "transform", [RandAugment(), TrivialAugment(), RandomErasing(1.0), RandomErasing(0.7, value="random")], ids=str
)
@pytest.mark.parametrize("channels", [1, 3])
def test_a_part_of_a_batch_becomes_what_its_images_become_alone(transform: EachImage, channels: int):
    images = torch.randint(0, 256, (6, channels, 20, 24), dtype=torch.uint8, generator=torch.manual_seed(0))
    kept, rng = images.clone(), np.random.default_rng(3)
    whole = transform.on_batch(images, WholeBatch(np.random.default_rng(3), 6, slice(None)))
    for image, found in zip(images, whole, strict=True):
        alone = transform.on_image(np.ascontiguousarray(image.permute(1, 2, 0).numpy()[..., ::-1]), rng)
        np.testing.assert_array_equal(found.permute(1, 2, 0).numpy()[..., ::-1], alone)
    assert not torch.equal(whole, images) and torch.equal(images, kept) and whole.dtype == torch.uint8
    for part in (slice(1, 4), np.array([-1, 0, 1])):
        drawn = WholeBatch(np.random.default_rng(3), 6, part)
        assert torch.equal(transform.on_batch(images[part], drawn), whole[part])
    floats = transform.on_batch(images.float(), WholeBatch(np.random.default_rng(3), 6, slice(None)))
    torch.testing.assert_close(floats.float(), whole.float(), rtol=0, atol=0)


def test_rectangles_are_torchvisions():
    """Area and height to width within the limits, anywhere in the image; none where none fits."""
    rng, erasing = np.random.default_rng(1), RandomErasing(1.0)
    found = [erasing.draw(rng, 100, 140) for _ in range(3000)]
    tops, lefts, heights, widths = np.array([each[:4] for each in found if each]).T
    assert len(tops) == 3000
    parts, shapes = heights * widths / 14_000, heights / widths
    assert 0.019 < parts.min() < 0.021 and 0.30 < parts.max() < 0.34 and abs(parts.mean() - 0.17) < 0.01
    assert 0.28 < shapes.min() < 0.33 and 2.9 < shapes.max() < 3.5 and abs(np.log(shapes).mean()) < 0.06
    assert tops.min() == 0 and (tops + heights).max() == 100 and (lefts + widths).max() == 140
    assert RandomErasing(1.0, scale=(0.9, 1.0), ratio=(3.0, 3.3)).draw(rng, 100, 100) is None
    drawn = [RandomErasing(0.25).draw(rng, 50, 50) is not None for _ in range(4000)]
    assert 0.22 < np.mean(drawn) < 0.28
    image = np.full((9, 8, 3), 5, np.uint8)
    expected = image.copy()
    expected[1:4, 2:7] = 128
    np.testing.assert_array_equal(erasing.apply(image, Rectangle(1, 2, 3, 5, 0)), expected)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RandAugment(magnitude=31), "rand_augment.magnitude must be in 0..30, got 31"),
        (lambda: RandAugment(num_ops=-1), "rand_augment.num_ops must be at least 0"),
        (lambda: RandAugment(interpolation="linea"), "rand_augment.interpolation: unknown value 'linea'"),
        (lambda: TrivialAugment(num_magnitude_bins=1), "trivial_augment.num_magnitude_bins must be at least 2"),
        (lambda: TrivialAugment(fill=256), "trivial_augment.fill must be in 0..255"),
        (lambda: RandomErasing(scale=(0.5, 0.1)), "random_erasing.scale must be min:max, above 0, up to 1"),
        (lambda: RandomErasing(ratio=(1.0,)), "random_erasing.ratio must be min:max, above 0, got (1.0,)"),
        (lambda: RandomErasing(value="noise"), "random_erasing.value must be in 0..255, or random, got 'noise'"),
    ],
)
def test_wrong_values_are_refused_with_their_path(make, message):
    with pytest.raises(UsageError) as caught:
        make()
    assert message in str(caught.value)
