"""Graph -> JSON -> graph: the same module again; what a stranger wrote into the JSON is refused."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest

import golden
from convolve.errors import ConvolveError, ModelError, UnsupportedError
from convolve.graph.build import build
from convolve.graph.graph import Graph
from convolve.graph.stored import graph_from_mapping, graph_to_mapping
from convolve.importers import cntk

MODELS = [(name, case) for name in ("oracle", "more") for case in golden.cases(name, "v2")]
PLENTY = 2**30


def graph_of(name: str, case: str) -> Graph:
    return cntk.parse(golden.read(name, f"v2/{case}.model"), case)


def stored(graph: Graph) -> dict[str, Any]:
    mapping: dict[str, Any] = json.loads(json.dumps(graph_to_mapping(graph), allow_nan=False))
    return mapping


def test_every_network_of_cntk_comes_back() -> None:
    """The same code, the same weights to fill, the same names; constants in the code to the last digit."""
    seen = 0
    for name, case in MODELS:
        try:
            graph = graph_of(name, case)
        except ConvolveError:
            continue  # refused by the front end; other tests say why
        again = graph_from_mapping(stored(graph), PLENTY)
        one, other = build(graph), build(again)
        assert one.code == other.code, case
        shapes = [{key: tensor.shape for key, tensor in module.state_dict().items()} for module in (one, other)]
        assert shapes[0] == shapes[1], case
        assert stored(again) == stored(graph), case
        assert [p.requires_grad for p in one.parameters()] == [p.requires_grad for p in other.parameters()], case
        seen += 1
    assert seen > 250


def change(*path: Any, to: Any) -> Callable[[dict[str, Any]], None]:
    """Set what stands at `path`; a new last key is added."""

    def apply(mapping: dict[str, Any]) -> None:
        place: Any = mapping
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = to

    return apply


LONG = {"name": "x", "shape": [2**28], "source": "", "learning_rate_multiplier": 1.0}
HOSTILE: dict[str, tuple[Callable[[dict[str, Any]], Any], type[ConvolveError], str]] = {
    "unknown key": (change("code", to="import os"), ModelError, "unknown field 'code'"),
    "unknown operation": (change("nodes", 0, "op", to="eval"), UnsupportedError, "unknown operation 'eval'"),
    "unknown attribute": (change("nodes", 1, "attributes", "hook", to=1), UnsupportedError, "unknown attribute 'hook'"),
    "missing attribute": (lambda m: m["nodes"][1]["attributes"].pop("groups"), ModelError, "lacks groups"),
    "code as a name": (change("nodes", 0, "name", to="x=__import__('os')"), ModelError, "is not a name"),
    "dunder name": (change("nodes", 0, "name", to="__class__"), ModelError, "is not a name"),
    "reserved name": (change("nodes", 0, "name", to="torch"), ModelError, "is not a name"),
    "name twice": (change("nodes", 1, "name", to="multiply_1"), ModelError, "occurs twice"),
    "wrong shape": (change("nodes", 1, "shape", to=[4, 12, 13]), ModelError, "has the shape"),
    "absurd stride": (change("nodes", 1, "attributes", "strides", to=[10**30, 1]), ModelError, "convolution.strides"),
    "a text as a number": (change("nodes", 1, "attributes", "groups", to="1"), ModelError, "convolution.groups"),
    "a truth value as a number": (change("nodes", 1, "attributes", "groups", to=True), ModelError, "groups"),
    "loop": (change("nodes", 0, "inputs", 1, to="ol"), ModelError, "does not precede"),
    "too few operands": (change("nodes", 1, "inputs", to=["multiply_1"]), ModelError, "convolution of 1 values"),
    "no output": (change("outputs", to=[]), ModelError, "outputs"),
    "output of nothing": (change("outputs", to=["nothing"]), ModelError, "outputs nothing"),
    "more weights than the file": (lambda m: m["parameters"].append(LONG), ModelError, "more than the weights"),
    "negative size": (change("inputs", 0, "shape", to=[1, -12, 12]), ModelError, r"shape\[1\] must be between 1"),
    "alias of nothing": (change("aliases", "x", to=["y"]), ModelError, "alias for no value"),
    "no list": (change("nodes", to={}), ModelError, "nodes must be a list"),
    "endless": (lambda m: m["nodes"].extend(m["nodes"][:1] * 20_000), ModelError, "more than 20000"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_what_a_stranger_wrote_is_refused(case: str) -> None:
    alter, error, words = HOSTILE[case]
    mapping = copy.deepcopy(stored(graph_of("oracle", "net_lenet")))
    alter(mapping)
    with pytest.raises(error, match=words):
        graph_from_mapping(mapping, 100_000)


def test_no_mapping_at_all() -> None:
    for value in (None, [], 3, "graph", {}):
        with pytest.raises(ModelError):
            graph_from_mapping(value, PLENTY)
