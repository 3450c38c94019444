"""Models that CNTK trained from a text give their numbers to the network of that text."""

import json
from pathlib import Path

import bcn
import numpy as np
import pytest
import torch

from command_line import Convolve
from convolve.errors import ModelError
from convolve.formats.ctf import write_ctf
from convolve.graph.build import build
from convolve.graph.graph import Graph
from convolve.importers import cntk
from convolve.importers.brainscript.lower import lower
from convolve.importers.brainscript.network import read_network
from convolve.importers.brainscript.text import of_lines
from convolve.importers.brainscript.trained import with_numbers
from convolve.loading import load

VERSION = 7

TEXT = """{
    Layer (inDim, outDim, x) = { W = Parameter (outDim, inDim) ; b = Parameter (outDim, 1) ; z = W * x + b }
    features = Input {4}
    h1 = Sigmoid (Layer (4, 3, 1/256 * features).z)
    z = Layer (3, 2, h1)
    r = z.z
}"""


def graph_of(text: str) -> Graph:
    network = read_network(of_lines("net.bs", text.split("\n")), [])
    return lower([network.members["r"]], torch.Generator().manual_seed(1), "BrainScript")


def trained_by_cntk() -> tuple[bytes, dict[str, np.ndarray]]:
    """The bytes of a model as CNTK's trainer writes it for TEXT, and its parameters."""
    rng = np.random.default_rng(3)
    shapes = {"h1._.W": (4, 3), "h1._.b": (1, 3), "z.W": (3, 2), "z.b": (1, 2)}
    arrays = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    times = bcn.pack("Q", 1)  # the output rank
    nodes = [
        bcn.input_node(VERSION, "features", 4),
        bcn.parameter(VERSION, "f", np.full((1, 1), 1 / 256, np.float32), 0.0),
        *(bcn.parameter(VERSION, name, array) for name, array in arrays.items()),
        ("ElementTimes", "x", b"", ("f", "features")),
        ("Times", "h1._.z.PlusArgs[0]", times, ("h1._.W", "x")),
        ("Plus", "h1._.z", b"", ("h1._.z.PlusArgs[0]", "h1._.b")),
        ("Sigmoid", "h1", b"", ("h1._.z",)),
        ("Times", "z.z.PlusArgs[0]", times, ("z.W", "h1")),
        ("Plus", "z.z", b"", ("z.z.PlusArgs[0]", "z.b")),
    ]
    return bcn.model(VERSION, nodes, ["z.z"]), arrays


def test_a_trained_model_gives_its_numbers() -> None:
    content, arrays = trained_by_cntk()
    trained, fresh = cntk.parse(content, "trained.dnn"), graph_of(TEXT)
    assert {p.source for p in fresh.parameters if p.learning_rate_multiplier} == arrays.keys()  # CNTK's own names
    x = torch.rand(5, 4) * 256
    assert torch.allclose(build(with_numbers(fresh, trained))(x), scores_of(arrays, x), atol=1e-6)


def scores_of(arrays: dict[str, np.ndarray], x: torch.Tensor) -> torch.Tensor:
    """What TEXT computes, written out."""
    hidden = torch.sigmoid(x / 256 @ torch.from_numpy(arrays["h1._.W"]) + torch.from_numpy(arrays["h1._.b"]))
    return hidden @ torch.from_numpy(arrays["z.W"]) + torch.from_numpy(arrays["z.b"])


def test_training_goes_on_from_it(convolve: Convolve, tmp_path: Path) -> None:
    """With a rate of 0, the model that comes out is the one that went in; and a test takes CNTK's file itself."""
    content, arrays = trained_by_cntk()
    (tmp_path / "cntk.dnn").write_bytes(content)
    write_ctf(tmp_path / "data.txt", np.arange(6) % 2, np.arange(24).reshape(6, 4), 2)
    network = TEXT.replace("r = z.z", CRITERIA)
    (tmp_path / "net.cntk").write_text(CONFIG.replace("NETWORK", network).replace("HERE", str(tmp_path)))
    run = convolve("run", tmp_path / "net.cntk", "command=Train", "--from", tmp_path / "cntk.dnn")
    assert run.code == 0, run.err
    x = torch.rand(5, 1, 4, 1) * 256
    with torch.no_grad():
        assert torch.allclose(load(tmp_path / "net").module(x), scores_of(arrays, x[:, 0, :, 0]), atol=1e-6)
    figures = [
        json.loads(convolve("run", tmp_path / "net.cntk", "command=Test", f"modelPath={tmp_path / name}", "--json").out)
        for name in ("net", "cntk.dnn")
    ]
    assert figures[0]["tests"][0]["errs"] == figures[1]["tests"][0]["errs"]


CRITERIA = """labels = Input {2}
    ce = CrossEntropyWithSoftmax (labels, z.z)
    errs = ClassificationError (labels, z.z)
    criterionNodes = (ce) ; evaluationNodes = (errs)"""
CONFIG = """
modelPath = "HERE/net" ; deviceId = -1
reader = {
    readerType = "CNTKTextFormatReader" ; file = "HERE/data.txt"
    input = { features = { dim = 4 ; format = "dense" } ; labels = { dim = 2 ; format = "dense" } }
}
Train = {
    BrainScriptNetworkBuilder = NETWORK
    SGD = { maxEpochs = 1 ; minibatchSize = 3 ; learningRatesPerMB = 0 ; minLearningRatePerSample = 0 }
}
Test = { action = test }
"""


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("Sigmoid", "Tanh"), "one is tanh, the other sigmoid"),
        (("4, 3", "4, 5"), "the shape is"),
        (("W * x + b", "W * x"), "one has 2 operands, the other 3"),
        (("1/256 * features", "features"), "one is an input, the other multiply"),
    ],
)
def test_another_text_is_refused(change: tuple[str, str], words: str) -> None:
    trained = cntk.parse(trained_by_cntk()[0], "trained.dnn")
    with pytest.raises(ModelError, match=f"the model was not made from this text: .*{words}"):
        with_numbers(
            graph_of(TEXT.replace(*change).replace("Layer (3,", "Layer (5," if "5" in change[1] else "Layer (3,")),
            trained,
        )
