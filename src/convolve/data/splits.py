"""The parts of a data set."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from hashlib import sha256

import numpy as np
from torch import Tensor

from convolve.data.hold_out import Membership
from convolve.data.sources.source import ArraySource, Source
from convolve.errors import DataError
from convolve.formats.table import TargetName


@dataclass(frozen=True)
class DatasetInfo:
    """What is known of a published data set without opening it."""

    name: str
    shape_CHW: tuple[int, int, int]
    class_names: tuple[str, ...]
    train_samples: int
    test_samples: int
    checksum: int = 0  # of the published images, see `checksum`; 0: not known


NOT_OFFICIAL = "not the official files"


def checksum(parts: Iterable[ArraySource]) -> int:
    """A number of all pixels, each image's label and part, in 64 bits, whatever the order of the images.

    Each image is a polynomial of its 8-byte words, mixed with splitmix64's constants and added up: 0.02 s for CIFAR-10,
    where hashes of its images, sorted, take 0.7 s. It finds what was altered by accident, not by an enemy.
    """
    total = 0
    for number, part in enumerate(parts):
        words_NW = part.images_NCHW.contiguous().numpy().reshape(len(part), -1).view(np.uint64)
        weights_W = np.multiply.accumulate(np.full(words_NW.shape[1], 0x9E3779B97F4A7C15, np.uint64))
        mixed_N = words_NW @ weights_W + part.labels_N.numpy().astype(np.uint64) * np.uint64(2) + np.uint64(number)
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            mixed_N = (mixed_N ^ (mixed_N >> np.uint64(shift))) * np.uint64(factor)
        total += int(mixed_N.sum(dtype=np.uint64))
    return total % 2**64


@dataclass(frozen=True, eq=False)
class OutOfFold:
    """What networks said of each training image, of these labels, that had not seen it: `answers_NK`, of so many
    `folds`. `is_test`: the test images are the same ones, and judged by that. Where the networks knew how sure they
    are: `raw_NK`, the answers before the temperature, and the distances."""

    labels_N: Tensor
    answers_NK: Tensor
    folds: int
    is_test: bool
    raw_NK: Tensor | None = None
    distances_N: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Splits:
    """Training and test images with the names of their classes.

    `target`: what is learned of an image; with numbers, `class_names` are their names.
    `name` is what a model says that it was trained on; `description` says in words where the images lie. `numbered`:
    the classes have no names but their numbers. `validation`: the part that choices are made by, where the set has one
    of its own. `out_of_fold`: what cross-validation said before. `membership`: which images are on which side, where
    the test part was cut from the training part. `note`: what is to be said wherever a figure of this set is told.
    """

    train: Source
    test: Source
    class_names: tuple[str, ...]
    name: str
    description: str = ""
    numbered: bool = False
    validation: Source | None = None
    membership: Membership | None = None
    target: TargetName = "class"
    out_of_fold: OutOfFold | None = None
    note: str = ""

    def __post_init__(self) -> None:
        said, classes = self.description or self.name, len(self.class_names)
        object.__setattr__(self, "description", said)
        for part, source in self.parts:
            if isinstance(source, ArraySource) and len(source.images_NCHW) != len(source):
                raise DataError(f"{said}: {len(source.images_NCHW)} {part} images, but {len(source)} labels")
            if len(source) == 0:
                raise DataError(f"{said}: the {part} set is empty; get the files again, or try --data sample")
            if self.target != "class":
                self._require_several(part, source)
                continue
            if source.labels_N.ndim != 1 or source.labels_N.is_floating_point():
                raise DataError(f"{said}: {part} labels are several per image, or numbers; set target= accordingly")
            low, high = int(source.labels_N.min()), int(source.labels_N.max())
            if low < 0 or high >= classes:
                reach = f"{part} labels range from {low} to {high}"
                raise DataError(f"{said}: {reach}; with {classes} classes they must be in 0..{classes - 1}")
        shapes = {part: source.shape_CHW for part, source in self.parts if isinstance(source, ArraySource)}
        for part, shape_CHW in shapes.items():
            if shape_CHW != shapes.get("training", shape_CHW):
                raise DataError(f"{said}: training images are {shapes['training']} (C, H, W), {part} {shape_CHW}")

    def _require_several(self, part: str, source: Source) -> None:
        labels_NK, said = source.labels_N, f"{self.description}: {part} labels"
        wanted = f"(N, {len(self.class_names)}) float32"
        if labels_NK.ndim != 2 or labels_NK.shape[1] != len(self.class_names) or not labels_NK.is_floating_point():
            raise DataError(
                f"{said} are {tuple(labels_NK.shape)} {labels_NK.dtype}, but target={self.target} needs {wanted}"
            )
        if not bool(labels_NK.isfinite().all()):
            raise DataError(f"{said} hold values that are not numbers; correct them, or leave their images out")
        if self.target == "classes" and not bool(((labels_NK == 0) | (labels_NK == 1)).all()):
            raise DataError(f"{said} are soft; target=classes needs 0 or 1 for each class")
        if part == "training" and bool((labels_NK == labels_NK[0]).all()):
            what = "have the same number" if self.target == "number" else "are of the same classes"
            raise DataError(f"{self.description}: all training images {what}; there is nothing to learn")

    @property
    def parts(self) -> list[tuple[str, Source]]:
        """(role, images) of each part that there is, in the order in which they are shown."""
        found = (("training", self.train), ("validation", self.validation), ("test", self.test))
        return [(role, source) for role, source in found if source is not None]

    @property
    def held_out(self) -> bool:
        """Whether the test part was cut from the training part."""
        return self.membership is not None

    @property
    def array_shape_CHW(self) -> tuple[int, int, int] | None:
        """The shape of images that are arrays; None of files, which can be brought to any."""
        return self.test.shape_CHW if isinstance(self.test, ArraySource) else None

    @property
    def arrays(self) -> tuple[ArraySource, ArraySource]:
        """Both parts of a set that is in memory."""
        assert isinstance(self.train, ArraySource) and isinstance(self.test, ArraySource)
        return self.train, self.test

    def fingerprint(self) -> str:
        """SHA-256 over all parts: two runs with the same fingerprint saw the same data."""
        validation = self.validation.digest() if self.validation else b""
        return sha256(self.train.digest() + self.test.digest() + validation).hexdigest()

    def is_official(self, info: DatasetInfo) -> bool:
        """Whether this is the data set of `info`, by the numbers of its images and classes."""
        known = (info.train_samples, info.test_samples, len(info.class_names))
        return (len(self.train), len(self.test), len(self.class_names)) == known


def published(info: DatasetInfo, train: ArraySource, test: ArraySource, description: str) -> Splits:
    """The data set of `info`, found as `description` says; a note where images or labels are not the published ones."""
    splits = Splits(train, test, info.class_names, info.name, description)
    if splits.is_official(info) and checksum(splits.arrays) == info.checksum:
        return splits
    return replace(splits, description=f"{description}, {NOT_OFFICIAL}", note=NOT_OFFICIAL)
