"""What a recipe makes of images: the preprocessing, the loader, and the images for evaluation."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convolve.data.balance import class_weights, warn_of_rare_classes
from convolve.data.caching import cached, measured
from convolve.data.cut_off import cut_off_in_words
from convolve.data.damaged import Damaged, Unreadable, skipping
from convolve.data.dataset import THREADS, Dataset, Prepare, transformed
from convolve.data.evaluation import eval_dataset
from convolve.data.hold_out import VALIDATION_FRACTION, hold_out_validation
from convolve.data.known import DATASETS
from convolve.data.loader import Loader
from convolve.data.mixing import MixingLoader
from convolve.data.packed import PackedSource, shrunk
from convolve.data.sources.classes import in_words
from convolve.data.sources.files import FileSource
from convolve.data.sources.source import ArraySource, Source
from convolve.data.splits import OutOfFold, Splits
from convolve.errors import DataError, UsageError
from convolve.formats.decode import Decoding
from convolve.formats.mean_xml import read_mean_xml
from convolve.names import own_slashes
from convolve.recipe import Recipe
from convolve.specs.data import DataSpec
from convolve.transforms.crop import Crop
from convolve.transforms.normalize import mean_of, scale_of
from convolve.transforms.pad import Pad
from convolve.transforms.preprocess import LETTERBOX_GRAY, Preprocess, fit_size
from convolve.transforms.scale import Scale
from convolve.transforms.table import min_size_before, read_files, split_transforms
from convolve.transforms.transform import Image, Size, Transform, size_after

Stages = list[tuple[Dataset, Sequence[Transform]]]  # of progressive resizing: see `_Training.dataset`
_MEAN_IMAGES = 10_000  # of a set that is not cached: with pixels that deviate by 64, the mean is known to 0.64


@dataclass(frozen=True)
class DataModule:
    """Everything that a training reads. `validation` is what each epoch is evaluated on, called `validation_name` in
    the log: "validation", or "test" if nothing is held out for it, and "" if no images are left for it; `judged_by`
    explains this if the recipe did not ask for it. `damaged` records the training images that are replaced by others.
    `description` says how the images are prepared.
    """

    preprocess: Preprocess
    train: Source
    loader: Loader
    validation: Dataset
    validation_name: str
    test: Dataset
    judged_by: str
    damaged: Damaged | None
    description: str
    out_of_fold: OutOfFold | None = None


def build_data(
    recipe: Recipe,
    splits: Splits,
    threads: int,
    start: Preprocess | None = None,
    batches_at_once: int = 1,
    warn: Callable[[str], None] = lambda message: None,
) -> DataModule:
    """The data of a training, decoded by `threads` threads. A start determines the preprocessing. `batches_at_once`:
    this many of the recipe's batches form one here, one for each worker. `warn` is called for damaged images.
    """
    spec = recipe.data
    read_files(spec.train_transforms)
    decoding = start.decoding() if start else Decoding(spec.channels == 1, spec.orientation)
    train, judged, said = _training_part(recipe, splits)
    train, tested = measured(train, decoding), measured(splits.test, decoding)
    preprocess = start or _preprocess(spec, tested.size)
    allowed = partial(_damaged_limit, spec, isinstance(splits.train, FileSource) and splits.name not in DATASETS)
    unreadable = skipping(spec.skip_unreadable, warn)
    test = _evaluated(tested, preprocess, threads, unreadable)
    validation, name = test, "" if splits.out_of_fold and splits.out_of_fold.is_test else "test"
    if judged:
        left_out = Unreadable(max(unreadable.limit, allowed(judged)), warn, unreadable.way_out)
        validation, name = _evaluated(measured(judged, decoding), preprocess, threads, left_out), "validation"
    damaged = Damaged(limit, warn) if (limit := min(allowed(train), len(train) - 1)) else None
    sizes = [in_size(preprocess, size) for size in spec.progressive_sizes or (1.0,)]
    training = _Training(recipe, train, tested.size, threads, damaged, sizes=sizes, warn=warn)
    stages = [training.dataset(each) for each in sizes]
    preprocess = start or _with_mean_image(spec, train, stages[0][0], preprocess, damaged)
    loader = _loader(recipe, stages, preprocess, splits.class_names, batches_at_once)
    if spec.target == "class" and spec.balance == "none":
        warn_of_rare_classes(train.labels_N.numpy(), splits.class_names, warn)
    description = _describe(splits, (train.size, tested.size), loader, preprocess)
    return DataModule(
        preprocess, train, loader, validation, name, test=test, damaged=damaged, judged_by=said,
        description=description, out_of_fold=splits.out_of_fold,
    )  # fmt: skip


def _loader(
    recipe: Recipe, stages: Stages, preprocess: Preprocess, class_names: tuple[str, ...], batches_at_once: int
) -> Loader:
    spec, run, samples = recipe.data, recipe.run, len(stages[0][0])
    batch_sizes = tuple(int(each) * batches_at_once for each in run.global_batch_sizes or (run.global_batch_size,))
    more: dict[str, Any] = {"mixing": spec.mixing, "classes": len(class_names)} if spec.mixing else {}
    if spec.balance != "none":
        labels_N = stages[0][0].source.labels_N.numpy()
        more[f"{spec.balance}_K"] = class_weights(labels_N, class_names, spec.class_weights)
    kind: type[Loader] = MixingLoader if spec.mixing else Loader
    return kind(
        datasets=tuple(dataset for dataset, _ in stages), batch_sizes=batch_sizes, order_kind=spec.order,
        transforms=stages[0][1], mean=mean_of(preprocess), scale=scale_of(preprocess), seed=run.seed,
        bgr=preprocess.channel_order == "bgr", hard_fraction=spec.hard_fraction, epoch_samples=run.epoch_samples,
        passes=max(1, math.ceil(run.epochs * (run.epoch_samples or samples) / samples)), **more,
    )  # fmt: skip


def _training_part(recipe: Recipe, splits: Splits) -> tuple[Source, Source | None, str]:
    """(training images; images for choices, None: the test part; a note about that)."""
    fraction, reasons = recipe.data.validation_fraction, _validation_reasons(recipe, splits)
    if splits.validation is not None:
        said = f"each epoch is evaluated on the {len(splits.validation):,} images of the validation part"
        unused = f"; data.validation_fraction={fraction:g} is not used" if fraction else ""
        return splits.train, splits.validation, said + unused
    if not fraction and not reasons:
        return splits.train, None, ""
    chosen = fraction or VALIDATION_FRACTION
    train, validation = hold_out_validation(splits.train, chosen, recipe.run.seed)
    cut = f"{len(validation):,} of {len(splits.train):,} training images are held out for validation"
    return train, validation, "" if fraction else ", ".join([cut, *reasons])


def _validation_reasons(recipe: Recipe, splits: Splits) -> list[str]:
    """Why images of the training part are held out, in words."""
    run, data = recipe.run, recipe.data
    learns = recipe.confidence and run.epochs
    reasons = {
        "for run.keep=best": run.keep == "best",
        "for the threshold of each class": data.target == "classes" and run.epochs > 0,  # else out of fold
        # where nothing is trained, or after --folds, it learns that from cross-validation
        "for the model's confidence": learns and not splits.out_of_fold,
    }
    return [reason for reason, holds in reasons.items() if holds]


def _evaluated(source: Source, preprocess: Preprocess, threads: int, unreadable: Unreadable) -> Dataset:
    """The images of `source` for evaluation, cached in memory if they fit."""
    dataset = eval_dataset(source, preprocess, threads=threads, unreadable=unreadable)
    return cached(dataset, (preprocess.height, preprocess.width))


def _damaged_limit(spec: DataSpec, are_own: bool, part: Source) -> int:
    """How many images of the `part` may be damaged: none of a published set, of which there are other copies."""
    if spec.damaged_limit != "auto":
        return int(spec.damaged_limit)
    return len(part) // 100 if are_own else 0


def _preprocess(spec: DataSpec, found: Size | None) -> Preprocess:
    """The model's preprocessing, apart from a mean image; `found`: the common size of all test images."""
    size = spec.size or found
    if size is None:
        raise UsageError("data.image_size=0: these images have no common small size; set it, for example to 224")
    height, width = size
    pads = [transform for transform in spec.train_transforms if isinstance(transform, Pad)]
    mean = spec.mean[0] if len(spec.mean) == 1 else spec.mean
    return Preprocess(
        spec.channels, height, width, mean, spec.scale, resize=spec.resize, crop_ratio=spec.crop_ratio,
        interpolation=None if spec.interpolation == "auto" else spec.interpolation,
        orientation=spec.orientation, padding=sum(pad.border(height, width) for pad in pads),
        padding_value=pads[0].value if pads else LETTERBOX_GRAY if spec.resize == "letterbox" else 0,
    )  # fmt: skip


