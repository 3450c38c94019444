"""Networks made from trained ones: BS.Network.Load, CloneFunction and Edit."""

from __future__ import annotations

from pathlib import Path

import bcn
import numpy as np
import pytest
import torch

from convolve.errors import ConvolveError
from convolve.graph.build import build, with_weights
from convolve.graph.graph import Graph
from convolve.importers import cntk
from convolve.importers.brainscript.criterion import trained
from convolve.importers.brainscript.lower import lower
from convolve.importers.brainscript.network import Network, read_network
from convolve.importers.brainscript.text import of_lines

MODEL = Path(__file__).parents[2] / "golden" / "cntk" / "final.model"  # which the real CNTK wrote


def network(text: str, model: Path = MODEL) -> Network:
    lines = text.replace("MODEL", f'BS.Network.Load ("{model}")').split("\n")
    return read_network(of_lines("net.bs", lines), [])


def graph(network: Network, output: str) -> Graph:
    return lower([network.members[output]], torch.Generator().manual_seed(1), "BrainScript")


def values(graph: Graph) -> torch.Tensor:
    images = torch.rand(2, 3, 12, 12, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        result: torch.Tensor = build(graph)(images)
    return result


@pytest.fixture
def dense(tmp_path: Path) -> Path:
    """A v1 file as BrainScript's trainer writes it: names with dots, a criterion, groups of roots."""
    rng = np.random.default_rng(0)
    nodes = [
        bcn.input_node(31, "features", 4),
        bcn.input_node(31, "labels", 3),
        bcn.parameter(31, "h.W", rng.normal(size=(4, 5)).astype(np.float32)),
        bcn.parameter(31, "z.W", rng.normal(size=(5, 3)).astype(np.float32)),
        ("Times", "h.z", bcn.pack("Qi", 1, -1), ("h.W", "features")),
        ("Sigmoid", "h", b"", ("h.z",)),
        ("Times", "z", bcn.pack("Qi", 1, -1), ("z.W", "h")),
        ("CrossEntropyWithSoftmax", "ce", b"", ("labels", "z")),
    ]
    path = tmp_path / "dense.dnn"
    path.write_bytes(bcn.model(31, nodes, outputs=["z"], criteria=["ce"]))
    return path


HEAD = """{
    base = MODEL
    body = BS.Network.CloneFunction (base.x, base.pooled, parameters = "HOW")
    features = Input {(12:12:3)} ; labels = Input {5}
    f = body (features) ; g = body (features)
    z = LinearLayer {5} (f)
}"""


@pytest.mark.parametrize(("how", "rates"), [("learnable", {0.0, 1.0}), ("constant", {0.0}), ("shared", {0.0, 1.0})])
def test_a_part_of_a_model_is_a_function(how: str, rates: set[float]) -> None:
    """It computes what the file does; frozen, nothing in it learns."""
    found = network(HEAD.replace("HOW", how))
    body = graph(found, "f")
    torch.testing.assert_close(values(body), values(cntk.parse(MODEL.read_bytes(), MODEL, ["pooled"])))
    assert {p.learning_rate_multiplier for p in body.parameters} == rates
    learning = [p.source for p in graph(found, "z").parameters if not p.is_frozen]
    assert (learning == ["z.W", "z.b"]) is (how == "constant")
    both = lower([found.members["f"], found.members["g"]], torch.Generator(), "BrainScript")
    assert len(both.parameters) == len(body.parameters) * (1 if how == "shared" else 2)


def test_frozen_batch_normalization_keeps_its_statistics() -> None:
    module = build(graph(network(HEAD.replace("HOW", "constant")), "f"))
    before = module(torch.rand(4, 3, 12, 12, generator=torch.Generator().manual_seed(3)))
    module.train()
    module(torch.rand(9, 3, 12, 12) * 100)
    after = module(torch.rand(4, 3, 12, 12, generator=torch.Generator().manual_seed(3)))
    torch.testing.assert_close(before, after)


def test_several_inputs_and_a_record_of_outputs() -> None:
    text = """{ base = MODEL ; features = Input {(12:12:3)}
        tail = BS.Network.CloneFunction (base.x : base.pooled, [ sum = base.scores ; before = base.pooled ])
        other = tail (features, Constant (2) .* base.pooled)
        z = other.sum }"""
    twice = values(graph(network(text), "z"))
    pooled, scores = (values(cntk.parse(MODEL.read_bytes(), MODEL, [name])) for name in ("pooled", "scores"))
    (weight,) = (p.array for p in cntk.read_whole(MODEL)[0].parameters if p.name == "W_7")
    extra = torch.einsum("nc,ck->nk", pooled.flatten(1), torch.from_numpy(weight.reshape(16, 4).copy()))
    torch.testing.assert_close(twice, scores + extra, rtol=1e-4, atol=1e-5)


def test_names_roles_and_attributes_of_a_v1_file(dense: Path) -> None:
    found = network("(MODEL)", dense)
    assert trained(found).outputs[0].name == "z" and trained(found).labels.name == "labels"
    assert {"h.W", "h.z", "ce"} <= found.members.keys()
    text = """{ base = MODEL ; a = base.h.z ; b = base.h_z ; c = base.h_W
        sizes = Constant (base.features.dim + base.h.input.dims[0] * 10 + base.z.inputs[0].dim * 100) }"""
    with pytest.raises(ConvolveError, match=r"line 1, column \d+: unknown member of a node 'z'"):
        network(text, dense)  # h is a node itself
    found = network(text.replace("base.h.z", "base.h_z"), dense)
    assert found.members["a"] is found.members["b"]
    assert found.members["sizes"].settings["constant"] == 4 + 5 * 10 + 15 * 100


def test_links_are_replaced_in_an_edited_network(dense: Path) -> None:
    text = """{
        model = MODEL
        ToReLU (node) = if node.operation == 'Sigmoid' then ReLU (node.input) else node
        ByName = BS.Network.Editing.ReplaceLinksToNamedNode ('h.z', Constant (3) .* model.h_z)
        ByNode = BS.Network.Editing.ReplaceLinksToNode (model.h, Dropout (model.h))
        edited = BS.Network.Edit (model, EDITS, ROOTS)
        more = Softmax (model.z, tag = 'output')
    }.edited"""

    def edited(edits: str, roots: str = "[||]") -> Network:
        return network(text.replace("EDITS", edits).replace("ROOTS", roots), dense)

    def operations(found: Network) -> list[str]:
        return [node.op for node in graph(found, "z").nodes]

    assert operations(edited("ToReLU")) == ["linear", "relu", "linear"]
    assert operations(edited("ByName")) == ["linear", "multiply", "sigmoid", "linear"]
    assert operations(edited("(ByName : ByNode)")) == ["linear", "multiply", "sigmoid", "dropout", "linear"]
    assert operations(edited("(node => node)")) == operations(network("(MODEL)", dense))
    found = edited("ToReLU", "more")
    assert [operation.name for operation in found.roles["outputNodes"]] == ["z", "more"]
    assert [operation.kind for operation in found.roles["criterionNodes"]] == ["CrossEntropyWithSoftmax"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{ z = BS.Network.Load ("nowhere").z }', "column 7: Load: there is no model at nowhere"),
        ("{ z = BS.Network.Load (3).z }", "column 7: Load: the path of a model must be a string, not a number"),
        (f'{{ z = BS.Network.Load ("{__file__}").z }}', "column 7: Load: "),
        ("{ b = MODEL ; z = b.poold }", "unknown member 'poold'; did you mean 'pooled'?"),
        ("{ z = BS.Network.CloneFunction (1, 2) }", "column 7: CloneFunction: nodes of a network are expected"),
        ("{ b = MODEL ; z = BS.Network.CloneFunction (b.x, b.pooled, parameters = 'no') (b.x) }", "of parameters 'no'"),
        ("{ b = MODEL ; z = BS.Network.CloneFunction (b.x, b.pooled) (3) }", "takes nodes of the network"),
        ("{ b = MODEL ; z = BS.Network.CloneFunction (b.x, 3) (b.x) }", "outputs of a cloned function are nodes"),
        ("{ b = MODEL ; z = BS.Network.CloneFunction (b.x, b.pooled) (b.x, b.x) }", "1 arguments (x0), but got 2"),
        ("{ z = BS.Network.Edit (1, 2, 3).z }", "Edit: BS.Network.Edit takes a network, not a number"),
        ("{ z = BS.Network.Edit (MODEL, 3, [||]).z }", "an edit function must take one node"),
        ("{ z = BS.Network.Edit (MODEL, (n => 3), [||]).z }", "an edit function must return a node, not a number"),
        ("{ b = MODEL ; z = if b.pooled.dim == b.x.color then b.x else b.x }", "unknown member of a node 'color'"),
        ("{ a = ReLU (Input {4}) ; z = Constant (a.dim) }", "the size of a is known only when"),
    ],
)  # fmt: skip
def test_mistakes_have_a_place(text: str, words: str) -> None:
    with pytest.raises(ConvolveError, match=r"net\.bs: line 1, column \d+: ") as error:
        network(text)
    assert words in str(error.value)


def test_with_weights_is_the_inverse_of_build() -> None:
    trained = cntk.parse(MODEL.read_bytes(), MODEL)
    module = build(trained)
    with torch.no_grad():
        for tensor in [*module.parameters(), *module.buffers()]:
            tensor.copy_(torch.rand(tensor.shape) + 0.5)
    again = with_weights(trained, module.state_dict())
    for key, tensor in build(again).state_dict().items():
        assert torch.equal(tensor, module.state_dict()[key]), key
