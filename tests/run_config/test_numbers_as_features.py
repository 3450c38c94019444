"""A configuration on CTF text with any numbers: what CNTK 2.7 computed of the same file, and what is said of damage."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from convolve.errors import FormatError, MissingDataError
from convolve.formats.columns import Columns, read_columns
from convolve.importers.brainscript.job import read_job
from convolve.loading import load
from convolve.run_config import run_job
from convolve.training.events import silent

SOFTMAX = """
command = Train : Test : Write
modelPath = "net"
deviceId = -1
Train = {
    action = "train"
    BrainScriptNetworkBuilder = {
        features = Input {4} ; labels = Input {3}
        W = ParameterTensor {(3:4), init = "zero"} ; b = ParameterTensor {3, init = "zero"}
        z = W * features + b
        ce = CrossEntropyWithSoftmax (labels, z) ; errs = ClassificationError (labels, z)
        featureNodes = (features) ; labelNodes = (labels)
        criterionNodes = (ce) ; evaluationNodes = (errs) ; outputNodes = (z)
    }
    SGD = { epochSize = 0 ; minibatchSize = 25 ; learningRatesPerSample = 0.04 ; maxEpochs = 3 ; momentumPerMB = 0 }
    reader = { include }
}
Test = { action = "test" ; reader = { include } }
Write = { action = "write" ; outputPath = "out" ; outputNodeNames = z ; reader = { include } }
"""
READER = """readerType = "CNTKTextFormatReader" ; file = "train.ctf" ; randomize = false
        input = { features = { dim = 4 ; format = "FORM" } ; labels = { dim = 3 ; format = "dense" } }"""

# C.cross_entropy_with_softmax and C.classification_error of CNTK 2.7 after each epoch of C.sgd on the file that
# `written` makes, in the order of the file.
EPOCHS = [(0.6421899604797363, 0.13), (0.27815353393554687, 0.02), (0.19464075446128845, 0.015)]
BIAS = [-0.0933670848608017, 0.055685605853796005, 0.03768152743577957]


def written(sparse: bool = False) -> np.ndarray:
    random = np.random.RandomState(7)
    labels_N = random.randint(0, 3, 200)
    values_ND = (random.randn(200, 4) * 0.3 + np.eye(3, 4)[labels_N]).astype(np.float32)
    with Path("train.ctf").open("w", encoding="ascii") as file:
        for label, values_D in zip(labels_N, values_ND, strict=True):
            one_hot = " ".join("1" if k == label else "0" for k in range(3))
            numbers = " ".join(f"{i}:{v:.4f}" if sparse else f"{v:.4f}" for i, v in enumerate(values_D))
            file.write(f"|labels {one_hot} |features {numbers}\n")
    return np.round(values_ND, 4)


@pytest.mark.parametrize("form", ["dense", "sparse"])
def test_softmax_regression_as_cntk_trains_it(form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    values_ND = written(form == "sparse")
    Path("net.cntk").write_text(SOFTMAX.replace("include", READER.replace("FORM", form)), encoding="utf-8")
    epochs: list[dict[str, Any]] = []
    [result] = run_job(
        read_job(["net.cntk"]), lambda event, values: epochs.append(values) if event == "epoch" else None
    )
    found = [(values["train_loss"], values["train_error"]) for values in epochs]
    np.testing.assert_allclose(found, EPOCHS, rtol=1e-5)
    model = load("net")
    [bias_K] = [tensor.flatten() for tensor in model.module.state_dict().values() if tensor.numel() == 3]
    np.testing.assert_allclose(bias_K, BIAS, atol=1e-6)
    scores_NK = model.module(torch.from_numpy(values_ND).reshape(-1, 1, 4, 1)).detach().numpy()
    np.testing.assert_allclose(np.loadtxt("out.z"), scores_NK, atol=1e-5)
    assert result["samples"] == 200 and result["errs"] < 0.03


def test_a_line_that_is_no_numbers_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    written()
    lines = Path("train.ctf").read_text(encoding="ascii").splitlines()
    lines[6] = lines[6].replace("|labels 1 0 0", "|labels 0.5 0.5 0").replace("|labels 0", "|labels 2")
    Path("train.ctf").write_text("\n".join(lines) + "\n", encoding="ascii")
    Path("net.cntk").write_text(SOFTMAX.replace("include", READER.replace("FORM", "dense")), encoding="utf-8")
    with pytest.raises(FormatError, match="line 7: expected one 1 and otherwise zeros as labels"):
        run_job(read_job(["net.cntk"]), silent)


def test_a_text_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match="does not exist"):
        read_columns(Columns(str(tmp_path / "a.txt"), 0, 3, 3, 3))
