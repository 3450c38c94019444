"""CIFAR-10's batches, binary or pickled by Python: records of a label and planes of red, green and blue."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePath

import numpy as np
import torch

from convolve.data.sources.source import ArraySource, OnFault, attempt
from convolve.formats.cifar_binary import CifarBatch, parse_cifar_binary, read_bytes
from convolve.formats.cifar_python import parse_cifar_python

CLASS_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_BATCHES = tuple(f"data_batch_{number}" for number in range(1, 6))


@dataclass(frozen=True)
class Version:
    """A form in which the data set is published: the archive, the folder in it, and the files in that folder."""

    name: str
    archive: str
    folder: str
    train: tuple[str, ...]
    test: str
    parse: Callable[[bytes, object], CifarBatch]

    @property
    def files(self) -> tuple[str, ...]:
        return (*self.train, self.test)


VERSIONS = (
    Version(
        "binary", archive="cifar-10-binary.tar.gz", folder="cifar-10-batches-bin",
        train=tuple(f"{name}.bin" for name in _BATCHES), test="test_batch.bin", parse=parse_cifar_binary,
    ),
    Version(
        "Python", archive="cifar-10-python.tar.gz", folder="cifar-10-batches-py",
        train=_BATCHES, test="test_batch", parse=parse_cifar_python,
    ),
)  # fmt: skip


_OF_CIFAR100 = ("fine_label_names.txt", "cifar-100-")  # how names of files and folders begin that only CIFAR-100 has


def is_cifar100(names: Iterable[str]) -> bool:
    """Whether one of the paths leads to, or into, CIFAR-100 as it is published."""
    return any(part.startswith(_OF_CIFAR100) for name in names for part in PurePath(name).parts[-2:])


def find_version(folder: Path) -> tuple[Version, Path] | None:
    """The version that is unpacked in `folder`, completely or in part, and its place."""
    for version in VERSIONS:
        for inside in (folder / version.folder, folder):
            if any((inside / name).is_file() for name in version.files):
                return version, inside
    return None


def open_files(version: Version, folder: Path, on_fault: OnFault | None = None) -> list[ArraySource | None]:
    """The training and test parts of an unpacked version."""
    parts = (version.train, (version.test,))
    return [
        open_batches(version.parse, [(folder / name, partial(read_bytes, folder / name)) for name in names], on_fault)
        for names in parts
    ]


def open_batches(
    parse: Callable[[bytes, object], CifarBatch],
    files: Sequence[tuple[Path, Callable[[], bytes]]],
    on_fault: OnFault | None = None,
) -> ArraySource | None:
    """The images of several files, given as (name, function that reads it). None if none can be read."""

    def parsed(name: Path, read: Callable[[], bytes]) -> CifarBatch | None:
        return attempt(lambda: parse(read(), name), name, on_fault)

    batches = [(name, batch) for name, read in files if (batch := parsed(name, read))]
    if not batches:
        return None
    images_NCHW = np.concatenate([batch.images_NCHW for _, batch in batches])
    labels_N = np.concatenate([batch.labels_N for _, batch in batches])
    starts = np.cumsum([0, *(len(batch.labels_N) for _, batch in batches)])

    def locate(index: int) -> str:
        number = int(np.searchsorted(starts, index, side="right")) - 1
        return f"{batches[number][0]}: image {index - starts[number]}"

    return ArraySource(torch.from_numpy(images_NCHW), torch.from_numpy(labels_N), None, CLASS_NAMES, locate)
