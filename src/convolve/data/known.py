"""The published data sets that convolve knows: one row each."""

import gzip
import zlib
from collections.abc import Callable, Sequence
from functools import partial
from math import prod
from pathlib import Path, PurePosixPath

import torch

from convolve.atomic import open_ordinary
from convolve.data import archives, cifar10, ilsvrc2012, mnist
from convolve.data.download import Progress
from convolve.data.lists import find_lists, is_packed, no_images
from convolve.data.locate import SAMPLE
from convolve.data.shard_layout import is_shards
from convolve.data.sources import cifar
from convolve.data.sources.classes import in_words
from convolve.data.sources.ctf import collect_ctf, is_ctf
from convolve.data.sources.idx import open_idx
from convolve.data.sources.source import ArraySource, OnFault, Source, attempt
from convolve.data.splits import DatasetInfo, Splits
from convolve.errors import DataError, MissingDataError, UsageError, look_up
from convolve.formats.cifar_binary import parse_cifar_binary, read_bytes
from convolve.formats.decode import Decoding
from convolve.recipe import Recipe

DATASETS = {info.name: info for info in (mnist.INFO, cifar10.INFO, ilsvrc2012.INFO)}

_FAKE_BYTES = 1 << 29  # of noise for training: all of MNIST and CIFAR-10, 2,730 images of 256x256


def dataset_info(name: str) -> DatasetInfo:
    """What is known of the data set `name`. Raises `UsageError` for any other name."""
    if not name:
        raise UsageError("data.name is empty, so the numbers of images and classes are unknown; set it")
    return look_up(DATASETS, name, "data set", "data.name")


def guess_dataset(shape_CHW: tuple[int, int, int], classes: int) -> DatasetInfo | None:
    """The data set with this many numbers per image, and this many classes; None if there is none."""
    wanted = (prod(shape_CHW), classes)
    return next((i for i in DATASETS.values() if (prod(i.shape_CHW), len(i.class_names)) == wanted), None)


def info_to_test(
    where: str | None, name: str, class_names: Sequence[str], shape_CHW: tuple[int, int, int]
) -> DatasetInfo:
    """The data set on which to test a model that was trained on the set `name`."""
    known = DATASETS.get(name)
    if not (known or where in (None, SAMPLE) or Path(str(where)).expanduser().exists()):
        raise MissingDataError(f"{where} does not exist; give a folder, a map file of images, or --data sample")
    info = known or (guess_dataset(shape_CHW, len(class_names)) if where else None)
    if info is None:
        trained = f"; the model was trained on {name}, of {in_words(class_names)}" if name else ""
        raise UsageError(
            f"give the test images with --data: a map file (path TAB class number), class folders{trained}"
        )
    numbers = tuple(map(str, range(len(info.class_names))))  # where a set is known by no more, any names may be its
    if where is None and info.class_names not in (class_names, numbers):
        others = f"other images than {info.name}'s, of {in_words(class_names)}"
        raise UsageError(f"the model was trained on {others}; give them with --data")
    return info


def published_error(recipe: Recipe, splits: Splits) -> float | None:
    """The error that the source of `recipe` reports, if it is for these images; for a set without a checksum, the
    number of images decides."""
    info = DATASETS.get(recipe.data.name)
    in_memory = splits.array_shape_CHW is not None
    by_numbers = info is not None and not info.checksum and splits.is_official(info)
    same = by_numbers or (info is not None and in_memory and splits.name == info.name)
    return recipe.published_error if same else None


def fake_data(name: str) -> Splits:
    """Noise of the same shape and number as the data set `name`, or as much of it as fits in memory."""
    info = dataset_info(name)
    generator = torch.Generator().manual_seed(0)
    part = min(1.0, _FAKE_BYTES / (info.train_samples * prod(info.shape_CHW)))

    def noise(samples: int) -> ArraySource:
        shape_NCHW = (int(samples * part), *info.shape_CHW)
        images_NCHW = torch.randint(0, 256, shape_NCHW, dtype=torch.uint8, generator=generator)
        return ArraySource(images_NCHW, torch.randint(0, len(info.class_names), shape_NCHW[:1], generator=generator))

    return Splits(noise(info.train_samples), noise(info.test_samples), info.class_names, name, "noise (--fake-data)")


