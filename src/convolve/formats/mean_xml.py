"""The XML files of the CNTK image reader: a mean image, and the color axes of its lighting noise.

    <opencv_storage>
      <Channel>3</Channel><Row>32</Row><Col>32</Col>
      <MeanImg type_id="opencv-matrix"><rows>1</rows><cols>3072</cols><dt>f</dt><data>1.2e+02 ...</data></MeanImg>
    </opencv_storage>

OpenCV's FileStorage reads and writes the same. Entities and document types, which OpenCV never writes, are refused.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from xml.etree.ElementTree import Element

import numpy as np
from numpy.typing import NDArray

from convolve.atomic import replacing
from convolve.errors import FormatError, MissingDataError
from convolve.formats.safe_xml import parse_xml

# Legend: H row, W column, C channel.

Layout = Literal["interleaved_bgr", "planar_rgb"]
MAX_BYTES = 1 << 26  # bytes; a mean of 1000 x 1000 x 3 written with OpenCV's digits takes 48 MB
_LARGEST = float(np.finfo(np.float32).max)
_TYPES = {"f": np.float32, "d": np.float64}


@dataclass(frozen=True, eq=False)
class ColorAxes:
    """Principal axes of a data set's colors, channels in R, G, B order: `values` (3,), `vectors` (3, 3) by column."""

    values: NDArray[np.float32]
    vectors: NDArray[np.float32]


def read_mean_xml(path: str | Path, layout: Layout = "interleaved_bgr") -> NDArray[np.float32]:
    """The mean image in `path`, (H, W, C), channels in B, G, R order.

    CNTK reads every file as "interleaved_bgr": row, column, channel. Its script for CIFAR-10, however, writes planes of
    R, G and B, so CNTK subtracts a scrambled image; "planar_rgb" reads such a file as intended.
    """
    root = _read(path)
    channels, rows, columns = (_count(path, root, name) for name in ("Channel", "Row", "Col"))
    values = _matrix(path, root, "MeanImg").reshape(-1)
    if channels * rows * columns != values.size:
        shape = f"{channels} x {rows} x {columns}"
        raise FormatError(path, "", f"Channel x Row x Col is {shape}, but MeanImg holds {values.size} values")
    if layout == "interleaved_bgr":
        return values.reshape(rows, columns, channels)
    return np.ascontiguousarray(values.reshape(channels, rows, columns)[::-1].transpose(1, 2, 0))


def write_mean_xml(path: str | Path, mean_HWC: NDArray[np.floating], layout: Layout = "interleaved_bgr") -> None:
    """Write `mean_HWC` (channels in B, G, R order), atomically; reading it in the same `layout` gives the same bits."""
    rows, columns, channels = mean_HWC.shape
    ordered = mean_HWC if layout == "interleaved_bgr" else mean_HWC.transpose(2, 0, 1)[::-1]
    lines = [
        '<?xml version="1.0"?>',
        "<opencv_storage>",
        f"  <Channel>{channels}</Channel>",
        f"  <Row>{rows}</Row>",
        f"  <Col>{columns}</Col>",
        '  <MeanImg type_id="opencv-matrix">',
        "    <rows>1</rows>",
        f"    <cols>{mean_HWC.size}</cols>",
        "    <dt>f</dt>",
        f"    <data>{_numbers(ordered.reshape(-1))}</data>",
        "  </MeanImg>",
        "</opencv_storage>",
        "",
    ]
    with replacing(path) as temporary:
        temporary.write_bytes("\n".join(lines).encode("ascii"))


def read_color_axes(path: str | Path) -> ColorAxes:
    """The lighting noise of CNTK's Intensity transform: `EigVal` (1 x 3) and `EigVec` (3 x 3)."""
    root = _read(path)
    values, vectors = _matrix(path, root, "EigVal"), _matrix(path, root, "EigVec")
    for name, matrix, shape in (("EigVal", values, (1, 3)), ("EigVec", vectors, (3, 3))):
        if matrix.shape != shape:
            raise FormatError(path, "", f"{name} must be a {shape[0]} x {shape[1]} matrix, it is {matrix.shape}")
    return ColorAxes(values[0], vectors)


def _numbers(values: Iterable[float]) -> str:
    return " ".join(f"{value:.8e}" for value in values)  # nine digits reproduce a float32 exactly


def _read(path: str | Path) -> Element:
    file = Path(path)
    if not file.is_file():
        raise MissingDataError(f"{path}: no such file; name the XML file that holds the mean image or the color axes")
    if file.stat().st_size > MAX_BYTES:
        raise FormatError(path, "", f"{file.stat().st_size} bytes; files of this kind have at most {MAX_BYTES}")
    return parse_xml(path, file.read_bytes(), "opencv_storage")


def _text(path: str | Path, parent: Element, name: str) -> str:
    found = parent.findtext(name)
    if found is None:
        inside = ", ".join(dict.fromkeys(child.tag for child in parent)) or "nothing"
        raise FormatError(path, "", f"{parent.tag} has no {name}; it has {inside}")
    return found.strip()


def _count(path: str | Path, parent: Element, name: str) -> int:
    text = _text(path, parent, name)
    if not text.isascii() or not text.isdigit() or len(text) > 9 or int(text) == 0:
        raise FormatError(path, "", f"{name} must be a positive whole number, got {text[:40]!r}")
    return int(text)


def _matrix(path: str | Path, root: Element, name: str) -> NDArray[np.float32]:
    """The matrix `name` as float32, (rows, columns)."""
    node = root.find(name)
    if node is None:
        raise FormatError(
            path, "", f"there is no {name}; there is {', '.join(child.tag for child in root) or 'nothing'}"
        )
    rows, columns = _count(path, node, "rows"), _count(path, node, "cols")
    dtype = _text(path, node, "dt").strip('"')
    if dtype not in _TYPES:
        raise FormatError(path, "", f'{name} has the type {dtype!r}; only "f" and "d" are supported')
    words = _text(path, node, "data").split()
    if len(words) != rows * columns:
        raise FormatError(path, "", f"{name} is {rows} x {columns}, but holds {len(words)} values")
    values = np.array([_number(path, name, index, word) for index, word in enumerate(words)], _TYPES[dtype])
    return values.astype(np.float32).reshape(rows, columns)


def _number(path: str | Path, name: str, index: int, word: str) -> float:
    try:
        value = float(word)
    except ValueError:
        value = float("nan")
    if not abs(value) <= _LARGEST:
        raise FormatError(path, "", f"value {index + 1} of {name} must be a finite number, got {word[:40]!r}")
    return value
