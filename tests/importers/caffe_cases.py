"""Small networks, a layer or two each; tests/golden/caffe holds what OpenCV's Caffe reader makes of them."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from caffe_files import Shape, noise, statistics, weight


@dataclass(frozen=True)
class Case:
    """`layers` computes the blob "y" from the blob "x"."""

    shape: Shape  # of x, with the batch
    layers: str
    blobs: dict[str, list[np.ndarray]] = field(default_factory=dict)

    @property
    def text(self) -> str:
        dims = " ".join(f"dim: {size}" for size in self.shape)
        return f'layer {{ name: "x" type: "Input" top: "x" input_param {{ shape {{ {dims} }} }} }}\n{self.layers}\n'

    def images(self, name: str) -> np.ndarray:
        return noise(f"{name} images", self.shape, 2.0)


def _layer(kind: str, settings: str = "", bottoms: str = "x", tops: str = "y", name: str = "l") -> str:
    reads = " ".join(f'bottom: "{blob}"' for blob in bottoms.split())
    makes = " ".join(f'top: "{blob}"' for blob in tops.split())
    return f'layer {{ name: "{name}" type: "{kind}" {reads} {makes} {settings} }}'


def _conv(settings: str, image: Shape, shape: Shape, bias: int = 0, kind: str = "Convolution") -> Case:
    blobs = [weight(settings, shape), *([noise(settings + " bias", (bias,))] if bias else [])]
    term = "" if bias else " bias_term: false"
    return Case(image, _layer(kind, f"convolution_param {{ {settings}{term} }}"), {"l": blobs})


def _pool(settings: str, height: int = 11, width: int = 14) -> Case:
    return Case((2, 3, height, width), _layer("Pooling", f"pooling_param {{ {settings} }}"))


def _plain(kind: str, settings: str = "", shape: Shape = (2, 3, 4, 5)) -> Case:
    return Case(shape, _layer(kind, settings))


def _two(kind: str, settings: str = "", blobs: str = "a b") -> Case:
    """A layer of two blobs, made from x by a convolution each."""
    convs = [
        _layer(
            "Convolution", "convolution_param { num_output: 4 kernel_size: 1 bias_term: false }", tops=blob, name=blob
        )
        for blob in "ab"
    ]
    layers = "\n".join([*convs, _layer(kind, settings, blobs)])
    return Case((2, 3, 4, 5), layers, {blob: [weight(blob, (4, 3, 1, 1))] for blob in "ab"})


def _bn(settings: str = "", scale: bool = False, divisor: float = 2.0) -> Case:
    blobs = {"l": statistics(settings or "bn", 3, divisor)}
    layers = _layer("BatchNorm", settings, tops="x" if scale else "y")
    if scale:
        blobs["s"] = [1 + noise("scale", (3,), 0.5), noise("shift", (3,))]
        layers += "\n" + _layer("Scale", "scale_param { bias_term: true }", name="s")
    return Case((2, 3, 4, 5), layers, blobs)


def _sliced(settings: str, tops: str, back: str = "") -> Case:
    """Slices put together again in another order."""
    layers = _layer("Slice", f"slice_param {{ {settings} }}", tops=tops)
    layers += _layer("Concat", back, " ".join(reversed(tops.split())), name="c")
    return Case((2, 6, 4, 5), layers)


_SMALL = _layer("Pooling", "pooling_param { kernel_size: 2 stride: 2 }", tops="small", name="p")

CASES: dict[str, Case] = {
    "conv": _conv("num_output: 4 kernel_size: 3 stride: 2 pad: 1", (2, 3, 9, 10), (4, 3, 3, 3), 4),
    "conv_group_dilated": _conv(
        "num_output: 6 kernel_size: 3 pad: 2 dilation: 2 group: 2", (2, 4, 9, 10), (6, 2, 3, 3), 6
    ),
    "conv_by_axis": _conv(
        "num_output: 4 kernel_h: 1 kernel_w: 5 pad_h: 0 pad_w: 2 stride_h: 2 stride_w: 1", (2, 3, 9, 10), (4, 3, 1, 5)
    ),
    "conv_depthwise": _conv("num_output: 8 kernel_size: 3 group: 4", (2, 4, 9, 10), (8, 1, 3, 3), 8),
    "deconv": _conv("num_output: 4 kernel_size: 4 stride: 2 pad: 1", (2, 3, 5, 6), (3, 4, 4, 4), 4, "Deconvolution"),
    "deconv_group": _conv(
        "num_output: 4 kernel_size: 4 stride: 2 group: 4", (2, 4, 5, 6), (4, 1, 4, 4), 0, "Deconvolution"
    ),
    "pool_max": _pool("pool: MAX kernel_size: 3 stride: 2"),
    "pool_max_padded": _pool("pool: MAX kernel_size: 3 stride: 2 pad: 1"),
    "pool_max_clipped": _pool("pool: MAX kernel_size: 2 stride: 2 pad: 1"),
    "pool_max_by_axis": _pool("pool: MAX kernel_h: 4 kernel_w: 2 stride_h: 3 stride_w: 2 pad_h: 2 pad_w: 0"),
    "pool_average": _pool("pool: AVE kernel_size: 3 stride: 2"),
    "pool_average_exact": _pool("pool: AVE kernel_size: 3 stride: 1 pad: 1"),
    "pool_average_padded": _pool("pool: AVE kernel_size: 3 stride: 2 pad: 1"),
    "pool_average_clipped": _pool("pool: AVE kernel_size: 4 stride: 3 pad: 2", 13, 12),
    "pool_global": _pool("pool: AVE global_pooling: true"),
    "pool_global_max": _pool("pool: MAX global_pooling: true"),
    "lrn": _plain("LRN", "lrn_param { local_size: 3 alpha: 0.5 beta: 0.7 }", (2, 7, 4, 5)),
    "lrn_within": _plain("LRN", "lrn_param { local_size: 3 alpha: 0.5 norm_region: WITHIN_CHANNEL }"),
    "batch_norm": _bn(),
    "batch_norm_eps": _bn("batch_norm_param { eps: 0.01 use_global_stats: true }", divisor=999.98),
    "batch_norm_scale": _bn(scale=True),
    "scale": Case(
        (2, 3, 4, 5), _layer("Scale", "scale_param { bias_term: true }"),
        {"l": [noise("gamma", (3,)), noise("beta", (3,))]},
    ),
    "scale_by_another": _two("Scale", "scale_param { axis: 0 }"),
    "prelu": Case((2, 3, 4, 5), _layer("PReLU"), {"l": [noise("slopes", (3,))]}),
    "prelu_shared": Case(
        (2, 3, 4, 5), _layer("PReLU", "prelu_param { channel_shared: true }"), {"l": [noise("slope", (1,))]}
    ),
    "dense": Case(
        (2, 3, 4, 5), _layer("InnerProduct", "inner_product_param { num_output: 7 }"),
        {"l": [weight("dense", (7, 60)), noise("dense bias", (7,))]},
    ),
    "dense_axis": Case(
        (2, 3, 4, 5), _layer("InnerProduct", "inner_product_param { num_output: 7 axis: 2 bias_term: false }"),
        {"l": [weight("dense", (7, 20))]},
    ),
    "eltwise_sum": _two("Eltwise", "eltwise_param { operation: SUM }"),
    "eltwise_difference": _two("Eltwise", "eltwise_param { operation: SUM coeff: 1 coeff: -0.5 }"),
    "eltwise_product": _two("Eltwise", "eltwise_param { operation: PROD }"),
    "eltwise_maximum": _two("Eltwise", "eltwise_param { operation: MAX }"),
    "concat": _two("Concat"),
    "concat_rows": _two("Concat", "concat_param { axis: 2 }"),
    "slice": _sliced("slice_point: 1 slice_point: 4", "a b c"),
    "slice_equal": _sliced("axis: 1", "a b"),
    "slice_rows": _sliced("axis: 2 slice_point: 3", "a b", "concat_param { axis: 2 }"),
    "crop": Case((2, 3, 8, 9), _SMALL + _layer("Crop", "crop_param { axis: 2 offset: 1 offset: 3 }", "x small")),
    "crop_one_offset": Case((2, 3, 8, 9), _SMALL + _layer("Crop", "crop_param { offset: 2 }", "x small")),
    "flatten": _plain("Flatten"),
    "flatten_part": _plain("Flatten", "flatten_param { axis: 1 end_axis: 2 }"),
    "reshape": _plain("Reshape", "reshape_param { shape { dim: 0 dim: 0 dim: -1 } }"),
    "reshape_part": _plain("Reshape", "reshape_param { shape { dim: 2 dim: -1 } axis: 2 num_axes: 1 }"),
    "relu": _plain("ReLU"),
    "leaky_relu": _plain("ReLU", "relu_param { negative_slope: 0.1 }"),
    "elu": _plain("ELU"),
    "sigmoid": _plain("Sigmoid"),
    "tanh": _plain("TanH"),
    "abs": _plain("AbsVal"),
    "bnll": _plain("BNLL"),
    "power": _plain("Power", "power_param { power: 2 scale: 0.5 shift: 1.5 }"),
    "power_affine": _plain("Power", "power_param { scale: -0.5 shift: 1 }"),
    "exp": _plain("Exp"),
    "exp_base": _plain("Exp", "exp_param { base: 2 scale: 0.5 shift: 1 }"),
    "softmax": _plain("Softmax"),
    "softmax_rows": _plain("Softmax", "softmax_param { axis: 2 }"),
    "dropout": _plain("Dropout", "dropout_param { dropout_ratio: 0.3 }"),
    "in_place": Case(
        (2, 3, 4, 5),
        _layer("ReLU", tops="x", name="r") + _layer("Power", "power_param { shift: -1 }", tops="x", name="p")
        + _layer("Split", tops="a b", name="s") + _layer("AbsVal", "", "a", "v", "v") + _layer("Concat", "", "v b"),
    ),
}  # fmt: skip
