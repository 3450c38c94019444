"""MixUp and CutMix against torchvision's, given the same part; what is drawn; the same for all workers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from record_augmentations import GOLDEN, batch

from convolve.data.dataset import Dataset
from convolve.data.loader import Loader
from convolve.data.mixing import MixingLoader
from convolve.data.sources.source import ArraySource
from convolve.errors import UsageError
from convolve.specs.data import DataSpec
from convolve.training.workers import part
from convolve.transforms.crop import Crop
from convolve.transforms.cutmix import CutMix
from convolve.transforms.flip import AlternatingFlip
from convolve.transforms.mixing import Mix, draw_mix, mixed
from convolve.transforms.mixup import MixUp
from convolve.transforms.rand_augment import RandAugment


@pytest.mark.parametrize(
    ("name", "mix"), [("mixup", Mix(0.3)), ("cutmix", Mix(1 - 28 / 72, (slice(1, 8), slice(2, 6))))]
)
def test_mixing_is_torchvisions(name, mix):
    golden = np.load(GOLDEN)
    images, labels = (torch.from_numpy(each) for each in batch())
    with_last = torch.arange(-1, 5)
    for layout in (torch.contiguous_format, torch.channels_last):
        given = images[with_last].contiguous(memory_format=layout)
        found, soft = mixed(given, labels[with_last], mix, classes=4)
        np.testing.assert_allclose(found, golden[f"{name}/images"], rtol=0, atol=1e-6)
        np.testing.assert_allclose(soft, golden[f"{name}/labels"], rtol=0, atol=1e-6)
        assert found.is_contiguous(memory_format=layout) and torch.equal(given, images[with_last])


def test_what_is_drawn_is_beta():
    """Beta(0.4, 0.4) has mean 1/2 and variance 1/7.2; of CutMix's rectangles, what lies outside does not count."""
    rng = np.random.default_rng(0)
    parts = np.array([draw_mix([MixUp(0.4)], rng, 9, 9).own for _ in range(4000)])
    assert abs(parts.mean() - 0.5) < 0.025 and abs(parts.var() - 1 / 7.2) < 0.008
    mixes = [draw_mix([CutMix(1.0, probability=0.5)], rng, 30, 40) for _ in range(4000)]
    assert 0.46 < np.mean([mix.box is None and mix.own == 1 for mix in mixes]) < 0.54
    for mix in mixes:
        if mix.box:
            (top, bottom), (left, right) = ((each.start, each.stop) for each in mix.box)
            assert 0 <= top <= bottom <= 30 and 0 <= left <= right <= 40
            assert mix.own == pytest.approx(1 - (bottom - top) * (right - left) / 1200)
    either = [draw_mix([MixUp(), CutMix()], rng, 9, 9).box is None for _ in range(1000)]
    assert 0.44 < np.mean(either) < 0.56  # of two in the list, each batch gets one


def loader(kind: type[Loader] = MixingLoader, **more) -> Loader:
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (50, 3, 8, 8), dtype=np.uint8), rng.integers(0, 4, 50)
    source = ArraySource(torch.from_numpy(images), torch.from_numpy(labels))
    transforms = (RandAugment(), Crop("randomside", crop_width=7, crop_height=7), AlternatingFlip())
    return kind((Dataset(source),), (8,), "shuffled", transforms, mean=100.0, scale=0.02, seed=3, **more)


def test_a_batch_is_the_plain_one_mixed_with_itself():
    plain, mixing = loader(Loader), loader(mixing=(MixUp(0.7),), classes=4)
    for (images, labels), (found, soft) in zip(plain.epoch(1), mixing.epoch(1), strict=True):
        one_hot = torch.eye(4)[labels]
        own = ((soft - one_hot.roll(1, 0)) * (one_hot - one_hot.roll(1, 0))).sum() / (
            one_hot - one_hot.roll(1, 0)
        ).square().sum()
        torch.testing.assert_close(soft, own * one_hot + (1 - own) * one_hot.roll(1, 0))
        torch.testing.assert_close(found, own * images + (1 - own) * images.roll(1, 0), rtol=0, atol=1e-5)


@pytest.mark.parametrize("mixing", [(MixUp(0.4),), (CutMix(),), (MixUp(), CutMix(0.5, 0.7))], ids=str)
def test_workers_and_resumed_runs_see_the_same_batches(mixing):
    whole = [list(loader(mixing=mixing, classes=4).epoch(epoch)) for epoch in range(3)]
    later = list(loader(mixing=mixing, classes=4).epoch(2, first_batch=4))
    for (images, soft), (again, soft_again) in zip(whole[2][4:], later, strict=True):
        assert torch.equal(images, again) and torch.equal(soft, soft_again)
    shares = [
        list(loader(mixing=mixing, classes=4).epoch(1, shard_of=lambda count, rank=rank: part(count, rank, 2)))
        for rank in range(2)
    ]
    for (images, soft), *mine in zip(whole[1], *shares, strict=True):
        assert torch.equal(torch.cat([each for each, _ in mine]), images)
        assert torch.equal(torch.cat([each for _, each in mine]), soft)


def test_labels_that_are_numbers_or_several_are_mixed_as_they_are():
    images, labels = torch.rand(4, 1, 2, 2), torch.tensor([[1.0, 0.0], [0.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    _, soft = mixed(images, labels, Mix(0.75), classes=2)
    torch.testing.assert_close(soft, torch.tensor([[0.25, 0.0], [0.75, 0.75], [0.25, 1.0]]))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MixUp(alpha=0), "mixup.alpha must be above 0, got 0"),
        (lambda: CutMix(probability=2), "cutmix.probability must be in [0, 1], got 2"),
        (
            lambda: DataSpec(train_transforms=(MixUp(), AlternatingFlip())),
            "mixup and cutmix mix finished images; put them at the end",
        ),
        (lambda: DataSpec(train_transforms=(CutMix(),), hard_fraction=0.5), "leave out either it or mixup and cutmix"),
    ],
)
def test_what_cannot_be_is_refused(make, message):
    with pytest.raises(UsageError) as caught:
        make()
    assert message in str(caught.value)


def test_specs_know_what_mixes():
    spec = replace(DataSpec(), train_transforms=(RandAugment(), MixUp(), CutMix()))
    assert spec.mixing == (MixUp(), CutMix())
