"""The part of a recipe about the data."""

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
    """Which samples, in which order, and how they are transformed on the way into the network."""

    name: str = setting("", "the data set to use without --data; empty: --data is required")
    order: Literal["shuffled", "cntk", "file"] = setting(
        "shuffled", "shuffled: differently in each epoch; cntk: as CNTK 2.7's reader; file: as listed"
    )
    target: TargetName = setting(
        "class",
        "what is predicted for an image. class: one class; classes: any number of them; number: one or more numbers",
    )
    channels: int = setting(3, "channels of the network's input. 3: color; 1: gray")
    image_size: ImageSize = setting(
        0, "size of the network's input, in pixels: N or WxH; 0: the common size of all images"
    )
    resize: Resize = setting(
        "cover",
        "how images of another size are fitted. cover: scale to cover, cut out the center; letterbox: fit the whole "
        "image in, and pad; squash: stretch; square: cut out the central square, then scale",
    )
    interpolation: Literal["auto", Interpolation] = setting(
        "auto",
        "interpolation for scaling. auto: area for cover and letterbox, otherwise linear, as CNTK",
    )
    crop_ratio: float = setting(
        1.0, "fraction of each side that is kept, around the center; 1: everything that resize leaves"
    )
    orientation: Orientation = setting(
        "exif",
        "exif: rotate photographs as their EXIF says; stored: never; cntk: as EXIF says, but not in zips and base64",
    )
    mean: tuple[float, ...] = setting(
        (0.0,), "the network's input is (pixel - mean) * scale, with pixels in 0..255; one number, or red:green:blue"
    )
    mean_image: str = setting("", "instead of mean: train (the mean of the training images), or a mean file in XML")
    mean_image_layout: Literal["planar_rgb", "interleaved_bgr"] = setting(
        "planar_rgb", "layout of the XML file. interleaved_bgr: as CNTK misread CIFAR-10_mean.xml"
    )
    scale: float = setting(1 / 256, "")
    train_transforms: tuple[Transform, ...] = setting((), "augmentation of training images, in this order")
    progressive_sizes: Steps = setting(
        (),
        "Progressive resizing: one size for each equal phase of training, in pixels or as a fraction of image_size.",
    )
    group: str = setting(
        "", "images of one group stay in one part: a column of a table, or a regular expression for paths"
    )
    damaged_limit: NumberOrWord = setting(
        "auto",
        "how many damaged training images may be replaced by others, as a number or fraction; auto: 1 % of "
        "your own images",
    )
    skip_unreadable: bool = setting(False, "skip test images that cannot be read; the error is that of the others")
    hard_fraction: float = setting(
        1.0, "after hard_after, train only on this fraction of the images, those with the largest loss; 1: all"
    )
    hard_after: float = setting(0.3, "fraction of the training that passes before hard_fraction takes effect")
    balance: Literal["none", "sampling", "loss"] = setting(
        "none",
        "for classes of unequal size. sampling: draw all equally often; loss: weight small ones more",
    )
    class_weights: Arguments = setting(
        {}, "with balance, {name: weight} for classes, 1 for the others; empty: 1 / number of images"
    )
    validation_fraction: float = setting(
        0.0,
        "fraction of the training images to validate on, if the data has no validation part. 0: validate on the "
        "test images, or with run.keep=best on a tenth of the training images",
    )

    cache: str = setting(
        "features",
        "what to cache on disk for later trainings. features: those of a frozen network; none: nothing; DIR: also, "
        "in that folder, decoded training images that do not fit in memory",
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
            raise UsageError("data.mean_image fits one size only: leave out either it or data.progressive_sizes")
        require(len(self.mean) in (1, 3), "data.mean", "one number, or one for red, green and blue", self.mean)
        require(bool(self.cache), "data.cache", "features, none or a folder", self.cache)
        require(self.channels in (1, 3), "data.channels", "1 or 3", self.channels)
        size_of(self.image_size, "data.image_size")
        require(0 < self.crop_ratio <= 1, "data.crop_ratio", "in (0, 1]", self.crop_ratio)
        require_whole(self.resize, self.crop_ratio)
        self._check_classes()
        if any(isinstance(spec, Crop) and spec.crop_type == "multiview10" for spec in self.train_transforms):
            raise UsageError(
                "multiview10 is for testing: leave it out of data.train_transforms, and evaluate with --views 10"
            )

    def _check_classes(self) -> None:
        """Check balance and mixing."""
        object.__setattr__(self, "class_weights", positive_numbers(self.class_weights, "data.class_weights"))
        if self.class_weights and self.balance == "none":
            raise UsageError("data.class_weights needs data.balance=sampling or data.balance=loss")
        if self.balance != "none" and self.target != "class":
            raise UsageError(f"data.balance needs one class per image: leave it out with data.target={self.target}")
        if self.balance == "sampling" and (self.order != "shuffled" or self.hard_fraction < 1):
            raise UsageError("data.balance=sampling needs data.order=shuffled and data.hard_fraction=1; or choose loss")
        mixes = [isinstance(each, Mixing) for each in self.train_transforms]
        if mixes != sorted(mixes):
            raise UsageError("data.train_transforms: mixup and cutmix mix finished images; put them at the end")
        if any(mixes) and self.hard_fraction < 1:
            raise UsageError("data.hard_fraction needs the loss of each image: leave out either it or mixup and cutmix")

    @property
    def packed_in(self) -> str:
        """The folder of the packed cache; empty if there is none."""
        return "" if self.cache in ("features", "none") else self.cache

    @property
    def mixing(self) -> tuple[Mixing, ...]:
        """Those of `train_transforms` that mix images."""
        return tuple(each for each in self.train_transforms if isinstance(each, Mixing))

    @property
    def size(self) -> Size | None:
        """(height, width) of the network's input; None: the images' own."""
        return size_of(self.image_size, "data.image_size")
