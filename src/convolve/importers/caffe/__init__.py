"""Caffe's models: a prototxt, which describes the network, and a caffemodel, which holds its weights."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from convolve.errors import UsageError
from convolve.graph.shapes import Shape
from convolve.importers.caffe.caffemodel import read_mean_image, read_weights
from convolve.importers.caffe.lower import lower
from convolve.importers.caffe.net import read_net
from convolve.importers.caffe.transform import stated_preprocess
from convolve.importers.loader import Imported, PreprocessOverrides, read_bytes

__all__ = ["pair_of", "parse", "read", "read_mean_image", "recognizes"]

_ENDINGS = (".prototxt", ".caffemodel")


def recognizes(path: Path) -> bool:
    return pair_of(path) is not None or (path.is_file() and path.suffix in _ENDINGS)


def pair_of(path: str | Path) -> tuple[Path, Path] | None:
    """The two files of `net.prototxt+net.caffemodel`, one of which has its usual ending; None for any other path."""
    text = str(path)
    cuts = [at for at, letter in enumerate(text) if letter == "+"]
    if not cuts or Path(path).exists():
        return None
    at = next((at for at in cuts if Path(text[:at]).is_file()), cuts[0])
    prototxt, caffemodel = Path(text[:at]), Path(text[at + 1 :])
    return (prototxt, caffemodel) if prototxt.suffix == _ENDINGS[0] or caffemodel.suffix == _ENDINGS[1] else None


def read(path: Path, overrides: PreprocessOverrides | None = None) -> Imported:
    """The network of `net.prototxt+net.caffemodel`, V1 and current layers, deploy and train_val files; see `Loader`.

    Raises ModelError for weights that do not fit the prototxt.
    """
    pair, overrides = pair_of(path), overrides or PreprocessOverrides()
    if pair is None:
        raise UsageError(f"{path} is half of a Caffe model; give both files: net.prototxt+net.caffemodel")
    prototxt, caffemodel = pair
    description, weights = read_bytes(prototxt, "a prototxt file"), read_bytes(caffemodel, "a caffemodel file")
    outputs = None if overrides.output is None else [overrides.output]
    return parse(description, weights, paths=pair, outputs=outputs, image_shape_CHW=overrides.image_shape_CHW)


def parse(
    description: bytes,
    weights: bytes | None,
    *,
    paths: tuple[Path, Path] = (Path("net.prototxt"), Path("net.caffemodel")),
    outputs: Sequence[str] | None = None,
    image_shape_CHW: Shape | None = None,
) -> Imported:
    """`read` for the bytes of the two files; `paths` are for messages. `outputs` picks blobs, inner ones too.

    Without weights, the graph's parameters are zeros that take no memory: enough for its shapes and counts.
    """
    prototxt, caffemodel = paths
    net = read_net(description, prototxt)
    held = None if weights is None else read_weights(weights, caffemodel)
    preprocess, notes = stated_preprocess(net)
    graph = lower(net, held, outputs, image_shape_CHW)
    return Imported(replace(graph, notes=(*graph.notes, *notes)), preprocess, f"{prototxt.name}+{caffemodel.name}")
