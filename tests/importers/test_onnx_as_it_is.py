"""ONNX files with operators that convolve does not have are asked through onnxruntime, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from onnx import helper
from onnx_files import onnx_bytes, run_onnx

from command_line import Convolve, assert_refused
from convolve.errors import UnsupportedError
from convolve.export.onnx import note_of
from convolve.importers.loader import PreprocessOverrides
from convolve.loading import load

node = helper.make_node
WEIGHTS = np.random.default_rng(0).normal(size=(192, 4)).astype(np.float32) / 1000
IMAGES_NCHW = np.random.default_rng(1).integers(0, 256, (5, 3, 8, 8), dtype=np.uint8)


def write(path: Path, *after: Any, batch: str | int = "N", outputs: Sequence[str] = ("y",)) -> Path:
    nodes = [node("Flatten", ["x"], ["f"]), node("Shrink", ["f"], ["s"], lambd=0.5), node("MatMul", ["s", "W"], ["z"])]
    content = onnx_bytes([*nodes, *after], {"x": (batch, 3, 8, 8)}, {"W": WEIGHTS}, outputs=outputs)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("batch", ["N", 1, 4])
def test_scores_become_probabilities(batch: str | int, tmp_path: Path) -> None:
    path = write(tmp_path / "net.onnx", node("Identity", ["z"], ["y"]), batch=batch)
    model = load(path)
    [scores_NK] = run_onnx(write(tmp_path / "any.onnx", node("Identity", ["z"], ["y"])).read_bytes(),
                           IMAGES_NCHW.astype(np.float32))  # fmt: skip
    odds_NK = np.exp(scores_NK - scores_NK.max(1, keepdims=True))
    np.testing.assert_allclose(model.probabilities(IMAGES_NCHW), odds_NK / odds_NK.sum(1, keepdims=True), rtol=1e-5)
    assert "Shrink (s); onnxruntime runs it unchanged" in note_of(model.module)


def test_what_went_through_a_softmax_stays(tmp_path: Path) -> None:
    outputs = [node("Softmax", ["z"], ["p"], axis=1), node("Neg", ["z"], ["y"])]
    path = write(tmp_path / "net.onnx", *outputs, outputs=("y", "p"))
    model = load(path, PreprocessOverrides(output="p"))
    _, expected_NK = run_onnx(path.read_bytes(), IMAGES_NCHW.astype(np.float32))
    np.testing.assert_allclose(model.probabilities(IMAGES_NCHW), expected_NK, rtol=1e-5)
    with pytest.raises(UnsupportedError, match="Shrink"):
        load(path, PreprocessOverrides(output="q"))


def test_answers_that_depend_on_other_images_are_refused(tmp_path: Path) -> None:
    """Those who ask a server at the same time would change each other's answers."""
    with pytest.raises(UnsupportedError, match="Shrink"):
        load(write(tmp_path / "net.onnx", node("Softmax", ["z"], ["y"], axis=0)))


def test_it_is_said(tmp_path: Path, convolve: Convolve) -> None:
    path = write(tmp_path / "net.onnx", node("Identity", ["z"], ["y"]))
    cv2.imwrite(str(tmp_path / "image.png"), IMAGES_NCHW[0].transpose(1, 2, 0))
    found = convolve("predict", path, tmp_path / "image.png", "--mean", "0")
    assert found.code == 0 and found.err.count("Shrink (s); onnxruntime runs it unchanged") == 1
    refused = convolve("convert", path, "--to", "convolve", "--out", tmp_path / "out")
    assert_refused(refused, 2, "Shrink (s)", "cannot be written in another form")
