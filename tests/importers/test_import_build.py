"""The module that comes of a graph: its layers, its code, its shapes, and that it can be trained."""

from __future__ import annotations

import copy
import re

import bcn
import numpy as np
import pytest
import torch
from torch import nn
from torch.fx.passes.shape_prop import ShapeProp

import golden
from convolve.errors import UnsupportedError
from convolve.graph.build import build
from convolve.graph.draft import Draft
from convolve.graph.graph import Graph
from convolve.importers import cntk
from convolve.models.batch_norm import CntkBatchNorm2d


def oracle(case: str) -> Graph:
    return cntk.parse(golden.read("oracle", f"v2/{case}.model"), case)


def code(graph: Graph) -> list[str]:
    """The lines of the forward function, without what frees memory."""
    lines = build(graph).code.strip().splitlines()
    return [re.sub(r";  .*", "", line).strip() for line in lines]


def test_layers_have_types_and_names() -> None:
    layers = {name: type(layer) for name, layer in build(oracle("net_lenet")).named_children()}
    assert layers == {
        "conv1_convolution": nn.Conv2d,
        "pool1": nn.MaxPool2d,
        "conv2_convolution": nn.Conv2d,
        "pool2": nn.MaxPool2d,
        "h1_linear": nn.Linear,
        "dropout_1": nn.Dropout,
        "ol": nn.Linear,
    }
    kinds = [type(layer) for layer in build(oracle("net_resnet")).children()]
    assert kinds.count(nn.Conv2d) == kinds.count(CntkBatchNorm2d) == 6
    assert kinds[-2:] == [nn.AvgPool2d, nn.Linear]


def test_code_can_be_read() -> None:
    assert code(oracle("net_lenet")) == [
        "def forward(self, features):",
        "multiply_1 = features * 0.00390625",
        "conv1_convolution = self.conv1_convolution(multiply_1)",
        "conv1 = torch.relu(conv1_convolution)",
        "pool1 = self.pool1(conv1)",
        "conv2_convolution = self.conv2_convolution(pool1)",
        "conv2 = torch.relu(conv2_convolution)",
        "pool2 = self.pool2(conv2)",
        "flatten = torch.flatten(pool2, 1)",
        "h1_linear = self.h1_linear(flatten)",
        "h1 = torch.relu(h1_linear)",
        "dropout_1 = self.dropout_1(h1)",
        "ol = self.ol(dropout_1)",
        "return ol",
    ]


@pytest.mark.parametrize("name", ["oracle", "more"])
def test_shapes_are_those_of_torch(name: str) -> None:
    """What `shapes.py` infers for every node of every model is what torch comes to, for a batch of 3."""
    compared = 0
    for case in golden.cases(name, "v2"):
        try:
            graph = cntk.parse(golden.read(name, f"v2/{case}.model"), case)
        except UnsupportedError:
            continue
        module = build(graph)
        ShapeProp(module).propagate(*(torch.rand(3, *leaf.shape) for leaf in graph.inputs))
        calls = [node for node in module.graph.nodes if node.op.startswith("call")]
        shapes = {call.name: call.meta["tensor_meta"].shape for call in calls}
        for node in graph.nodes:
            if node.name in shapes:
                assert tuple(shapes[node.name]) == (3,) * node.batched + node.shape, (case, node)
                compared += 1
    assert compared > 150


def test_every_parameter_arrives_once() -> None:
    """The numbers of the module are those of the graph, none forgotten and none twice."""
    for case in ("net_lenet", "net_resnet", "bn_perelem_eps0.001", "convtrans_same_s2"):
        graph, module = oracle(case), build(oracle(case))
        wanted = sum(p.array.size for p in graph.parameters if p.array.size > 1 or p.learning_rate_multiplier)
        counts = sum(name.endswith("running_count") for name in module.state_dict())
        assert sum(tensor.numel() for tensor in module.state_dict().values()) - counts == wanted