def in_size(preprocess: Preprocess, size: float) -> Preprocess:
    """One of `data.progressive_sizes`: pixels, or a fraction of the sides of `preprocess`, in multiples of eight.

    For such sizes, borders of an eighth and crops of four fifths (their `side_ratio`) give the same size again.
    """
    if size == 1:
        return preprocess
    whole = (preprocess.height, preprocess.width)
    height, width = (size, size) if size > 1 else (8 * round(size * side / 8) for side in whole)
    return replace(preprocess, height=max(int(height), 1), width=max(int(width), 1))


@dataclass(frozen=True)
class _Training:
    """The training images of a recipe. `tested`: the common size of all test images; `sizes`: see `in_size`."""

    recipe: Recipe
    train: Source
    tested: Size | None
    threads: int
    damaged: Damaged | None
    sizes: Sequence[Preprocess]
    warn: Callable[[str], None]

    def dataset(self, preprocess: Preprocess) -> tuple[Dataset, Sequence[Transform]]:
        """The images in the size of `preprocess` as batches are cut from them, and what is then done to batches."""
        spec, train, goal = self.recipe.data, self.train, (preprocess.height, preprocess.width)
        transforms = self._transforms(preprocess)
        alone, together = split_transforms(transforms)
        by_reader = _as_reader(spec, transforms, train)
        if by_reader and not any(isinstance(each, Crop | Scale) for each in alone):
            alone, together = transforms, ()
        as_found = by_reader or enters_as_found(transforms, train.size, self.tested, goal)
        if isinstance(train, ArraySource) and train.shape_CHW[0] == preprocess.channels and not alone:
            return (Dataset(train) if as_found else cached(eval_dataset(train, preprocess), goal)), together

        fit = None if as_found else partial(fit_size, preprocess=preprocess)
        dataset = Dataset(
            train, _of_size(goal, transformed(alone, preprocess.channels, fit)), preprocess.decoding(),
            seed=self.recipe.run.seed, threads=max(THREADS, self.threads), damaged=self.damaged, is_random=bool(alone),
        )  # fmt: skip
        if not alone:
            dataset = cached(dataset, train.size if as_found and train.size else goal)
        if not dataset.is_cached and preprocess.filter == "area":  # quicker; the others promise to do what CNTK does
            min_size = min_size_before(alone) if as_found else preprocess.size_before_crop
            dataset = replace(dataset, decoding=replace(dataset.decoding, min_size=min_size))
        if spec.packed_in and not dataset.is_cached and isinstance(train, FileSource):
            dataset = self._packed(dataset, preprocess, fit)
            dataset = replace(dataset, prepare=_of_size(goal, transformed(alone, preprocess.channels, None)))
        return dataset, together

    def _transforms(self, preprocess: Preprocess) -> tuple[Transform, ...]:
        """The recipe's transforms, for images of the size of `preprocess`."""
        spec = self.recipe.data
        is_other = bool(spec.progressive_sizes or self.recipe.model.start)  # than the size that the recipe has in mind
        return tuple(
            replace(each, height=preprocess.height, width=preprocess.width)
            if is_other and isinstance(each, Scale)
            else each
            for each in spec.train_transforms
        )

    def _packed(self, dataset: Dataset, preprocess: Preprocess, fit: Callable[[Image], Image] | None) -> Dataset:
        """The images from the packed cache: fitted, or as large as the transforms need them for the largest size."""
        assert isinstance(self.train, FileSource)
        decoding, made = dataset.decoding, repr(replace(preprocess, mean_image_CHW=None, mean=0.0, scale=1.0))
        if fit is None:
            rooms = [min_size_before(split_transforms(self._transforms(each))[0]) for each in self.sizes]
            room = None if None in rooms else max(filter(None, rooms))
            decoding, made, fit = replace(decoding, min_size=room), f"room {room}", partial(shrunk, room=room)
        place = Path(self.recipe.data.packed_in).expanduser()
        source = PackedSource(self.train, place, decoding, make=fit, made=made, warn=self.warn)
        assert source.pack  # a folder that cannot be made is an error before the training
        return replace(dataset, source=source, decoding=decoding)


