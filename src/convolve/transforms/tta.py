"""Test-time augmentation: the answers to several views of one image are averaged.

Views are the image itself, shifted, cropped and mirrored.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from convolve.errors import UsageError
from convolve.formats.decode import to_planes
from convolve.transforms.crop import VIEWS, Crop, cut_box
from convolve.transforms.flip import mirrored
from convolve.transforms.pad import Pad
from convolve.transforms.preprocess import Preprocess, fit_size, scaled
from convolve.transforms.scale import Scale
from convolve.transforms.transform import Image

# Legend: V views, C channels, H rows, W columns.

COUNTS = (1, 2, 6, VIEWS)


def views_of(image_HWC: Image, preprocess: Preprocess, count: int) -> Image:
    """images_VCHW as the network takes them after `preprocess`, but without mean and scale; `count` is one of `COUNTS`.

    1: the image after `fit_image`. 2: that and its mirror image. 6: those of the image in place and moved along its
    diagonal, both ways, by 1/32 of its shorter side (github.com/KellerJordan/cifar10-airbench: a pixel of 32). 10:
    CNTK's multiview10, four corners and the center, then the same mirrored. With a `crop_ratio` below 1, they are cut
    from the image that the center would be cut from; otherwise from the fitted image with its padding.
    """
    if count == VIEWS:
        views = _ten(image_HWC, preprocess)
    else:
        fitted = fit_size(image_HWC, preprocess)
        unmirrored = _moved(fitted) if count == 6 else [fitted]
        views = unmirrored if count == 1 else unmirrored + [mirrored(each) for each in unmirrored]
    views_VCHW: list[NDArray[Any]] = [to_planes(view_HWC, preprocess.channels) for view_HWC in views]
    return np.stack(views_VCHW)


def require_count(count: int) -> None:
    if count not in COUNTS:
        raise UsageError(f"views can be {', '.join(map(str, COUNTS[:-1]))} or {COUNTS[-1]}, not {count}")


def require_views(preprocess: Preprocess, count: int) -> None:
    """Raise `UsageError` if `count` is not possible, or if there is nothing to cut ten views from."""
    require_count(count)
    if count == VIEWS and preprocess.crop_ratio == 1 and not preprocess.padding:
        raise UsageError(
            "ten views need padding, or an image larger than the network's input: the model's recipe must have a pad "
            "among its data.train_transforms, or a data.crop_ratio below 1; try --views 6"
        )


def _moved(image_HWC: Image) -> list[Image]:
    """The image, and the image moved down and right, and up and left; the edge is repeated where it is uncovered."""
    height, width = image_HWC.shape[:2]
    by = max(1, round(min(height, width) / 32))
    around: NDArray[Any] = np.pad(image_HWC, ((by, by), (by, by), (0, 0)), mode="edge")
    return [around[at : at + height, at : at + width] for at in (by, 0, 2 * by)]


def _ten(image_HWC: Image, preprocess: Preprocess) -> list[Image]:
    if preprocess.crop_ratio < 1 and preprocess.resize == "square":
        crop = Crop("multiview10", side_ratio=(preprocess.crop_ratio,))
    else:
        crop = Crop("multiview10", crop_width=preprocess.width, crop_height=preprocess.height)
        if preprocess.crop_ratio < 1:
            image_HWC = scaled(image_HWC, preprocess)
        else:
            image_HWC = Pad(preprocess.padding, preprocess.padding_value).apply(fit_size(image_HWC, preprocess))
    scale, (height, width, _) = Scale(preprocess.width, preprocess.height), image_HWC.shape
    nothing_drawn = np.random.default_rng(0)
    boxes = [crop.draw(nothing_drawn, height, width, view) for view in range(VIEWS)]
    return [scale.apply(cut_box(image_HWC, box)) for box in boxes]
