"""Caffe's models: a prototxt, which describes the network, and a caffemodel, which holds its weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from convolve.graph.graph import Graph
from convolve.graph.shapes import Shape
from convolve.importers.caffe.caffemodel import read_mean_image, read_weights
from convolve.importers.caffe.lower import lower
from convolve.importers.caffe.net import read_net
from convolve.importers.caffe.transform import Transform, stated_transform
from convolve.importers.source import read_bytes

__all__ = ["ENDINGS", "CaffeModel", "Transform", "pair_of", "parse", "read", "read_mean_image"]

ENDINGS = (".prototxt", ".caffemodel")


@dataclass(frozen=True, eq=False)
class CaffeModel:
    """`transform` is what the prototxt says of how images are prepared; None where it says nothing."""

    graph: Graph
    transform: Transform | None


def pair_of(path: str | Path) -> tuple[Path, Path] | None:
    """The two files of `net.prototxt+net.caffemodel`, one of which has its usual ending; None for any other path."""
    text = str(path)
    cuts = [at for at, letter in enumerate(text) if letter == "+"]
    if not cuts or Path(path).exists():
        return None
    at = next((at for at in cuts if Path(text[:at]).is_file()), cuts[0])
    prototxt, caffemodel = Path(text[:at]), Path(text[at + 1 :])
    return (prototxt, caffemodel) if prototxt.suffix == ENDINGS[0] or caffemodel.suffix == ENDINGS[1] else None


def read(
    prototxt: Path, caffemodel: Path, outputs: Sequence[str] | None = None, image_shape_CHW: Shape | None = None
) -> CaffeModel:
    """The network of a prototxt with the weights of a caffemodel; V1 and current layers, deploy and train_val files.

    `outputs` picks blobs, inner ones too, by the names that the prototxt uses; without it, those that no layer reads.
    `image_shape_CHW` is the shape of images where the prototxt does not state it. Raises FormatError with the place
    for a damaged file, UnsupportedError for a layer out of scope, ModelError for weights that do not fit, UsageError
    for an output that is not there.
    """
    description, weights = read_bytes(prototxt, "a prototxt file"), read_bytes(caffemodel, "a caffemodel file")
    return parse(description, weights, prototxt, caffemodel, outputs, image_shape_CHW)


def parse(
    description: bytes,
    weights: bytes | None,
    prototxt: object = "net.prototxt",
    caffemodel: object = "net.caffemodel",
    outputs: Sequence[str] | None = None,
    image_shape_CHW: Shape | None = None,
) -> CaffeModel:
    """`read` for the bytes of the two files; their paths are for messages.

    Without weights the graph has zeros for parameters, which take no memory: for its shapes and counts.
    """
    net = read_net(description, prototxt)
    held = None if weights is None else read_weights(weights, caffemodel)
    return CaffeModel(lower(net, held, outputs, image_shape_CHW), stated_transform(net))
