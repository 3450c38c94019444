"""ONNX files that take a photograph of any size: they resize and crop it themselves, with ONNX's own Resize and Slice.

The operators before the network are written here one by one, so that they do what `fit_image` does. The network's own
input remains a value of the file, "images": convolve cuts the file there when it reads it again.

Legend: N images, C channels, H rows, W columns, K classes.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from convolve.errors import ConvolveError, UnsupportedError, UsageError
from convolve.export.inputs import natural_images
from convolve.export.metadata import (
    DISTANCE,
    INNER,
    INPUT,
    KEY,
    NONE_OF_THESE,
    OUTPUT,
    PHOTOGRAPH,
    PROBABILITIES,
    Description,
    for_any_size,
    read_metadata,
    scores_of,
)
from convolve.export.onnx import open_session
from convolve.export.parity import Parity, distance
from convolve.transforms.preprocess import Preprocess, fit_image

OPSET = 18  # since when Resize has antialias
TOLERANCE = 0.01  # of a probability, or of the largest number: sums in another order, quantized
LEVELS = 1  # of 255, that Resize rounds otherwise
# The sides of the images that a file is compared on, in those of the network's: tall, wide, smaller, larger.
_FACTORS = ((1.0, 1.0), (0.4, 0.7), (1.3, 2.9), (3.7, 1.2), (2.2, 2.2), (0.5, 4.1))
# OpenCV's weights for gray, in units of 2**-15 (its color_rgb.simd.hpp); whole numbers below 2**24 are exact in fp32.
_GRAY, _ONE = (9798.0, 19235.0, 3735.0), 32768.0


def require_sayable(preprocess: Preprocess, path: Path) -> None:
    """Raise UnsupportedError if ONNX has no operator that resizes as this model needs it."""
    if path.suffix != ".onnx":
        raise UsageError(f"--any-size is for --to onnx, whose files can resize images; got {path}")
    if preprocess.filter == "linear_antialiased":
        return
    raise UnsupportedError(
        f"--any-size: the model's images are resized by OpenCV's \"{preprocess.filter}\", which ONNX's Resize "
        'lacks; it has "linear_antialiased", which the recipe photos uses. --with-preprocessing writes a file for '
        f"images of {preprocess.width}x{preprocess.height}, scaled outside"
    )


def attach(path: Path) -> Parity:
    """Turn our file at `path`, which takes uint8 images_NHWC of the network's size, into one that takes an image_HW3 of
    any size.

    It is compared with the original file on images resized by convolve. Raises ConvolveError if the answers differ.
    """
    import onnx

    model, before = onnx.load(path), open_session(str(path))
    [said] = [prop for prop in model.metadata_props if prop.key == KEY]
    _, about, _ = read_metadata(said.value, path)
    preprocess = Preprocess(**(about.preprocess_in_graph or {}))
    _rename(model.graph, {port.name: port.name + INNER for port in model.graph.output})
    front, back = _Nodes(model.graph), _Nodes(model.graph)
    _before(front, preprocess)
    _behind(back, about)
    network = [*model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend([*front.nodes, *network, *back.nodes])
    said.value = for_any_size(said.value, about)
    path.write_bytes(model.SerializeToString())
    model.graph.output.append(onnx.ValueInfoProto(name=INPUT))
    return _compared(path, before, open_session(model.SerializeToString()), preprocess, about)


def _rename(graph: Any, names: dict[str, str]) -> None:
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]


class _Nodes:
    """Nodes in the order in which they are added, with their own names; arrays become constants of the file."""

    def __init__(self, graph: Any) -> None:
        self.graph, self.nodes = graph, list[Any]()

    def add(self, op: str, *inputs: str | np.ndarray, gives: str = "", **attributes: Any) -> str:
        """Add the operator; returns the name of its result."""
        from onnx import helper

        names = [self.constant(each) if isinstance(each, np.ndarray) else each for each in inputs]
        name = f"any_size/{op}_{len(self.graph.initializer)}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, names, [gives or name], name=name, **attributes))
        return gives or name

    def constant(self, array: np.ndarray) -> str:
        from onnx import numpy_helper

        name = f"any_size/constant_{len(self.graph.initializer)}"
        self.graph.initializer.append(numpy_helper.from_array(array, name))
        return name

    def cast(self, value: str, dtype: type, gives: str = "") -> str:
        from onnx import helper

        return self.add("Cast", value, gives=gives, to=helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))


# -- before the network ------------------------------------------------------------------------------------------------


def _before(nodes: _Nodes, preprocess: Preprocess) -> None:
    """uint8 image_HW3 -> uint8 images_1HWC of the network's size."""
    from onnx import TensorProto, helper

    del nodes.graph.input[:]
    nodes.graph.input.append(helper.make_tensor_value_info(PHOTOGRAPH, TensorProto.UINT8, ("H", "W", 3)))
    sides = nodes.add("Shape", PHOTOGRAPH, end=2)
    planes = nodes.add("Transpose", nodes.cast(PHOTOGRAPH, np.float32), perm=[2, 0, 1])
    images_13HW = nodes.add("Unsqueeze", planes, _whole(0))
    images_13HW = _WAYS[preprocess.resize](nodes, images_13HW, sides, preprocess)
    if preprocess.channels == 1:
        parts = np.array(_GRAY, np.float32).reshape(1, 3, 1, 1)
        total = nodes.add("ReduceSum", nodes.add("Mul", images_13HW, parts), _whole(1), keepdims=1)
        images_13HW = nodes.add("Floor", nodes.add("Div", nodes.add("Add", total, _real(_ONE / 2)), _real(_ONE)))
    nodes.cast(nodes.add("Transpose", images_13HW, perm=[0, 2, 3, 1]), np.uint8, gives=INPUT)


