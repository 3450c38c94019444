"""Frozen features: what the body gives, whoever computes it and in whatever batches."""

from functools import partial

import numpy as np
import torch
from torch import Tensor

from convolve.data.dataset import Dataset, transformed
from convolve.data.evaluation import eval_dataset
from convolve.data.loader import normalize
from convolve.data.sources.source import ArraySource
from convolve.models import build_model
from convolve.models.heads import features_of
from convolve.specs.model import ModelSpec
from convolve.training.features import FrozenBody
from convolve.training.precision import Precision
from convolve.training.workers import Workers
from convolve.transforms.flip import Flip
from convolve.transforms.preprocess import Preprocess

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
    features_NVD, labels_N = frozen.features(Dataset(source()))
    torch.testing.assert_close(features_NVD[:, 0], expected(module, source().images_NCHW), rtol=1e-4, atol=1e-5)
    assert torch.equal(labels_N, source().labels_N)


def test_bf16_comes_close() -> None:
    features_NVD, _ = body_of("bf16")[0].features(Dataset(source()))
    exact_NVD, _ = body_of()[0].features(Dataset(source()))
    assert features_NVD.dtype == torch.float32
    assert (features_NVD - exact_NVD).norm() < 0.05 * exact_NVD.norm()


def test_views_and_epochs_stand_side_by_side() -> None:
    frozen, module = body_of()
    views_NVD, labels_N = frozen.features(eval_dataset(source(), Preprocess(*SHAPE), views=2), views=2)
    assert views_NVD.shape[:2] == (21, 2)
    assert torch.equal(labels_N, source().labels_N)
    torch.testing.assert_close(views_NVD[:, 1], expected(module, source().images_NCHW.flip(3)), rtol=1e-4, atol=1e-5)
    flipped = Dataset(source(), transformed([Flip()], 3, None), seed=5)
    drawn_NVD, _ = frozen.features(flipped, epochs=3)
    same = torch.stack([(drawn_NVD - views_NVD[:, [at]]).abs().amax(2) < 1e-5 for at in range(2)])
    assert same.any(0).all()
    assert same.any(1).all()  # some are flipped in each epoch, and some are not


class OneOfThree(Workers):
    size = 3

    def __init__(self, rank: int) -> None:
        self.rank = rank


def test_workers_share_the_images() -> None:
    frozen, _ = body_of()
    whole_NVD, whole_N = frozen.features(Dataset(source()))
    parts, labels = zip(
        *(frozen.features(Dataset(source()), workers=OneOfThree(rank)) for rank in range(3)), strict=True
    )
    assert torch.equal(torch.cat(parts), whole_NVD)
    assert torch.equal(torch.cat(labels), whole_N)
    assert np.ptp([len(each) for each in parts]) <= 1


def test_an_image_s_features_do_not_depend_on_the_others() -> None:
    """To the bit: some may come from the cache, or another worker."""
    frozen, _ = body_of()
    whole_NVD, _ = frozen.features(Dataset(source()))
    for numbers in ([20], [3, 17, 5], list(range(2, 19))):
        part_NVD, _ = frozen.features(Dataset(source().take(np.array(numbers))))
        assert torch.equal(part_NVD, whole_NVD[numbers])
