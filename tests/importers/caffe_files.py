"""Writes Caffe's files for tests: caffemodels of made-up weights, in every encoding that Caffe's readers take."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod

import numpy as np
from wire_bytes import field as message
from wire_bytes import varint

Shape = tuple[int, ...]
Blobs = Mapping[str, Sequence[np.ndarray]]
UNUSED: Blobs = {"unused": [np.zeros(1, np.float32)]}  # for networks that learn nothing


# -- numbers that are the same everywhere ------------------------------------------------------------------------------


def noise(name: str, shape: Shape, scale: float = 1.0) -> np.ndarray:
    """Numbers between -scale and scale that depend on `name` alone: RandomState never changes its stream."""
    numbers = np.random.RandomState(zlib.crc32(name.encode())).randint(-127, 128, prod(shape), np.int8)
    return (numbers.astype(np.float32) * np.float32(scale / 127)).reshape(shape)


def weight(name: str, shape: Shape) -> np.ndarray:
    """Weights that keep the size of what goes through them, for a parameter (out, in, ...)."""
    return noise(name, shape, float(np.sqrt(6 / max(prod(shape[1:]), 1))))


def statistics(name: str, channels: int, divisor: float = 2.0) -> list[np.ndarray]:
    """The three blobs of a BatchNorm: sums of means and of variances, and what to divide them by."""
    mean, variance = noise(f"{name} mean", (channels,), 0.1), 1 + noise(f"{name} variance", (channels,), 0.5)
    return [mean * np.float32(divisor), variance * np.float32(divisor), np.array([divisor], np.float32)]


# -- binary ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Form:
    """How a caffemodel is written: V1 layers, shapes of four numbers, numbers one by one, doubles."""

    v1: bool = False
    legacy_shapes: bool = False
    packed: bool = True
    double: bool = False


PLAIN = Form()


def blob(array: np.ndarray, form: Form = PLAIN) -> bytes:
    values = array.astype("<f8" if form.double else "<f4")
    number, kind = (8, 1) if form.double else (5, 5)
    if form.packed:
        data = message(number, values.tobytes())
    else:
        data = b"".join(varint(number << 3 | kind) + value.tobytes() for value in values.ravel())
    if form.legacy_shapes:
        sizes = (1,) * (4 - array.ndim) + array.shape
        return b"".join(varint(place << 3) + varint(size) for place, size in enumerate(sizes, 1)) + data
    return data + message(7, message(1, b"".join(map(varint, array.shape))))


def caffemodel(blobs: Blobs, form: Form = PLAIN) -> bytes:
    """The bytes of a caffemodel with these weights."""
    net, name_field, blobs_field = (2, 4, 6) if form.v1 else (100, 1, 7)
    result = message(1, b"a net")
    for name, arrays in blobs.items():
        content = b"".join(message(blobs_field, blob(array, form)) for array in arrays)
        result += message(net, message(name_field, name.encode()) + content)
    return result


# -- text --------------------------------------------------------------------------------------------------------------


@dataclass
class Writer:
    """A prototxt layer by layer, with made-up weights to it. `v1` writes the older syntax."""

    input_shape: Shape  # with the batch
    v1: bool = False
    thin: int = 1  # divides the number of channels of every layer but the last
    weights: dict[str, Callable[[], list[np.ndarray]]] = field(default_factory=dict)  # made when they are wanted
    channels: dict[str, int] = field(default_factory=dict)
    layers: list[str] = field(default_factory=list)
    scores: str = ""  # the blob before the softmax

    def __post_init__(self) -> None:
        self.channels["data"] = self.input_shape[1]

    @property
    def blobs(self) -> dict[str, list[np.ndarray]]:
        return {name: make() for name, make in self.weights.items()}

    @property
    def text(self) -> str:
        if self.v1:
            dims = "\n".join(f"input_dim: {size}" for size in self.input_shape)
            head = f'name: "a net"  # the old syntax\ninput: "data"\n{dims}\n'
        else:
            dims = " ".join(f"dim: {size}" for size in self.input_shape)
            head = f"""name: 'a net'
