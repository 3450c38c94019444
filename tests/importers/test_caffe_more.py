"""Caffe's rarer layers, and those of widespread versions of it, against their formulas."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from caffe_files import UNUSED, caffemodel, noise, statistics, weight

from convolve.errors import ConvolveError, ModelError
from convolve.graph.build import build
from convolve.importers import caffe
from convolve.importers.loader import PreprocessOverrides

SHAPE = (2, 4, 5, 6)
X = noise("x", SHAPE, 3.0)
DEPTHWISE, BIAS = weight("depthwise", (4, 1, 3, 3)), noise("bias", (4,))
NORM = [*statistics("norm", 4), 1 + noise("scale", (4,), 0.5), noise("shift", (4,))]


def layer(kind: str, settings: str = "", bottoms: str = "x", name: str = "l", top: str = "y") -> str:
    reads = " ".join(f'bottom: "{blob}"' for blob in bottoms.split())
    return f'layer {{ name: "{name}" type: "{kind}" {reads} top: "{top}" {settings} }}\n'


def answer(folder: Path, layers: str, blobs: dict[str, list[np.ndarray]], output: str = "y") -> np.ndarray:
    dims = " ".join(f"dim: {size}" for size in SHAPE)
    head = f'layer {{ name: "x" type: "Input" top: "x" input_param {{ shape {{ {dims} }} }} }}\n'
    (folder / "net.prototxt").write_text(head + layers)
    (folder / "net.caffemodel").write_bytes(caffemodel(blobs or UNUSED))
    path = Path(f"{folder / 'net.prototxt'}+{folder / 'net.caffemodel'}")
    graph = caffe.read(path, PreprocessOverrides(output=output)).graph
    with torch.no_grad():
        result: np.ndarray = build(graph)(torch.from_numpy(X)).numpy()
    return result


def convolved(x: np.ndarray) -> np.ndarray:
    return torch.nn.functional.conv2d(
        torch.from_numpy(x), torch.from_numpy(DEPTHWISE), torch.from_numpy(BIAS), groups=4
    ).numpy()


def normalized(x: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    centered = x - x.mean(axes, keepdims=True)
    return centered / (np.sqrt((centered**2).mean(axes, keepdims=True)) + 1e-9)


def of_channels(values: np.ndarray) -> np.ndarray:
    return values[:, None, None]


def batch_norm(x: np.ndarray) -> np.ndarray:
    mean, variance = NORM[0] / NORM[2], NORM[1] / NORM[2]
    plain = (x - of_channels(mean)) / np.sqrt(of_channels(variance) + 1e-5)
    return plain * of_channels(NORM[3]) + of_channels(NORM[4])


def largest(x: np.ndarray, axis: int, count: int) -> np.ndarray:
    return np.take(np.argsort(-x, axis, kind="stable"), range(count), axis)


CONV = "convolution_param { num_output: 4 kernel_size: 3 }"
CASES: dict[str, tuple[str, Callable[[np.ndarray], np.ndarray], dict[str, list[np.ndarray]]]] = {
    "relu6": (layer("ReLU6"), lambda x: np.clip(x, 0, 6), {}),
    "clip": (layer("Clip", "clip_param { min: -1 max: 0.5 }"), lambda x: np.clip(x, -1, 0.5), {}),
    "swish": (layer("Swish", "swish_param { beta: 2 }"), lambda x: x / (1 + np.exp(-2 * x)), {}),
    "threshold": (layer("Threshold", "threshold_param { threshold: 0.5 }"), lambda x: (x > 0.5) * 1.0, {}),
    "sum": (layer("Reduction", "reduction_param { axis: 2 coeff: 2 }"), lambda x: 2 * x.sum((2, 3)), {}),
    "mean": (layer("Reduction", "reduction_param { axis: 1 operation: MEAN }"), lambda x: x.mean((1, 2, 3)), {}),
    "asum": (layer("Reduction", "reduction_param { axis: 3 operation: ASUM }"), lambda x: np.abs(x).sum(3), {}),
    "sumsq": (layer("Reduction", "reduction_param { axis: -2 operation: 3 }"), lambda x: (x**2).sum((2, 3)), {}),
    "tile": (layer("Tile", "tile_param { axis: 2 tiles: 3 }"), lambda x: np.tile(x, (1, 1, 3, 1)), {}),
    "argmax": (layer("ArgMax"), lambda x: x.reshape(2, -1).argmax(1).reshape(2, 1, 1), {}),
    "argmax_axis": (layer("ArgMax", "argmax_param { axis: 1 top_k: 2 }"), lambda x: largest(x, 1, 2), {}),
    "argmax_values": (
        layer("ArgMax", "argmax_param { out_max_val: true top_k: 3 }"),
        lambda x: np.stack([largest(x.reshape(2, -1), 1, 3), -np.sort(-x.reshape(2, -1), 1)[:, :3]], 1),
        {},
    ),
    "mvn": (layer("MVN"), lambda x: normalized(x, (2, 3)), {}),
    "mvn_all": (layer("MVN", "mvn_param { across_channels: true }"), lambda x: normalized(x, (1, 2, 3)), {}),
    "mean_only": (
        layer("MVN", "mvn_param { normalize_variance: false }"), lambda x: x - x.mean((2, 3), keepdims=True), {},
    ),
    "shuffle": (
        layer("ShuffleChannel", "shuffle_channel_param { group: 2 }"), lambda x: x[:, [0, 2, 1, 3]], {},
    ),
    "axpy": (
        layer("Pooling", "pooling_param { pool: AVE global_pooling: true }", name="p", top="p")
        + layer("Axpy", bottoms="p x x"),
        lambda x: x.mean((2, 3), keepdims=True) * x + x,
        {},
    ),
    "depthwise": (layer("ConvolutionDepthwise", CONV), convolved, {"l": [DEPTHWISE, BIAS]}),
    "depthwise_2": (layer("DepthwiseConvolution", CONV), convolved, {"l": [DEPTHWISE, BIAS]}),
    "scale_bias": (layer("BatchNorm", "batch_norm_param { scale_bias: true }"), batch_norm, {"l": NORM}),
    "floor": (
        layer("Pooling", "pooling_param { kernel_size: 2 stride: 2 ceil_mode: false }"),
        lambda x: x[:, :, :4].reshape(2, 4, 2, 2, 3, 2).max((3, 5)),
        {},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_layers_compute_their_formula(case: str, tmp_path: Path) -> None:
    layers, formula, blobs = CASES[case]
    got = answer(tmp_path, layers, blobs)
    np.testing.assert_allclose(got, formula(X.astype(np.float64).astype(np.float32)), rtol=1e-5, atol=2e-6)


def test_a_last_layer_that_was_renamed_has_its_weights(tmp_path: Path) -> None:
    first, last = weight("first", (6, 120)), weight("last", (3, 6))
    layers = layer("InnerProduct", "inner_product_param { num_output: 6 bias_term: false }", name="a", top="a")
    layers += layer(
        "InnerProduct", "inner_product_param { num_output: 3 bias_term: false }", bottoms="a", name="fc_new"
    )
    got = answer(tmp_path, layers, {"a": [first], "fc": [last]})
    np.testing.assert_allclose(got, X.reshape(2, -1) @ first.T @ last.T, rtol=1e-4, atol=1e-4)
    graph = caffe.read(Path(f"{tmp_path / 'net.prototxt'}+{tmp_path / 'net.caffemodel'}"), PreprocessOverrides()).graph
    assert "layer fc_new takes the weights of fc" in graph.notes
    with pytest.raises(ModelError, match="holds no weights for"):
        answer(tmp_path, layers, {"a": [first], "fc": [weight("last", (1000, 6))]})


@pytest.mark.parametrize(
    ("layers", "words"),
    [
        (layer("Reduction"), "batch axis"),
        (layer("Clip", "clip_param { min: 0 }"), "needs min and max"),
        (layer("Tile", "tile_param { tiles: 0 }"), "0 tiles"),
        (layer("Tile", "tile_param { tiles: 1000000000 }"), "are refused"),
        (layer("ShuffleChannel", "shuffle_channel_param { group: 3 }"), "4 channels cannot be split into 3 groups"),
        (layer("Axpy", bottoms="x x x"), "times"),
        (layer("ArgMax", "argmax_param { top_k: 500 }"), "the 500 largest of 120"),
    ],
)
def test_what_does_not_fit_is_refused(layers: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(ConvolveError, match=words):
        answer(tmp_path, layers, {})
