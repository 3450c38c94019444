"""Some sixty networks of timm, exported by a Python of its own: they open, train a step, are exported, and agree."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from timm_networks import SIZES

from convolve.importers.loader import PreprocessOverrides
from convolve.loading import load
from convolve.model import Model

PYTHON = os.environ.get("CONVOLVE_TIMM_PYTHON", "")
# Of the largest score; optimized runtimes add up in another order, through up to a thousand operations.
TOLERANCE = 1e-4

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PYTHON, reason="CONVOLVE_TIMM_PYTHON names no Python with timm and a torch that it fits"),
]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("timm")
    script = Path(__file__).with_name("timm_networks.py")
    subprocess.run([PYTHON, script, folder], check=True, capture_output=True)
    return folder


def worst(path: Path, model: Model, images_NCHW: np.ndarray) -> float:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    port = session.get_inputs()[0]
    batches = images_NCHW[:, None] if port.shape[0] == 1 else images_NCHW[None]
    expected = np.concatenate([session.run(None, {port.name: batch})[0] for batch in batches])
    with torch.no_grad():
        found = model.module.eval()(torch.from_numpy(images_NCHW)).numpy()
    return float(np.abs(found - expected).max() / max(1.0, np.abs(expected).max()))


@pytest.mark.parametrize("name", SIZES)
def test_a_network_of_timm(name: str, files: Path, tmp_path: Path) -> None:
    path = files / f"{name}.onnx"
    if not path.exists():
        pytest.skip("this timm cannot export it")
    model = load(path, PreprocessOverrides(mean="127", scale=1 / 64))  # numbers that random weights do not blow up
    images_NCHW = np.random.default_rng(0).normal(size=(4, *model.preprocess.shape_CHW)).astype(np.float32)
    assert worst(path, model, images_NCHW) < TOLERANCE
    module = model.module.train()
    weights = [weight for weight in module.parameters() if weight.requires_grad]
    loss = torch.nn.functional.cross_entropy(module(torch.from_numpy(images_NCHW)), torch.arange(4))
    loss.backward()
    assert torch.isfinite(loss) and all(weight.grad is not None for weight in weights)
    torch.nn.utils.clip_grad_norm_(weights, 1.0)
    torch.optim.SGD(weights, lr=1e-3).step()
    model.export(tmp_path / "again.onnx")
    assert worst(tmp_path / "again.onnx", model, images_NCHW) < TOLERANCE