def test_frozen_parameters_stay_frozen() -> None:
    def network(multiplier: float) -> nn.Module:
        weight = bcn.parameter(31, "W", np.ones((4, 3), np.float32), multiplier)
        nodes = [bcn.input_node(31, "features", 4), weight, ("Times", "z", bcn.pack("Qi", 1, -1), ("W", "features"))]
        return build(cntk.parse(bcn.model(31, nodes, outputs=["z"]), "net.dnn"))

    assert not network(0.0).z.weight.requires_grad
    assert network(1.0).z.weight.requires_grad and isinstance(network(1.0).z, nn.Linear)


def test_shared_weights_stay_shared() -> None:
    """A weight that two convolutions use is one parameter, and learns from both."""
    module = build(cntk.parse(golden.read("old", "v1/shared_weight.v1"), "net.dnn"))
    assert [name for name, _ in module.named_parameters()] == ["W"]
    module(torch.rand(1, 3, 6, 7)).sum().backward()
    assert module.W.grad is not None and bool(module.W.grad.abs().sum() > 0)


def test_training_mode_and_dropout() -> None:
    module = build(oracle("net_lenet"))
    x = torch.rand(4, 1, 12, 12)
    assert not module.training and torch.equal(module(x), module(x))
    module.train()
    assert not torch.equal(module(x), module(x))


def test_the_module_is_an_ordinary_one() -> None:
    """Copying, saving its state, exporting: as with any module of torch."""
    module, x = build(oracle("net_resnet")), torch.rand(2, 3, 16, 16)
    twin = copy.deepcopy(module)
    twin.load_state_dict(module.state_dict())
    exported = torch.export.export(module, (x,))
    assert torch.equal(twin(x), module(x))
    torch.testing.assert_close(exported.module()(x), module(x))


def test_several_outputs_and_inner_ones() -> None:
    graph = oracle("net_combine")
    z, ce, errs = build(graph)(torch.rand(5, 6), torch.eye(3)[[0, 1, 2, 0, 1]])
    assert z.shape == (5, 3) and ce.shape == errs.shape == (5, 1)
    alone = graph.with_outputs(["ce"])
    assert len(alone.inputs) == 2 and len(graph.with_outputs([graph.outputs[0]]).inputs) == 1


HOSTILE = [
    "__import__('os').system('true')",
    "a\nb = 1",
    'x"; import os #',
    "class",
    "self",
    "torch",
    "1st",
    "",
    "é…ß",
    "forward",
    "training",
    "relu" * 100,
    "../../etc/passwd",
    "__class__",
    "weight.data",
]


def test_names_cannot_become_code() -> None:
    """Whatever the nodes of a file are called, the code has identifiers only, and the same network comes out."""
    nodes = [bcn.input_node(31, "features", 4)]
    for name in HOSTILE:
        nodes.append(bcn.parameter(31, f"{name}.b", np.ones(4, np.float32)))
        nodes.append(("Plus", name or "empty", b"", (nodes[-2][1] if len(nodes) > 2 else "features", f"{name}.b")))
    module = build(cntk.parse(bcn.model(31, nodes, outputs=[nodes[-1][1]]), "hostile.dnn"))
    assert torch.equal(module(torch.zeros(1, 4)), torch.full((1, 4), float(len(HOSTILE))))
    assert re.fullmatch(r"[\w\s=+;.,:()#`/-]*", module.code.split("# To see")[0])
    for name, _ in module.named_parameters():
        assert name.isidentifier() and not name.startswith("__")


def test_numbers_beyond_float32_are_refused() -> None:
    draft = Draft()
    x = draft.input((2,), "x")
    big = draft.parameter(np.array([1e300, 1.0]))
    graph = draft.finish([draft.add("add", [x, big])], "test")
    with pytest.raises(UnsupportedError, match="beyond float32"):
        build(graph)


def test_parameters_are_copies() -> None:
    """Training must not write into the bytes of the file."""
    data = golden.read("oracle", "v2/net_lenet.model")
    module = build(cntk.parse(data, "net.model"))
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.fill_(7)
    assert data == golden.read("oracle", "v2/net_lenet.model")


def test_empty_and_single_batches() -> None:
    module = build(oracle("net_lenet"))
    assert module(torch.rand(0, 1, 12, 12)).shape == (0, 10)
    assert module(torch.rand(1, 1, 12, 12)).shape == (1, 10)
