"""Images that are pixels in a large file: MNIST's IDX files, CIFAR's batches, CTF text; every fault is named."""

from __future__ import annotations

import gzip
import math
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from convolve.checking.finding import Findings
from convolve.checking.part import Part
from convolve.data import cifar10, mnist
from convolve.data.own import is_archive
from convolve.data.table import Table
from convolve.errors import DataError, FormatError
from convolve.formats.cifar_binary import CifarBatch, parse_cifar_binary, read_bytes
from convolve.formats.ctf_fast import parse_regular_lines
from convolve.formats.ctf_grammar import SequenceParser, StreamSpec
from convolve.formats.idx import read_idx

# Legend: N images, C channels, H rows, W columns, K classes, L lines, D values of a stream.

T = TypeVar("T")
_AGAIN = "get the file again"
_CTF_PIECE_BYTES = 1 << 18
_CTF_STREAM = re.compile(rb"\|([!-{}~\x7f]+)([^|\r\n]*)")
_FIRST_LINES = 20  # of a CTF file, which tell how many values a line should have


def table_parts(place: Path, findings: Findings) -> list[Part] | None:
    """The parts in the folder or file `place`; None if it is none of these formats."""
    if place.is_dir():
        parts = _mnist_parts(place, findings) or _cifar_parts(place, findings) or _ctf_parts(place, findings)
    elif _is_idx(place):
        labels = place.with_name(place.name.replace("images", "labels").replace("idx3", "idx1"))
        parts = [_idx_part("training", place, labels, findings)]
    elif is_archive(place):
        parts = _archive_parts(place, findings)
    elif place.suffix == ".bin":
        parts = [_batches_part("training", [place], parse_cifar_binary, findings)]
    elif is_ctf(place):
        parts = [_ctf_part("training", place, findings)]
    else:
        return None
    return [part for part in parts if part] if parts else None


def is_ctf(path: Path) -> bool:
    """Whether the first line with text is one of CTF."""
    with path.open("rb") as file:
        head = file.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip()
    return bool(re.match(rb"[0-9]*[ \t]*\|[!-{}~]", head))


def _mnist_parts(folder: Path, findings: Findings) -> list[Part | None]:
    paths = mnist.idx_paths(folder)
    pairs = (("training", paths[0], paths[1]), ("test", paths[2], paths[3]))
    return [
        _idx_part(name, images, labels, findings)
        for name, images, labels in pairs
        if images.exists() or labels.exists()
    ]


def _idx_part(name: str, images_path: Path, labels_path: Path, findings: Findings) -> Part | None:
    images_NHW = _read(read_idx, images_path, findings)
    labels_N = _read(read_idx, labels_path, findings)
    if images_NHW is None or labels_N is None:
        return None
    if images_NHW.ndim != 3 or images_NHW.dtype != np.uint8 or labels_N.ndim != 1:
        what = f"N x H x W bytes and N labels are expected, here are {images_NHW.shape} and {labels_N.shape}"
        findings.add("unreadable", str(images_path), what, _AGAIN)
        return None
    count = min(len(images_NHW), len(labels_N))
    if len(images_NHW) != len(labels_N):
        kind = "unlabelled" if len(images_NHW) > count else "missing image"
        what = f"{len(labels_N):,} labels for the {len(images_NHW):,} images of {images_path}"
        findings.add(kind, str(labels_path), what, "get both files again: they do not belong together")
    table = Table(torch.from_numpy(images_NHW[:count, None]), torch.from_numpy(labels_N[:count].astype(np.int64)))
    return Part(name, table, table.labels_N.numpy(), None, lambda index: f"{images_path}: image {index}")


def _cifar_parts(folder: Path, findings: Findings) -> list[Part | None]:
    for version in cifar10.VERSIONS:
        for inside in (folder / version.folder, folder):
            if any((inside / name).is_file() for name in version.files):
                train, test = [inside / name for name in version.train], [inside / version.test]
                return [
                    _batches_part("training", train, version.parse, findings),
                    _batches_part("test", test, version.parse, findings),
                ]
    return []


def _batches_part(
    name: str, files: list[Path], parse: Callable[[bytes, object], CifarBatch], findings: Findings
) -> Part | None:
    read = [(file, _read(lambda path: parse(read_bytes(path), path), file, findings)) for file in files]
    batches = [(file, batch) for file, batch in read if batch]
    if not batches:
        return None
    images_NCHW = np.concatenate([batch.images_NCHW for _, batch in batches])
    labels_N = np.concatenate([batch.labels_N for _, batch in batches])
    starts = np.cumsum([0, *(len(batch.labels_N) for _, batch in batches)])

    def place(index: int) -> str:
        number = int(np.searchsorted(starts, index, side="right")) - 1
        return f"{batches[number][0]}: image {index - starts[number]}"

    table = Table(torch.from_numpy(images_NCHW), torch.from_numpy(labels_N))
    return Part(name, table, labels_N, cifar10.CLASS_NAMES, place)


def _archive_parts(path: Path, findings: Findings) -> list[Part | None]:
    data = _read(lambda place: cifar10.load_cifar10(str(place)), path, findings)
    if not data:
        return []
    train_N, test_N = data.train.labels_N.numpy(), data.test.labels_N.numpy()
    return [
        Part("training", data.train, train_N, data.class_names, lambda index: f"{path}: training image {index}"),
        Part("test", data.test, test_N, data.class_names, lambda index: f"{path}: test image {index}"),
    ]


