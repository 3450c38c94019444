"""CTF files with the label and the features of one image per line: pixels as CNTK's scripts write them, or any numbers.
Features that are bytes everywhere are kept as bytes, all others as float32."""

import math
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import chain, islice
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from convolve.atomic import open_ordinary
from convolve.data.cntk_order import chunks_by_bytes
from convolve.data.sources.source import ArraySource, OnFault
from convolve.errors import DataError, FormatError, UnsupportedError
from convolve.formats.ctf import CtfBlock, OtherDtypeError, StreamSpec, lines_in_pieces, read_ctf
from convolve.formats.ctf_fast import parse_regular_lines
from convolve.formats.ctf_grammar import SequenceParser

# Legend: N samples, K classes, C channels, H rows, W columns, L lines, D values of a stream.

_STREAM = re.compile(rb"\|([!-{}~\x7f]+)([^|\r\n]*)")
_WHOLE = re.compile(rb"[0-9: \t]*")
_FIRST_LINES = 20  # which decide how many values a line should have


def is_ctf(path: Path) -> bool:
    """Whether the first line with text is one of CTF."""
    with open_ordinary(path) as file:
        head = file.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip()
    return bool(re.match(rb"[0-9]*[ \t]*\|[!-{}~]", head))


def open_ctf(
    path: Path,
    class_count: int,
    shape_CHW: tuple[int, int, int],
    features: StreamSpec | str = "features",
    labels: StreamSpec | str = "labels",
    labels_path: Path | None = None,
    one_class: bool = True,
    only_bytes: bool = False,
) -> ArraySource:
    """The images of `path`, with the chunks that data.order=cntk follows. Raises `FormatError` with the line.

    `features` and `labels` are the names of the streams in the file, or streams of these dimensions. The labels may be
    in a separate file, line for line; unless they are of `one_class`, they are numbers. `only_bytes`: pixels other than
    whole numbers in 0..255 are an error.
    """
    _refuse_cut_off(path)
    images, answers = _stream(features, prod(shape_CHW)), _stream(labels, class_count)
    if labels_path in (None, path):
        block = read_ctf(path, [answers, images]) if only_bytes else _read(path, [answers, images])
        labels_N = _labels(path, block, answers.name, one_class)
    else:
        assert labels_path is not None
        _refuse_ids(path)
        block = _read(path, [images])
        labels_N = read_ctf_labels(labels_path, answers, one_class)
        if len(labels_N) != len(block):
            raise DataError(
                f"{labels_path} has {len(labels_N)} labels, but {path} has {len(block)} images; give "
                f"files that belong together"
            )
    images_NCHW = block.samples[images.name].reshape(-1, *shape_CHW)
    chunk_N = chunks_by_bytes(block.byte_counts_N)
    return ArraySource(
        torch.from_numpy(images_NCHW), torch.from_numpy(labels_N), chunk_N, locate=_lines(path, block.lines_N)
    )


def read_ctf_labels(path: Path, stream: StreamSpec, one_class: bool = True) -> NDArray[Any]:
    """The labels of a file that matches other files line for line. Raises `FormatError` with the line."""
    _refuse_ids(path)
    return _labels(path, _read(path, [_stream(stream, stream.dim)]), stream.name, one_class)


def _stream(given: StreamSpec | str, dim: int) -> StreamSpec:
    return replace(given, dtype=np.uint8) if isinstance(given, StreamSpec) else StreamSpec(given, dim, dtype=np.uint8)


def _read(path: Path, streams: list[StreamSpec]) -> CtfBlock:
    """A whole file; a stream with numbers other than bytes is float32."""
    try:
        return read_ctf(path, streams)
    except OtherDtypeError:
        block = read_ctf(path, [replace(stream, dtype=np.float32) for stream in streams])
    return replace(block, samples={name: _as_bytes(array_ND) for name, array_ND in block.samples.items()})


def _as_bytes(array_ND: NDArray[Any]) -> NDArray[Any]:
    return array_ND.astype(np.uint8) if _are_bytes(array_ND).all() else array_ND


