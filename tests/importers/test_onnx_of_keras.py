"""Networks of Keras, as tf2onnx writes them, answer as Keras does: opened, trained a step, exported, opened again."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from keras_networks import SHAPES, images

import golden
from convolve.export.any_graph import export_network
from convolve.graph.build import build
from convolve.importers import onnx


@pytest.mark.parametrize("name", SHAPES)
def test_what_keras_exported(name: str, tmp_path: Path) -> None:
    """tf2onnx keeps images pixel by pixel, (N, H, W, C); ours are (N, C, H, W)."""
    graph = onnx.parse(golden.read("keras", f"{name}.onnx"), Path(f"{name}.onnx"))
    images_NCHW = torch.from_numpy(images(name).transpose(0, 3, 1, 2).copy())
    expected = np.load(io.BytesIO(golden.read("keras", f"{name}.npy")))
    module = build(graph).eval()
    with torch.no_grad():
        golden.assert_close(module(images_NCHW).numpy(), expected)
    before = module.train()(images_NCHW)
    before.square().mean().backward()
    weights = [weight for weight in module.parameters() if weight.requires_grad]
    assert all(weight.grad is not None for weight in weights)
    torch.optim.SGD(weights, lr=1e-3).step()
    shapes = {"images": graph.inputs[0].shape}, {"answers": expected.shape[1:]}
    export_network(module, *shapes, tmp_path / "again.onnx")
    again = build(onnx.parse((tmp_path / "again.onnx").read_bytes(), Path("again.onnx"))).eval()
    with torch.no_grad():
        golden.assert_close(again(images_NCHW).numpy(), module.eval()(images_NCHW).numpy())