# name -> function of where it lies (--data; None: the usual places, then a download), whether images in files come as
# they are listed, and who hears of a download
LOADERS: dict[str, Callable[[str | None, bool, Progress | None], Splits]] = {
    "mnist": lambda where, _, progress: mnist.load_mnist(where, progress),
    "cifar10": lambda where, _, progress: cifar10.load_cifar10(where, progress),
    "ilsvrc2012": lambda where, file_order, _: ilsvrc2012.load_ilsvrc2012(where, file_order),
}


def open_published(place: Path, name: str, file_order: bool, progress: Progress | None) -> Splits:
    """The published data set at `place`; `name` is the most likely one."""
    reasons: list[str] = []
    for each in sorted(LOADERS, key=lambda other: other != name):
        try:
            return LOADERS[each](str(place), file_order, progress)
        except MissingDataError as error:
            reasons.append(str(error))
    if not name:
        raise no_images(place)
    hint = "your own images need a subfolder for each class, or are listed in a map file or a CSV table"
    raise MissingDataError(f"{reasons[0]}; {hint}")


def may_be(own: Splits, info: DatasetInfo) -> bool:
    """Whether the images can be those of the data set `info`: the same classes, and a test image of its size."""
    numbered = own.numbered and len(own.class_names) == len(info.class_names)
    if own.held_out or not (numbered or own.class_names == info.class_names):
        return False
    channels, *size = info.shape_CHW
    try:
        return list(own.test.load(0, Decoding(gray=channels == 1)).shape[:2]) == size
    except DataError:  # perhaps the set is there in another form
        return True


def unpacked(place: Path) -> Path:
    """`place`; for archives without a published set, the folder into which they are unpacked."""
    archives.refuse_damaged(place)
    if archives.is_archive(place):
        return place if _is_published(place) or is_shards(place) else archives.unpacked(place)
    inside = archives.archives_in(place) if place.is_dir() else []
    if inside and not any(map(_is_published, inside)) and not _has_published(place) and find_lists(place) is None:
        return archives.all_unpacked(inside)
    return place


def _has_published(folder: Path) -> bool:
    """Whether files of a published set are there, unpacked: then archives beside them are something else."""
    names = (mnist.CTF_TRAIN, mnist.CTF_TEST, cifar10.CTF_TRAIN, cifar10.CTF_TEST)
    files = [*(path for pair in mnist.idx_pairs(folder) for path in pair), *(folder / name for name in names)]
    return cifar.find_version(folder) is not None or any(path.exists() for path in files)


def _is_published(archive: Path) -> bool:
    names, inside = {name for version in cifar.VERSIONS for name in version.files}, archives.first_names(archive)
    return cifar.is_cifar100(inside) or not names.isdisjoint(PurePosixPath(name).name for name in inside)


def published_parts(place: Path, on_fault: OnFault) -> Sequence[Source | None] | None:
    """Training and test part in the form of a published data set; None if it is none of them."""
    if place.is_dir():
        idx = [pair for pair in mnist.idx_pairs(place) if any(path.exists() for path in pair)]
        if idx:
            return [open_idx(*pair, on_fault=on_fault) for pair in idx]
        if unpacked := cifar.find_version(place):
            return cifar.open_files(*unpacked, on_fault)
        for names in ((mnist.CTF_TRAIN, mnist.CTF_TEST), (cifar10.CTF_TRAIN, cifar10.CTF_TEST)):
            if any((place / name).is_file() for name in names):
                return [collect_ctf(place / name, on_fault) if (place / name).is_file() else None for name in names]
    elif _is_idx(place):
        labels = place.with_name(place.name.replace("images", "labels").replace("idx3", "idx1"))
        return [open_idx(place, labels, on_fault=on_fault)]
    elif is_packed(place):
        data = attempt(partial(cifar10.load_cifar10, str(place)), place, on_fault)
        return [data.train, data.test] if data else []
    elif place.suffix == ".bin":
        return [cifar.open_batches(parse_cifar_binary, [(place, partial(read_bytes, place))], on_fault)]
    elif is_ctf(place):
        return [collect_ctf(place, on_fault)]
    return None


def _is_idx(path: Path) -> bool:
    try:
        with open_ordinary(path) as file:
            packed = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            head = (gzip.GzipFile(fileobj=file) if packed else file).read(4)
    except (OSError, EOFError, zlib.error):
        return False
    return head == b"\0\0\x08\x03"
