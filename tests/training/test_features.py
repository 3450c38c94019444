"""Frozen features: what the body gives, whoever computes it and in whatever batches."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from convolve.data.dataset import Dataset
from convolve.data.loader import normalize
from convolve.data.sources.source import ArraySource
from convolve.models import build_model
from convolve.models.heads import features_of
from convolve.specs.model import ModelSpec
from convolve.training.features import FrozenBody
from convolve.training.precision import Precision
from convolve.training.workers import Workers

SHAPE = (3, 32, 32)
CPU = torch.device("cpu")


def source() -> ArraySource:
    pixels = torch.randint(0, 256, (21, *SHAPE), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return ArraySource(pixels, torch.arange(21) % 4)


def body_of(precision: str = "fp32") -> tuple[FrozenBody, torch.nn.Module]:
    module = features_of(build_model(ModelSpec(name="efficientnet-lite0", variant="tiny"), SHAPE, 4, seed=1)).eval()
    see = partial(normalize, mean=100.0, scale=0.02)
    return FrozenBody.of(module, SHAPE, see, Precision(precision, ""), CPU), module


def expected(module: torch.nn.Module, pixels_NCHW: Tensor) -> Tensor:
    with torch.inference_mode():
        return module((pixels_NCHW.float() - 100) * 0.02)


def test_it_is_what_the_body_gives() -> None:
    frozen, module = body_of()
    features_ND, labels_N = frozen.features(Dataset(source()))
    torch.testing.assert_close(features_ND, expected(module, source().images_NCHW), rtol=1e-4, atol=1e-5)
    assert torch.equal(labels_N, source().labels_N)


def test_bf16_comes_close() -> None:
    features_ND, _ = body_of("bf16")[0].features(Dataset(source()))
    exact_ND, _ = body_of()[0].features(Dataset(source()))
    assert features_ND.dtype == torch.float32
    assert (features_ND - exact_ND).norm() < 0.05 * exact_ND.norm()


class OneOfThree(Workers):
    size = 3

    def __init__(self, rank: int) -> None:
        self.rank = rank


def test_workers_share_the_images() -> None:
    frozen, _ = body_of()
    whole_ND, whole_N = frozen.features(Dataset(source()))
    parts, labels = zip(
        *(frozen.features(Dataset(source()), workers=OneOfThree(rank)) for rank in range(3)), strict=True
    )
    assert torch.equal(torch.cat(parts), whole_ND)
    assert torch.equal(torch.cat(labels), whole_N)
    assert np.ptp([len(each) for each in parts]) <= 1


def test_an_image_s_features_do_not_depend_on_the_others() -> None:
    """To the bit: some may come from the cache, or another worker."""
    frozen, _ = body_of()
    whole_ND, _ = frozen.features(Dataset(source()))
    for numbers in ([20], [3, 17, 5], list(range(2, 19))):
        part_ND, _ = frozen.features(Dataset(source().take(np.array(numbers))))
        assert torch.equal(part_ND, whole_ND[numbers])


@pytest.fixture
def counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many images were computed, time after time."""
    monkeypatch.setenv("CONVOLVE_CACHE", str(tmp_path / "cache"))
    found, computed = [], FrozenBody._computed

    def counting(self: FrozenBody, images: Dataset, numbers_N: Any, *args: int) -> tuple[Tensor, Tensor]:
        found.append(len(numbers_N))
        return computed(self, images, numbers_N, *args)

    monkeypatch.setattr(FrozenBody, "_computed", counting)
    return found


def test_what_is_kept_is_not_computed_again(counted: list[int]) -> None:
    frozen, _ = body_of()
    first_ND, first_N = frozen.features(Dataset(source()), kept_as="as they are")
    again_ND, again_N = body_of()[0].features(Dataset(source()), kept_as="as they are")
    assert counted == [21]
    assert torch.equal(first_ND, again_ND)
    assert torch.equal(first_N, again_N)
    few = source().take(np.array([4, 2]))
    some = ArraySource(torch.cat([few.images_NCHW, few.images_NCHW[:1] // 2]), torch.tensor([1, 0, 3]))
    some_ND, some_N = frozen.features(Dataset(some), kept_as="as they are")
    assert counted == [21, 1]
    assert torch.equal(some_ND[:2], first_ND[[4, 2]])
    assert some_N.tolist() == [1, 0, 3]


def test_another_body_precision_or_preparation_is_another(counted: list[int]) -> None:
    for frozen, said in ((body_of()[0], "one"), (body_of()[0], "two"), (body_of("bf16")[0], "one")):
        frozen.features(Dataset(source()), kept_as=said)
    other, _ = body_of()
    replace(other, normalize=partial(normalize, mean=101.0, scale=0.02)).features(Dataset(source()), kept_as="one")
    assert counted == [21] * 4


def test_a_damaged_entry_is_computed_again(counted: list[int], tmp_path: Path) -> None:
    frozen, _ = body_of()
    first_ND, _ = frozen.features(Dataset(source()), kept_as="one")
    [entry] = (tmp_path / "cache" / "features").iterdir()
    entry.write_bytes(entry.read_bytes()[:-40])
    again_ND, _ = frozen.features(Dataset(source()), kept_as="one")
    assert torch.equal(first_ND, again_ND)
    assert counted == [21, 21]
