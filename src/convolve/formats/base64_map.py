"""CNTK's base64 map file: the images themselves, one per line, `label TAB base64` or `key TAB label TAB base64`.

Source: CNTK's Base64ImageDeserializer. The first line decides whether there are keys. A deliberate difference: an image
that is not base64 is an error here; CNTK warns and skips it.
"""

import base64
import binascii
from array import array
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from convolve.atomic import open_ordinary
from convolve.errors import FormatError
from convolve.formats.archive import MAX_BYTES
from convolve.formats.map_lines import BadLine, open_lines, parse_key, parse_label, read_lines, show

# Legend: N images.

_MAX_LINE_BYTES = MAX_BYTES // 3 * 4 + 1024


@dataclass(frozen=True, eq=False)
class Base64Map:
    """Labels, and where each image's text begins and ends in `file`, in bytes: the images stay on disk.

    `keys_N`: the names of the images, if the lines begin with keys.
    """

    file: Path
    labels_N: NDArray[np.int64]
    ranges_N2: NDArray[np.int64]
    keys_N: NDArray[np.uint64] | None = None

    def __len__(self) -> int:
        return len(self.labels_N)

    def read(self, index: int) -> bytes:
        """The bytes of image `index` (a JPEG file, for example). Raises `FormatError` if the text is not base64."""
        start, end = map(int, self.ranges_N2[index])
        with open_ordinary(self.file) as file:
            file.seek(start)
            text = file.read(end - start)
        try:
            return base64.b64decode(text + b"=" * (-len(text) % 4), validate=True)  # CNTK accepts missing padding too
        except binascii.Error as error:
            raise FormatError(self.file, f"byte {start}", f"the image is not base64 ({error})") from None

    def place(self, index: int) -> str:
        """Where in the file the text of image `index` begins, for messages."""
        return f"{self.file}: byte {self.ranges_N2[index, 0]}"

    def identity(self) -> bytes:
        """Bytes that identify this list, independent of its location."""
        return self.ranges_N2.tobytes()


def read_base64_map(path: str | Path, classes: int | None = None) -> Base64Map:
    """Index the file in one pass; with `classes`, every label must be below it. `FormatError` names the line."""
    labels, ranges, keys = array("q"), array("q"), array("Q")
    lines_read, has_key = 0, None
    with open_lines(path) as file:
        start = file.tell()
        try:
            for line in read_lines(file, _MAX_LINE_BYTES):
                if not line.isspace():  # CNTK ignores empty lines here
                    if has_key is None:
                        has_key = line.count(b"\t") > 1
                    key, label, image_start, image_end = _columns(line, has_key)
                    keys.append(key)
                    labels.append(parse_label(label, classes))
                    ranges.extend((start + image_start, start + image_end))
                start += len(line)
                lines_read += 1
        except BadLine as error:
            raise FormatError(path, f"line {lines_read + 1}", str(error)) from None
    if not labels:
        raise FormatError(path, "", "holds no image; a line is `label TAB base64` or `key TAB label TAB base64`")
    found = np.array(ranges, np.int64).reshape(-1, 2)
    return Base64Map(Path(path), np.array(labels, np.int64), found, np.array(keys, np.uint64) if has_key else None)


def _columns(line: bytes, has_key: bool) -> tuple[int, bytes, int, int]:
    """The key or 0, the label, and where the base64 text begins and ends in `line`."""
    label_start = line.find(b"\t") + 1 if has_key else 0
    image_start = line.find(b"\t", label_start) + 1
    image_end = len(line.rstrip())
    if not image_start or image_start >= image_end:
        form = "key TAB label TAB base64" if has_key else "label TAB base64"
        raise BadLine(f"`{form}` is expected, as in the first line; got {show(line)}")
    key = parse_key(line[: label_start - 1]) if has_key else 0
    return key, line[label_start : image_start - 1], image_start, image_end