def _cover(nodes: _Nodes, images_13HW: str, sides: str, preprocess: Preprocess) -> str:
    wanted = np.array(preprocess.size_before_crop, np.float64)
    real = nodes.cast(sides, np.float64)
    ratio = nodes.add("ReduceMax", nodes.add("Div", wanted, real), keepdims=1)
    full = nodes.add("Max", nodes.add("Round", nodes.add("Mul", real, ratio)), wanted)
    return _center(nodes, *_resized(nodes, images_13HW, nodes.cast(full, np.int64)), preprocess)


def _squash(nodes: _Nodes, images_13HW: str, sides: str, preprocess: Preprocess) -> str:
    full = nodes.constant(_whole(*preprocess.size_before_crop))
    return _center(nodes, *_resized(nodes, images_13HW, full), preprocess)


def _letterbox(nodes: _Nodes, images_13HW: str, sides: str, preprocess: Preprocess) -> str:
    target = np.array((preprocess.height, preprocess.width), np.float64)
    real = nodes.cast(sides, np.float64)
    turned = nodes.add("Gather", real, _whole(1, 0))
    other = nodes.add("Div", nodes.add("Mul", real, target[::-1].copy()), turned)  # padding at the other side
    rounded = nodes.add("Floor", nodes.add("Add", other, np.array(0.5)))
    full = nodes.cast(nodes.add("Min", nodes.add("Max", rounded, np.array(1.0)), target), np.int64)
    scaled, _ = _resized(nodes, images_13HW, full)
    missing = nodes.add("Sub", _whole(preprocess.height, preprocess.width), full)
    before = nodes.add("Div", missing, _whole(2))
    nothing = _whole(0, 0)
    pads = nodes.add("Concat", nothing, before, nothing, nodes.add("Sub", missing, before), axis=0)
    if preprocess.padding_value < 0:
        return nodes.add("Pad", scaled, pads, mode="edge")
    return nodes.add("Pad", scaled, pads, np.array(preprocess.padding_value, np.float32))


def _square(nodes: _Nodes, images_13HW: str, sides: str, preprocess: Preprocess) -> str:
    shorter = nodes.cast(nodes.add("ReduceMin", sides, keepdims=1), np.float64)
    part = nodes.add("Mul", shorter, np.array([preprocess.crop_ratio]))
    rounded = nodes.add("Floor", nodes.add("Add", part, np.array(0.5)))
    side = nodes.cast(nodes.add("Max", rounded, np.array(1.0)), np.int64)
    square = _cut(nodes, images_13HW, sides, nodes.add("Concat", side, side, axis=0))
    return _resized(nodes, square, nodes.constant(_whole(preprocess.height, preprocess.width)))[0]


_WAYS = {"cover": _cover, "squash": _squash, "letterbox": _letterbox, "square": _square}


