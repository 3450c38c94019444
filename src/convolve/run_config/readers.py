"""What the readers of a configuration deliver: tables of text, images on disk, and how a network takes them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from convolve.data.ctf_table import read_ctf_labels, read_ctf_table
from convolve.data.labelled_images import OnDisk, on_disk
from convolve.data.own import OwnSet
from convolve.data.sources import fitting, open_data
from convolve.data.streams import Purpose, generator
from convolve.data.table import DataSet, Table
from convolve.errors import DataError, MissingDataError, UnsupportedError, UsageError
from convolve.formats.base64_map import Base64Map, read_base64_map
from convolve.formats.image_map import ImageMap, read_image_map
from convolve.formats.mean_xml import read_mean_xml
from convolve.importers.brainscript.job import TrainStep
from convolve.importers.brainscript.reader import Images, Reader, TextStream
from convolve.transforms.crop import Crop
from convolve.transforms.preprocess import Preprocess
from convolve.transforms.scale import Scale
from convolve.transforms.transform import Size, Transform, transform_image

Shape = tuple[int, int, int]  # C, H, W

WITHOUT_CV_READER = 1_000  # samples, at most, that each epoch is evaluated on: CNTK evaluates nothing then


@dataclass(frozen=True, eq=False)
class Prepared(OnDisk):
    """Images as the transforms of a reader leave them for a test: nothing is left to chance."""

    transforms: tuple[Transform, ...] = ()

    def picture(self, index: int, *, grey: bool, least: Size | None = None) -> NDArray[np.uint8]:
        del least  # CNTK decodes images whole
        image_HWC = super().picture(index, grey=grey)
        made = transform_image(image_HWC, self.transforms, generator(Purpose.IMAGE, 0, 0, index))
        return made.astype(np.uint8, copy=False)  # as it is: crops and scales keep the type


def training_data(step: TrainStep, test: Reader | None, shape_CHW: Shape, data: str | None) -> DataSet | OwnSet:
    """What the readers of `step` deliver; each epoch is evaluated on its cvReader's data, else on a part of what `test`
    or the training itself reads."""
    reader = step.reader
    if data is not None:
        return given_data(reader, shape_CHW, data)
    held_out = step.validation or test
    names = tuple(map(str, range(reader.classes)))
    train = _read(reader, shape_CHW)
    tested = test_pictures(held_out or reader, shape_CHW)
    if not step.validation and len(tested) > WITHOUT_CV_READER:
        tested = tested.take(np.linspace(0, len(tested) - 1, WITHOUT_CV_READER).astype(np.int64))
    source = reader.features.file
    if isinstance(train, Table) and isinstance(tested, Table):
        return DataSet(train, tested, names, source)
    if isinstance(train, OnDisk) and isinstance(tested, OnDisk):
        return OwnSet(train, tested, names, source, False, True, shape_CHW)
    raise UnsupportedError(f"{step.name} trains on images and is evaluated on text, or the other way round")


def given_data(reader: Reader, shape_CHW: Shape, data: str) -> DataSet:
    """The data set that fits the network, at `data`."""
    name = fitting(shape_CHW, reader.classes)
    if name is None or isinstance(reader.features, Images):
        raise UsageError("--data is for text readers of a known data set; set the files instead, as in dataDir=DIR")
    found = open_data(name, data)
    if isinstance(found, OwnSet):
        raise UsageError(f"--data {data} is no {name}; set the files of the configuration, as in dataDir=DIR")
    flat = tuple(
        replace(part, images_NCHW=part.images_NCHW.reshape(-1, *shape_CHW), chunk_N=np.zeros(len(part), np.int64))
        for part in (found.train, found.test)
    )
    return replace(found, train=flat[0], test=flat[1])


def test_pictures(reader: Reader, shape_CHW: Shape, data: str | None = None, samples: int = 0) -> Table | OnDisk:
    """What a test reads, the first `samples` of it (0: all); images as the reader's transforms leave them."""
    found = given_data(reader, shape_CHW, data).test if data else _read(reader, shape_CHW)
    if isinstance(found, OnDisk):
        fixed = tuple(_fixed(spec) for spec in reader.transforms if isinstance(spec, Crop | Scale))
        found = Prepared(found.images, found.all_labels_N, found.index_N, transforms=fixed)
    return found.take(np.arange(samples)) if 0 < samples < len(found) else found