layer {{ name: "data" type: "Input" top: "data" input_param {{ shape: {{ {dims} }} }} }}
"""
        return head + "\n".join(self.layers) + "\n"

    def layer(self, kind: str, name: str, bottoms: Sequence[str], top: str, settings: str = "") -> str:
        block, kind = ("layers", _V1[kind]) if self.v1 else ("layer", f'"{kind}"')
        bottom = " ".join(f'bottom: "{blob}"' for blob in bottoms)
        self.layers.append(f'{block} {{\n  name: "{name}" type: {kind} {bottom} top: "{top}"\n  {settings}\n}}')
        self.channels[top] = self.channels.get(bottoms[0], 0)
        return top

    def conv(
        self, name: str, bottom: str, maps: int, kernel: int, stride: int = 1, pad: int = 0, group: int = 1,
        bias: bool = True, relu: bool = True, last: bool = False,
    ) -> str:  # fmt: skip
        maps = maps if last else maps // self.thin
        shape = (maps, self.channels[bottom] // group, kernel, kernel)
        self.weights[name] = lambda: [weight(name, shape), *([noise(f"{name} bias", (maps,), 0.1)] if bias else [])]
        settings = f"num_output: {maps} kernel_size: {kernel} stride: {stride} pad: {pad} group: {group}"
        self.layer(
            "Convolution", name, [bottom], name, f"convolution_param {{ {settings} bias_term: {str(bias).lower()} }}"
        )
        self.channels[name] = maps
        return self.relu(name) if relu else name

    def relu(self, blob: str) -> str:
        return self.layer("ReLU", f"relu_{blob}", [blob], blob)

    def pool(self, name: str, bottom: str, settings: str) -> str:
        return self.layer("Pooling", name, [bottom], name, f"pooling_param {{ {settings} }}")

    def lrn(self, name: str, bottom: str) -> str:
        return self.layer("LRN", name, [bottom], name, "lrn_param { local_size: 5 alpha: 0.0001 beta: 0.75 }")

    def concat(self, name: str, bottoms: Sequence[str]) -> str:
        self.layer("Concat", name, bottoms, name)
        self.channels[name] = sum(self.channels[bottom] for bottom in bottoms)
        return name

    def dense(self, name: str, bottom: str, outputs: int, cells: int = 1, last: bool = False) -> str:
        """`cells` is the number of places in the image that each channel still has."""
        outputs = outputs if last else outputs // self.thin
        shape = (outputs, self.channels[bottom] * cells)
        self.weights[name] = lambda: [weight(name, shape), noise(f"{name} bias", (outputs,), 0.1)]
        self.layer("InnerProduct", name, [bottom], name, f"inner_product_param {{ num_output: {outputs} }}")
        self.channels[name] = outputs
        return name

    def dropout(self, blob: str) -> str:
        return self.layer("Dropout", f"drop_{blob}", [blob], blob, "dropout_param { dropout_ratio: 0.5 }")

    def normalized(self, name: str, blob: str, gain: float = 1.0) -> str:
        """BatchNorm and Scale in place."""
        channels = self.channels[blob]
        self.weights[f"bn_{name}"] = lambda: statistics(name, channels)
        self.weights[f"scale_{name}"] = lambda: [
            np.float32(gain) * (1 + noise(f"{name} scale", (channels,), 0.5)),
            noise(f"{name} shift", (channels,), 0.1),
        ]
        self.layer("BatchNorm", f"bn_{name}", [blob], blob, "batch_norm_param { use_global_stats: true }")
        return self.layer("Scale", f"scale_{name}", [blob], blob, "scale_param { bias_term: true }")

    def softmax(self, bottom: str) -> str:
        self.scores = bottom
        return self.layer("Softmax", "prob", [bottom], "prob")


_V1 = {
    "Convolution": "CONVOLUTION", "ReLU": "RELU", "Pooling": "POOLING", "LRN": "LRN", "Concat": "CONCAT",
    "InnerProduct": "INNER_PRODUCT", "Dropout": "DROPOUT", "Softmax": "SOFTMAX",
}  # fmt: skip
