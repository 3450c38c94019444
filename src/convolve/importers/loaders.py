"""Models of other tools: what the file says, what a preset knows, and what the user adds, as one description."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convolve.errors import MissingDataError, UsageError, legible
from convolve.formats.labels import read_labels
from convolve.formats.mean_xml import read_mean_xml
from convolve.graph.classifier import class_scores, image_input, input_arithmetic
from convolve.graph.graph import Graph
from convolve.graph.shapes import Shape
from convolve.importers import caffe, cntk
from convolve.importers.presets import PRESETS, Preset, find_preset
from convolve.transforms.preprocess import Preprocess

_HEAD_BYTES = 32


@dataclass(frozen=True)
class Asked:
    """What a user says of a model; None leaves it as it is.

    `mean` is a number, one a channel in the network's order ("104,117,123"), or a file with a mean image, CNTK's .xml
    or Caffe's .binaryproto. `output` names the class scores of a file with several outputs; `image_shape_CHW` the image
    that a network of plain numbers takes, or one whose prototxt does not say.
    """

    preset: str | None = None
    mean: str | None = None
    channel_order: str | None = None
    scale: float | None = None
    labels: Path | None = None
    image_shape_CHW: tuple[int, int, int] | None = None
    output: str | None = None


def is_foreign(path: Path) -> bool:
    """Whether `path` is a model of another tool: a file, judged by its content, or `net.prototxt+net.caffemodel`."""
    if caffe.pair_of(path):
        return True
    if not path.is_file():
        return False
    if path.suffix in caffe.ENDINGS:
        return True
    try:
        with path.open("rb") as file:
            return cntk.is_cntk(file.read(_HEAD_BYTES))
    except OSError as error:
        raise MissingDataError(f"cannot read {path}: {error.strerror}; give a model file") from None


def read_foreign(path: Path, asked: Asked, node: str | None) -> tuple[Graph, Preprocess, dict[str, Any]]:
    """(graph of one image input and one output, preprocessing, where it comes from).

    The output is the class scores, or with `node` whatever that node gives.
    """
    graph, transform = _read(path, node or asked.output, asked.image_shape_CHW)
    graph = image_input(graph if node else class_scores(graph), asked.image_shape_CHW)
    channels, height, width = graph.inputs[0].shape
    if channels not in (1, 3):
        raise UsageError(f"{path}: the network takes {channels} planes; images have 1 (grey) or 3 (colour)")
    prototxt, weights = caffe.pair_of(path) or (None, path)
    preset = find_preset(str(weights), asked.preset)
    fits = preset is not None and preset.input_size in (None, height)
    if asked.preset and preset and not fits:
        raise UsageError(f"preset {preset.name} is for images of {preset.input_size} pixels; here: {height}")
    given = Preprocess(
        channels, height, width, channel_order="grey" if channels == 1 else "bgr", resize="square", known_from=""
    )  # as CNTK's image reader and Caffe deliver them: colours in BGR order, values in 0..255
    if transform:
        graph, given = _with_transform(graph, given, transform)
    if preset and fits:
        given = _with_preset(given, preset)
    if channels == 1 and not given.known_from and any(input_arithmetic(graph)):
        given = replace(given, known_from="the graph")
    files = f"{prototxt.name}+{weights.name}" if prototxt else path.name
    about = {"imported_from": f"{files} ({graph.origin})"} | ({"preset": preset.name} if preset and fits else {})
    return graph, given, about


def _read(path: Path, output: str | None, image_shape_CHW: Shape | None) -> tuple[Graph, caffe.Transform | None]:
    """(the graph, what the file says of how images are prepared)."""
    pair = caffe.pair_of(path)

    def read(outputs: list[str] | None) -> tuple[Graph, caffe.Transform | None]:
        if pair is None:
            return cntk.read(path, outputs), None
        model = caffe.read(*pair, outputs, image_shape_CHW)
        return model.graph, model.transform

    if pair is None and path.suffix in caffe.ENDINGS:
        raise UsageError(f"{path} is half of a Caffe model; give both files: net.prototxt+net.caffemodel")
    if output is None:
        return read(None)
    try:
        return read([output])
    except UsageError:  # no name of the file's; perhaps one of ours, as `convolve show` prints them
        graph, transform = read(None)
        return graph.with_outputs([output]), transform


def _with_transform(graph: Graph, given: Preprocess, transform: caffe.Transform) -> tuple[Graph, Preprocess]:
    if transform.mean_file:
        note = f"the prototxt subtracts the mean image {legible(transform.mean_file)}; give it with --mean"
        return replace(graph, notes=(*graph.notes, note)), replace(given, scale=transform.scale)
    mean = transform.mean if len(transform.mean) > 1 else sum(transform.mean, start=0.0)
    return graph, replace(given, mean=mean, scale=transform.scale, known_from="the prototxt")


def _with_preset(given: Preprocess, preset: Preset) -> Preprocess:
    if not preset.knows_preprocessing:
        return given
    assert preset.mean is not None and preset.scale is not None and preset.side_ratio is not None
    return replace(
        given, mean=preset.mean, scale=preset.scale, side_ratio=preset.side_ratio, known_from=f"preset {preset.name}"
    )


def with_asked(given: Preprocess, asked: Asked) -> Preprocess:
    """The preprocessing with what the user says of it. Raises UsageError for what does not fit the network."""
    changes: dict[str, Any] = {}
    if asked.channel_order is not None:
        changes["channel_order"] = asked.channel_order
    if asked.scale is not None:
        changes["scale"] = asked.scale
    if asked.mean is not None:
        order = asked.channel_order or given.channel_order
        changes |= _mean(asked.mean, str(order), given.shape_CHW)
    return replace(given, **changes, known_from="the command line") if changes else given


def _mean(text: str, channel_order: str, shape_CHW: Shape) -> dict[str, Any]:
    if text.lower().endswith((".xml", ".binaryproto")):
        bgr_CHW = _mean_image(text, shape_CHW)
        planes = bgr_CHW[::-1] if channel_order == "rgb" else bgr_CHW
        return {"mean": 0.0, "mean_image_CHW": np.ascontiguousarray(planes)}
    try:
        values = tuple(map(float, text.split(",")))
    except ValueError:
        raise UsageError(
            f"--mean wants a number, one a channel (104,117,123), an .xml or a .binaryproto file, got {text!r}"
        ) from None
    return {"mean": values[0] if len(values) == 1 else values, "mean_image_CHW": None}


def _mean_image(file: str, shape_CHW: Shape) -> NDArray[np.float32]:
    """The mean image of a file, (C, H, W), colours in B, G, R order. A larger one of Caffe's is cut to its centre, as
    Caffe cuts the image that it is subtracted from."""
    if file.lower().endswith(".xml"):
        return read_mean_xml(file).transpose(2, 0, 1)
    image_CHW = caffe.read_mean_image(file)
    (_, rows, columns), (_, height, width) = image_CHW.shape, shape_CHW
    top, left = max(rows - height, 0) // 2, max(columns - width, 0) // 2
    return image_CHW[:, top : top + height, left : left + width]


def class_names(count: int, labels: Path | None, preset: str | None = None) -> tuple[str, ...]:
    """The names in the file `labels`, which must be as many; else those of the preset; else the classes' numbers."""
    if labels is None:
        names = PRESETS[preset].class_names if preset else ()
        return names if len(names) == count else tuple(map(str, range(count)))
    names = read_labels(labels)
    if len(names) != count:
        raise UsageError(f"{labels} names {len(names)} classes, the network has {count}")
    return names
