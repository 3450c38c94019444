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
    """What a user says about a model, in place of what its file says; None leaves the file's.

    `mean`: a number, one per channel in the network's channel order ("104,117,123"), or a file with a mean image
    (CNTK's .xml, Caffe's .binaryproto). `scale`: a number, or one per channel. `output`: the node with the class
    scores, where a file has several outputs. `image_shape_CHW`: the shape of the images, where the file does not state
    it or the network takes a flat vector. `arch`: the architecture of a PyTorch checkpoint. `resize` and `crop_ratio`:
    how images of other sizes are fitted; see `Preprocess`.
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
    """A model as a loader read it. `preprocess`: the fields of `Preprocess` that the file states; the conventions of
    CNTK's and Caffe's readers fill in the others. `name`: the model's name, where it is not the file's. `metadata`:
    class names and what the model was trained on, where the file, or `names_from` beside it, says so. `confidence`: the
    arrays behind `metadata.confidence`, where the file was exported from a model of convolve."""

    graph: Graph
    preprocess: Mapping[str, Any] = field(default_factory=dict)
    name: str = ""
    metadata: Metadata | None = None
    names_from: Path | None = None
    confidence: Mapping[str, np.ndarray] = field(default_factory=dict)


class Loader(Protocol):
    """A row of `loaders.LOADERS`, or an entry point of the group convolve.loaders: a module or an object."""

    def recognizes(self, path: Path) -> bool:
        """Whether `path` is a model of this tool, judged by its content rather than its name."""

    def read(self, path: Path, overrides: PreprocessOverrides) -> Imported:
        """The network up to `overrides.output`, a name in the file; without it, with all its outputs.

        Raises FormatError with the place for a damaged file, UnsupportedError for what is out of scope, UsageError for
        an unknown output.
        """


_MOST_BYTES = 1 << 33  # of a model file; image networks of CNTK's and Caffe's time have up to 600 MB


def three_numbers(said: Any) -> tuple[float, ...] | None:
    """Mean or standard deviation of three channels, from JSON; None unless it is three numbers that floats can hold."""
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
