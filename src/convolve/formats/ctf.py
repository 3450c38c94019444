"""CTF, CNTK's text format: reading in blocks of bounded size, reading whole, writing.

The grammar, with everything that CNTK accepts and refuses, is in `ctf_grammar`; `ctf_fast` handles the common case.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import BinaryIO

import numpy as np

from convolve.atomic import open_ordinary, replacing
from convolve.errors import DataError, FormatError, UsageError
from convolve.formats.ctf_fast import parse_regular_lines
from convolve.formats.ctf_grammar import Samples, SequenceParser, StreamSpec

__all__ = ["CtfBlock", "OtherDtypeError", "StreamSpec", "iter_ctf", "lines_in_pieces", "read_ctf", "write_ctf"]

_PIECE_BYTES = 1 << 18  # a few MiB of arrays; larger pieces were not faster
_LONGEST_LINE = 1 << 28  # bytes: the pixels of an image of 4,700 x 4,700 in color
_BLOCK_VALUES = 1 << 22  # short lines can stand for long sparse vectors
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_ID_DIGITS = 20  # of 2**64
_SEQUENCE_ID = re.compile(rb"([0-9]+)[^0-9]")


class OtherDtypeError(FormatError):
    """A number that does not fit the dtype of its stream."""


# Legend: N sequences, T samples of all those sequences one after another, D values of a sample, K classes.


@dataclass(frozen=True)
class CtfBlock:
    """Consecutive whole sequences of a file. For images each line is a sequence of one sample.

    `samples`: for each stream its vectors (T, D), in the stream's dtype `lengths`: for each stream the number of
    vectors in each sequence (N,) `sample_counts_N`: how many samples CNTK counts for a sequence when it forms
    minibatches `byte_counts_N`: how many bytes a sequence takes in the file, which decides CNTK's chunks `lines_N`: the
    line on which a sequence begins, from 1 `ids_N`: the ids of the sequences, uint64, if the lines have ids
    """

    samples: dict[str, np.ndarray]
    lengths: dict[str, np.ndarray]
    sample_counts_N: np.ndarray
    byte_counts_N: np.ndarray
    lines_N: np.ndarray
    ids_N: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.lines_N)


def iter_ctf(
    path: str | Path, streams: Sequence[StreamSpec], *, skip_sequence_ids: bool = False, max_errors: int = 0
) -> Iterator[CtfBlock]:
    """The sequences of a CTF file, block by block, as CNTK 2.7 reads them with the options of the same names.

    Raises `FormatError` with line and column at the first error beyond `max_errors`. A sequence that lacks one of the
    streams is always refused. Memory: one block, and the text of the longest sequence.
    """
    reader = _Reader(path, streams, max_errors)
    empty = True
    with open_ordinary(path) as file:
        number, has_ids = _start(path, file, skip_sequence_ids)
        for block in (
            reader.blocks(_sequences_by_id(path, file, number)) if has_ids else _each_line(reader, path, file, number)
        ):
            empty = False
            yield block
    if empty:
        raise FormatError(path, "", "no line has the stream that defines the minibatch size; check its name")


def read_ctf(
    path: str | Path, streams: Sequence[StreamSpec], *, skip_sequence_ids: bool = False, max_errors: int = 0
) -> CtfBlock:
    """A whole file with one sample in every sequence, as image data is: `samples[name][i]` belongs to image i.

    Otherwise like `iter_ctf`. Memory: the arrays themselves and one block.
    """
    blocks = iter_ctf(path, streams, skip_sequence_ids=skip_sequence_ids, max_errors=max_errors)
    first = next(blocks)  # reject other files before memory is allocated
    with open_ordinary(path) as file:
        most = 1 + sum(piece.count(b"\n") for piece in iter(lambda: file.read(_PIECE_BYTES), b""))
    samples = {stream.name: np.empty((most, stream.dim), stream.dtype) for stream in streams}
    parts = []
    count = 0
    for block in chain([first], blocks):
        for name, lengths_N in block.lengths.items():
            if (lengths_N != 1).any():
                n = int(np.argmax(lengths_N != 1))
                what = f"expected one sample per sequence, but the one that begins here has {lengths_N[n]} of {name!r}"
                raise FormatError(path, f"line {block.lines_N[n]}, column 1", f"{what}; split it")
            samples[name][count : count + len(block)] = block.samples[name]
        parts.append((block.sample_counts_N, block.byte_counts_N, block.lines_N))
        count += len(block)
    samples = {name: array[:count] for name, array in samples.items()}
    lengths = {stream.name: np.ones(count, np.int64) for stream in streams}
    return CtfBlock(samples, lengths, *map(np.concatenate, zip(*parts, strict=True)))


def write_ctf(
    path: str | Path,
    labels_N: np.ndarray,
    features_ND: np.ndarray,
    class_count: int,
    lines: Iterable[bytes] | None = None,
) -> None:
    """Write the `ctf_lines` of all samples, or these `lines`.

    Atomic. Raises `DataError` if labels and features do not fit together.
    """
    if len(labels_N) != len(features_ND):
        raise DataError(f"cannot write {path}: {len(labels_N)} labels for {len(features_ND)} samples")
    if ((labels_N < 0) | (labels_N >= class_count)).any():
        reach = f"labels range from {labels_N.min()} to {labels_N.max()}"
        raise DataError(f"cannot write {path}: {reach}, but {class_count} classes have 0..{class_count - 1}")
    with replacing(path) as temporary, temporary.open("wb") as file:
        file.writelines(ctf_lines(labels_N, features_ND, class_count) if lines is None else lines)


def ctf_lines(labels_N: np.ndarray, features_ND: np.ndarray, class_count: int) -> Iterator[bytes]:
    """A line `|labels <one-hot> |features <values>` for each sample, as in CNTK's own data sets, several at a time.

    `features_ND` is uint8.
    """
    one_hot_NK = (labels_N[:, None] == np.arange(class_count)).astype(np.uint8)
    for start in range(0, len(labels_N), 256):
        rows = slice(start, start + 256)
        yield _lines({b"|labels": one_hot_NK[rows], b" |features": features_ND[rows]})


@dataclass(frozen=True)
class _Text:
    """The text of one sequence."""

    first_line: int
    lines: list[bytes]
    id: int | None = None


def _start(path: str | Path, file: BinaryIO, skip_sequence_ids: bool) -> tuple[int, bool]:
    """Move `file` to the first sequence; return its line number and whether lines begin with sequence ids."""
    head = file.read(3)
    if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise FormatError(path, "byte 0", "this is UTF-16 text; save it as ASCII or UTF-8")
    file.seek(3 if head == _BYTE_ORDER_MARK else 0)
    number, position = 1, file.tell()
    while (line := file.readline(_LONGEST_LINE)).isspace():
        number, position = number + 1, file.tell()
    content = line.lstrip()
    if not content:
        raise FormatError(path, "", "the file is empty; a CTF file has lines such as '|labels 0 1 |features 5 7'")
    blanks = len(line) - len(content)
    file.seek(position + blanks)
    has_ids = not skip_sequence_ids and not content.startswith(b"|")
    if has_ids and not content[:1].isdigit():
        what = f"expected '|' or a sequence id, got {chr(content[0])!r}; is this a CTF file?"
        raise FormatError(path, f"line {number}, column {blanks + 1}", what)
    return number, has_ids


def lines_in_pieces(path: str | Path, file: BinaryIO) -> Iterator[list[bytes]]:
    """The lines of `file` from where it stands, with their ends, some at a time; `path` is for errors.

    Raises `FormatError` at a line so long that the file must be damaged, before it takes all memory.
    """
    while content := file.read(_PIECE_BYTES):
        if not content.endswith(b"\n"):
            content += file.readline(_LONGEST_LINE)
        if len(content) > _LONGEST_LINE and not content.endswith(b"\n"):
            start = file.tell() - len(content) + content.rfind(b"\n") + 1
            what = f"a line of more than {_LONGEST_LINE >> 20} MiB: the file is damaged, or no CTF file; get it again"
            raise FormatError(path, f"byte {start}", what)
        yield io.BytesIO(content).readlines()


def _each_line(reader: _Reader, path: str | Path, file: BinaryIO, first_line: int) -> Iterator[CtfBlock]:
    """Every line is a sequence of its own."""
    for lines in lines_in_pieces(path, file):
        block = reader.regular_block(lines, first_line)
        texts = (_Text(number, [line]) for number, line in enumerate(lines, first_line))
        yield from reader.blocks(texts) if block is None else [block]
        first_line += len(lines)


def _sequences_by_id(path: str | Path, file: BinaryIO, first_line: int) -> Iterator[_Text]:
    """Consecutive lines with the same id, or without one, form a sequence."""
    current = b""
    text = _Text(first_line, [], 0)
    for number, line in enumerate(chain.from_iterable(lines_in_pieces(path, file)), first_line):
        match = _SEQUENCE_ID.match(line)
        key = match[1].lstrip(b"0") if match else current
        if len(key) > _ID_DIGITS or (len(key) == _ID_DIGITS and int(key) >= 1 << 64):
            what = "a sequence id of more than 64 bits, which CNTK also refuses; renumber the sequences"
            raise FormatError(path, f"line {number}, column 1", what)
        if key != current or not text.lines:
            if text.lines:
                yield text
            text = _Text(number, [], int(key or b"0"))
        text.lines.append(line)
        current = key
    yield text


class _Reader:
    """Text of sequences -> blocks."""

    def __init__(self, path: str | Path, streams: Sequence[StreamSpec], max_errors: int) -> None:
        names, tokens = [s.name for s in streams], [s.token for s in streams]
        if not streams or len(set(names)) < len(names) or len(set(tokens)) < len(tokens):
            raise UsageError(f"the streams of a CTF file need different names and aliases, got {names or 'none'}")
        main_tokens = [s.token for s in streams if s.defines_mb_size]
        if len(main_tokens) > 1:
            raise UsageError(f"only one stream can define the minibatch size, got {b', '.join(main_tokens).decode()}")
        # A line counts if it has the main stream; like CNTK's index, this also accepts its name in a comment.
        main = b"".join(rb"\|" + re.escape(token) + rb"(?:[\x00-\x20|\x80-\xff]|\Z)" for token in main_tokens)
        self._counted = re.compile(main)
        self._path = path
        self._streams = streams
        self._parser = SequenceParser(path, streams, max_errors)

    def regular_block(self, lines: list[bytes], first_line: int) -> CtfBlock | None:
        """Many lines at once, if each is a sequence of one sample."""
        regular = parse_regular_lines(lines, self._streams)
        if regular is None:
            return None
        lines_N = np.arange(first_line, first_line + len(lines))
        ones_N = np.ones(len(lines), np.int64)
        samples = {s.name: self._fitted(s, rows_TD, lines_N) for s, rows_TD in zip(self._streams, regular, strict=True)}
        bytes_N = np.array([len(line) for line in lines])
        return CtfBlock(samples, {s.name: ones_N for s in self._streams}, ones_N, bytes_N, lines_N)

    def blocks(self, texts: Iterable[_Text]) -> Iterator[CtfBlock]:
        """Everything the grammar allows, sequence by sequence."""
        done: list[tuple[_Text, int, list[Samples]]] = []
        values = 0
        for text in texts:
            count = sum(1 for line in text.lines if self._counted.search(line))
            if not count:
                continue
            samples = self._parser.parse(text.lines, text.first_line, count)
            done.append((text, count, samples))
            values += sum(row.size for s in samples for row in s.rows)
            if values >= _BLOCK_VALUES:
                yield self._block(done)
                done, values = [], 0
        if done:
            yield self._block(done)

    def _block(self, done: list[tuple[_Text, int, list[Samples]]]) -> CtfBlock:
        samples, lengths = {}, {}
        for i, stream in enumerate(self._streams):
            found = [parsed[i] for _, _, parsed in done]
            lines_T = np.array([line for s in found for line in s.lines])
            samples[stream.name] = self._fitted(stream, np.stack([row for s in found for row in s.rows]), lines_T)
            lengths[stream.name] = np.array([len(s.rows) for s in found])
        counts_N = np.array([count for _, count, _ in done])
        bytes_N = np.array([sum(map(len, text.lines)) for text, _, _ in done])
        ids = [text.id for text, _, _ in done if text.id is not None]
        lines_N = np.array([text.first_line for text, _, _ in done])
        return CtfBlock(
            samples, lengths, counts_N, bytes_N, lines_N=lines_N, ids_N=np.array(ids, np.uint64) if ids else None
        )

    def _fitted(self, stream: StreamSpec, rows_TD: np.ndarray, lines_T: np.ndarray) -> np.ndarray:
        """`rows_TD` in the stream's dtype."""
        with np.errstate(invalid="ignore", over="ignore"):
            fitted_TD: np.ndarray = rows_TD.astype(stream.dtype)
        if (changed_TD := fitted_TD != rows_TD).any():
            t, d = np.argwhere(changed_TD)[0]
            what = f"value {d + 1} of stream {stream.name!r}, {rows_TD[t, d]:g}, does not fit {np.dtype(stream.dtype)}"
            raise OtherDtypeError(self._path, f"line {lines_T[t]}", f"{what}; correct it, or read float32")
        return fitted_TD


def _lines(columns: dict[bytes, np.ndarray]) -> bytes:
    """The text of lines whose values (lines, D) of uint8 follow the keys."""
    texts = np.array([f" {value}" for value in range(256)], "S4")  # ends in zero bytes, which are removed at the end
    parts = []
    for name, values in columns.items():
        parts.append(np.broadcast_to(np.frombuffer(name, np.uint8), (len(values), len(name))))
        parts.append(texts[values].view(np.uint8).reshape(len(values), -1))
    parts.append(np.full((len(parts[0]), 1), ord("\n"), np.uint8))
    characters = np.hstack(parts)
    text: bytes = characters[characters != 0].tobytes()
    return text
