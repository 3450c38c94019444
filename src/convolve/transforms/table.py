"""The transforms that a recipe can list, and how its list is split between single images and whole batches."""

import math
from collections.abc import Iterable, Sequence

from convolve.errors import UsageError
from convolve.transforms.affine import Affine
from convolve.transforms.color import Color
from convolve.transforms.crop import Crop
from convolve.transforms.cutmix import CutMix
from convolve.transforms.cutout import Cutout
from convolve.transforms.flip import AlternatingFlip, Flip
from convolve.transforms.intensity import Intensity, axes_in
from convolve.transforms.mixing import Mixing
from convolve.transforms.mixup import MixUp
from convolve.transforms.pad import Pad
from convolve.transforms.rand_augment import RandAugment
from convolve.transforms.random_erasing import RandomErasing
from convolve.transforms.scale import Scale
from convolve.transforms.shift import Shift
from convolve.transforms.transform import Size, Transform
from convolve.transforms.trivial_augment import TrivialAugment

# The name of each in a recipe file.
TRANSFORMS: dict[str, type[Transform]] = {
    "shift": Shift,
    "affine": Affine,
    "pad": Pad,
    "crop": Crop,
    "flip": Flip,
    "alternating_flip": AlternatingFlip,
    "cutout": Cutout,
    "scale": Scale,
    "color": Color,
    "intensity": Intensity,
    "rand_augment": RandAugment,
    "trivial_augment": TrivialAugment,
    "random_erasing": RandomErasing,
    "mixup": MixUp,
    "cutmix": CutMix,
}


def read_files(transforms: Iterable[Transform]) -> None:
    """Read the files that `transforms` name now, so that an error in them is not reported for the first image."""
    for transform in transforms:
        if isinstance(transform, Intensity):
            axes_in(transform.file)


def split_transforms(transforms: Sequence[Transform]) -> tuple[Sequence[Transform], Sequence[Transform]]:
    """(transforms of single images, transforms of whole batches that follow them, without mixing).

    Raises `UsageError` for a transform of batches that stands before one of single images.
    """
    transforms = tuple(each for each in transforms if not isinstance(each, Mixing))
    count = max((number + 1 for number, each in enumerate(transforms) if not each.fits_batches), default=0)
    names = {kind: name for name, kind in TRANSFORMS.items()}
    for transform in transforms[:count]:
        if not transform.fits_images:
            raise UsageError(
                f"data.train_transforms: {names[type(transform)]} works on images of one size; put it after "
                f"{names[type(transforms[count - 1])]}"
            )
    return transforms[:count], transforms[count:]


def min_size_before(transforms: Sequence[Transform]) -> Size | None:
    """The smallest image that need not be enlarged if `transforms` crop and then scale; None: unknown."""
    match transforms:
        case [Scale() as scale, *_]:
            return scale.height, scale.width
        case [Crop(crop_width=0) as crop, Scale() as scale, *_]:
            part = crop.side_ratio[0] if crop.side_ratio else math.sqrt(crop.area_ratio[0] if crop.area_ratio else 1)
            flattest = min(crop.aspect_ratio[0], 1 / crop.aspect_ratio[-1])
            side = math.ceil(max(scale.height, scale.width) / (part * math.sqrt(min(flattest, 1))))
            return side, side
    return None
