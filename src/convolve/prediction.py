"""What a model predicts for one image."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from convolve.errors import ConvolveError
from convolve.formats.archive import ByteReader, parse_location
from convolve.formats.decode import decode_image
from convolve.notebook import MOST, Markup, image, probabilities, table

Classes = tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Prediction:
    """What the model predicts for one image: (class name, probability), most probable first; `fitted`: how the image
    was converted.

    If images can have several classes, `classes` are those predicted. A model that stops at a layer gives `features`
    instead, a model of numbers `numbers` with their names. `error`: why the image cannot be read. A model with
    confidence says whether the image is `none_of_these` because its `distance` is too large, and which classes are
    `possible`, or in which `intervals` its numbers lie; see `training/confidence.py`. For a network with several heads,
    `heads` are the predictions of each, by name.
    """

    path: str
    classes: Classes
    fitted: str = ""
    error: str = ""
    features: NDArray[np.float32] | None = field(default=None, compare=False)
    numbers: Classes = ()
    none_of_these: bool | None = None
    distance: float | None = field(default=None, compare=False)
    possible: tuple[str, ...] | None = None
    intervals: dict[str, tuple[float, float]] | None = field(default=None, compare=False)
    heads: tuple[tuple[str, Prediction], ...] = ()

    def _repr_html_(self) -> str:
        return table([(self._picture(), Markup(table(self._rows(), self.path)))])

    def _rows(self) -> Iterator[tuple[object, object]]:
        if self.error:
            yield "cannot be read", self.error
        if self.none_of_these:
            yield "none of these", "the nearest classes:"
        yield from probabilities(self.classes)
        yield from ((name, f"{value:.6g}") for name, value in self.numbers[:MOST])
        if self.possible is not None:
            yield "may be", ", ".join(self.possible[:MOST]) or "unsure"
        for name, each in self.heads:
            yield name, Markup(table(each._rows()))
        if self.features is not None:
            yield "features", " x ".join(map(str, self.features.shape))

    def _picture(self) -> Markup:
        """The image, if its file still exists."""
        try:
            with ByteReader() as reader:
                location = parse_location(self.path)
                image_HWC = decode_image(reader.read(location), location)
        except (ConvolveError, OSError):
            return Markup()
        return image(np.ascontiguousarray(image_HWC[..., ::-1]), self.path)


class Predictions(list[Prediction]):
    """What a model predicts for several images, in their order."""

    def _repr_html_(self) -> str:
        more = f"<div>and {len(self) - MOST:,} more</div>" if len(self) > MOST else ""
        return "".join(one._repr_html_() for one in self[:MOST]) + more
