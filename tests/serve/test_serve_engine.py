"""onnxruntime answers in torch's place: the same, but for the order in which it adds."""

from __future__ import annotations

import asyncio
import sys
import time
from copy import deepcopy
from dataclasses import replace
from math import expm1
from pathlib import Path

import numpy as np
import pytest
import torch
from serving import PATIENCE_SECONDS, encoded, noise, serving

from convolve import cache
from convolve.export.onnx import PACKAGES, OnnxNetwork
from convolve.export.parity import TOLERANCE
from convolve.model import Model
from convolve.serve import engine
from convolve.serve.engine import engine_of
from convolve.training.confidence import Confidence, fit_confidence
from convolve.training.outliers import fit_outliers

pytestmark = [pytest.mark.skipif(not all(map(engine.find_spec, PACKAGES)), reason="the extra onnx is not installed")]

IMAGES_NCHW = np.stack([noise(28, 28, seed=seed).transpose(2, 0, 1) for seed in range(9)])


@pytest.fixture(scope="module", autouse=True)
def kept(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A cache of its own for this file."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CONVOLVE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def confident(model: Model) -> Model:
    features_ND = torch.randn(60, model.with_features()(torch.zeros(1, 1, 28, 28))[1].shape[1])
    labels_N = torch.arange(60) % 10
    probabilities_NK = torch.rand(60, 10).softmax(1)
    found: Confidence = fit_confidence(
        fit_outliers(features_ND, labels_N), probabilities_NK, labels_N, torch.rand(60), "validation"
    )
    return replace(model, confidence=found.asked(0.9, 0.8))


def assert_same(model: Model, by: torch.nn.Module, images_NCHW: np.ndarray) -> None:
    """A file is written only where scores are within TOLERANCE of the largest one. p = exp(s) / sum(exp(s)) changes by
    a factor of at most exp(2d) where each score s changes by d."""
    wanted_NK, sure = model.answered(images_NCHW)
    got_NK, sure_too = model.answered(images_NCHW, by)
    largest = float(wanted_NK.log().abs().max())
    assert torch.allclose(wanted_NK, got_NK, rtol=expm1(2 * TOLERANCE * largest), atol=1e-30)
    for one, other in zip(sure, sure_too, strict=True):
        assert one.keys() == other.keys()
        if "distance" in one:
            assert one["distance"] == pytest.approx(other["distance"], rel=TOLERANCE)


@pytest.mark.parametrize("knows", [False, True], ids=["", "knows its certainty"])
def test_it_answers_as_the_network_does(knows: bool, digits: Model) -> None:
    model = confident(digits) if knows else digits
    found = asyncio.run(engine_of(model, 2))
    assert found
    for images in (1, 2, 9):
        for network in (found.alone, found.beside):
            assert_same(model, network, IMAGES_NCHW[:images])


def test_it_is_kept_for_the_next_time(digits: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    assert asyncio.run(engine_of(digits, 2))
    monkeypatch.setattr(asyncio, "create_subprocess_exec", lambda *_, **__: pytest.fail("written again"))
    assert asyncio.run(engine_of(digits, 2))
    assert len(cache.sizes([engine.KIND])) == 1 and cache.sizes([engine.KIND])[engine.KIND] > 0


def other(model: Model) -> Model:
    """With weights that no file was written of."""
    module = deepcopy(model.module)
    with torch.no_grad():
        next(module.parameters()).mul_(1.5)
    return replace(model, module=module)


def test_torch_answers_where_no_copy_can_be_written(digits: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    assert asyncio.run(engine_of(other(digits), 2)) is None
    monkeypatch.setattr(sys, "executable", "/there/is/none")
    assert asyncio.run(engine_of(other(digits), 2)) is None


def test_a_file_that_onnxruntime_runs_has_one_already(digits: Model) -> None:
    assert asyncio.run(engine_of(replace(digits, module=OnnxNetwork.__new__(OnnxNetwork)), 2)) is None


def test_a_server_changes_over(digits: Model) -> None:
    image = encoded(noise(28, 28))
    with serving({"digits": digits}, engines=True) as client:
        until = time.monotonic() + PATIENCE_SECONDS
        before = client.ask("/predict", image).said["classes"]
        while client.ask("/v2/models/digits").said["platform"] != "onnxruntime":
            assert time.monotonic() < until
            time.sleep(0.05)
        after = client.ask("/predict", image).said["classes"]
    assert [one["class"] for one in before] == [one["class"] for one in after]
    assert [one["probability"] for one in before] == pytest.approx([one["probability"] for one in after], rel=1e-3)


@pytest.mark.skipif(sys.platform == "win32", reason="a script is no program on Windows")
def test_a_server_that_ends_meanwhile_leaves_nothing(
    digits: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    begun = tmp_path / "begun"
    slow = tmp_path / "python"
    slow.write_text(f"#!/bin/sh\necho $$ > {begun}\nexec sleep 600\n")
    slow.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(slow))
    with serving({"digits": other(digits)}, engines=True):
        until = time.monotonic() + PATIENCE_SECONDS
        while not (begun.exists() and begun.read_text()):
            assert time.monotonic() < until
            time.sleep(0.02)
    assert not Path(f"/proc/{begun.read_text().strip()}").exists()
    assert not [*tmp_path.glob("convolve-*")]
