"""What flows into the network: the preprocessing that a recipe asks for, and the images that go through it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from convolve.data.damaged import Damaged
from convolve.data.fitting import at_hand, fitted, mean_image, resident
from convolve.data.own import OwnSet, in_words
from convolve.data.pictures import Pictures, Samples
from convolve.data.resident import Batches, split
from convolve.data.sources import outline
from convolve.data.staged import Staged, are_in_memory
from convolve.data.streaming import THREADS, Streamed
from convolve.data.table import DataSet, Table
from convolve.errors import DataError, UsageError
from convolve.formats.decode import to_planes
from convolve.formats.mean_xml import read_mean_xml
from convolve.recipe import DataSpec, Recipe
from convolve.transforms.crop import Crop
from convolve.transforms.normalize import mean_of
from convolve.transforms.pad import Pad
from convolve.transforms.preprocess import Preprocess, fit_size
from convolve.transforms.scale import Scale
from convolve.transforms.table import min_size_before, read_files, split_transforms
from convolve.transforms.transform import Image, Size, Transform, size_after, transform_image


@dataclass(frozen=True)
class Feed:
    """`held_out` is what each epoch is evaluated on, called "validation" or "test" in the log."""

    preprocess: Preprocess
    batches: Batches
    held_out: Samples
    held_out_name: str
    test: Samples


def open_feed(
    recipe: Recipe,
    dataset: DataSet | OwnSet,
    threads: int,
    imported: Preprocess | None = None,
    batches_at_once: int = 1,
    tell: Callable[[str], None] = lambda message: None,
) -> Feed:
    """Everything that a training reads, with so many `threads`. An `imported` network has its own preprocessing.

    `batches_at_once`: how many of the recipe's batches are one here, since so many workers take one each. `tell` hears
    of each damaged image that is replaced by another.
    """
    spec, run = recipe.data, recipe.run
    read_files(spec.train_transforms)
    want = imported or _geometry(spec, dataset)
    train: Pictures = dataset.train
    test = resident(fitted(dataset.test, want, threads=threads), want.shape_CHW)
    held_out, name = test, "test"
    if spec.validation_fraction:
        train, rest = split(dataset.train, spec.validation_fraction, run.seed)
        held_out, name = resident(fitted(rest, want, threads=threads), want.shape_CHW), "validation"
    damaged = Damaged(min(spec.damaged_limit, len(train) - 1), tell) if spec.damaged_limit else None
    samples, transforms = _staged_samples(recipe, train, dataset.test.size, want, threads, damaged)
    if not imported and spec.mean_image:
        want = replace(want, mean=0.0, mean_image_CHW=_mean(spec, train, samples, want, damaged))
    sizes = run.global_batch_sizes or (run.global_batch_size,)
    batches = Batches(
        samples, tuple(int(size) * batches_at_once for size in sizes), spec.order, transforms,
        mean_of(want), want.scale, run.seed, want.channel_order == "bgr", spec.hard_fraction, run.epoch_samples,
    )  # fmt: skip
    return Feed(want, batches, held_out, name, test)


def _geometry(spec: DataSpec, dataset: DataSet | OwnSet) -> Preprocess:
    """What the model will say of its images, but for a mean image."""
    channels, height, width = dataset.shape_CHW
    if spec.image_size:
        height = width = spec.image_size
    elif isinstance(dataset, OwnSet):
        found = (size_after(spec.train_transforms, size) for size in ((height, width), dataset.train.size))
        if (height, width) not in found:  # the recipe's crops do not keep the size of these images
            _, height, width = outline(spec.name).shape_CHW
    pads = [transform for transform in spec.train_transforms if isinstance(transform, Pad)]
    mean = spec.mean[0] if len(spec.mean) == 1 else spec.mean
    return Preprocess(
        channels, height, width, mean, spec.scale, resize=spec.resize, side_ratio=spec.side_ratio,
        padding=sum(pad.border(height, width) for pad in pads), padding_value=pads[0].value if pads else 0,
    )  # fmt: skip


def _staged_samples(
    recipe: Recipe, train: Pictures, tested: Size | None, want: Preprocess, threads: int, damaged: Damaged | None
) -> tuple[Samples, Sequence[Transform]]:
    """As `_training_samples`, in one size after the other where the recipe has several."""
    spec, run = recipe.data, recipe.run
    if not spec.train_sizes:
        return _training_samples(recipe, train, tested, want, threads, damaged)
    wanted = [in_size(want, size) for size in spec.train_sizes]
    stages = [_training_samples(_scaled(recipe, less), train, tested, less, threads, damaged) for less in wanted]
    passes = math.ceil(run.epochs * (run.epoch_samples or len(train)) / len(train))
    return Staged(tuple(samples for samples, _ in stages), passes), stages[0][1]


def in_size(want: Preprocess, size: float) -> Preprocess:
    """One of `data.train_sizes`: pixels of each side, or part of what `want` has, in multiples of eight.

    Of those, borders of an eighth and crops of four fifths (`side_ratio`) give the same size again.
    """
    if size == 1:
        return want
    height, width = (size, size) if size > 1 else (8 * round(size * side / 8) for side in (want.height, want.width))
    return replace(want, height=max(int(height), 1), width=max(int(width), 1))


def _scaled(recipe: Recipe, want: Preprocess) -> Recipe:
    """`recipe` with every scale among its transforms to the size of `want`."""
    transforms = tuple(
        replace(transform, width=want.width, height=want.height) if isinstance(transform, Scale) else transform
        for transform in recipe.data.train_transforms
    )
    return replace(recipe, data=replace(recipe.data, train_transforms=transforms))


def _training_samples(
    recipe: Recipe, train: Pictures, tested: Size | None, want: Preprocess, threads: int, damaged: Damaged | None
) -> tuple[Samples, Sequence[Transform]]:
    """The training images as the batches are cut from them, and what is then done to whole batches."""
    spec = recipe.data
    alone, together = split_transforms(spec.train_transforms)
    train = at_hand(train, want.channels)
    as_found = enters_as_found(spec, train.size, tested, want)
    if isinstance(train, Table) and not alone:
        return train if as_found else resident(fitted(train, want), want.shape_CHW), together

    def prepare(image_HWC: Image, rng: np.random.Generator) -> Image:
        if not as_found:
            image_HWC = fit_size(image_HWC, want)
        return to_planes(transform_image(image_HWC, alone, rng), want.channels)[None]

    samples: Samples = Streamed(
        train, prepare, want.channels == 1, recipe.run.seed, threads=max(THREADS, threads), damaged=damaged,
        random=bool(alone),
    )  # fmt: skip
    if not alone:
        size = train.size if as_found and train.size else (want.height, want.width)
        samples = resident(samples, (want.channels, *size))
    if isinstance(samples, Streamed) and spec.resize == "cover":
        least = min_size_before(alone) if as_found else (want.height, want.width)
        samples = replace(samples, least=least)  # quicker; the others promise to do what CNTK does
    return samples, together


def enters_as_found(spec: DataSpec, own: Size | None, tested: Size | None, want: Preprocess) -> bool:
    """Whether training images of size `own` (None: various) are transformed as they are, or after `fit_size`.

    With a scale among the transforms these make the size; without one, images first get the network's size if the
    transforms keep that, and else stay as they are if that leads to it. Those with a border to cut from, where test
    images (of size `tested`) have none, stay as they are, too. Raises `UsageError` where nothing leads to the size, or
    a crop is left with nothing to cut.
    """
    transforms, goal = spec.train_transforms, (want.height, want.width)
    leads, bordered = size_after(transforms, own) == goal, own != tested == goal
    scales = any(isinstance(transform, Scale) for transform in transforms)
    keeps = not scales and size_after(transforms, goal) == goal
    if leads and (bordered or not keeps):
        return True
    if not keeps:
        came = _words(size_after(transforms, own or goal))
        raise UsageError(
            f"data.train_transforms turn images of {_words(own or goal)} into {came}, the network takes "
            f"{_words(goal)}; {_ways_out(goal)}"
        )
    _refuse_idle_crops(transforms, goal)
    return False


def _refuse_idle_crops(transforms: Sequence[Transform], goal: Size) -> None:
    """Raise `UsageError` for a crop at random that always takes the whole of an image of size `goal`."""
    for at, crop in enumerate(transforms):
        before = size_after(transforms[:at], goal)
        is_random = isinstance(crop, Crop) and crop.crop_type != "center" and crop.crop_width
        if is_random and size_after([crop], before) == before:
            raise UsageError(
                f"data.train_transforms cut {_words(before)} out of images that come in that size, the network's, "
                f"which leaves nothing to chance in where they cut; {_ways_out(goal)}"
            )


def _ways_out(goal: Size) -> str:
    return (
        'for shifts by 4 pixels set data.train_transforms=[{"kind": "pad", "pixels": 4}, {"kind": "crop", '
        f'"crop_type": "randomside", "crop_width": {goal[1]}, "crop_height": {goal[0]}}}]; for others end with '
        f'{{"kind": "scale", "width": {goal[1]}, "height": {goal[0]}}}, or set data.image_size to what comes out'
    )


def _mean(
    spec: DataSpec, train: Pictures, samples: Samples, want: Preprocess, damaged: Damaged | None
) -> NDArray[np.float32]:
    """The mean image, in the network's planes, which are grey or RGB."""
    if spec.mean_image == "train":
        is_fit = isinstance(samples, Table) and samples.shape_CHW == want.shape_CHW
        return mean_image(samples if is_fit else fitted(train, want, damaged=damaged))
    bgr_HWC = read_mean_xml(spec.mean_image, spec.mean_image_layout)
    mean_CHW = np.ascontiguousarray(bgr_HWC[:, :, ::-1].transpose(2, 0, 1))
    if mean_CHW.shape != want.shape_CHW:
        raise DataError(
            f"{spec.mean_image}: the mean image is {mean_CHW.shape} (C, H, W), the network's images are "
            f"{want.shape_CHW}; set data.mean_image=train to compute one, or data.image_size to the size of the file's"
        )
    return mean_CHW


def took(feed: Feed, dataset: OwnSet) -> str:
    """What the run takes of a user's own images, in words."""
    parts = ((dataset.train, "training"), (dataset.test, "test"))
    images = " and ".join(f"{len(part):,} {name} images of {_words(part.size)}" for part, name in parts)
    where = "in memory" if are_in_memory(feed.batches.table) else "read anew in each epoch"
    return f"{images}, {where}; the network sees {feed.preprocess}{_missing(dataset)}"


def _missing(dataset: OwnSet) -> str:
    """The classes that one of the parts knows nothing of."""
    told = ""
    for part, name in ((dataset.train, "training"), (dataset.test, "test")):
        there = set(part.labels_N.tolist())
        classes = [class_name for number, class_name in enumerate(dataset.class_names) if number not in there]
        if classes:
            told += f"; no {name} images of {in_words(classes)}"
    return told


def _words(size: Size | None) -> str:
    return f"{size[1]}x{size[0]}" if size else "various or large sizes"
