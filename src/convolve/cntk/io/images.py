"""Images named in map files, or in base64; threads prepare them while the network computes."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convolve.cntk.io import transforms as words
from convolve.cntk.io.deserializers import Deserializer, Moment, StreamShape
from convolve.cntk.io.sequences import Sequences
from convolve.data.cntk_order import chunks_by_bytes
from convolve.data.dataset import THREADS
from convolve.data.sources.files import FileSource, naming
from convolve.data.streams import Purpose, generator
from convolve.errors import ConvolveError
from convolve.formats.base64_map import Base64Map, read_base64_map
from convolve.formats.decode import Decoding
from convolve.formats.image_map import ImageMap, read_image_map
from convolve.transforms.transform import Image, transform_image

_DECODING = Decoding(orientation="cntk")
_NOTHING_RANDOM = np.random.default_rng(0)


class _Images(Deserializer):
    """A stream of images (blue, green, red) and, if asked for, one of labels."""

    def __init__(self, kind: str, filename: str, streams: dict[str, Any]) -> None:
        names: dict[str, str] = {}
        for name, stream in streams.items():
            if stream.stream_alias not in ("image", "label"):
                what = f"invalid field name '{stream.stream_alias}', allowed are 'image' and 'label'"
                raise ValueError(f"{kind}: {what}")
            names[stream.stream_alias] = name
        if "image" not in names:
            raise ValueError(f"{kind}: no stream has field='image'")
        self.filename, self._kind = filename, kind
        self.image, self.label = names["image"], names.get("label", "")
        listed = streams[self.image].get("transforms", [])
        self.classes: int | None = streams[self.label].dim if self.label else None
        inputs: dict[str, Any] = {self.image: {"transforms": [*listed, {"type": "Transpose"}]}}
        if self.label:
            inputs[self.label] = {"labelDim": self.classes}
        self.config = {"type": kind, "file": filename, "input": inputs}
        self._listed = listed

    @cached_property
    def transforms(self) -> tuple[Any, ...]:
        try:
            return words.made(self._listed)
        except ConvolveError as error:
            raise RuntimeError(f"{self._kind}: {error}") from None

    @cached_property
    def _is_random(self) -> bool:
        return words.is_random(self.transforms)

    @cached_property
    def shapes(self) -> dict[str, StreamShape]:  # type: ignore[override]
        found = {self.image: StreamShape(words.sample_shape(self.transforms))}
        if self.classes is not None:
            found[self.label] = StreamShape((self.classes,), is_sparse=True)
        return found

    def check(self) -> None:
        if not Path(self.filename).is_file():
            raise RuntimeError(f"Could not open {self.filename} for reading. It must be a map file of images.")

    @cached_property
    def _listing(self) -> ImageMap | Base64Map:
        read = read_image_map if self._kind == "ImageDeserializer" else read_base64_map
        try:
            return read(self.filename, self.classes)
        except ConvolveError as error:
            raise RuntimeError(str(error)) from None

    @cached_property
    def _source(self) -> FileSource:
        return FileSource(self._listing, self._listing.labels_N, None, np.arange(len(self._listing)))

    @property
    def keys_N(self) -> NDArray[np.uint64] | None:  # type: ignore[override]  # read with the file
        return self._listing.keys_N

    @cached_property
    def counts_N(self) -> NDArray[np.int64]:
        return np.ones(len(self._listing), np.int64)

    @property
    def chunk_N(self) -> NDArray[np.int64]:
        if isinstance(self._listing, ImageMap):
            return np.arange(len(self._listing))
        return chunks_by_bytes(np.diff(self._listing.ranges_N2[:, 1], prepend=0))

    def read(self, numbers_N: NDArray[np.int64], moments: Sequence[Moment]) -> dict[str, Sequences]:
        begun = [self._pool.submit(self._made, *each) for each in zip(numbers_N.tolist(), moments, strict=True)]
        try:
            images = [future.result() for future in begun]
        except ConvolveError as error:
            raise RuntimeError(str(error)) from None
        sizes = {image.shape for image in images}
        if len(sizes) > 1:
            what = " and ".join("x".join(map(str, size)) for size in sorted(sizes)[:2])
            raise RuntimeError(
                f"{self.filename}: images of sizes {what} do not fit into one minibatch; add transforms.scale"
            )
        ones_N = np.ones(len(images), np.int64)
        found = {self.image: Sequences(np.stack(images), ones_N)}
        if self.classes is not None:
            labels_NK = np.zeros((len(images), self.classes), np.float32)
            labels_NK[np.arange(len(images)), self._listing.labels_N[numbers_N]] = 1
            found[self.label] = Sequences(labels_NK, ones_N, is_sparse=True)
        return found

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(THREADS)

    def _made(self, number: int, moment: Moment) -> Image:
        """The image, (C, H, W); everything random about it is a function of the moment."""
        with naming(self._source.location(number)):
            image_HWC: Image = self._source.load(number, _DECODING)
            rng = generator(Purpose.IMAGE, *moment) if self._is_random else _NOTHING_RANDOM
            image_HWC = transform_image(image_HWC, self.transforms, rng)
        return np.ascontiguousarray(image_HWC.transpose(2, 0, 1), np.float32)


def ImageDeserializer(filename: str, streams: Any) -> Deserializer:
    """The images that the lines of a map file name, with their classes."""
    return _Images("ImageDeserializer", str(filename), dict(streams))


def Base64ImageDeserializer(filename: str, streams: Any) -> Deserializer:
    """The images inside the lines of a file, in base64, with their classes."""
    return _Images("Base64ImageDeserializer", str(filename), dict(streams))
