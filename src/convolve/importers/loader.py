"""What a loader of models is: one tool's files, recognized and read as a graph."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from convolve.atomic import read_ordinary
from convolve.errors import MissingDataError
from convolve.graph.graph import Graph
from convolve.records import Metadata


@dataclass(frozen=True)
class PreprocessOverrides:
    """What a user says of a model; None leaves it as it is.

    `mean` is a number, one a channel in the network's order ("104,117,123"), or a file with a mean image, CNTK's .xml
    or Caffe's .binaryproto; `scale` a number, or one a channel. `output` names the class scores of a file with several
    outputs; `image_shape_CHW` the image that a network of plain numbers takes, or one whose prototxt does not say;
    `arch` the network that a checkpoint of PyTorch belongs to. `resize` and `crop_ratio` say how images of other sizes
    come to it: see `Preprocess`.
    """

    preset: str | None = None
    mean: str | None = None
    channel_order: str | None = None
    scale: str | float | None = None
    labels: Path | None = None
    image_shape_CHW: tuple[int, int, int] | None = None
    output: str | None = None
    arch: str | None = None
    resize: str | None = None
    crop_ratio: float | None = None


@dataclass(frozen=True, eq=False)
class Imported:
    """`preprocess` are the fields of `Preprocess` that the file states; the others are those of CNTK's reader and
    Caffe's. `name` is what the model is called where that is not the file's name. `metadata`: names of classes and
    where they were learned, of a file that says so, or of `names_from` beside it. `confidence`: the numbers behind
    `metadata.confidence`, where the network's scores and features are those of a model of ours."""

    graph: Graph
    preprocess: Mapping[str, Any] = field(default_factory=dict)
    name: str = ""
    metadata: Metadata | None = None
    names_from: Path | None = None
    confidence: Mapping[str, np.ndarray] = field(default_factory=dict)


class Loader(Protocol):
    """A module or an object, a row of `loaders.LOADERS` or an entry point of the group convolve.loaders."""

    def recognizes(self, path: Path) -> bool:
        """Whether `path` is a model of this tool, judged by its content rather than its name."""

    def read(self, path: Path, overrides: PreprocessOverrides) -> Imported:
        """The network up to `overrides.output`, by the names that the file uses; without it, with all its outputs.

        Raises FormatError with the place for a damaged file, UnsupportedError for what is out of scope, UsageError for
        an output that is not there.
        """


_MOST_BYTES = 1 << 33  # of a model file; the networks for images of that time have up to 600 MB


def three_numbers(said: Any) -> tuple[float, ...] | None:
    """A mean or a deviation of colors, as JSON says it; None for all but three numbers that a float can hold."""
    if not isinstance(said, list) or len(said) != 3 or any(type(number) not in (int, float) for number in said):
        return None
    with suppress(OverflowError):
        numbers = tuple(map(float, said))
        return numbers if all(map(isfinite, numbers)) else None
    return None


def read_bytes(path: str | Path, what: str = "a model file") -> bytes:
    try:
        return read_ordinary(path, _MOST_BYTES)
    except OSError as error:
        raise MissingDataError(f"cannot read {path}: {error.strerror}; give {what}") from None
