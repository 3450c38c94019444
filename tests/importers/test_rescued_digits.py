"""A model that the real CNTK 2.7 trained on MNIST: what CNTK said of 1,000 digits is what everything here says.

golden/cntk/digits.py is the program, digits.json what it answered. The gallery shows the same model.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import convolve as package
from command_line import Convolve
from convolve.formats.idx import read_idx
from convolve.loading import load

GOLDEN = Path(__file__).parents[1] / "golden" / "cntk"
MODEL = GOLDEN / "digits.model"
SAID = json.loads((GOLDEN / "digits.json").read_text())
SAMPLE = Path(package.__file__).parent / "data" / "sample"


@pytest.fixture(scope="module")
def images_NHW() -> np.ndarray:
    return read_idx(SAMPLE / "t10k-images-idx3-ubyte.gz")


def test_scores_and_classes_are_cntks(images_NHW: np.ndarray) -> None:
    scores_NK = load(MODEL).module(torch.tensor(images_NHW[:, None]).float()).detach().numpy()
    np.testing.assert_allclose(scores_NK[:20], SAID["sample_scores"], atol=1e-4)
    assert "".join(map(str, scores_NK.argmax(1))) == SAID["sample_classes"]


def test_the_error_is_cntks(convolve: Convolve) -> None:
    labels_N = read_idx(SAMPLE / "t10k-labels-idx1-ubyte.gz")
    wrong = sum(int(said) != label for said, label in zip(SAID["sample_classes"], labels_N, strict=True))
    outcome = convolve("evaluate", MODEL, "--data", "sample", "--json")
    assert json.loads(outcome.out)["test_error"] == wrong / len(labels_N)


def test_the_exported_file_says_the_same(images_NHW: np.ndarray, tmp_path: Path, convolve: Convolve) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    file = tmp_path / "digits.onnx"
    assert convolve("convert", MODEL, "--to", "onnx", "--out", file).code == 0
    session = onnxruntime.InferenceSession(file)
    (scores_NK,) = session.run(["logits"], {session.get_inputs()[0].name: images_NHW[:, None].astype(np.float32)})
    assert "".join(map(str, scores_NK.argmax(1))) == SAID["sample_classes"]
