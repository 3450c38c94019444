"""What flows into the network: the preprocessing that a recipe asks for, and the images that go through it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from convolve.data.fitting import fit_table, mean_image
from convolve.data.resident import Batches, split
from convolve.data.table import DataSet, Table
from convolve.errors import DataError, UsageError
from convolve.formats.mean_xml import read_mean_xml
from convolve.recipe import DataSpec, Recipe
from convolve.transforms.batch import fits_batches, mean_of
from convolve.transforms.chain import Size, size_after
from convolve.transforms.image_spec import Scale
from convolve.transforms.preprocess import Preprocess


def preprocess_for(spec: DataSpec, dataset: DataSet) -> Preprocess:
    """What the model will say of its images: size, mean and scale, from the recipe or else from the data."""
    channels, height, width = dataset.train.shape_CHW
    if spec.image_size:
        height = width = spec.image_size
    want = Preprocess(channels, height, width, spec.mean, spec.scale, resize=spec.resize, side_ratio=spec.side_ratio)
    if not spec.mean_image:
        return want
    if spec.mean_image == "train":
        return replace(want, mean=0.0, mean_image_CHW=mean_image(fit_table(dataset.train, want)))
    return replace(want, mean=0.0, mean_image_CHW=_mean_from_file(spec, want))


def _mean_from_file(spec: DataSpec, want: Preprocess) -> NDArray[np.float32]:
    """The mean in the network's planes, which are grey or RGB."""
    bgr_HWC = read_mean_xml(spec.mean_image, spec.mean_image_layout)
    mean_CHW = np.ascontiguousarray(bgr_HWC[:, :, ::-1].transpose(2, 0, 1))
    if mean_CHW.shape != want.shape_CHW:
        raise DataError(
            f"{spec.mean_image}: the mean image is {mean_CHW.shape} (C, H, W), the network's images are "
            f"{want.shape_CHW}; set data.mean_image=train to compute one, or data.image_size to the size of the file's"
        )
    return mean_CHW


def training_batches(recipe: Recipe, dataset: DataSet, preprocess: Preprocess) -> tuple[Batches, Table, str]:
    """Training batches, and the table that each epoch is evaluated on with its name in the log."""
    data, run = recipe.data, recipe.run
    table, held_out, name = dataset.train, dataset.test, "test"
    if data.validation_fraction:
        table, held_out = split(dataset.train, data.validation_fraction, run.seed)
        name = "validation"
    batches = Batches(
        _entering(data, table, preprocess), run.global_batch_size, data.order, data.train_transforms,
        mean_of(preprocess), preprocess.scale, run.seed, preprocess.channel_order == "bgr",
    )  # fmt: skip
    return batches, fit_table(held_out, preprocess), name


def _entering(spec: DataSpec, table: Table, want: Preprocess) -> Table:
    """The training images in the size from which the transforms lead to the network's."""
    if not all(map(fits_batches, spec.train_transforms)):
        raise UsageError(
            "data.train_transforms: scale, colour, intensity and crops that vary in size are not for batches"
        )
    return table if enters_as_it_is(spec, table.shape_CHW[1:], want) else fit_table(table, want)


def enters_as_it_is(spec: DataSpec, own: Size | None, want: Preprocess) -> bool:
    """Whether training images of size `own` (None: various) are transformed as they are, or after `fit_image`.

    With a scale among the transforms these make the size; without one, images first get the network's size if the
    transforms keep that, and else stay as they are if that leads to it. Raises `UsageError` where nothing does.
    """
    goal = (want.height, want.width)
    scales = any(isinstance(transform, Scale) for transform in spec.train_transforms)
    if not scales and size_after(spec.train_transforms, goal) == goal:
        return False
    if size_after(spec.train_transforms, own) == goal:
        return True
    came = _size(size_after(spec.train_transforms, own or goal))
    raise UsageError(
        f"data.train_transforms turn images of {_size(own or goal)} into {came}, the network takes {_size(goal)}; "
        'pad before the crop, as in [{"kind": "pad", "pixels": 4}, ...], end with a scale to the size of the network, '
        "or set data.image_size to what comes out"
    )


def _size(size: Size | None) -> str:
    return f"{size[1]}x{size[0]}" if size else "various sizes"