def _as_reader(spec: DataSpec, transforms: Sequence[Transform], train: Source) -> bool:
    """Whether the transforms get images of any size unchanged, as in CNTK's reader, which does not resize
    before them."""
    cuts = any(isinstance(each, Crop | Scale) for each in transforms)
    return spec.orientation == "cntk" and cuts and train.size is None


def _of_size(goal: Size, prepare: Prepare) -> Prepare:
    """`prepare`, which is to leave images of this size: as CNTK's reader, transforms may meet images of any."""

    def checked(image_HWC: Image, rng: np.random.Generator) -> Image:
        images_VCHW = prepare(image_HWC, rng)
        if images_VCHW.shape[2:] != goal:
            came, found = _words(images_VCHW.shape[2:]), _words(image_HWC.shape[:2])
            raise DataError(f"its transforms make {came} of {found}, but the network takes {_words(goal)}; add a scale")
        return images_VCHW

    return checked


def enters_as_found(transforms: Sequence[Transform], own: Size | None, tested: Size | None, goal: Size) -> bool:
    """Whether training images of size `own` (None: various) are transformed as they are, or after `fit_size`.

    If the transforms include a resize, they set the size. Otherwise images are resized first, when the transforms
    preserve that size, and else stay as they are if that leads to it. If training images are padded (as CNTK writes
    CIFAR-10) and test images, of size `tested`, are not, no resize is done before cropping. Raises `UsageError` where
    nothing leads to the size, or a crop is left with nothing to cut.
    """
    leads, padded = size_after(transforms, own) == goal, own != tested == goal
    resizes = any(isinstance(transform, Scale) for transform in transforms)
    keeps = not resizes and size_after(transforms, goal) == goal
    if leads and (padded or not keeps):
        return True
    if not keeps:
        came = _words(size_after(transforms, own or goal))
        raise UsageError(
            f"data.train_transforms turn images of {_words(own or goal)} into {came}, but the network takes "
            f"{_words(goal)}; {_ways_out(goal)}"
        )
    for at, crop in enumerate(transforms):
        before = size_after(transforms[:at], goal)
        is_random = isinstance(crop, Crop) and crop.crop_type != "center" and crop.crop_width
        if is_random and crop.size_after(before) == before:
            what = f"A random {_words(before)} crop of a {_words(before)} image is always the whole image; pad first"
            raise UsageError(f"data.train_transforms: {what}: {_ways_out(goal)}")
    return False


