"""Your own photographs: a ladder of plans, of which `planned` in ladder.py takes one. See
docs/explanation/photos.md."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from convolve.recipe import Recipe
from convolve.recipes.cifar10 import cifar10_fast
from convolve.specs.confidence import ConfidenceSpec
from convolve.specs.data import DataSpec
from convolve.specs.model import ModelSpec
from convolve.specs.run import RunSpec
from convolve.transforms.crop import Crop
from convolve.transforms.scale import Scale
from convolve.weights import PACKAGED

_STARTING = (
    5.0  # seconds of one core, from the start of Python to the report, for everything that is not done per image
)


@dataclass(frozen=True)
class Plan:
    """A row of the ladder: the `settings` of a recipe, by dotted path, that apply from `least_images` on.

    `about` describes the training. `train_image` and `test_image` are estimated seconds of one core per image;
    docs/explanation/photos.md compares them with measurements. `fits_any`: suitable for any start, not only
    EfficientNet-Lite0.
    """

    about: str
    least_images: int
    settings: Mapping[str, Any]
    train_image: float
    test_image: float
    fits_any: bool = True

    def seconds(self, train_images: int, test_images: int) -> float:
        return _STARTING + train_images * self.train_image + test_images * self.test_image


def photos() -> Recipe:
    """Your own photographs, from a few dozen on: the training starts from a network trained on ImageNet.

    The extra `photos` brings EfficientNet-Lite0; --from takes any other network. Without either the training starts
    from scratch. The number of photographs chooses the plan, unless model.plan names one.
    """
    return Recipe(
        name="photos",
        data=DataSpec(image_size=224, interpolation="linear_antialiased", mean=(127.0,), scale=1 / 128),
        model=ModelSpec(name="efficientnet-lite0", dropout=(0.2,), start=PACKAGED, plan="auto", freeze="all"),
        run=RunSpec(epochs=0),
        confidence=ConfidenceSpec(),
    )


_WHOLE_PHOTOGRAPH = {  # all that covering the square leaves; the network's authors crop to 87.5 % of that
    "data.image_size": 224,
    "data.resize": "cover",
    "data.interpolation": "linear_antialiased",
    "data.crop_ratio": 1.0,
    "model.head": "linear",  # a new head, even if the start has the same number of classes
}
_CROP = Crop(
    crop_type="randomarea", area_ratio=(0.35, 1.0), aspect_ratio=(0.75, 1.0), jitter_type="uniratio", hflip=True
)
_TRAINING = {
    "data.train_transforms": (_CROP, Scale(224, 224, "linear_antialiased")),
    "optimizer.name": "torch.adamw",
    "optimizer.arguments": {"betas": [0.9, 0.99], "weight_decay": 0.05},
    "schedule.kind": "cosine",
    "schedule.warmup_fraction": 0.1,
    "schedule.learning_rates": (0.0005,),
    "run.global_batch_size": 32,
    "run.label_smoothing": 0.1,
    "run.precision": "fp32",  # the depthwise filters' gradients take three times as long in bf16
}

# Each needs more photographs, or more time, than the one before. docs/explanation/photos.md has the measurements.
LADDER = {
    "head": Plan(
        "a linear head is fitted to frozen features", 0,
        _WHOLE_PHOTOGRAPH | {
            "data.image_size": 256,  # larger than its authors' 224: docs/explanation/photos.md
            "model.freeze": "all", "run.epochs": 0,
            "run.global_batch_size": 8,  # one of them by the precision's self-test
        },
        train_image=0.022, test_image=0.022,  # measured in two whole runs: docs/explanation/photos.md
    ),
    "top-160": Plan(
        "a linear head is fitted to frozen features, then trained with blocks 5 and 6 in crops of 160 pixels", 800,
        _WHOLE_PHOTOGRAPH | _TRAINING | {
            "data.image_size": 192, "data.progressive_sizes": (5 / 6,),
            "model.freeze": "blocks.4", "run.epochs": 5,
        },
        train_image=0.09, test_image=0.010, fits_any=False,
    ),
    "top-192": Plan(
        "the same in crops of 192 pixels, for longer", 10_000,
        _WHOLE_PHOTOGRAPH | _TRAINING | {
            "data.progressive_sizes": (6 / 7,),
            "model.freeze": "blocks.4", "run.epochs": 10,
        },
        train_image=0.25, test_image=0.012, fits_any=False,
    ),
    "whole": Plan(
        "a linear head is fitted to frozen features, then trained with the whole network", 50_000,
        _WHOLE_PHOTOGRAPH | _TRAINING | {
            "data.progressive_sizes": (1.0,),
            "model.freeze": "none", "optimizer.layer_decay": 0.8, "run.epochs": 10,
        },
        train_image=1.0, test_image=0.012,
    ),
}  # fmt: skip


def _from_scratch() -> dict[str, Any]:
    """`cifar10-fast` at 64 pixels, with a new random crop of each image in each epoch."""
    fast = cifar10_fast()
    return {
        "data.image_size": 64,
        "data.mean": fast.data.mean,
        "data.scale": fast.data.scale,
        "data.train_transforms": fast.data.train_transforms,
        "data.progressive_sizes": fast.data.progressive_sizes,
        "model.freeze": "none",
        "model.name": fast.model.name,
        "model.variant": fast.model.variant,
        "model.dropout": fast.model.dropout,
        "optimizer.name": "muon",
        "optimizer.momentum": fast.optimizer.momentum,
        "optimizer.unit_gain": False,
        "optimizer.bias_lr": fast.optimizer.bias_lr,
        "schedule.kind": fast.schedule.kind,
        "schedule.learning_rates": fast.schedule.learning_rates,
        "run.epochs": 18,
        "run.global_batch_size": 128,
        "run.label_smoothing": 0.2,
    }


FROM_SCRATCH = {
    "scratch": Plan(
        "a small network is trained at 64 pixels",
        0,
        _from_scratch(),
        train_image=0.2,
        test_image=0.004,
    )
}
