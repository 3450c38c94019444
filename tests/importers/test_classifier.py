"""From a graph to a classifier: which output, which input, and what the graph does to its pixels; presets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

import golden
from convolve.errors import UnsupportedError, UsageError
from convolve.graph.build import build
from convolve.graph.classifier import class_scores, done_twice, image_input, input_arithmetic, reshaped_image
from convolve.graph.describe import describe
from convolve.graph.draft import Draft
from convolve.graph.ends import for_training, gives_independent
from convolve.graph.graph import Graph
from convolve.importers import cntk
from convolve.importers.presets import find_preset, presets
from convolve.training.evaluate import evaluate
from convolve.transforms.preprocess import COMMAND_LINE, Preprocess


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


def ended(end: str) -> tuple[Graph, Callable[[torch.Tensor], torch.Tensor]]:
    """A network (4,) -> 3 scores in maps of one pixel, or 2x2 for a mean, with an end; the probabilities it means."""
    draft = Draft()
    cells = 4 if "mean" in end else 1
    weight = np.random.default_rng(0).normal(size=(4, 3 * cells)).astype(np.float32)
    x = draft.add("linear", [draft.input((4,), "x"), draft.parameter(weight)], contracted=1, transposed=False)
    value = draft.add("reshape", [x], shape=(3, 2, 2) if cells == 4 else (3, 1, 1))
    for word in end.split():
        if word in ("softmax", "sigmoid", "hardmax", "log_softmax"):
            value = draft.add(word, [value], **({} if word == "sigmoid" else {"axes": (0,)}))
        elif word == "flat":
            value = draft.add("reshape", [value], shape=(3,))
        elif word == "times":
            value = draft.add("multiply", [value, draft.parameter(np.float32(100), learning_rate_multiplier=0)])
        else:
            value = draft.add("reduce_mean", [value], axes=(1, 2), keep_dims=word == "means")
    made = next(word for word in end.split() if word != "flat")
    function = {"softmax": torch.softmax, "log_softmax": torch.softmax}.get(made, lambda z, dim: torch.sigmoid(z))
    if made == "hardmax":
        function = lambda z, dim: torch.nn.functional.one_hot(z.argmax(dim), 3).transpose(1, -1).float()  # noqa: E731

    def meant(x_NC: torch.Tensor) -> torch.Tensor:
        return function((x_NC @ torch.from_numpy(weight)).reshape(-1, 3, cells), 1).mean(2)

    return draft.finish([value], "a test"), meant


@pytest.mark.parametrize(
    "end",
    ["softmax", "softmax flat", "flat softmax", "softmax means", "softmax mean", "softmax times", "softmax times flat",
     "log_softmax flat", "sigmoid", "sigmoid flat", "hardmax", "hardmax flat"],
)  # fmt: skip
def test_probabilities_at_the_end_stay_what_they_are(end: str) -> None:
    """Whatever stands behind a softmax, a sigmoid or a hardmax, nothing goes through a softmax twice."""
    graph, meant = ended(end)
    scores = class_scores(graph)
    x_NC = torch.from_numpy(np.random.default_rng(1).normal(size=(5, 4)).astype(np.float32)) * 3
    found = evaluate(
        build(scores), [(x_NC, torch.zeros(5, dtype=torch.int64))], torch.device("cpu"),
        independent=gives_independent(scores),
    )  # fmt: skip
    torch.testing.assert_close(found.probabilities_NK, meant(x_NC), atol=1e-6, rtol=1e-4)
    assert gives_independent(scores) == end.startswith("sigmoid") and scores.notes
    trained = for_training(scores)
    assert gives_independent(trained) is False and ("mean" in end or "times" in end) == (trained.nodes[-1].op == "log")


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


@pytest.mark.parametrize(
    ("name", "mean", "scale", "known_from", "is_twice"),
    [
        ("net_lenet", 0.0, 0.5, COMMAND_LINE, True),
        ("net_lenet", 114.0, 1.0, COMMAND_LINE, False),
        ("net_lenet", 0.0, 0.5, "training", False),
        ("net_resnet", 0.0, 0.5, COMMAND_LINE, False),
    ],
)
def test_a_scale_beside_that_of_the_graph(
    name: str, mean: float, scale: float, known_from: str, is_twice: bool
) -> None:
    said = done_twice(oracle(name), Preprocess(1, 28, 28, mean, scale, known_from=known_from).asked)
    assert said == ("the network itself computes its input times 0.00390625, after --mean and --scale: leave out what "
                    "it does" if is_twice else "")  # fmt: skip


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