def _ways_out(goal: Size) -> str:
    return (
        'for shifts by 4 pixels set data.train_transforms=[{"kind": "pad", "pixels": 4}, {"kind": "crop", '
        f'"crop_type": "randomside", "crop_width": {goal[1]}, "crop_height": {goal[0]}}}]; for others end with '
        f'{{"kind": "scale", "width": {goal[1]}, "height": {goal[0]}}}, or set data.image_size to the resulting size'
    )


def _with_mean_image(
    spec: DataSpec, train: Source, dataset: Dataset, preprocess: Preprocess, damaged: Damaged | None
) -> Preprocess:
    """The same, with the mean image that the recipe may ask for, in the network's planes: gray or RGB."""
    if not spec.mean_image:
        return preprocess
    shape_CHW = preprocess.shape_CHW
    if spec.mean_image == "train":
        source = dataset.source
        is_fitted = dataset.is_cached and isinstance(source, ArraySource) and source.shape_CHW == shape_CHW
        mean_CHW = mean_image(dataset if is_fitted else eval_dataset(train, preprocess, damaged=damaged))
        return replace(preprocess, mean=0.0, mean_image_CHW=mean_CHW)
    bgr_HWC = read_mean_xml(own_slashes(spec.mean_image), spec.mean_image_layout)
    mean_CHW = np.ascontiguousarray(bgr_HWC[:, :, ::-1].transpose(2, 0, 1))
    if mean_CHW.shape != shape_CHW:
        raise DataError(
            f"{spec.mean_image}: the mean image is {mean_CHW.shape} (C, H, W), but the network's images are "
            f"{shape_CHW}; "
            "set data.mean_image=train to compute one, or data.image_size to the size of the file's"
        )
    return replace(preprocess, mean=0.0, mean_image_CHW=mean_CHW)


