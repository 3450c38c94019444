"""Exported ONNX files stay right in the hands of others: onnxruntime's optimizer and quantizers, OpenCV's reader."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from convolve.errors import ConvolveError, ModelError
from convolve.export import onnx_rewrites
from convolve.export.onnx import OnnxNetwork
from convolve.graph.build import build
from convolve.graph.draft import Draft
from convolve.graph.graph import Graph
from convolve.loading import load
from convolve.model import Model
from convolve.specs.model import ModelSpec
from convolve.transforms.preprocess import Preprocess

SHAPE_CHW = (3, 16, 16)


class Gelu(nn.Module):
    """A padding by zeros before a max pooling, a GELU, and a dense layer: what others misread."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 8, 3), nn.Linear(8 * 8 * 8, 5)
        nn.init.constant_(self.conv.bias, -40)  # all below zero, where the zeros of the padding are the largest

    def forward(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        pooled = F.max_pool2d(F.pad(self.conv(images_NCHW / 255), (1, 0, 1, 0)), 3, 2, 1)
        return self.head(F.gelu(pooled + 2).flatten(1))


@pytest.fixture(scope="module")
def model() -> Model:
    torch.manual_seed(0)
    return Model(Gelu().eval(), ModelSpec(), Preprocess(*SHAPE_CHW), tuple("abcde"))


@pytest.fixture(scope="module")
def exported(model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("exported") / "net.onnx"
    model.export(path)
    return path


def images(count: int = 6) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, *SHAPE_CHW), dtype=np.uint8)


