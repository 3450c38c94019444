"""What all transforms have in common.

An image is rows by columns by channels in OpenCV's order: blue, green, red, or gray alone. Pixels are uint8 or float32
in 0..255. As in CNTK, crop, flip and scale keep the type; color and intensity convert to float32. torch is imported
only where a batch is transformed, since reading recipes and writing reports must not need it.
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

MAX_SIDE = 8192  # pixels; larger than the input of any network

Image = NDArray[np.uint8] | NDArray[np.float32]
Size = tuple[int, int]  # height, width in pixels


@dataclass(frozen=True)
class WholeBatch:
    """Choices are drawn for a whole batch of `count` images; the images at hand are its rows `part`.

    `flipped_N`: which of them `AlternatingFlip` mirrors in this pass; None: none.
    """

    rng: np.random.Generator
    count: int
    part: slice | NDArray[np.int64]
    flipped_N: NDArray[np.bool_] | None = None


class Transform:
    """An item of data.train_transforms: a frozen value.

    A transform has `on_image`, `on_batch` or both; each draws its choices from a generator, then applies them by a pure
    function. A batch holds images of one size, before and after.
    """

    def size_after(self, size: Size | None) -> Size | None:
        """The size of an image of `size` afterwards; None if it differs between images."""
        return size

    def on_image(self, image_HWC: Image, rng: np.random.Generator) -> Image:
        """The transform of one image of any size, as float32 or uint8."""
        raise NotImplementedError

    def on_batch(self, images_NCHW: Tensor, whole: WholeBatch) -> Tensor:
        """The transform of some images of a batch: the result is the same as if the whole batch were transformed."""
        raise NotImplementedError

    @property
    def fits_images(self) -> bool:
        return type(self).on_image is not Transform.on_image

    @property
    def fits_batches(self) -> bool:
        return type(self).on_batch is not Transform.on_batch


class EachImage(Transform):
    """Draws for each image separately; the images of a batch, in the processor's memory, are transformed one by one."""

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
    """Apply `transforms` to one image, in order; all choices come from `rng`."""
    for transform in transforms:
        image_HWC = transform.on_image(image_HWC, rng)
    return image_HWC


def size_after(transforms: Iterable[Transform], size: Size | None) -> Size | None:
    """The size of an image of `size` after `transforms`; None if it differs between images."""
    for transform in transforms:
        size = transform.size_after(size)
    return size


def with_channel_axis(image_HW: Any, channels: int) -> Image:
    """An image from OpenCV as (H, W, C): OpenCV drops the axis of a single channel."""
    image_HWC: Image = image_HW.reshape(*image_HW.shape[:2], channels)
    return image_HWC


def require(holds: bool, path: str, expected: str, came: object) -> None:
    """Raise `UsageError` with the dotted `path` of a value unless `holds`."""
    if not holds:
        raise UsageError(f"{path} must be {expected}, got {brief(came)}")


def require_one_of(path: str, value: str, choices: Any) -> None:
    """`choices` is a `Literal`."""
    if value not in get_args(choices):
        raise UsageError(f"{path}: {unknown_name('value', str(value), get_args(choices))}")