def mean_image(dataset: Dataset) -> NDArray[np.float32]:
    """The mean of all images, (C, H, W); for a dataset that is not cached, of about 10,000 spread over it."""
    numbers_N = np.arange(len(dataset))
    if not dataset.is_cached:
        numbers_N = numbers_N[:: max(1, len(dataset) // _MEAN_IMAGES)]
    total_CHW: NDArray[np.float64] = np.zeros(1)  # of bytes, whole numbers below 2^53: exact
    for images_NCHW, _ in dataset.batches(numbers_N, 1000):
        kind = np.float64 if images_NCHW.is_floating_point() else np.uint32
        total_CHW = total_CHW + images_NCHW.numpy().sum(0, dtype=kind)  # torch's sum takes twenty times as long
    return np.ascontiguousarray(total_CHW / len(numbers_N), np.float32)  # sums keep the layout of decoded images


def _describe(splits: Splits, sizes: tuple[Size | None, Size | None], loader: Loader, preprocess: Preprocess) -> str:
    """How the training prepares the images, in words, and classes that one of the parts lacks."""
    parts = ((splits.train, "training"), (splits.test, "test"))
    counts = [f"{len(part):,} {name} images of {_words(size)}" for (part, name), size in zip(parts, sizes, strict=True)]
    where = "cached in memory" if loader.is_cached else "decoded on demand"
    if isinstance(packed := loader.datasets[0].source, PackedSource):
        where = f"packed in {packed.folder}"
    sees = f"{' and '.join(counts)}, {where}; the network sees {preprocess}"
    said = "; ".join(filter(None, [sees, cut_off_in_words(splits.train, preprocess)]))
    for name, part in [] if splits.target == "number" else splits.parts:
        labels_N = part.labels_N
        there = set(labels_N.tolist() if labels_N.ndim == 1 else labels_N.any(0).nonzero().flatten().tolist())
        missing = [each for number, each in enumerate(splits.class_names) if number not in there]
        said += f"; no {name} images of {in_words(missing)}" if missing else ""
    return said


def _words(size: Size | None) -> str:
    return f"{size[1]}x{size[0]}" if size else "mixed or large sizes"
