"""The parts of a data set."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256

from convolve.data.hold_out import Membership
from convolve.data.sources.source import ArraySource, Source
from convolve.errors import DataError


@dataclass(frozen=True)
class DatasetInfo:
    """What is known of a published data set without opening it."""

    name: str
    shape_CHW: tuple[int, int, int]
    class_names: tuple[str, ...]
    train_samples: int
    test_samples: int


@dataclass(frozen=True, eq=False)
class Splits:
    """Training and test images with the names of their classes.

    `name` is what a model says that it was trained on; `description` says in words where the images lie. `numbered`:
    the classes have no names but their numbers. `validation`: the part that choices are made by, where the set has one
    of its own. `membership`: which images are on which side, where the test part was cut from the training part.
    """

    train: Source
    test: Source
    class_names: tuple[str, ...]
    name: str
    description: str = ""
    numbered: bool = False
    validation: Source | None = None
    membership: Membership | None = None

    def __post_init__(self) -> None:
        said, classes = self.description or self.name, len(self.class_names)
        object.__setattr__(self, "description", said)
        for part, source in self.parts:
            if isinstance(source, ArraySource) and len(source.images_NCHW) != len(source):
                raise DataError(f"{said}: {len(source.images_NCHW)} {part} images but {len(source)} labels")
            if len(source) == 0:
                raise DataError(f"{said}: the {part} set is empty; get the files again, or try --data sample")
            low, high = int(source.labels_N.min()), int(source.labels_N.max())
            if low < 0 or high >= classes:
                reach = f"{part} labels reach from {low} to {high}"
                raise DataError(f"{said}: {reach}; with {classes} classes they must lie in 0..{classes - 1}")
        shapes = {part: source.shape_CHW for part, source in self.parts if isinstance(source, ArraySource)}
        for part, shape_CHW in shapes.items():
            if shape_CHW != shapes.get("training", shape_CHW):
                raise DataError(f"{said}: training images are {shapes['training']} (C, H, W), {part} {shape_CHW}")

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
