"""Models of other tools: what the file says, what a preset knows, and what the user adds, as one description."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from convolve.errors import MissingDataError, UsageError
from convolve.formats.labels import read_labels
from convolve.formats.mean_xml import read_mean_xml
from convolve.importers import cntk
from convolve.importers.classifier import class_scores, image_input, input_arithmetic
from convolve.importers.graph import Graph
from convolve.importers.presets import Preset, find_preset
from convolve.transforms.preprocess import Preprocess

_HEAD_BYTES = 32


@dataclass(frozen=True)
class Asked:
    """What a user says of a model; None leaves it as it is.

    `mean` is a number, one a channel in the network's order ("104,117,123"), or an XML file with a mean image.
    `output` names the class scores of a file with several outputs; `image_shape_CHW` the image that a network of plain
    numbers takes.
    """

    preset: str | None = None
    mean: str | None = None
    channel_order: str | None = None
    scale: float | None = None
    labels: Path | None = None
    image_shape_CHW: tuple[int, int, int] | None = None
    output: str | None = None


def is_foreign(path: Path) -> bool:
    """Whether `path` is a model file of another tool, judged by its content."""
    if not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            return cntk.is_cntk(file.read(_HEAD_BYTES))
    except OSError as error:
        raise MissingDataError(f"cannot read {path}: {error.strerror}; give a model file") from None


def read_foreign(path: Path, asked: Asked, node: str | None) -> tuple[Graph, Preprocess, dict[str, Any]]:
    """(graph of one image input and one output, preprocessing, where it comes from).

    The output is the class scores, or with `node` whatever that node gives.
    """
    graph = _read(path, node or asked.output)
    graph = image_input(graph if node else class_scores(graph), asked.image_shape_CHW)
    channels, height, width = graph.inputs[0].shape
    if channels not in (1, 3):
        raise UsageError(f"{path}: the network takes {channels} planes; images have 1 (grey) or 3 (colour)")
    preset = find_preset(str(path), asked.preset)
    fits = preset is not None and preset.input_size in (None, height)
    if asked.preset and preset and not fits:
        raise UsageError(f"preset {preset.name} is for images of {preset.input_size} pixels; here: {height}")
    given = Preprocess(
        channels, height, width, channel_order="grey" if channels == 1 else "bgr", resize="fill", known_from=""
    )  # as CNTK's image reader delivers them: colours in BGR order, values in 0..255
    if preset and fits:
        given = _with_preset(given, preset)
    if channels == 1 and not given.known_from and any(input_arithmetic(graph)):
        given = replace(given, known_from="the graph")
    about = {"imported_from": f"{path.name} ({graph.origin})"} | ({"preset": preset.name} if preset and fits else {})
    return graph, given, about


def _read(path: Path, output: str | None) -> Graph:
    if output is None:
        return cntk.read(path)
    try:
        return cntk.read(path, [output])
    except UsageError:  # no name of the file's; perhaps one of ours, as `convolve show` prints them
        return cntk.read(path).with_outputs([output])


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
        changes |= _mean(asked.mean, str(order))
    return replace(given, **changes, known_from="the command line") if changes else given


def _mean(text: str, channel_order: str) -> dict[str, Any]:
    if text.lower().endswith(".xml"):
        bgr_HWC = read_mean_xml(text)
        planes = bgr_HWC[:, :, ::-1] if channel_order == "rgb" else bgr_HWC
        return {"mean": 0.0, "mean_image_CHW": np.ascontiguousarray(planes.transpose(2, 0, 1))}
    try:
        values = tuple(map(float, text.split(",")))
    except ValueError:
        raise UsageError(f"--mean wants a number, one a channel (104,117,123) or an .xml file, got {text!r}") from None
    return {"mean": values[0] if len(values) == 1 else values, "mean_image_CHW": None}


def class_names(count: int, labels: Path | None) -> tuple[str, ...]:
    """The names in the file `labels`, which must be as many; without it the numbers of the classes."""
    if labels is None:
        return tuple(map(str, range(count)))
    names = read_labels(labels)
    if len(names) != count:
        raise UsageError(f"{labels} names {len(names)} classes, the network has {count}")
    return names
