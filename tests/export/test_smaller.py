"""Quantized files, other opsets and fixed batches: what they lose is said, and what loses too much is not written."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnxruntime.quantization import quantize_dynamic
from torch import nn

from command_line import Convolve, assert_refused, files_in
from convolve.model import Model
from convolve.training.outliers import OutlierDetector
from convolve.transforms.preprocess import Preprocess

NAMES = ("blue", "green", "red")


class Colors(nn.Module):
    """Tells three colors apart without fault; with `loud`, beside a channel whose range hides the others in int8."""

    def __init__(self, loud: bool) -> None:
        super().__init__()
        self.conv, self.wide, self.head = nn.Conv2d(3, 32, 1), nn.Conv2d(32, 64, 3), nn.Linear(64, 3)
        for tensor in self.parameters():
            nn.init.zeros_(tensor)
        with torch.no_grad():
            self.conv.bias[3] = 1e6 if loud else 1.0
            for channel in range(3):
                self.conv.weight[channel, channel] = 1
                self.wide.weight[channel, channel, 1, 1] = 1
                self.head.weight[2 - channel, channel] = 1

    def forward(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        features_NCHW = self.wide(self.conv(images_NCHW).relu()).relu()
        return self.head(features_NCHW.mean((2, 3)))


def saved(folder: Path, loud: bool = False) -> Path:
    Model.from_module(Colors(loud).eval(), Preprocess(3, 16, 16, channel_order="rgb", scale=1 / 255), NAMES).save(
        folder
    )
    return folder


@pytest.mark.parametrize("more", [[], ["--with-preprocessing", "--batch-size", "3", "--opset", "17"]])
@pytest.mark.parametrize(("kind", "part"), [("int8", 0.5), ("fp16", 0.6)])
def test_a_smaller_file(
    kind: str, part: float, more: list[str], photographs: Path, tmp_path: Path, convolve: Convolve
) -> None:
    model, path, plain = saved(tmp_path / "model"), tmp_path / "small.onnx", tmp_path / "plain.onnx"
    assert convolve("convert", model, "--to", "onnx", "--out", plain).code == 0
    made = convolve("convert", model, "--to", "onnx", "--quantize", kind, "--data", photographs, "--out", path, *more)
    assert made.code == 0, made.err
    assert f"{kind}" in made.out and "error 0.00% (0.00% before) on 12 test images" in made.out
    assert path.stat().st_size < part * plain.stat().st_size
    onnx.checker.check_model(onnx.load(path), full_check=True)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    said = json.loads(session.get_modelmeta().custom_metadata_map["convolve"])
    assert (said["quantized"]["error"], said["quantized"]["test_images"]) == (0, 12)
    assert said["input"]["shape"] == session.get_inputs()[0].shape
    assert f"In this file, {kind}" in (tmp_path / "small-model-card.md").read_text()
    again = json.loads(convolve("evaluate", path, "--data", photographs, "--json").out)
    assert (again["errors"], again["samples"]) == (0, 12)


def test_what_loses_too_much_is_not_written(photographs: Path, tmp_path: Path, convolve: Convolve) -> None:
    model = saved(tmp_path / "model", loud=True)
    before = files_in(tmp_path)
    asked = [
        "convert",
        model,
        "--to",
        "onnx",
        "--quantize",
        "int8",
        "--data",
        photographs,
        "--out",
        tmp_path / "a.onnx",
    ]
    refused = convolve(*asked)
    assert_refused(refused, 1, "66.67% (0.00% before)", "more than the 1 points", "with that in fp32 it would be")
    assert files_in(tmp_path) == before
    assert convolve(*asked, "--max-error-increase", "70").code == 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--to", "onnx", "--quantize", "int4"], "--quantize must be int8 or fp16, not int4"),
        (["--to", "onnx", "--quantize", "int8"], "give images with --data"),
        (["--to", "onnx", "--data", "sample"], "--data needs --quantize; add --quantize int8"),
        (["--to", "onnx", "--max-error-increase", "2"], "--max-error-increase needs --quantize"),
        (["--to", "exported-program", "--opset", "18"], "--opset is for --to onnx, not for --to exported-program"),
        (["--to", "convolve", "--quantize", "int8"], "--quantize is for --to onnx or web, not for --to convolve"),
        (["--to", "onnx", "--batch-size", "0"], "--batch-size must be at least 1"),
        (["--to", "onnx", "--opset", "3"], "--opset must be 15 to 22, not 3"),
        (["--to", "onnx", "--quantize", "int8", "--max-error-increase", "-1"], "percentage points"),
    ],
)
def test_bad_settings(options: list[str], words: str, tmp_path: Path, convolve: Convolve) -> None:
    refused = convolve("convert", saved(tmp_path / "model"), *options, "--out", tmp_path / "a.onnx")
    assert_refused(refused, 2, words)
    assert not (tmp_path / "a.onnx").exists()


def test_other_images_are_refused(tiny_mnist: Path, tmp_path: Path, convolve: Convolve) -> None:
    asked = ["--to", "onnx", "--quantize", "int8", "--data", tiny_mnist, "--out", tmp_path / "a.onnx"]
    assert convolve("convert", saved(tmp_path / "model"), *asked).code in (2, 3)


def test_the_distance_of_a_model_that_knows_its_certainty_is_quantized_by_anyone(tmp_path: Path) -> None:
    """onnxruntime's quantize_dynamic, per channel, wrote files that do not run where a matrix met a vector."""
    generator = torch.Generator().manual_seed(0)
    means, directions = torch.randn(3, 32, generator=generator), torch.linalg.qr(torch.randn(32, 4))[0].T
    detector = OutlierDetector(means / means.norm(dim=1, keepdim=True), directions, torch.rand(4), torch.tensor(0.01))
    plain, small = tmp_path / "plain.onnx", tmp_path / "small.onnx"
    program = torch.export.export(detector.eval(), (torch.randn(5, 32),), dynamic_shapes=({0: torch.export.Dim("N")},))
    torch.onnx.export(program, dynamo=True, verbose=False).save(plain)
    model = onnx.load(plain)
    del model.graph.value_info[:]
    onnx.save(model, plain)
    quantize_dynamic(plain, small, per_channel=True)
    features, runs = torch.randn(5, 32).numpy(), []
    for path in (plain, small):
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        runs.append(session.run(None, {session.get_inputs()[0].name: features})[0])
    np.testing.assert_allclose(runs[1], runs[0], rtol=0.2)