def _are_bytes(array_ND: NDArray[Any]) -> NDArray[np.bool_]:
    """The lines that contain only whole numbers in 0..255."""
    bytes_N: NDArray[np.bool_] = ((array_ND >= 0) & (array_ND <= 255) & (array_ND % 1 == 0)).all(axis=1)
    return bytes_N


def _labels(path: Path, block: CtfBlock, name: str, one_class: bool) -> NDArray[Any]:
    """int64 for one class per line; else float32 (N, K)."""
    found_NK = block.samples[name]
    if not one_class:
        return found_NK.astype(np.float32)
    if (wrong := np.flatnonzero(~_one_hot(found_NK))).size:
        what = f"expected one 1 and otherwise zeros as labels, got {found_NK[wrong[0]].tolist()}; correct the line"
        raise FormatError(path, f"line {block.lines_N[wrong[0]]}", what)
    labels_N: NDArray[np.int64] = found_NK.argmax(axis=1).astype(np.int64)
    return labels_N


def _one_hot(labels_NK: NDArray[Any]) -> NDArray[np.bool_]:
    is_one_hot_N: NDArray[np.bool_] = ((labels_NK == 0) | (labels_NK == 1)).all(axis=1) & (labels_NK.sum(axis=1) == 1)
    return is_one_hot_N


def _refuse_ids(path: Path) -> None:
    """CNTK joins files by sequence ids; without ids, lines are numbered."""
    with open_ordinary(path) as file:
        begin = file.read(64).lstrip(b"\xef\xbb\xbf \t\r\n")
    if begin[:1].isdigit():
        raise UnsupportedError(
            f"{path}: files that are joined by sequence ids are not supported; put all streams into one file"
        )


def _refuse_cut_off(path: Path) -> None:
    """CTF lets the last line end anywhere, and missing pixels count as 0; a complete file ends its last line."""
    with open_ordinary(path) as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(size - 1, 0))
        if file.read() not in (b"\n", b""):
            raise FormatError(path, f"byte {size}", "the file ends within a line; copy it again, or end its last line")


def collect_ctf(path: Path, on_fault: OnFault) -> ArraySource | None:
    """The images of all correct lines. The first lines decide how many classes and pixels there are, and whether pixels
    are bytes or any numbers."""
    streams = first_streams(path)
    if streams is None:
        what = "its first lines have no streams called labels and features"
        on_fault("unreadable", str(path), what, "name the streams as in |labels 0 1 |features 5 7")
        return None
    images, labels, lines = [], [], []
    for first_line, texts in _numbered_lines(path, on_fault):
        for number, label_LK, features_LD in _parsed(path, streams, first_line, texts, on_fault):
            images.append(features_LD.astype(streams[1].dtype))
            labels.append(label_LK.argmax(axis=1))
            lines.append(np.arange(number, number + len(label_LK)))
    if not images:
        return None
    images_NCHW = np.concatenate(images).reshape(-1, *image_shape(streams[1].dim))
    labels_N, lines_N = np.concatenate(labels), np.concatenate(lines)
    return ArraySource(torch.from_numpy(images_NCHW), torch.from_numpy(labels_N), locate=_lines(path, lines_N))


def _lines(path: Path, lines_N: NDArray[np.int64]) -> Callable[[int], str]:
    return lambda index: f"{path}: line {lines_N[index]}"


def first_streams(path: Path) -> list[StreamSpec] | None:
    """Labels and features, with as many values as most of the first lines have; features are bytes if most of those
    lines have whole numbers."""
    counts: dict[bytes, Counter[int]] = {b"labels": Counter(), b"features": Counter()}
    whole = Counter[bool]()
    with open_ordinary(path) as file:
        for line in islice(chain.from_iterable(lines_in_pieces(path, file)), _FIRST_LINES):
            for name, values in _STREAM.findall(line):
                if name in counts:
                    counts[name][len(values.split())] += 1
                whole[bool(_WHOLE.fullmatch(values))] += name == b"features"
    if not all(counts.values()):
        return None
    labels, features = (StreamSpec(key.decode(), max(1, n.most_common(1)[0][0])) for key, n in counts.items())
    features = replace(features, dtype=np.uint8 if whole[True] >= whole[False] else np.float32)
    return [_sparse(path, labels), _sparse(path, features)]


