"""Models of other tools: what the file says, a preset knows and the user adds becomes one description of the model."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convolve.errors import ConvolveError, ModelError, UsageError
from convolve.formats.labels import read_labels
from convolve.formats.mean_xml import read_mean_xml
from convolve.graph.classifier import NoClassifierError, class_scores, image_input, input_arithmetic
from convolve.graph.ends import makes_probabilities, without_sigmoid
from convolve.graph.graph import Graph, Parameter
from convolve.graph.shapes import Shape
from convolve.importers import caffe, cntk, onnx
from convolve.importers.loader import Imported, Loader, PreprocessOverrides
from convolve.importers.presets import Preset, find_preset, preset_of_weights, presets
from convolve.records import Metadata, TrainingInfo
from convolve.registry import Registry
from convolve.transforms.preprocess import COMMAND_LINE, LETTERBOX_GRAY, ChannelOrder, Preprocess, Resize

_ROWS: dict[str, Loader] = {"cntk": cntk, "caffe": caffe, "onnx": onnx}
LOADERS = Registry("convolve.loaders", _ROWS)


def find_loader(path: Path) -> Loader | None:
    """The first loader that recognizes `path`, or None. Raises ConvolveError if none does and one cannot be loaded."""
    failed: ConvolveError | None = None
    for name in LOADERS:
        try:
            loader = LOADERS[name]
        except ConvolveError as error:
            failed = failed or error
        else:
            if loader.recognizes(path):
                return loader
    if failed and path.exists():
        raise failed
    return None


def read_third_party(
    loader: Loader, path: Path, overrides: PreprocessOverrides, node: str | None
) -> tuple[Graph, Preprocess, Metadata, Mapping[str, NDArray[np.float32]]]:
    """(graph with one image input and one output, preprocessing, class names and origin, the arrays behind its
    confidence).

    The output is the class scores or, with `node`, that node's value; a `node` that is a classification head gives
    classes. A network that outputs one number has no class names.
    """
    if node and _is_head(loader, path, overrides, node):
        overrides, node = replace(overrides, output=node), None
    imported = _read(loader, path, replace(overrides, output=node or overrides.output))
    target = imported.metadata.target if imported.metadata and not (node or overrides.output) else None
    if target:  # a file that convolve wrote, of several classes per image or of numbers
        graph = without_sigmoid(imported.graph)
    else:
        graph, node = _with_scores(imported.graph, node, overrides)
    graph = image_input(graph, overrides.image_shape_CHW)
    channels, height, _ = graph.inputs[0].shape
    if channels not in (1, 3):
        raise NoClassifierError(f"{path}: the network takes {channels} channels; images have 1 (gray) or 3 (color)")
    name = imported.name or path.name
    given = _stated(imported, graph, path)
    preset = find_preset(name.rpartition("+")[2], overrides.preset)
    preset = preset or (None if given.known_from else _preset_of_weights(graph))
    fits = preset is not None and preset.input_size in (None, height)
    if overrides.preset and preset and not fits:
        raise UsageError(f"preset {preset.name} is for images of {preset.input_size} pixels, this network for {height}")
    if preset and fits:
        given = replace(given, **preset.preprocessing)
    if channels == 1 and not given.known_from and any(input_arithmetic(graph)):
        given = replace(given, known_from="the graph")
    info = TrainingInfo(imported_from=f"{name} ({graph.origin})", preset=preset.name if preset and fits else None)
    said = imported.metadata or Metadata(class_names=(), data="", training_info=info)
    said = said if said.training_info != TrainingInfo() else replace(said, training_info=info)
    if node:
        return graph, given, replace(said, class_names=(), confidence=None), {}
    classes = graph.values()[graph.outputs[0]].shape[0]
    return graph, given, named(imported.names_from or path, said, classes, overrides), imported.confidence


def read_graph(loader: Loader, path: Path, overrides: PreprocessOverrides, outputs: Sequence[str]) -> Graph:
    """The graph up to `outputs`, named as in the file or as in our graph; without them, with all its own outputs."""
    if len(outputs) == 1:
        return _read(loader, path, replace(overrides, output=outputs[0])).graph
    graph = loader.read(path, replace(overrides, output=None)).graph
    return graph.with_outputs(outputs) if outputs else graph


def _preset_of_weights(graph: Graph) -> Preset | None:
    """The preset of a published model, recognized by the weights of its first convolution."""
    first = next((node for node in graph.nodes if node.op == "convolution"), None)
    weight = graph.values()[first.inputs[1]] if first else None
    return preset_of_weights(weight.array) if isinstance(weight, Parameter) else None


def _is_head(loader: Loader, path: Path, overrides: PreprocessOverrides, node: str) -> bool:
    """Whether `node` is an output of the whole network and gives classes: it ends in probabilities, or the user named
    them."""
    graph = _read(loader, path, replace(overrides, output=None)).graph
    try:
        [found] = graph.with_outputs([node]).outputs
    except UsageError:
        return False
    return found in graph.outputs and (overrides.labels is not None or makes_probabilities(graph, found))


def _with_scores(graph: Graph, node: str | None, overrides: PreprocessOverrides) -> tuple[Graph, str | None]:
    """The graph that ends in the class scores or in `node`; for a network that outputs one number, in that output."""
    if node:
        return graph, node
    try:
        return class_scores(graph, is_binary=overrides.labels is not None), None
    except NoClassifierError:
        if len(graph.outputs) == 1 and prod(graph.values()[graph.outputs[0]].shape) == 1:
            return graph, graph.outputs[0]
        raise


def _stated(imported: Imported, graph: Graph, path: Path) -> Preprocess:
    """The preprocessing that the file states, completed by CNTK's and Caffe's: BGR order, values in 0..255."""
    channels, height, width = taken = graph.inputs[0].shape
    order: ChannelOrder = "gray" if channels == 1 else "bgr"
    # CNTK's examples cut a square. For other shapes, the whole image is stretched, as Caffe's tools and CNTK's Scale
    # do.
    resize: Resize = "square" if height in (1, width) else "squash"  # a height of 1: a flat vector
    assumed = Preprocess(
        channels, height, width, channel_order=order, resize=resize, known_from="", orientation="stored"
    )
    given = replace(assumed, **imported.preprocess)
    if given.shape_CHW != taken:
        raise ModelError(
            f"{path}: its metadata describes images of shape {given.shape_CHW}, but the network takes "
            f"{taken}; export it again"
        )
    return given


def named(path: Path, said: Metadata | None, count: int, overrides: PreprocessOverrides) -> Metadata:
    """`said` with `count` class names: those of the user, of the file at `path`, of the preset, or numbers."""
    said = said or Metadata(class_names=(), data="", training_info=TrainingInfo())
    names = said.class_names if overrides.labels is None else ()
    if names and len(names) != count:
        raise ModelError(
            f"{path}: it names {len(names)} classes, the network has {count}; name all {count} with --labels"
        )
    return replace(said, class_names=names or class_names(count, overrides.labels, said.training_info.preset))


def _read(loader: Loader, path: Path, overrides: PreprocessOverrides) -> Imported:
    try:
        return loader.read(path, overrides)
    except UsageError:  # not a name of the file; perhaps one of ours, as `convolve show` prints them
        if overrides.output is None:
            raise
        imported = loader.read(path, replace(overrides, output=None))
        return replace(imported, graph=imported.graph.with_outputs([overrides.output]))


def with_overrides(given: Preprocess, overrides: PreprocessOverrides) -> Preprocess:
    """The preprocessing with the user's overrides. Raises UsageError for what does not fit the network."""
    changes: dict[str, Any] = {}
    sizes = {name: value for name in ("resize", "crop_ratio") if (value := getattr(overrides, name)) is not None}
    if overrides.resize == "letterbox" and given.resize != "letterbox":
        sizes["padding_value"] = LETTERBOX_GRAY
    given = replace(given, **sizes)
    if overrides.channel_order is not None:
        changes["channel_order"] = overrides.channel_order
    if overrides.scale is not None:
        changes["scale"] = _numbers(str(overrides.scale), "--scale takes one number, or one per channel")
    if overrides.mean is not None:
        order = overrides.channel_order or given.channel_order
        changes |= _mean(overrides.mean, str(order), given.shape_CHW)
    return replace(given, **changes, known_from=COMMAND_LINE) if changes else given


