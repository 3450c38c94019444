"""MEL: scripts that edit models. The models are those of CNTK's own trainer, or of a configuration."""

from __future__ import annotations

import re
from pathlib import Path

import bcn
import numpy as np
import pytest
import torch

from convolve.errors import ConvolveError
from convolve.graph.build import build
from convolve.importers.brainscript.job import EditStep, read_job
from convolve.importers.brainscript.lower import lower
from convolve.importers.brainscript.network import Network

VERSION = 7
RNG = np.random.default_rng(3)
ARRAYS = {
    name: RNG.normal(size=shape).astype(np.float32)
    for name, shape in {"h.W": (4, 3), "h.b": (1, 3), "z.W": (3, 2), "z.b": (1, 2)}.items()
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a model of two layers, as CNTK's trainer wrote them."""
    times = bcn.pack("Q", 1)
    nodes = [
        bcn.input_node(VERSION, "features", 4),
        *(bcn.parameter(VERSION, name, array) for name, array in ARRAYS.items()),
        ("Times", "h.t", times, ("h.W", "features")),
        ("Plus", "h.z", b"", ("h.t", "h.b")),
        ("Sigmoid", "h.y", b"", ("h.z",)),
        ("Times", "z.t", times, ("z.W", "h.y")),
        ("Plus", "z.z", b"", ("z.t", "z.b")),
    ]
    (tmp_path / "net.dnn").write_bytes(bcn.model(VERSION, nodes, ["z.z"]))
    return tmp_path


def edited(folder: Path, script: str) -> Network:
    """What `script` saves last of the model `m`, which it finds loaded."""
    text = f'm = LoadModel("{folder / "net.dnn"}", format=cntk)\nSetDefaultModel(m)\n{script}\nSaveModel(m, out)\n'
    (folder / "edit.mel").write_text(text, encoding="utf-8")
    file = folder / "edit.cntk"
    file.write_text("command = Edit\nEdit = [ action = edit ; editPath = edit.mel ]\n", encoding="utf-8")
    (step,) = read_job([str(file)]).steps
    assert isinstance(step, EditStep)
    return step.saved[-1][1]


def answer(network: Network, node: str, features: np.ndarray) -> np.ndarray:
    graph = lower([network.members[node]], torch.Generator(), "BrainScript")
    found: np.ndarray = build(graph).eval()(torch.from_numpy(features)).detach().numpy()
    return found


FEATURES = np.random.default_rng(4).normal(size=(5, 4)).astype(np.float32)


def layer(x: np.ndarray, name: str) -> np.ndarray:
    return x @ ARRAYS[f"{name}.W"] + ARRAYS[f"{name}.b"]


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def test_a_model_that_is_saved_as_it_was(folder: Path) -> None:
    network = edited(folder, "")
    assert {"h.W", "h.t", "h.y", "z.z", "features"} <= {*network.members}
    expected = layer(sigmoid(layer(FEATURES, "h")), "z")
    np.testing.assert_allclose(answer(network, "z.z", FEATURES), expected, rtol=1e-5, atol=1e-6)


def test_layers_are_copied_joined_and_removed(folder: Path) -> None:
    """A second hidden layer with the numbers of the first, of the right width: 3 rows of W are cut off by hand."""
    network = edited(
        folder,
        """
        Copy(z.*, w.*)
        SetNodeInput(w.t, 1, h.z)
        DeleteNode(z.*)
        Rename(w.*, last.*)
        both = Plus(last.z, Times(Parameter(2, 3, init=fixedValue, value=0.5), h.y))
        """,
    )
    assert not [name for name in network.members if name.startswith(("z.", "w."))]
    hidden = layer(FEATURES, "h")
    np.testing.assert_allclose(answer(network, "last.z", FEATURES), layer(hidden, "z"), rtol=1e-5, atol=1e-6)
    expected = layer(hidden, "z") + 0.5 * sigmoid(hidden).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(answer(network, "both", FEATURES), expected, rtol=1e-5, atol=1e-6)


def test_numbers_alone_are_copied(folder: Path) -> None:
    network = edited(
        folder, "Copy(z.b, q)\nq2 = Parameter(2, 1, init=fixedValue, value=3)\nCopyNode(q2, z.b, copy=value)"
    )
    expected = sigmoid(layer(FEATURES, "h")) @ ARRAYS["z.W"] + 3
    np.testing.assert_allclose(answer(network, "z.z", FEATURES), expected, rtol=1e-5, atol=1e-6)
    assert "q" in network.members


def test_between_models(folder: Path) -> None:
    """A tree is copied under a prefix; nodes of two models are joined where both have been copied."""
    script = f"""
    other = LoadModel("{folder / "net.dnn"}")
    CopySubTree(other.h.y, m, "twin")
    SetNodeInput(z.t, 1, twin.h.y)
    SetNodeInput(twin.h.t, 1, features)
    Remove(twin.features)
    UnloadModel(other)
    """
    network = edited(folder, script)
    assert network.members["twin.h.y"] in network.members["z.t"].inputs
    np.testing.assert_allclose(
        answer(network, "z.z", FEATURES), layer(sigmoid(layer(FEATURES, "h")), "z"), rtol=1e-5, atol=1e-6
    )


def rates(network: Network) -> dict[str, float]:
    return {name: node.number("rate") for name, node in network.members.items() if node.kind == "Parameter"}


def test_properties(folder: Path) -> None:
    network = edited(
        folder,
        """
        labels = InputValue(2, tag=label)
        ce = CrossEntropyWithSoftmax(labels, z.z)
        SetProperty(*.b, needsGradient, false)
        SetPropertyForSubTree(h.y, learningRateMultiplier, 0.25)
        SetProperty(ce, finalCriterion, true)
        SetProperty(z.z, output, false)
        SetProperty(h.y, output, true)
        """,
    )
    assert rates(network) == {"h.W": 0.25, "h.b": 0.25, "z.W": 1.0, "z.b": 0.0}
    roles = {role: [node.name for node in nodes] for role, nodes in network.roles.items() if nodes}
    assert roles["criterionNodes"] == ["ce"] and roles["labelNodes"] == ["labels"]
    assert roles["outputNodes"] == ["h.y"]


def test_revised_numbers(folder: Path) -> None:
    (folder / "b.txt").write_text("7\n8\n", encoding="utf-8")
    network = edited(folder, f'ReviseParameter(z.b, "{folder / "b.txt"}")')
    expected = sigmoid(layer(FEATURES, "h")) @ ARRAYS["z.W"] + np.array([7, 8])
    np.testing.assert_allclose(answer(network, "z.z", FEATURES), expected, rtol=1e-5, atol=1e-6)


def test_an_embedded_network(folder: Path) -> None:
    network = edited(
        folder, "n = [ x = Input(3) ; y = Tanh(x) ]\nCopySubTree(n.y, m, '')\nUnloadModel(n)\nSetInput(y, 0, h.z)"
    )
    np.testing.assert_allclose(answer(network, "y", FEATURES), np.tanh(layer(FEATURES, "h")), rtol=1e-5, atol=1e-6)


BAD = {
    "Copy(nothing, x)": "line 3, column 6: unknown node 'nothing'",
    "Copy(z.*, w)": "z.* and w must both have a *, or neither",
    "SetNodeInput(z.t, 5, h.y)": "z.t has 2 operands, which count from 0; there is no operand 5",
    "SetNodeInput(z.t, 1)": "SetNodeInput takes 3 arguments, but got 2",
    "SetProperty(z.W, speed, 3)": "unknown property 'speed'",
    "SetProperty(z.W, feature, perhaps)": "true or false is expected, not 'perhaps'",
    "Frobnicate(z.W)": "unknown command 'Frobnicate'",
    "SetDefaultModel(k)": "unknown model 'k'",
    "DeleteNode(h.y)": "z.t has lost its operand 1, and outputNodes need it; give it another one with SetNodeInput",
    "Rename(z.t, h.t)": "there already is a node 'h.t'",
    "SetNodeInput(h.t, 1, z.z)": "depends on itself; a recurrent network is not supported",
    "LoadNDLSnippet(k, net.ndl)": "LoadNDLSnippet is not supported; write name=[ ... ] in the script",
    'k = LoadModel("none.dnn")': "there is no model at none.dnn, and no command before this one trains it",
    "x = Foo(z.z)": "unknown function or macro 'Foo'",
}


@pytest.mark.parametrize("script", BAD)
def test_mistakes_are_told_with_their_place(script: str, folder: Path) -> None:
    with pytest.raises(ConvolveError, match=re.escape(BAD[script])) as caught:
        edited(folder, script)
    assert re.search(r": line \d+, column \d+: ", str(caught.value))


def test_what_only_prints_is_skipped_with_a_note(folder: Path) -> None:
    edited(folder, "DumpModel(m, file.txt)\nDumpNode(z.z, file.txt, includeData=true)")
    notes = read_job([str(folder / "edit.cntk")]).warnings
    assert [re.sub(r".*column 1: ", "", note).partition(" only")[0] for note in notes] == ["DumpModel", "DumpNode"]


def test_a_script_that_saves_nothing(folder: Path) -> None:
    edited(folder, "")
    (folder / "edit.mel").write_text("m = CreateModel()\n", encoding="utf-8")
    with pytest.raises(ConvolveError, match="the script saves no model; end it with SaveModel"):
        read_job([str(folder / "edit.cntk")])