def as_prepared(reader: Reader, shape_CHW: Shape) -> Preprocess:
    """How a network takes what `test_pictures` delivers: the mean is left to subtract."""
    channels, height, width = shape_CHW
    if not isinstance(reader.features, Images):
        return Preprocess(channels, height, width)
    want = Preprocess(channels, height, width, channel_order="grey" if channels == 1 else "bgr")
    if not reader.features.mean_file:
        return want
    bgr_HWC = read_mean_xml(reader.features.mean_file)  # as CNTK reads it
    mean_CHW = np.ascontiguousarray(bgr_HWC.transpose(2, 0, 1))
    return replace(want, mean_image_CHW=mean_CHW) if mean_CHW.shape == want.shape_CHW else want  # CNTK skips it too


def as_found(reader: Reader, shape_CHW: Shape) -> Preprocess:
    """How a network takes any image: like `as_prepared`, and what can be said of the reader's crop and scale."""
    want, scale = as_prepared(reader, shape_CHW), Scale(1, 1)
    crop: Crop | None = None
    for transform in reader.transforms:
        crop = transform if isinstance(transform, Crop) else crop
        scale = transform if isinstance(transform, Scale) else scale
    if not isinstance(reader.features, Images) or scale.scale_mode == "crop":
        return want
    if crop is None and scale in reader.transforms and scale.scale_mode == "fill":
        return replace(want, resize="squash")
    crop = crop or Crop()
    ratio = crop.side_ratio[0] if crop.side_ratio else 1.0
    if crop.crop_width and crop.crop_width < scale.width:
        ratio = crop.crop_width / scale.width
    return replace(want, resize="square", side_ratio=ratio)


def _fixed(spec: Crop | Scale) -> Transform:
    if isinstance(spec, Scale):
        return spec
    return replace(spec, crop_type="center", jitter_type="none", aspect_ratio=(1.0,), hflip=False)


def _read(reader: Reader, shape_CHW: Shape) -> Table | OnDisk:
    source, labels = reader.features, reader.labels
    path = _existing(source.file)
    if isinstance(source, TextStream):
        assert labels is not None  # text has no labels of its own
        if source.dim != prod(shape_CHW):
            raise UsageError(f"{path}: the reader's dim is {source.dim}, the network takes {shape_CHW} (C, H, W)")
        return read_ctf_table(
            path, labels.dim, shape_CHW, source.token, labels.token, labels.sparse, _existing(labels.file)
        )
    classes = reader.classes if labels is None else None
    read = read_base64_map if source.form == "base64" else read_image_map
    images: Base64Map | ImageMap = read(path, classes)
    return on_disk(images, images.labels_N if labels is None else _labels_of(images, labels))


def _labels_of(images: Base64Map | ImageMap, stream: TextStream) -> NDArray[np.int64]:
    """The labels that stand in a CTF file, line for line."""
    path = _existing(stream.file)
    labels_N = read_ctf_labels(path, stream.dim, stream.token, stream.sparse)
    if len(labels_N) != len(images):
        raise DataError(f"{path} has {len(labels_N)} labels, {images.file} {len(images)} images; give files that match")
    return labels_N


def _existing(name: str) -> Path:
    path = Path(name)
    if not path.is_file():
        raise MissingDataError(
            f"{path}, which the reader wants, does not exist; say where the data is, as in dataDir=DIR, or make it "
            "with `convolve prepare`"
        )
    return path
