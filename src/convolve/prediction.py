"""What a model says of one image."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

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
