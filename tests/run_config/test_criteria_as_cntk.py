"""Criteria of configurations: what CNTK 2.7 computed of the same data and initial values; what is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convolve.errors import ConvolveError
from convolve.importers.brainscript.job import read_job
from convolve.loading import load
from convolve.records import Target, TargetKind
from convolve.run_config import run_job

CONFIG = """
command = Train : Test
modelPath = "net"
deviceId = -1
precision = "double"
Train = {
    action = "train"
    BrainScriptNetworkBuilder = {
        features = Input {5} ; labels = Input {SIZE}
        W1 = ParameterTensor {(4:5), initFromFilePath = "W1"} ; h = Tanh (W1 * features)
        NETWORK
        featureNodes = (features) ; labelNodes = (labels) ; outputNodes = (z)
    }
    SGD = { minibatchSize = 30 ; learningRatesPerSample = 0.02 ; maxEpochs = 3 ; momentumPerMB = 0 }
    reader = { include }
}
Test = { action = "test" ; reader = { include } }
"""
READER = """readerType = "CNTKTextFormatReader" ; file = "train.ctf" ; randomize = false
    input = { features = { dim = 5 } ; labels = { dim = SIZE } }"""

AUXILIARY = """
W2 = ParameterTensor {(3:4), initFromFilePath = "W2"} ; z = W2 * h
WA = ParameterTensor {(3:4), initFromFilePath = "WA"} ; aux = WA * h
ceAux = CrossEntropyWithSoftmax (labels, aux)
ce = CrossEntropyWithSoftmax (labels, z) + 0.3 * ceAux
errs = ClassificationError (labels, z) ; top2Errs = ClassificationError (labels, z, topN = 2)
criterionNodes = (ce) ; evaluationNodes = (errs : top2Errs : ceAux)
"""
ROOT = """
WN = ParameterTensor {(2:4), initFromFilePath = "WN"} ; z = WN * h
difference = labels - z
rmse = Sqrt (ReduceSum (difference .* difference) / 2) ; se = SquareError (labels, z)
criterionNodes = (rmse) ; evaluationNodes = (se)
"""
LOGISTIC = """
WB = ParameterTensor {(1:5), initFromFilePath = "WB"} ; z = Sigmoid (WB * features)
loss = Logistic (labels, z) ; weighted = WeightedLogistic (labels, z, 1 + labels)
criterionNodes = (loss) ; evaluationNodes = (weighted)
"""
# The criterion and the others, epoch by epoch: cntk.Trainer with cntk.sgd and these criteria, minibatches in the order
# of the file, evaluated before each step.
BY_CNTK = {
    "auxiliary": [
        [1.4863617897033692, 0.5416666666666666, 0.23333333333333334, 1.2573963801066081],
        [1.0369910717010498, 0.2916666666666667, 0.03333333333333333, 1.0738325595855713],
        [0.8271034240722657, 0.16666666666666666, 0.016666666666666666, 0.9246919790903727],
    ],
    "root": [
        [0.7456846396128337, 1.2640966256459554],
        [0.4772741158803304, 0.5360085646311442],
        [0.3491570234298706, 0.30143831968307494],
    ],
    "logistic": [
        [0.6028232256571452, 0.6027366479237874],
        [0.36572410265604655, 0.36805091698964437],
        [0.2877985676129659, 0.29097782373428344],
    ],
}


def prepare(kind: str, network: str) -> None:
    """The data and the initial values of the recording, and the configuration."""
    random = np.random.RandomState(3)
    x_ND = random.randn(120, 5).astype(np.float32).round(3)
    truth = random.randn(5, 3)
    classes_N = (x_ND.dot(truth) + 0.3 * random.randn(120, 3)).argmax(1)
    numbers_NK = np.tanh(x_ND.dot(truth[:, :2])).astype(np.float32).round(3)
    labels = {
        "auxiliary": np.eye(3)[classes_N], "root": numbers_NK, "logistic": (numbers_NK[:, :1] > 0).astype(np.float32),
    }[kind]  # fmt: skip
    for name, shape in (("W1", (5, 4)), ("W2", (4, 3)), ("WA", (4, 3)), ("WN", (4, 2)), ("WB", (5, 1))):
        np.savetxt(name, (random.randn(*shape) * 0.5).round(3).astype(np.float32).T)
    with Path("train.ctf").open("w", encoding="ascii") as file:
        for x_D, label_K in zip(x_ND.tolist(), labels.tolist(), strict=True):
            numbers = (" ".join(f"{value:.3f}" for value in values) for values in (label_K, x_D))
            file.write("|labels {} |features {}\n".format(*numbers))
    text = CONFIG.replace("NETWORK", network).replace("include", READER).replace("SIZE", str(labels.shape[1]))
    Path("net.cntk").write_text(text, encoding="utf-8")


def run(*settings: str) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """(the events of the epochs, the result of the test)."""
    epochs: list[dict[str, Any]] = []
    [result] = run_job(
        read_job(["net.cntk", *settings]), lambda event, values: epochs.append(values) if event == "epoch" else None
    )
    return epochs, result


@pytest.mark.parametrize(("kind", "network"), [("auxiliary", AUXILIARY), ("root", ROOT), ("logistic", LOGISTIC)])
def test_criteria_as_cntk(kind: str, network: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    prepare(kind, network)
    epochs, result = run()
    found = [[values["train_loss"], *values["train_nodes"].values()] for values in epochs]
    np.testing.assert_allclose(found, BY_CNTK[kind], rtol=2e-5)
    assert result["samples"] == 120
    names = [*epochs[0]["train_nodes"]]
    assert [*result][2:] == [*names, read_job(["net.cntk"]).steps[0].network.criterion().name]  # type: ignore[union-attr]


def test_the_model_answers_and_its_heads_stay_for_tests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    prepare("auxiliary", AUXILIARY)
    _, result = run()
    model, whole = load("net"), load("net", whole=True)
    assert model.target == Target() and len(model.class_names) == 3
    assert "aux" not in str(model.architecture) and "aux" in str(whole.architecture)
    again = run_job(read_job(["net.cntk", "command=Test", "Test=[evalNodeNames=ceAux:ce]"]), lambda *event: None)
    assert again == [{"test": "Test", "samples": 120, "ceAux": result["ceAux"], "ce": result["ce"]}]


def test_regression_is_reported_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    prepare("root", ROOT)
    epochs, result = run()
    assert "train_error" not in epochs[-1] and epochs[-1]["test_r2"] > 0
    assert load("net").target.kind == TargetKind.NUMBER
    assert result["rmse"] == pytest.approx(epochs[-1]["test_nodes"]["rmse"], rel=1e-5)


def test_a_root_of_a_total_is_that_of_the_minibatch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """CNTK's SquareError is one number a minibatch: 120 samples in four of 30 add four roots."""
    monkeypatch.chdir(tmp_path)
    prepare("root", ROOT.replace("criterionNodes", "root = Sqrt (SquareError (labels, z)) ; criterionNodes"))
    text = Path("net.cntk").read_text(encoding="utf-8")
    Path("net.cntk").write_text(text.replace("criterionNodes = (rmse)", "criterionNodes = (root)"), encoding="utf-8")
    [first, *_], result = run("Train=[SGD=[learningRatesPerSample=1e-8;minibatchSize=120]]")
    assert first["train_loss"] == pytest.approx((first["train_nodes"]["se"] * 120) ** 0.5 / 120, rel=1e-5)
    assert result["root"] == pytest.approx(first["train_loss"], rel=1e-5)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("SquareError (labels, z)", "SquareError (z, h)"), "se: "),
        (("Sqrt (ReduceSum", "Times (labels, ReduceSum"), "Times of labels or criteria is not supported"),
        (("criterionNodes = (rmse)", "criterionNodes = (difference)"), "difference has 2 numbers per sample"),
        (("SquareError (labels, z)", "ClassificationError (z, labels)"), "the labels come first"),
        (("SquareError (labels, z)", "SquareError (labels, h)"), "its operands do not fit together"),
        (("SquareError (labels, z)", "SquareError (labels, z + Input {2})"), "."),
    ],
)
def test_criteria_that_cannot_be(
    change: tuple[str, str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    prepare("root", ROOT.replace(*change))
    with pytest.raises(ConvolveError, match=said):
        run()
    assert not [*tmp_path.glob("net.*.*")] and not (tmp_path / "net").exists()
