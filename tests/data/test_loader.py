"""Batches are a function of seed, epoch and number; a split keeps every sample, once."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from convolve.data.dataset import Dataset
from convolve.data.hold_out import hold_out_validation
from convolve.data.loader import Loader
from convolve.data.sources.source import ArraySource
from convolve.errors import UsageError
from convolve.transforms.flip import AlternatingFlip
from convolve.transforms.shift import Shift


def numbered(count: int) -> ArraySource:
    """Images whose every pixel is their number, which is their label too."""
    labels_N = torch.arange(count)
    return ArraySource(labels_N.to(torch.uint8)[:, None, None, None].expand(count, 1, 4, 4).contiguous(), labels_N)


def batches(order: str = "shuffled", seed: int = 0, transforms: tuple[Shift, ...] = ()) -> Loader:
    return Loader((Dataset(numbered(50)),), (8,), order, transforms, mean=1.0, scale=0.5, seed=seed)


def test_each_epoch_has_every_sample_once_and_its_own_order() -> None:
    orders = [torch.cat([labels for _, labels in batches().epoch(epoch)]).tolist() for epoch in range(3)]
    assert all(sorted(order) == list(range(50)) for order in orders)
    assert orders[0] != orders[1] != orders[2] != list(range(50))
    assert [len(labels) for _, labels in batches().epoch(0)] == [8] * 6 + [2]
    assert (batches().sizes(0), batches().samples) == ([8] * 6 + [2], 50)


def test_images_go_with_their_labels_and_are_normalized() -> None:
    for images_NCHW, labels_N in batches().epoch(1):
        assert images_NCHW.dtype == torch.float32
        assert torch.equal(images_NCHW, ((labels_N.float() - 1) * 0.5)[:, None, None, None].expand_as(images_NCHW))


@pytest.mark.parametrize("order", ["shuffled", "file"])
@pytest.mark.parametrize("epoch_samples", [0, 20, 130])
def test_an_epoch_goes_on_anywhere(order: str, epoch_samples: int) -> None:
    source = replace(batches(order, transforms=(Shift(2),)), epoch_samples=epoch_samples)
    whole = list(source.epoch(2))
    for first in range(len(source.sizes(2))):
        rest = list(source.epoch(2, first))
        assert len(rest) == len(whole) - first
        for (images, labels), (same_images, same_labels) in zip(rest, whole[first:], strict=True):
            assert torch.equal(images, same_images)
            assert torch.equal(labels, same_labels)


@pytest.mark.parametrize("epoch_samples", [20, 50, 70, 130])
def test_epochs_of_any_length_go_on_through_the_passes(epoch_samples: int) -> None:
    """One after the other they are the passes; as in CNTK's training, no batch reaches into the next pass."""
    source = replace(batches(), epoch_samples=epoch_samples)
    epochs = [[labels.tolist() for _, labels in source.epoch(epoch)] for epoch in range(5)]
    delivered = [label for epoch in epochs for batch in epoch for label in batch]
    passes = [label.item() for number in range(13) for _, labels in batches().epoch(number) for label in labels]
    assert delivered == passes[: 5 * epoch_samples]
    assert [label for batch in epochs[2] for label in batch] == source.order(2).tolist()
    assert [len(epoch) for epoch in epochs] == [len(source.sizes(epoch)) for epoch in range(5)]
    assert source.samples == epoch_samples
    ends = np.cumsum([len(batch) for epoch in epochs for batch in epoch])
    assert {*range(50, 5 * epoch_samples, 50)} <= {*ends}


def test_batch_sizes_belong_to_epochs() -> None:
    source = replace(batches(), batch_sizes=(8, 20), epoch_samples=60)
    sizes = [[len(labels) for _, labels in source.epoch(epoch)] for epoch in range(3)]
    assert sizes == [[8] * 6 + [2, 8, 2], [20, 20, 20], [20, 10, 20, 10]]


def test_seed_and_epoch_change_order_and_augmentation() -> None:
    def first(seed: int, epoch: int) -> torch.Tensor:
        return next(iter(batches("file", seed, (Shift(2),)).epoch(epoch)))[0]

    assert torch.equal(first(0, 0), first(0, 0))
    assert not torch.equal(first(0, 0), first(0, 1))
    assert not torch.equal(first(0, 0), first(1, 0))


def test_the_files_are_left_as_they_are() -> None:
    source = batches("file", transforms=(Shift(2),))
    before = source.datasets[0].source.images_NCHW.clone()
    list(source.epoch(0))
    assert torch.equal(source.datasets[0].source.images_NCHW, before)


@pytest.mark.parametrize(("fraction", "held_out"), [(0.1, 5), (0.5, 25), (0.001, 1), (0.98, 49)])
def test_a_split_keeps_every_sample_once(fraction: float, held_out: int) -> None:
    table = numbered(50)
    train, validation = hold_out_validation(table, fraction, seed=3)
    assert len(validation) == held_out
    assert sorted([*train.labels_N.tolist(), *validation.labels_N.tolist()]) == list(range(50))
    again, _ = hold_out_validation(table, fraction, seed=3)
    other, _ = hold_out_validation(table, fraction, seed=4)
    assert torch.equal(again.labels_N, train.labels_N)
    assert not torch.equal(other.labels_N, train.labels_N)
    assert np.all(np.diff(train.labels_N.numpy()) > 0)  # in the order of the files


def test_a_split_that_leaves_nothing_is_refused() -> None:
    with pytest.raises(UsageError, match=r"data\.validation_fraction=0\.999 leaves nothing of 50 images"):
        hold_out_validation(numbered(50), 0.999, seed=0)


def test_two_passes_show_each_image_both_ways() -> None:
    ramp = torch.arange(4, dtype=torch.uint8).expand(50, 1, 2, 4).contiguous()
    dataset = Dataset(ArraySource(ramp, torch.arange(50)))
    turned = Loader((dataset,), (8,), "shuffled", (AlternatingFlip(),), mean=0.0, scale=1.0, seed=5)
    passes = []
    for epoch in range(3):
        seen = [(labels_N, images[:, 0, 0, 0] == 3) for images, labels_N in turned.epoch(epoch)]
        labels_N, mirrored_N = (torch.cat(parts) for parts in zip(*seen, strict=True))
        passes.append(mirrored_N[labels_N.argsort()])
    assert torch.equal(passes[0], ~passes[1])
    assert torch.equal(passes[0], passes[2])
    assert 10 < passes[0].sum() < 40
