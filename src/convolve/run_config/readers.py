"""The readers of a configuration: tables of text, images on disk, and how a network takes them."""

from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray

from convolve.atomic import is_there
from convolve.data import cifar10, mnist
from convolve.data.known import guess_dataset
from convolve.data.open import open_data
from convolve.data.sources.ctf import open_ctf, read_ctf_labels
from convolve.data.sources.files import FileSource, file_source
from convolve.data.sources.source import ArraySource, Source
from convolve.data.splits import Splits
from convolve.errors import DataError, MissingDataError, UnsupportedError, UsageError
from convolve.formats.base64_map import read_base64_map
from convolve.formats.columns import Columns, read_columns
from convolve.formats.ctf import StreamSpec
from convolve.formats.decode import Decoding
from convolve.formats.image_map import read_image_map
from convolve.formats.mean_xml import read_mean_xml
from convolve.formats.table import TargetName
from convolve.importers.brainscript.criterion import trained
from convolve.importers.brainscript.job import TrainStep
from convolve.importers.brainscript.reader import Images, Reader, TextStream
from convolve.transforms.crop import Crop
from convolve.transforms.preprocess import Preprocess, Resize
from convolve.transforms.scale import Scale
from convolve.transforms.transform import Size, Transform, transform_image

Shape = tuple[int, int, int]  # C, H, W

WITHOUT_CV_READER = 1_000  # samples, at most, that each epoch is evaluated on: CNTK evaluates nothing then


@dataclass(frozen=True, eq=False)
class TransformedSource:
    """`images` after a reader's transforms as for a test: without randomness. See `Source`."""

    images: FileSource
    transforms: tuple[Transform, ...]
    size: Size | None = None

    def __len__(self) -> int:
        return len(self.images)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # copying and pickling ask for such before there is any `images`
            raise AttributeError(name)
        return getattr(self.images, name)

    def load(self, index: int, decoding: Decoding) -> NDArray[np.uint8]:
        whole = replace(decoding, min_size=None, orientation="cntk")  # as CNTK decodes images
        image_HWC = self.images.load(index, whole)
        made = transform_image(image_HWC, self.transforms, np.random.default_rng(0))
        return made.astype(np.uint8, copy=False)  # unchanged: crops and scales keep the type

    def take(self, indices_N: NDArray[np.int64]) -> Self:
        return replace(self, images=self.images.take(indices_N))


def training_data(step: TrainStep, test: Reader | None, shape_CHW: Shape, data: str | None) -> Splits:
    """The data of the readers of `step`; each epoch is evaluated on its cvReader's data, otherwise on a part of the
    data of `test` or of the training itself."""
    reader = step.reader
    if data is not None:
        return given_data(reader, shape_CHW, data)
    names, is_class = tuple(map(str, range(reader.classes))), trained(step.network).is_class
    train = _read(reader, shape_CHW, is_class)
    tested = test_images(step.validation or test or reader, shape_CHW, one_class=is_class)
    if not step.validation and len(tested) > WITHOUT_CV_READER:
        tested = tested.take(np.linspace(0, len(tested) - 1, WITHOUT_CV_READER).astype(np.int64))
    if isinstance(train, ArraySource) != isinstance(tested, ArraySource):
        raise UnsupportedError(
            f"{step.name} trains on images and is evaluated on text, or the reverse; use one kind of reader for both"
        )
    file = Path(reader.features.file)
    name = {mnist.CTF_TRAIN: "mnist", cifar10.CTF_TRAIN: "cifar10"}.get(file.name, file.resolve().parent.name)
    target: TargetName = "class" if is_class else "number"
    return Splits(train, tested, names, name, str(file), numbered=True, target=target)