def logits(model: Model, images_NCHW: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return model.module(torch.from_numpy(images_NCHW.astype(np.float32))).numpy()


@pytest.mark.parametrize("level", ["ORT_DISABLE_ALL", "ORT_ENABLE_BASIC", "ORT_ENABLE_EXTENDED", "ORT_ENABLE_ALL"])
def test_onnxruntime_answers_the_same_however_much_it_optimizes(level: str, model: Model, exported: Path) -> None:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    session = onnxruntime.InferenceSession(str(exported), options, providers=["CPUExecutionProvider"])
    for factor in (1, -1, 0, 20, -20):
        inputs = images().astype(np.float32) * factor
        expected = logits(model, inputs)
        np.testing.assert_allclose(
            session.run(None, {"images": inputs})[0], expected, atol=1e-5 * max(1, np.abs(expected).max())
        )


def test_the_file_is_whole_and_opencv_reads_it(exported: Path) -> None:
    """In a process of its own: the order of GELU's operands that torch writes makes OpenCV 5.0 die."""
    onnx.checker.check_model(onnx.load(exported), full_check=True)
    code = (
        "import cv2, sys, numpy as np; net = cv2.dnn.readNetFromONNX(sys.argv[1]); "
        "net.setInput(np.zeros((1, 3, 16, 16), np.float32)); print(net.forward().shape)"
    )
    read = subprocess.run([sys.executable, "-c", code, exported], capture_output=True, text=True, check=False)
    assert (read.returncode, read.stdout.strip()) == (0, "(1, 5)"), read.stderr[-500:]


@pytest.mark.parametrize("keeps_axes", [True, False])
def test_extremes_are_poolings(keeps_axes: bool, tmp_path: Path) -> None:
    """ncnn has neither ReduceMax nor ReduceMin; what is no plane or row of them stays."""

    class Extremes(nn.Module):
        def forward(self, images_NCHW: torch.Tensor) -> torch.Tensor:
            planes = images_NCHW.amax((3, 2), keepdim=keeps_axes).flatten(1)
            return planes - planes.amin(1)[:, None] + images_NCHW.amax(1).flatten(1)[:, :3]

    path, model = tmp_path / "net.onnx", Model(Extremes(), ModelSpec(), Preprocess(*SHAPE_CHW), tuple("abc"))
    model.export(path)
    nodes = onnx.load(path).graph.node
    operators = [node.op_type for node in nodes]
    assert [operators.count(name) for name in ("GlobalMaxPool", "ReduceMax", "ReduceMin")] == [2, 1, 0]
    assert len({node.name for node in nodes}) == len(nodes)
    onnx.checker.check_model(onnx.load(path), full_check=True)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    inputs = images().astype(np.float32) - 300  # zeros would be the largest
    np.testing.assert_array_equal(session.run(None, {"images": inputs})[0], logits(model, inputs))


def test_quantize_dynamic_takes_the_file(model: Model, exported: Path, tmp_path: Path) -> None:
    """And what it makes of it is run by onnxruntime, with the names and the preprocessing of the file."""
    from onnxruntime.quantization import quantize_dynamic

    path = tmp_path / "quantized.onnx"
    quantize_dynamic(exported, path)
    opened = load(path)
    assert isinstance(opened.module, OnnxNetwork) and opened.architecture is None
    assert opened.class_names == model.class_names and opened.preprocess == model.preprocess
    np.testing.assert_allclose(opened.probabilities(images()), model.probabilities(images()), atol=0.05)


@pytest.mark.parametrize("keep_io_types", [True, False])
def test_half_precision_inside_and_at_the_ends(
    keep_io_types: bool, model: Model, exported: Path, tmp_path: Path
) -> None:
    from onnxruntime.transformers.float16 import convert_float_to_float16

    onnx.save(convert_float_to_float16(onnx.load(exported), keep_io_types=keep_io_types), tmp_path / "half.onnx")
    opened = load(tmp_path / "half.onnx")
    assert isinstance(opened.architecture, Graph)
    np.testing.assert_allclose(opened.probabilities(images()), model.probabilities(images()), atol=5e-3)


def test_a_batch_fixed_to_one_becomes_free(model: Model, exported: Path, tmp_path: Path) -> None:
    from onnxruntime.tools.onnx_model_utils import make_dim_param_fixed

    made = onnx.load(exported)
    make_dim_param_fixed(made.graph, "N", 1)
    onnx.save(made, tmp_path / "one.onnx")
    opened = load(tmp_path / "one.onnx")
    assert isinstance(opened.architecture, Graph)
    np.testing.assert_allclose(opened.probabilities(images()), model.probabilities(images()), atol=1e-5)


def test_a_file_that_onnxruntime_optimized(model: Model, exported: Path, tmp_path: Path) -> None:
    """Its own operators are nobody else's: it runs them."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.log_severity_level = 4
    onnxruntime.InferenceSession(str(exported), options, providers=["CPUExecutionProvider"])
    opened = load(tmp_path / "optimized.onnx")
    np.testing.assert_allclose(opened.probabilities(images()), model.probabilities(images()), atol=1e-5)


def test_sums_of_large_exponentials(tmp_path: Path) -> None:
    """log(exp(a) + exp(b)) overflows from 89 on, where an exporter spells it out."""
    draft = Draft()
    rows = draft.add("reshape", [draft.input((3, 2, 2), "image")], shape=(12,))
    other = draft.add("multiply", [rows, draft.parameter(np.float32(0.5), learning_rate_multiplier=0)])
    graph = draft.finish([draft.add("log_add_exp", [rows, other])], "a test")
    model = Model(build(graph), graph, Preprocess(3, 2, 2), tuple("abcdefghijkl"))
    assert model.export(tmp_path / "sums.onnx").worst < 1e-6


def test_a_fault_that_no_image_shows_is_found(model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As onnxruntime optimizes the file that torch writes, its padding becomes another one."""
    monkeypatch.setattr(onnx_rewrites, "REWRITES", ())
    with pytest.raises(ConvolveError, match="its outputs differ from its source's"):
        model.export(tmp_path / "net.onnx")


def test_a_file_whose_graph_and_metadata_disagree(exported: Path, tmp_path: Path) -> None:
    made, path = onnx.load(exported), tmp_path / "net.onnx"
    said = made.metadata_props[0].value
    for old, new, words in (
        ('"e"]', '"e", "f"]', "names 6 classes, the network has 5"),
        (', "e"]', "]", "names 4 classes, the network has 5"),
        ('"height": 16', '"height": 17', "describes images"),
        ('"scale": 1.0', f'"scale": 1{"0" * 400}', "damaged"),
    ):
        assert old in said
        made.metadata_props[0].value = said.replace(old, new)
        onnx.save(made, path)
        with pytest.raises(ModelError, match=words):
            load(path)