def _resized(nodes: _Nodes, images_13HW: str, size: str) -> tuple[str, str]:
    """(the images at that (height, width), rounded to whole levels; the size): `resize_antialiased` in ONNX."""
    sizes = nodes.add("Concat", _whole(1, 3), size, axis=0)
    scaled = nodes.add(
        "Resize", images_13HW, "", "", sizes, mode="linear", antialias=1, exclude_outside=1,
        coordinate_transformation_mode="half_pixel",
    )  # fmt: skip
    return nodes.add("Round", scaled), size  # halves to even, as there


def _center(nodes: _Nodes, images_13HW: str, size: str, preprocess: Preprocess) -> str:
    return _cut(nodes, images_13HW, size, nodes.constant(_whole(preprocess.height, preprocess.width)))


def _cut(nodes: _Nodes, images_13HW: str, sides: str, wanted: str) -> str:
    """The center of images with these `sides`, (height, width)."""
    start = nodes.add("Div", nodes.add("Sub", sides, wanted), _whole(2))
    return nodes.add("Slice", images_13HW, start, nodes.add("Add", start, wanted), _whole(2, 3))


def _whole(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int64)


def _real(number: float) -> np.ndarray:
    return np.array(number, np.float32)


# -- behind it ---------------------------------------------------------------------------------------------------------


def _behind(nodes: _Nodes, about: Description) -> None:
    """The network's output for one image -> probabilities_K or numbers and, for a model with confidence, whether the
    image is "none of these" and its distance."""
    from onnx import TensorProto, helper

    scores = scores_of(about)
    inner = scores + INNER
    if scores == OUTPUT:
        scores = PROBABILITIES
        inner = nodes.add("Exp", inner) if about.independent else nodes.add("Softmax", inner, axis=1)
    nodes.add("Squeeze", inner, _whole(0), gives=scores)
    ports = [helper.make_tensor_value_info(scores, TensorProto.FLOAT, [len(about.class_names)])]
    if about.confidence:
        # onnxruntime's symbolic_shape_infer needs a shape for Squeeze, and has none here: see OutlierDetector.
        nodes.add("ReduceMax", DISTANCE + INNER, keepdims=0, gives=DISTANCE)
        if about.confidence.farthest is not None:
            nodes.add("Greater", DISTANCE, _real(about.confidence.farthest), gives=NONE_OF_THESE)
            ports.append(helper.make_tensor_value_info(NONE_OF_THESE, TensorProto.BOOL, []))
        ports.append(helper.make_tensor_value_info(DISTANCE, TensorProto.FLOAT, []))
    del nodes.graph.output[:]
    nodes.graph.output.extend(ports)


# -- the comparison ----------------------------------------------------------------------------------------------------


def _compared(path: Path, before: Any, seen: Any, preprocess: Preprocess, about: Description) -> Parity:
    """Compare both files; `seen` also gives the image `before` the network: one level there can change quantized
    outputs."""
    run, worst = open_session(str(path)), 0.0
    for seed, factors in enumerate(_FACTORS):
        height, width = (
            max(1, round(side * part)) for side, part in zip(preprocess.shape_CHW[1:], factors, strict=True)
        )
        [image_CHW] = natural_images(1, (3, height, width), np.random.default_rng(seed))
        image_HWC = np.ascontiguousarray(image_CHW.transpose(1, 2, 0))
        fit_CHW, _ = fit_image(np.ascontiguousarray(image_HWC[..., ::-1]), preprocess)
        [pixels_1HWC] = seen.run([INPUT], {PHOTOGRAPH: image_HWC})
        levels = np.abs(pixels_1HWC[0].astype(int) - fit_CHW.transpose(1, 2, 0)).max()
        wanted_NK, *beside = before.run(None, {INPUT: pixels_1HWC})
        if scores_of(about) == OUTPUT:
            tensor = torch.from_numpy(wanted_NK)
            wanted_NK = (tensor.exp() if about.independent else tensor.softmax(1)).numpy()
        got_K, *more = run.run(None, {PHOTOGRAPH: image_HWC})
        off = float(distance(wanted_NK[0], got_K).max())
        if beside:
            off = max(off, float(distance(beside[-1][0], more[-1]).max()))
        if levels > LEVELS or not off <= TOLERANCE:
            raise ConvolveError(
                f"{path} was not written, because its outputs differ from its source's: resized, an image of {width}x"
                f"{height} pixels is off by {levels} of 255, and its answer by {off:.2g}. Please report it"
            )
        worst = max(worst, off)
    return Parity(len(_FACTORS), worst, of_one_class=False)