def given_data(reader: Reader, shape_CHW: Shape, data: str) -> Splits:
    """The data set at `data` that fits the network."""
    info = guess_dataset(shape_CHW, reader.classes)
    if info is None or isinstance(reader.features, Images):
        raise UsageError("--data is for text readers of a known data set; set the files instead, as in dataDir=DIR")
    found = open_data(data, info.name)
    if not isinstance(found.train, ArraySource) or not isinstance(found.test, ArraySource) or found.name != info.name:
        raise UsageError(f"--data {data} is not {info.name}; set the files of the configuration, as in dataDir=DIR")
    train, test = (
        replace(part, images_NCHW=part.images_NCHW.reshape(-1, *shape_CHW), chunk_N=np.zeros(len(part), np.int64))
        for part in (found.train, found.test)
    )
    return replace(found, train=train, test=test)


def test_images(
    reader: Reader, shape_CHW: Shape, data: str | None = None, samples: int = 0, one_class: bool = True
) -> Source:
    """The data of a test, limited to the first `samples` (0: all); images after the reader's transforms. The labels are
    `one_class` per sample, or numbers."""
    found: Source = given_data(reader, shape_CHW, data).test if data else _read(reader, shape_CHW, one_class)
    if isinstance(found, FileSource):
        fixed = tuple(_fixed(transform) for transform in reader.transforms if isinstance(transform, Crop | Scale))
        found = TransformedSource(found, fixed)
    return found.take(np.arange(samples)) if 0 < samples < len(found) else found


def as_prepared(reader: Reader, shape_CHW: Shape) -> Preprocess:
    """The preprocessing for what `test_images` delivers: only the mean remains to be subtracted."""
    channels, height, width = shape_CHW
    if not isinstance(reader.features, Images):
        return Preprocess(channels, height, width)
    preprocess = Preprocess(
        channels, height, width, channel_order="gray" if channels == 1 else "bgr", interpolation="linear",
        orientation="cntk",
    )  # fmt: skip
    if not reader.features.mean_file:
        return preprocess
    bgr_HWC = read_mean_xml(reader.features.mean_file)  # as CNTK reads it
    mean_CHW = np.ascontiguousarray(bgr_HWC.transpose(2, 0, 1))
    if mean_CHW.shape != preprocess.shape_CHW:  # CNTK skips it too
        return preprocess
    return replace(preprocess, mean_image_CHW=mean_CHW)


def as_found(reader: Reader, shape_CHW: Shape) -> tuple[Preprocess, str]:
    """(the preprocessing for any image: that of `as_prepared` with the reader's crops and scales; a note if no
    preprocessing is exactly the same)."""
    preprocess = as_prepared(reader, shape_CHW)
    if not isinstance(reader.features, Images):
        return preprocess, ""
    said = resize_words(reader, shape_CHW)
    if said is not None:
        return replace(preprocess, **said), ""
    nearest = replace(preprocess, resize="square", known_from="the closest to the configuration's reader")
    message = "a model cannot store the reader's crop and scale: for image files it gets the closest,"
    return nearest, f"{message} {nearest.size_in_words} (--resize and --crop-ratio say another)"


_RESIZE_OF: dict[str, Resize] = {"fill": "squash", "crop": "cover", "pad": "letterbox"}


def resize_words(reader: Reader, shape_CHW: Shape) -> dict[str, Any] | None:
    """What a test does to images, as fields of `Preprocess`; None if these cannot express it."""
    _, height, width = shape_CHW
    match [transform for transform in reader.transforms if isinstance(transform, Crop | Scale)]:
        case []:  # they already have the size
            return {"resize": "squash"}
        case [Scale() as scale]:
            return _scaled(scale)
        case [Crop(crop_width=0, area_ratio=(), aspect_ratio=(1.0,)) as crop, Scale(scale_mode="fill") as scale]:
            ratio = {"resize": "square", "crop_ratio": crop.side_ratio[0]} if crop.side_ratio else {}
            return _scaled(scale) | ratio
        case [Scale(scale_mode="fill" | "crop") as scale, Crop() as crop]:
            cut = crop.size_after((scale.height, scale.width)) == (height, width)
            return _scaled(scale) | {"crop_ratio": width / scale.width} if cut and _is_alike(scale, shape_CHW) else None
    return None


