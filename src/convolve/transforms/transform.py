"""What all transforms have in common.

An image is rows by columns by channels in OpenCV's order: blue, green, red, or gray alone. Pixels are uint8 or float32
in 0..255. As in CNTK, crop, flip and scale keep the type; color and intensity turn it into float32. torch is imported
where a batch is transformed, for recipes are read, and reports are made, without it.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
from numpy.typing import NDArray

from convolve.errors import UsageError, brief, unknown_name
from convolve.formats.decode import to_planes

if TYPE_CHECKING:
    import torch

    Tensor = torch.Tensor
else:
    Tensor = Any  # an annotation loads no torch

# Legend of this room: N images, C channels, H rows, W columns.

MAX_SIDE = 8192  # pixels; larger inputs than any network takes

Image = NDArray[np.uint8] | NDArray[np.float32]
Size = tuple[int, int]  # height, width in pixels


@dataclass(frozen=True)
class WholeBatch:
    """Choices are drawn for a whole batch of `count` images; those at hand are the rows `part` of it.

    `flipped_N`: which of them it is the turn of to be mirrored, for `AlternatingFlip`; None: no image.
    """

    rng: np.random.Generator
    count: int
    part: slice | NDArray[np.int64]
    flipped_N: NDArray[np.bool_] | None = None


class Transform:
    """What a recipe lists in data.train_transforms: a frozen value.

    A transform has `on_image`, `on_batch` or both; each draws its choices from a generator, then applies them by a pure
    function. A batch holds images of one size, before and after.
    """

    def size_after(self, size: Size | None) -> Size | None:
        """The size of an image of `size` afterwards; None: it differs from image to image."""
        return size

    def on_image(self, image_HWC: Image, rng: np.random.Generator) -> Image:
        """Done to one image of any size, as float32 or uint8."""
        raise NotImplementedError

    def on_batch(self, images_NCHW: Tensor, whole: WholeBatch) -> Tensor:
        """Done to images that are part of a batch: they become what they become in the whole one."""
        raise NotImplementedError

    @property
    def fits_images(self) -> bool:
        return type(self).on_image is not Transform.on_image

    @property
    def fits_batches(self) -> bool:
        return type(self).on_batch is not Transform.on_batch


class EachImage(Transform):
    """Draws for each image by itself; those of a batch, which are in the processor's memory, go one by one."""

    def draw(self, rng: np.random.Generator, height: int, width: int) -> Any:
        raise NotImplementedError

    def apply(self, image_HWC: Image, drawn: Any) -> Image:
        raise NotImplementedError

    def on_image(self, image_HWC: Image, rng: np.random.Generator) -> Image:
        return self.apply(image_HWC, self.draw(rng, *image_HWC.shape[:2]))

    def on_batch(self, images_NCHW: Tensor, whole: WholeBatch) -> Tensor:
        import torch

        drawn_N = [self.draw(whole.rng, *images_NCHW.shape[2:]) for _ in range(whole.count)]
        images_NHWC = np.ascontiguousarray(images_NCHW.numpy()[:, ::-1].transpose(0, 2, 3, 1))  # in OpenCV's order
        pairs = zip(images_NHWC, np.arange(whole.count)[whole.part], strict=True)
        changed = [to_planes(self.apply(image_HWC, drawn_N[n]), image_HWC.shape[2]) for image_HWC, n in pairs]
        return torch.from_numpy(np.stack(changed))


def transform_image(image_HWC: Image, transforms: Iterable[Transform], rng: np.random.Generator) -> Image:
    """`transforms` of one image, in order; all choices come from `rng`."""
    for transform in transforms:
        image_HWC = transform.on_image(image_HWC, rng)
    return image_HWC


def size_after(transforms: Iterable[Transform], size: Size | None) -> Size | None:
    """The size of an image of `size` after `transforms`; None: it differs from image to image."""
    for transform in transforms:
        size = transform.size_after(size)
    return size


def with_channel_axis(image_HW: Any, channels: int) -> Image:
    """What OpenCV returns, as (H, W, C): it drops the axis of a single channel."""
    image_HWC: Image = image_HW.reshape(*image_HW.shape[:2], channels)
    return image_HWC


def require(holds: bool, path: str, expected: str, came: object) -> None:
    """Raise `UsageError` with the dotted `path` of a value that does not hold."""
    if not holds:
        raise UsageError(f"{path} must be {expected}, got {brief(came)}")


def require_one_of(path: str, value: str, choices: Any) -> None:
    """`choices` is a `Literal`."""
    if value not in get_args(choices):
        raise UsageError(f"{path}: {unknown_name('value', str(value), get_args(choices))}")
