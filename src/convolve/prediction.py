"""What a model says of one image."""

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
    """What the model says of one image: (class name, probability), most likely first; `fitted`: what was done to it.

    Of several classes an image, those that it is said to be of. A model that stops at a layer gives `features` in place
    of classes, one of numbers these, with their names. `error`: why the image cannot be read. A model that knows its
    own certainty says whether the image is `none_of_these`, since its `distance` is too large, and of which classes it
    may be, `possible`, or within which `intervals` its numbers lie; see `training/confidence.py`. Of a network with
    several heads, `heads` are what each says, by its name.
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
        """The image, if it is still where it was."""
        try:
            with ByteReader() as reader:
                location = parse_location(self.path)
                image_HWC = decode_image(reader.read(location), location)
        except (ConvolveError, OSError):
            return Markup()
        return image(np.ascontiguousarray(image_HWC[..., ::-1]), self.path)


class Predictions(list[Prediction]):
    """What a model says of several images, in their order."""

    def _repr_html_(self) -> str:
        more = f"<div>and {len(self) - MOST:,} more</div>" if len(self) > MOST else ""
        return "".join(one._repr_html_() for one in self[:MOST]) + more
