"""What a recipe says of the data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from convolve.errors import UsageError
from convolve.formats.decode import Orientation
from convolve.formats.table import TargetName
from convolve.recipe_values import Arguments, ImageSize, NumberOrWord, Steps, positive_numbers, size_of
from convolve.specs.setting import setting
from convolve.transforms.crop import Crop
from convolve.transforms.mixing import Mixing
from convolve.transforms.preprocess import Resize, require_whole
from convolve.transforms.scale import Interpolation
from convolve.transforms.transform import MAX_SIDE, Size, Transform, require


@dataclass(frozen=True)
class DataSpec:
    """Which samples, in which order, and what happens to them on the way into the network."""

    name: str = setting("", "the data set that is looked for without --data; empty: --data must say where")
    order: Literal["shuffled", "cntk", "file"] = setting(
        "shuffled", "shuffled: fully, anew each epoch; cntk: as CNTK 2.7's reader; file"
    )
    target: TargetName = setting(
        "class", "what is learned of an image: one class; classes, several or none; number, or several"
    )
    channels: int = setting(3, "what the network sees: 3, color; 1, gray")
    image_size: ImageSize = setting(0, "what the network sees, in pixels: N or WxH; 0: the size that all images have")
    resize: Resize = setting(
        "cover",
        "images of another size: scaled to cover it, the center cut out; letterbox: the whole within it; "
        "squash: the whole, out of proportion; square: the central square, scaled",
    )
    interpolation: Literal["auto", Interpolation] = setting(
        "auto",
        "how they are scaled; auto: area with cover and letterbox, else linear, as CNTK; or one of OpenCV's others",
    )
    crop_ratio: float = setting(1.0, "part of the sides that is seen, from the center; 1: all that resize leaves")
    orientation: Orientation = setting(
        "exif", "exif: photographs are turned as their EXIF says; stored: never; cntk: but in zip archives and base64"
    )
    mean: tuple[float, ...] = setting(
        (0.0,), "the network sees (pixel - mean) * scale, with pixels in 0..255; one number, or red:green:blue"
    )
    mean_image: str = setting("", "in place of mean. train: the mean training image; else an XML mean file")
    mean_image_layout: Literal["planar_rgb", "interleaved_bgr"] = setting(
        "planar_rgb", "of the XML file. interleaved_bgr: CNTK's scrambled reading of CIFAR-10_mean.xml"
    )
    scale: float = setting(1 / 256, "")
    train_transforms: tuple[Transform, ...] = setting((), "augmentation of training images, in this order")
    progressive_sizes: Steps = setting(
        (),
        "Progressive resizing: one size for each equal phase of training, in pixels or as a fraction of image_size.",
    )
    group: str = setting(
        "", "what no split may tear apart: a column of the table, or a regular expression on the path of an image"
    )
    damaged_limit: NumberOrWord = setting("auto", "damaged training images to be replaced; auto: 1 % of your own")
    skip_unreadable: bool = setting(False, "leave out unreadable test images: the error is that of the others")
    hard_fraction: float = setting(
        1.0, "after hard_after, train only on this fraction of the images, those with the largest loss; 1: all"
    )
    hard_after: float = setting(0.3, "fraction of the training that passes before hard_fraction takes effect")
    balance: Literal["none", "sampling", "loss"] = setting(
        "none",
        "for classes of unequal size. sampling: images of each come equally often; loss: it asks more of small ones",
    )
    class_weights: Arguments = setting(
        {}, "what an image of a class counts beside others, 1 where none is given: {name: weight}; empty: 1 / images"
    )
    validation_fraction: float = setting(
        0.0,
        "part of the training set that is cut off to choose by, where the data has no validation part; 0: each epoch "
        "is evaluated on the test set, with run.keep=best on a tenth of the training set",
    )

    cache: str = setting(
        "features",
        "what is kept on disk for later trainings: features, those of a trained body; none; DIR: also there, training "
        "images that do not fit in memory, decoded and near the size that is needed",
    )

    def __post_init__(self) -> None:
        require(0 < self.hard_fraction <= 1, "data.hard_fraction", "in (0, 1]", self.hard_fraction)
        require(0 < self.hard_after <= 1, "data.hard_after", "in (0, 1]", self.hard_after)
        if self.hard_fraction < 1 and self.order != "shuffled":
            raise UsageError(f"data.hard_fraction needs data.order=shuffled, not {self.order}; leave one of them out")
        require(0 <= self.validation_fraction < 1, "data.validation_fraction", "in [0, 1)", self.validation_fraction)
        require(self.scale != 0, "data.scale", "other than 0", self.scale)
        is_limit = self.damaged_limit == "auto" or (type(self.damaged_limit) is int and self.damaged_limit >= 0)
        require(is_limit, "data.damaged_limit", "at least 0, or auto", self.damaged_limit)
        sizes = self.progressive_sizes
        are_sizes = all(0 < size <= 1 or (size <= MAX_SIDE and size.is_integer()) for size in sizes)
        require(are_sizes, "data.progressive_sizes", f"parts up to 1, or whole numbers up to {MAX_SIDE}", sizes)
        if self.progressive_sizes and self.mean_image:
            raise UsageError("data.mean_image has one size: leave it out, or data.progressive_sizes")
        require(len(self.mean) in (1, 3), "data.mean", "one number, or one for red, green and blue", self.mean)
        require(bool(self.cache), "data.cache", "features, none or a folder", self.cache)
        require(self.channels in (1, 3), "data.channels", "1 or 3", self.channels)
        size_of(self.image_size, "data.image_size")
        require(0 < self.crop_ratio <= 1, "data.crop_ratio", "in (0, 1]", self.crop_ratio)
        require_whole(self.resize, self.crop_ratio)
        self._check_classes()
        if any(isinstance(spec, Crop) and spec.crop_type == "multiview10" for spec in self.train_transforms):
            raise UsageError("multiview10 is for testing: leave it out of data.train_transforms, and see --views 10")

    def _check_classes(self) -> None:
        """Balance and mixing."""
        object.__setattr__(self, "class_weights", positive_numbers(self.class_weights, "data.class_weights"))
        if self.class_weights and self.balance == "none":
            raise UsageError("data.class_weights needs data.balance=sampling or data.balance=loss")
        if self.balance != "none" and self.target != "class":
            raise UsageError(f"data.balance is of one class an image: leave it out with data.target={self.target}")
        if self.balance == "sampling" and (self.order != "shuffled" or self.hard_fraction < 1):
            raise UsageError("data.balance=sampling needs data.order=shuffled and data.hard_fraction=1; or choose loss")
        mixes = [isinstance(each, Mixing) for each in self.train_transforms]
        if mixes != sorted(mixes):
            raise UsageError("data.train_transforms: mixup and cutmix mix finished images; put them at the end")
        if any(mixes) and self.hard_fraction < 1:
            raise UsageError("data.hard_fraction goes by the loss of each image: leave out mixup and cutmix, or it")

    @property
    def packed_in(self) -> str:
        """The folder of the packed cache; empty: there is none."""
        return "" if self.cache in ("features", "none") else self.cache

    @property
    def mixing(self) -> tuple[Mixing, ...]:
        """Of `train_transforms` those that mix images."""
        return tuple(each for each in self.train_transforms if isinstance(each, Mixing))

    @property
    def size(self) -> Size | None:
        """(height, width) that the network sees; None: as the images have it."""
        return size_of(self.image_size, "data.image_size")
