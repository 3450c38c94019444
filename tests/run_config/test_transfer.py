"""BrainScript's transfer learning end to end: a network is trained, another head on its frozen body, then tested."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from command_line import Convolve
from convolve.formats.ctf import write_ctf
from convolve.loading import load

TEXT = """
command = Base : Head : Test
deviceId = -1
Base = {
    action = "train" ; modelPath = "$out$/base"
    BrainScriptNetworkBuilder = {
        features = Input {(6:5:1)} ; labels = Input {3}
        body = Sequential (ConvolutionalLayer {4, (3:3), pad = true} : BatchNormalizationLayer {spatialRank = 2} : ReLU)
        h = body (features - Constant (100))
        z = LinearLayer {3} (h)
        ce = CrossEntropyWithSoftmax (labels, z) ; errs = ClassificationError (labels, z)
        criterionNodes = (ce) ; evaluationNodes = (errs)
    }
}
Head = {
    action = "train" ; modelPath = "$out$/head"
    BrainScriptNetworkBuilder = {
        base = BS.Network.Load ("$out$/base")
        body = BS.Network.CloneFunction (base.features, base.h, parameters = "constant")
        features = Input {(6:5:1)} ; labels = Input {3}
        z = LinearLayer {3} (DenseLayer {8, activation = ReLU} (body (features)))
        ce = CrossEntropyWithSoftmax (labels, z) ; errs = ClassificationError (labels, z)
        criterionNodes = (ce) ; evaluationNodes = (errs)
    }
}
All = { action = "train" ; modelPath = "$out$/all" ; BrainScriptNetworkBuilder = (BS.Network.Load ("$out$/head")) }
Test = { action = "test" ; modelPath = "$out$/head" }
SGD = { epochSize = 0 ; minibatchSize = 10 ; maxEpochs = 2 ; learningRatesPerSample = 0.0001 }
reader = { readerType = "CNTKTextFormatReader" ; file = "$data$/train.txt"
    input = { features = { dim = 30 ; format = "dense" } ; labels = { dim = 3 ; format = "dense" } } }
"""


@pytest.fixture
def config(tmp_path: Path) -> list[str]:
    rng = np.random.default_rng(1)
    write_ctf(tmp_path / "train.txt", rng.integers(0, 3, 40), rng.integers(0, 250, (40, 30)), 3)
    (tmp_path / "net.cntk").write_text(TEXT, encoding="utf-8")
    return [f"configFile={tmp_path / 'net.cntk'}", f"data={tmp_path}", f"out={tmp_path / 'out'}"]


def test_another_head_on_a_frozen_body(convolve: Convolve, config: list[str], tmp_path: Path) -> None:
    """All in one run, of which the first step makes what the second loads; and whole, without its text, once more."""
    outcome = convolve("run", *config, "--json")
    assert outcome.code == 0, outcome.err
    assert json.loads(outcome.out)["tests"][0]["samples"] == 40
    base, head = (load(tmp_path / "out" / name).module.state_dict() for name in ("base", "head"))
    moved = {key: key.replace("h_", "body_", 1) for key in base if key.startswith("h_") and "count" not in key}
    assert len(moved) == 6 and all(torch.equal(base[old], head[new]) for old, new in moved.items())
    assert not torch.equal(base["z.weight"][:, :8], head["z.weight"])
    other = (tmp_path / "net.cntk").read_text(encoding="utf-8")
    begin, end = other.index("Base = {"), other.index("All = {")
    (tmp_path / "net.cntk").write_text(other[:begin] + other[end:], encoding="utf-8")
    outcome = convolve("run", *config, "command=All")
    assert outcome.code == 0, outcome.err
    whole = load(tmp_path / "out" / "all").module.state_dict()
    assert head.keys() == whole.keys()
    assert torch.equal(head["body_convolution.weight"], whole["body_convolution.weight"])  # frozen it stays
    assert not torch.equal(head["z.weight"], whole["z.weight"])


def test_a_model_that_nobody_makes_is_missing_at_once(convolve: Convolve, config: list[str], tmp_path: Path) -> None:
    outcome = convolve("run", *config, "command=All", "out=elsewhere", "Head=[modelPath=other]")
    assert outcome.code == 3 and "net.cntk: line 26" in outcome.err and "no model at elsewhere/head" in outcome.err
