"""From a graph to a classifier: which output, which input, and what the graph does to its pixels; presets."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

import golden
from convolve.errors import UnsupportedError, UsageError
from convolve.graph.build import build
from convolve.graph.classifier import class_scores, image_input, input_arithmetic, reshaped_image
from convolve.graph.describe import describe
from convolve.graph.draft import Draft
from convolve.graph.graph import Graph
from convolve.importers import cntk
from convolve.importers.presets import find_preset, presets


def oracle(case: str) -> Graph:
    return cntk.parse(golden.read("oracle", f"v2/{case}.model"), case)


def drafted(*ops: str) -> Graph:
    """A network (3,) -> linear (4,) -> `ops`."""
    draft = Draft()
    value = draft.add(
        "linear", [draft.input((3,), "x"), draft.parameter(np.ones((3, 4)))], contracted=1, transposed=False
    )
    for op in ops:
        value = draft.add(op, [value], axes=(0,))
    return draft.finish([value], "a test")


def test_the_scores_among_several_outputs() -> None:
    graph = oracle("net_combine")
    assert len(graph.outputs) == 3
    assert class_scores(graph).outputs == ("linear_1",)
    with pytest.raises(UsageError, match=r"several outputs.*--output"):
        class_scores(replace(graph, outputs=("linear_1", graph.nodes[0].name)))


def test_a_softmax_at_the_end_is_left_to_evaluation() -> None:
    for op in ("softmax", "log_softmax"):
        graph = class_scores(drafted(op))
        assert [node.op for node in graph.nodes] == ["linear"]
        assert op in graph.notes[-1]
    assert [node.op for node in class_scores(drafted("log_softmax", "softmax")).nodes] == ["linear", "log_softmax"]


def test_maps_of_one_pixel_are_scores() -> None:
    graph = class_scores(oracle("net_resnet").with_outputs(["average_pool_1"]))
    assert graph.values()[graph.outputs[0]].shape == (8,)
    assert build(graph)(torch.zeros(2, 3, 16, 16)).shape == (2, 8)
    with pytest.raises(UnsupportedError, match="no output is a score"):
        class_scores(oracle("net_resnet").with_outputs(["c_1"]))


def test_plain_numbers_are_taken_from_an_image() -> None:
    plain = drafted()
    row = image_input(plain)
    assert row.inputs[0].shape == (1, 1, 3)
    image = reshaped_image(row, (3, 1, 1))
    assert image.inputs[0].shape == image_input(plain, (3, 1, 1)).inputs[0].shape == (3, 1, 1)
    x = torch.rand(2, 3)
    assert torch.equal(build(image)(x.reshape(2, 3, 1, 1)), build(plain)(x))
    with pytest.raises(UsageError, match=r"\(3,\), which cannot be an image of shape \(1, 28, 28\)"):
        image_input(plain, (1, 28, 28))
    with pytest.raises(UnsupportedError, match="one input"):
        image_input(oracle("net_combine"))


def test_what_the_graph_does_to_its_pixels() -> None:
    assert list(input_arithmetic(oracle("net_lenet"))) == ["times 0.00390625"]
    assert list(input_arithmetic(oracle("net_resnet"))) == []


def test_parameters_and_operations_of_a_known_network() -> None:
    graph = oracle("net_lenet")
    module = build(graph)
    summary = describe(graph, module)
    assert summary.parameters == sum(p.numel() for p in module.parameters())
    layers = {layer.name: layer for layer in summary.layers}
    conv1 = layers["conv1_convolution"]
    rows, columns = conv1.output_shape[1:]
    assert conv1.flops_per_image == 2 * rows * columns * (conv1.parameters - conv1.output_shape[0])
    assert (conv1.kind, layers["conv1"].source) == ("Conv2d", "conv1")


def test_the_published_models() -> None:
    """The errors in CNTK's PretrainedModels/Image.md."""
    alexnet = find_preset("/anywhere/ALEXNET_ImageNet_CNTK.model")
    assert alexnet is presets()["alexnet"] and alexnet.preprocessing
    assert (alexnet.published_error, alexnet.published_error_top5) == (0.40106, 0.17746)
    assert round(256 * (alexnet.crop_ratio or 0)) == alexnet.input_size == 227
    assert not presets()["resnet18"].preprocessing
    assert find_preset("mine.model") is None
    assert find_preset("mine.model", "resnet50") is presets()["resnet50"]
    with pytest.raises(UsageError, match="did you mean 'resnet50'"):
        find_preset("mine.model", "resnet-50")
