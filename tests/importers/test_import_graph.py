"""The neutral graph: names, outputs, and what is recognized in it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import golden
from convolve.errors import UsageError
from convolve.graph.draft import Draft
from convolve.graph.graph import Graph, Node
from convolve.graph.names import identifier
from convolve.graph.shapes import GraphError, broadcasting


def convolution(draft: Draft, x: str, weight: str) -> str:
    settings = {"strides": (1, 1), "dilation": (1, 1), "lower": (0, 0), "upper": (0, 0), "groups": 1}
    return draft.add("convolution", [x, weight], **settings)


def ops(graph: Graph) -> list[str]:
    return [node.op for node in graph.nodes]


@pytest.fixture
def draft() -> Draft:
    return Draft()


def test_identifiers() -> None:
    names = {"z.x.x.W": "z_x_x_W", "1st": "n1st", "": "", "...": "", "conv1": "conv1", "a b\nc": "a_b_c"}
    assert {name: identifier(name) for name in names} == names
    assert len(identifier("x" * 1000)) == 60


def test_names_come_from_the_file_the_block_or_the_operation(draft: Draft) -> None:
    x = draft.input((3,), "features")
    named = draft.add("relu", [x])
    draft.call(named, "relu", "ReLU17")
    draft.block = "conv1"
    inside = draft.add("exp", [named])
    draft.block = ""
    twice = draft.add("exp", [inside])
    draft.call(twice, "relu", "Exp18")
    graph = draft.finish([twice], "test")
    assert [node.name for node in graph.nodes] == ["relu_1", "conv1_exp", "relu_2"]
    assert graph.aliases["ReLU17"] == ("relu_1",) and graph.aliases["relu"] == ("relu_1", "relu_2")


def test_numbers_leave_the_names_of_the_file_alone(draft: Draft) -> None:
    value = draft.input((3,), "x")
    for name in ("a", "a_1", "a"):
        value = draft.add("exp", [value])
        draft.call(value, name)
    assert [node.name for node in draft.finish([value], "test").nodes] == ["a_2", "a_1", "a_3"]


def test_words_of_python_are_no_names(draft: Draft) -> None:
    value = draft.input((3,), "input")
    for name in ("class", "max", "self", "torch"):
        value = draft.add("exp", [value])
        draft.call(value, name)
    graph = draft.finish([value], "test")
    assert [node.name for node in graph.nodes] == ["class_1", "max_1", "self_1", "torch_1"]


def test_with_outputs_cuts_the_rest(draft: Draft) -> None:
    x, y = draft.input((3,), "x"), draft.input((3,), "y")
    inner = draft.add("relu", [x])
    draft.call(inner, "inner")
    outer = draft.add("add", [inner, y])
    graph = draft.finish([outer], "test").with_outputs(["inner"])
    assert ops(graph) == ["relu"] and [leaf.name for leaf in graph.inputs] == ["x"]
    with pytest.raises(UsageError, match="unknown node 'iner'; did you mean 'inner'"):
        graph.with_outputs(["iner"])


def test_biases_move_into_their_layers(draft: Draft) -> None:
    x = draft.input((2, 5, 5))
    weight, bias = draft.parameter(np.ones((4, 2, 3, 3))), draft.parameter(np.arange(4.0).reshape(4, 1, 1))
    graph = draft.finish([draft.add("add", [bias, convolution(draft, x, weight)])], "test")
    assert ops(graph) == ["convolution"] and len(graph.nodes[0].inputs) == 3
    values = {"in__": np.ones((1, 2, 5, 5), np.float32)}
    [got] = golden.evaluate(graph, values)
    golden.assert_close(got, np.broadcast_to(18 + np.arange(4.0).reshape(1, 4, 1, 1), (1, 4, 3, 3)))


@pytest.mark.parametrize("shape", [(1, 1, 1), (4, 3, 3), (3, 1), (1, 4, 1, 1)])
def test_other_sums_are_no_bias(draft: Draft, shape: tuple[int, ...]) -> None:
    x, weight = draft.input((2, 5, 5)), draft.parameter(np.ones((4, 2, 3, 3)))
    total = draft.add("add", [convolution(draft, x, weight), draft.parameter(np.ones(shape))])
    assert ops(draft.finish([total], "test")) == ["convolution", "add"]


def test_a_convolution_that_others_read_keeps_its_own_value(draft: Draft) -> None:
    x, weight = draft.input((2, 5, 5)), draft.parameter(np.ones((4, 2, 3, 3)))
    bias = draft.parameter(np.ones((4, 1, 1)))
    plain = convolution(draft, x, weight)
    graph = draft.finish([draft.add("add", [plain, bias]), plain], "test")
    assert ops(graph) == ["convolution", "add"]


def normalization(draft: Draft, kernel: np.ndarray, upper: int = 2) -> Graph:
    """x / (1.5 + sum over 5 channels of kernel * x^2)^0.75, spelled out."""
    x = draft.input((8, 3, 4), "x")
    square = draft.add("reshape", [draft.add("multiply", [x, x])], shape=(1, 8, 3, 4))
    edges = {"lower": (2, 0, 0), "upper": (upper, 0, 0), "strides": (1, 1, 1), "dilation": (1, 1, 1), "groups": 1}
    window = draft.add("convolution", [square, draft.parameter(kernel, 0.0)], **edges)
    summed = draft.add("reshape", [window], shape=(8, 3, 4))
    inner = draft.add("log", [draft.add("add", [draft.parameter(np.float32(1.5), 0.0), summed])])
    power = draft.add("exp", [draft.add("multiply", [draft.parameter(np.float32(0.75), 0.0), inner])])
    return draft.finish([draft.add("multiply", [x, draft.add("reciprocal", [power])])], "test")


def test_response_normalization_is_recognized(draft: Draft) -> None:
    graph = normalization(draft, np.full((1, 1, 5, 1, 1), 0.02, np.float32))
    assert ops(graph) == ["local_response_normalization"]
    x = np.random.default_rng(0).standard_normal((2, 8, 3, 4)).astype(np.float32)
    [got] = golden.evaluate(graph, {"in__x": x})
    golden.assert_close(got, F.local_response_norm(torch.from_numpy(x), 5, 0.1, 0.75, 1.5).numpy(), relative=1e-6)


def test_what_only_looks_like_response_normalization_is_computed(draft: Draft) -> None:
    """A kernel of unequal numbers: the same structure, another function."""
    kernel = np.array([1, 2, 3, 2, 1], np.float32).reshape(1, 1, 5, 1, 1)
    graph = normalization(draft, kernel)
    assert "local_response_normalization" not in ops(graph)
    x = np.random.default_rng(0).standard_normal((2, 8, 3, 4)).astype(np.float32)
    [got] = golden.evaluate(graph, {"in__x": x})
    squares = np.pad(x.astype(np.float64) ** 2, ((0, 0), (2, 2), (0, 0), (0, 0)))
    summed = sum(weight * squares[:, shift : shift + 8] for shift, weight in enumerate((1, 2, 3, 2, 1)))
    golden.assert_close(got, (x / (1.5 + summed) ** 0.75).astype(np.float32), relative=1e-5)


def test_constants_are_computed_once(draft: Draft) -> None:
    x = draft.input((3, 2, 2), "x")
    numbers = [draft.add("reshape", [draft.parameter(np.float32(n), 0.0)], shape=(1, 1, 1)) for n in (104, 117, 124)]
    mean = draft.add("concatenate", numbers, axis=0)
    graph = draft.finish([draft.add("subtract", [x, mean])], "test")
    assert ops(graph) == ["subtract"] and graph.parameters[-1].array.ravel().tolist() == [104, 117, 124]


def test_what_is_learned_is_not_folded(draft: Draft) -> None:
    x = draft.input((3,), "x")
    scale = draft.parameter(np.ones(3, np.float32), 1.0)
    graph = draft.finish([draft.add("multiply", [x, draft.add("reciprocal", [scale])])], "test")
    assert ops(graph) == ["reciprocal", "multiply"]


def test_broadcasting_aligns_the_fastest_axis() -> None:
    assert broadcasting({}, [(3, 1, 1), (4, 5)]) == (3, 4, 5)
    with pytest.raises(GraphError, match="do not fit"):
        broadcasting({}, [(3, 4), (3,)])


@pytest.mark.parametrize(
    ("op", "shapes", "attributes"),
    [
        ("add", [(3,), (4,)], {}),
        ("concatenate", [(3, 2), (3, 4)], {"axis": 0}),
        ("reshape", [(3, 2)], {"shape": (4,)}),
        ("transpose", [(3, 2)], {"order": (0, 0)}),
        ("slice", [(3,)], {"axis": 0, "begin": 2, "end": 2, "step": 1}),
        ("slice", [(3,)], {"axis": 1, "begin": 0, "end": 1, "step": 1}),
        ("reduce_sum", [(3,)], {"axes": (0, 0), "keep_dims": True}),
        ("top_k_values", [(3,)], {"axis": 0, "k": 4}),
        ("linear", [(3,), (4, 2)], {"contracted": 1, "transposed": False}),
        ("pad", [(3,)], {"lower": (3,), "upper": (0,), "mode": "reflect", "value": 0.0}),
        ("pad", [(3,)], {"lower": (2**29,), "upper": (0,), "mode": "constant", "value": 0.0}),
        ("max_pool", [(1, 3, 3)], {"window": (4, 1), "strides": (1, 1), "lower": (0, 0), "upper": (0, 0)}),
    ],
)
def test_what_does_not_fit_is_refused(
    draft: Draft, op: str, shapes: list[tuple[int, ...]], attributes: dict[str, object]
) -> None:
    with pytest.raises(GraphError):
        draft.add(op, [draft.input(shape) for shape in shapes], **attributes)


def test_samples_have_a_limit(draft: Draft) -> None:
    with pytest.raises(GraphError, match="numbers per sample"):
        draft.input((2**15, 2**15))


def test_nodes_tell_their_attributes() -> None:
    node = Node("n", "convolution", ("x", "w"), {"groups": 2, "strides": (1, 2), "alpha": 0.5}, (1,), True)
    assert (node.integer("groups"), node.integers("strides"), node.number("alpha")) == (2, (1, 2), 0.5)
