"""Images for prediction: decoded ahead, in batches, in order, however many there are."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from convolve.data.ordered_map import ordered_map
from convolve.errors import DataError, UsageError
from convolve.formats.archive import ByteReader, Location
from convolve.formats.decode import Decoding, decode_image, without_color
from convolve.transforms.preprocess import Preprocess, fit_image

# Legend: N images, C channels, H rows, W columns.


@dataclass(frozen=True)
class FileBatch:
    """Consecutive images: their locations, how each was converted, and why it cannot be read, if so.

    `images_NCHW` holds the others, uint8, as the model takes them.
    """

    locations: Sequence[Location]
    fitted: Sequence[str]
    errors: Sequence[str]
    images_NCHW: NDArray[np.uint8]


def file_batches(
    images: Sequence[Location],
    preprocess: Preprocess,
    decoding: Decoding,
    *,
    batch_size: int,
    threads: int,
    start: int = 0,
) -> Iterator[FileBatch]:
    """`images` from number `start` on, in batches of `batch_size`, counting unreadable ones. So the content of a batch
    depends on the list alone: answers are the same bit for bit for every `start` that is a multiple of the size.
    Memory: the images being decoded and those of two batches.
    """
    with ByteReader() as reader:

        def ready(number: int) -> tuple[NDArray[np.uint8] | None, str, str]:
            """(image, how it was converted, why there is none)."""
            location = images[number]
            try:
                image_HWC = without_color(decode_image(reader.read(location), location, decoding.of(location)))
                return (*fit_image(image_HWC, preprocess), "")
            except (DataError, UsageError) as error:
                return None, "", str(error).removeprefix(f"{location}: ")

        decoded = ordered_map(ready, range(start, len(images)), threads, ahead=max(batch_size, 2 * threads))
        with closing(decoded):
            for first in range(start, len(images), batch_size):
                locations, found = images[first : first + batch_size], list(islice(decoded, batch_size))
                readable = [image for image, _, _ in found if image is not None]
                images_NCHW = np.stack(readable) if readable else np.zeros((0, *preprocess.shape_CHW), np.uint8)
                yield FileBatch(locations, [done for _, done, _ in found], [error for *_, error in found], images_NCHW)