def _mean(text: str, channel_order: str, shape_CHW: Shape) -> dict[str, Any]:
    if text.lower().endswith((".xml", ".binaryproto")):
        bgr_CHW = _mean_image(text, shape_CHW)
        planes = bgr_CHW[::-1] if channel_order == "rgb" else bgr_CHW
        return {"mean": 0.0, "mean_image_CHW": np.ascontiguousarray(planes)}
    wanted = "--mean takes one number, one per channel (104,117,123), or an .xml or .binaryproto file"
    return {"mean": _numbers(text, wanted), "mean_image_CHW": None}


def _numbers(text: str, wanted: str) -> float | tuple[float, ...]:
    try:
        values = tuple(map(float, text.split(",")))
    except ValueError:
        raise UsageError(f"{wanted}, got {text!r}") from None
    return values[0] if len(values) == 1 else values


def _mean_image(file: str, shape_CHW: Shape) -> NDArray[np.float32]:
    """The mean image of a file, (C, H, W), channels in B, G, R order. A mean image of Caffe that is larger than the
    network's input is cropped at its center, as Caffe crops the image."""
    if file.lower().endswith(".xml"):
        return read_mean_xml(file).transpose(2, 0, 1)
    image_CHW = caffe.read_mean_image(file)
    (_, rows, columns), (_, height, width) = image_CHW.shape, shape_CHW
    top, left = max(rows - height, 0) // 2, max(columns - width, 0) // 2
    return image_CHW[:, top : top + height, left : left + width]


def class_names(count: int, labels: Path | None, preset: str | None = None) -> tuple[str, ...]:
    """The `count` class names in the file `labels`; else those of the preset; else the classes' numbers."""
    if labels is None:
        names = presets()[preset].class_names if preset else ()
        return names if len(names) == count else tuple(map(str, range(count)))
    names = read_labels(labels)
    if len(names) != count:
        raise UsageError(
            f"{labels} names {len(names)} classes, the network has {count}; write one name per line, in "
            f"the order of the classes"
        )
    return names