def _scaled(scale: Scale) -> dict[str, Any]:
    padding = {"padding_value": scale.pad_value} if scale.scale_mode == "pad" else {}
    return {"resize": _RESIZE_OF[scale.scale_mode], "interpolation": scale.interpolation} | padding


def _is_alike(scale: Scale, shape_CHW: Shape) -> bool:
    """Whether the network sees the same fraction of the height as of the width, to the pixel."""
    _, height, width = shape_CHW
    return round(height * scale.width / width) == scale.height and max(height / scale.height, width / scale.width) <= 1


def _fixed(spec: Crop | Scale) -> Transform:
    if isinstance(spec, Scale):
        return spec
    return replace(spec, crop_type="center", jitter_type="none", aspect_ratio=(1.0,), hflip=False)


def _read(reader: Reader, shape_CHW: Shape, one_class: bool) -> ArraySource | FileSource:
    source, labels = reader.features, reader.labels
    path = _existing(source.file)
    if isinstance(source, Columns | TextStream) and source.dim != prod(shape_CHW):
        raise UsageError(f"{path}: the reader's dim is {source.dim}, but the network takes {shape_CHW} (C, H, W)")
    if isinstance(source, Columns):
        found = _of_columns(source, shape_CHW, one_class)
        return _planes(found) if reader.interleaved else found
    if isinstance(source, TextStream):
        assert labels is not None  # text has no labels of its own
        found = open_ctf(
            path, labels.dim, shape_CHW, features=_stream(source), labels=_stream(labels),
            labels_path=_existing(labels.file), one_class=one_class,
        )  # fmt: skip
        return _planes(found) if reader.interleaved else found
    classes = reader.classes if labels is None else None
    if source.form == "base64":
        listing = read_base64_map(path, classes)
        return file_source(listing, _labels_of(path, listing.labels_N, reader, one_class), None)
    lines = read_image_map(path, classes)
    return file_source(lines, _labels_of(path, lines.labels_N, reader, one_class), None, in_chunks=True)


def _of_columns(columns: Columns, shape_CHW: Shape, one_class: bool) -> ArraySource:
    if one_class and not columns.classes:
        what = "labels are numbers (labelType = regression), but the criterion is for classes"
        raise UsageError(f"{columns.file}: its {what}; give it labelDim, or train by SquareError")
    features_ND, labels_N = read_columns(columns)
    if columns.classes and not one_class:
        labels_N = np.eye(columns.classes, dtype=np.float32)[labels_N]
    images_NCHW = torch.from_numpy(features_ND.reshape(-1, *shape_CHW))
    place = f"{columns.file}: sample {{}}".format
    return ArraySource(images_NCHW, torch.from_numpy(labels_N), np.zeros(len(labels_N), np.int64), locate=place)


def _planes(source: ArraySource) -> ArraySource:
    """Images whose values are stored pixel by pixel, with the channels moved first."""
    channels, height, width = source.shape_CHW
    images_NHWC = source.images_NCHW.reshape(-1, height, width, channels)
    return replace(source, images_NCHW=images_NHWC.permute(0, 3, 1, 2).contiguous())


def _stream(stream: TextStream) -> StreamSpec:
    return StreamSpec(stream.token, stream.dim, stream.sparse)


def _labels_of(path: Path, own_N: NDArray[np.int64], reader: Reader, one_class: bool) -> NDArray[Any]:
    """The labels of a map file, or those of a CTF file, line by line."""
    stream = reader.labels
    if stream is None:
        return own_N if one_class else np.eye(reader.classes, dtype=np.float32)[own_N]
    file = _existing(stream.file)
    labels_N = read_ctf_labels(file, _stream(stream), one_class)
    if len(labels_N) != len(own_N):
        raise DataError(f"{file} has {len(labels_N)} labels, but {path} has {len(own_N)} images; give files that match")
    return labels_N


def _existing(name: str) -> Path:
    path = Path(name)
    if not is_there(path, is_file=True):
        raise MissingDataError(
            f"{path}, which the reader needs, does not exist; set its place, for example dataDir=DIR, or make it "
            "with `convolve prepare`"
        )
    return path