def _ctf_parts(folder: Path, findings: Findings) -> list[Part | None]:
    for train, test in ((mnist.CTF_TRAIN, mnist.CTF_TEST), (cifar10.CTF_TRAIN, cifar10.CTF_TEST)):
        found = [(name, folder / file) for name, file in (("training", train), ("test", test))]
        if any(path.is_file() for _, path in found):
            return [_ctf_part(name, path, findings) for name, path in found if path.is_file()]
    return []


def _ctf_part(name: str, path: Path, findings: Findings) -> Part | None:
    streams = _ctf_streams(path)
    if streams is None:
        what = "its first lines have no streams labels and features"
        findings.add("unreadable", str(path), what, "name them so: |labels 0 1 |features 5 7")
        return None
    images, labels, lines = [], [], []
    for first_line, texts in _ctf_lines(path, findings):
        for number, label_LK, features_LD in _ctf_block(path, streams, first_line, texts, findings):
            images.append(features_LD)
            labels.append(label_LK.argmax(axis=1))
            lines.append(np.arange(number, number + len(label_LK)))
    if not images:
        return None
    images_NCHW = np.concatenate(images).reshape(-1, *_shape(streams[1].dim))
    labels_N, lines_N = np.concatenate(labels), np.concatenate(lines)
    table = Table(torch.from_numpy(images_NCHW), torch.from_numpy(labels_N))
    return Part(name, table, labels_N, None, lambda index: f"{path}: line {lines_N[index]}")


def _ctf_streams(path: Path) -> list[StreamSpec] | None:
    """Labels and features, with as many values as most of the first lines have."""
    counts: dict[bytes, Counter[int]] = {b"labels": Counter(), b"features": Counter()}
    with path.open("rb") as file:
        for line in islice(file, _FIRST_LINES):
            for name, values in _CTF_STREAM.findall(line):
                if name in counts:
                    counts[name][len(values.split())] += 1
    if not all(counts.values()):
        return None
    return [StreamSpec(name.decode(), max(1, count.most_common(1)[0][0])) for name, count in counts.items()]


def _ctf_lines(path: Path, findings: Findings) -> Iterator[tuple[int, list[bytes]]]:
    """(number of the first, lines) in pieces. A last line without its end is a finding, and left out."""
    number = 1
    with path.open("rb") as file:
        while lines := file.readlines(_CTF_PIECE_BYTES):
            if not lines[-1].endswith(b"\n"):
                lines.pop()
                place = f"{path}: line {number + len(lines)}"
                findings.add("bad line", place, "the file ends within a line", f"{_AGAIN}, or end its last line")
            if lines:
                yield number, lines
            number += len(lines)


def _ctf_block(
    path: Path, streams: list[StreamSpec], first_line: int, lines: list[bytes], findings: Findings
) -> Iterator[tuple[int, NDArray[np.uint8], NDArray[np.uint8]]]:
    """(line, labels_LK, features_LD) of as many lines at once as are in order; the others are findings."""
    regular = parse_regular_lines(lines, streams)
    if regular is not None and not (_faults(*regular)).any():
        yield first_line, regular[0].astype(np.uint8), regular[1].astype(np.uint8)
        return
    for number, line in enumerate(lines, first_line):
        try:
            found = SequenceParser(path, streams, 0).parse([line], number, 1)
            labels_LK, features_LD = (np.stack(stream.rows) for stream in found)
            _require_whole(path, number, line, streams)
            if _faults(labels_LK, features_LD).any():
                what = "expected zeros and one 1 as labels, and features that are whole numbers in 0..255"
                raise FormatError(path, f"line {number}", what)
        except FormatError as error:
            findings.add("bad line", f"{path}: {error.place}", error.what, "correct the line, or remove it")
            continue
        yield number, labels_LK.astype(np.uint8), features_LD.astype(np.uint8)


def _faults(labels_LK: NDArray[Any], features_LD: NDArray[Any]) -> NDArray[np.bool_]:
    """The lines whose labels are not one-hot or whose features are no bytes."""
    one_hot_L = ((labels_LK == 0) | (labels_LK == 1)).all(axis=1) & (labels_LK.sum(axis=1) == 1)
    features_LD = np.asarray(features_LD, np.float32)
    bytes_L = ((features_LD >= 0) & (features_LD <= 255) & (features_LD % 1 == 0)).all(axis=1)
    faults_L: NDArray[np.bool_] = ~(one_hot_L & bytes_L)
    return faults_L


def _require_whole(path: Path, number: int, line: bytes, streams: list[StreamSpec]) -> None:
    """CNTK fills what is missing of a line with zeros, silently."""
    counts = {name: len(values.split()) for name, values in _CTF_STREAM.findall(line)}
    for stream in streams:
        if counts[stream.token] < stream.dim:
            what = f"{counts[stream.token]} of {stream.dim} values of |{stream.name}; CNTK makes the others 0"
            raise FormatError(path, f"line {number}", what)


def _shape(dim: int) -> tuple[int, int, int]:
    """Channels, rows and columns of an image of `dim` values: square where that can be."""
    for channels in (1, 3):
        side = math.isqrt(dim // channels)
        if channels * side * side == dim:
            return channels, side, side
    return 1, 1, dim


def _is_idx(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            head = (gzip.GzipFile(fileobj=file) if packed else file).read(4)
    except (OSError, EOFError, zlib.error):
        return False
    return head == b"\0\0\x08\x03"


def _read(read: Callable[[Path], T], path: Path, findings: Findings) -> T | None:
    try:
        return read(path)
    except FileNotFoundError:
        findings.add("unreadable", str(path), "the file is not there", "put it there")
    except (DataError, OSError) as error:
        findings.add("unreadable", str(path), str(error).removeprefix(f"{path}: "), _AGAIN)
    return None