def _sparse(path: Path, stream: StreamSpec) -> StreamSpec:
    """The stream, up to its largest index if its first values have indices."""
    values = re.compile(rb"\|" + re.escape(stream.token) + rb"[ \t]([^|\r\n]*)")
    if b":" not in next(_found(path, values), b""):
        return stream
    indices = (int(index) for text in _found(path, values) for index in re.findall(rb"([0-9]{1,8}):", text))
    return replace(stream, sparse=True, dim=1 + max(indices, default=0))


def _found(path: Path, values: re.Pattern[bytes]) -> Iterator[bytes]:
    with open_ordinary(path) as file:
        for lines in lines_in_pieces(path, file):
            yield from (text for line in lines for text in values.findall(line))


def _numbered_lines(path: Path, on_fault: OnFault) -> Iterator[tuple[int, list[bytes]]]:
    """(number of the first line, lines) in pieces. A last line that is cut off is a finding, and left out."""
    number = 1
    with open_ordinary(path) as file:
        for lines in lines_in_pieces(path, file):
            if not lines[-1].endswith(b"\n"):
                lines.pop()
                place = f"{path}: line {number + len(lines)}"
                on_fault("bad line", place, "the file ends within a line", "copy the file again, or end its last line")
            if lines:
                yield number, lines
            number += len(lines)


def _parsed(
    path: Path, streams: list[StreamSpec], first_line: int, lines: list[bytes], on_fault: OnFault
) -> Iterator[tuple[int, NDArray[Any], NDArray[Any]]]:
    """(line, labels_LK, features_LD) for as many lines at once as are correct; the others are findings."""
    regular = parse_regular_lines(lines, streams)
    if regular is not None and not _faults(regular[0], regular[1], streams).any():
        yield first_line, regular[0], regular[1]
        return
    for number, line in enumerate(lines, first_line):
        try:
            found = SequenceParser(path, streams, 0).parse([line], number, 1)
            labels_LK, features_LD = (np.stack(stream.rows) for stream in found)
            _require_whole(path, number, line, streams)
            if _faults(labels_LK, features_LD, streams).any():
                numbers = "whole numbers in 0..255" if streams[1].dtype == np.uint8 else "numbers"
                what = f"expected one 1 and otherwise zeros as labels, and features that are {numbers}"
                raise FormatError(path, f"line {number}", what)
        except FormatError as error:
            on_fault("bad line", f"{path}: {error.place}", error.what, "correct the line, or remove it")
            continue
        yield number, labels_LK, features_LD


def _faults(labels_LK: NDArray[Any], features_LD: NDArray[Any], streams: list[StreamSpec]) -> NDArray[np.bool_]:
    """The lines whose labels are not one-hot, or whose features are not as in the first lines."""
    is_right_L = _one_hot(labels_LK)
    return ~(is_right_L & _are_bytes(features_LD)) if streams[1].dtype == np.uint8 else ~is_right_L


def _require_whole(path: Path, number: int, line: bytes, streams: list[StreamSpec]) -> None:
    """CNTK silently fills up incomplete lines with zeros; here they are an error."""
    counts = {name: len(values.split()) for name, values in _STREAM.findall(line)}
    for stream in streams:
        if not stream.sparse and counts[stream.token] < stream.dim:
            what = f"|{stream.name} has {counts[stream.token]} of {stream.dim} values; CNTK would set the others to 0"
            raise FormatError(path, f"line {number}", what)


def image_shape(dim: int) -> tuple[int, int, int]:
    """Channels, rows and columns of an image with `dim` values: square if possible."""
    for channels in (1, 3):
        side = math.isqrt(dim // channels)
        if channels * side * side == dim:
            return channels, side, side
    return 1, 1, dim
