"""Caffe models give what OpenCV's Caffe reader gives, whatever syntax and encoding they are written in."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from caffe_cases import CASES, Case
from caffe_files import PLAIN, UNUSED, Form, Writer, caffemodel, noise
from caffe_nets import NETS, alexnet, caffenet, resnet50, squeezenet
from torch import nn

import golden
from convolve.errors import UsageError
from convolve.graph.build import build
from convolve.graph.describe import describe
from convolve.graph.graph import Graph
from convolve.graph.stored import graph_from_mapping, graph_to_mapping
from convolve.importers import caffe

FILE = Path(__file__).parent.parent / "golden" / "caffe" / "opencv.npz"
THIN = 8  # as in record_caffe.py


@cache
def recorded() -> dict[str, np.ndarray]:
    with np.load(FILE) as archive:
        return dict(archive)


def parse(text: str, blobs: dict[str, list[np.ndarray]], form: Form = PLAIN, outputs: list[str] | None = None) -> Graph:
    model = caffemodel(blobs or UNUSED, form)
    return caffe.parse(text.encode(), model, outputs=outputs).graph


def evaluate(graph: Graph, images_NCHW: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        result: np.ndarray = build(graph)(torch.from_numpy(images_NCHW)).numpy()
    return result


def evaluate_case(name: str) -> np.ndarray:
    case = CASES[name]
    return evaluate(parse(case.text, case.blobs), case.images(name))


@pytest.mark.parametrize("name", CASES)
def test_layers(name: str) -> None:
    golden.assert_close(evaluate_case(name), recorded()[f"case/{name}"], relative=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_a_model_folder_holds_every_layer(name: str) -> None:
    """Graph -> JSON -> graph: the same code, the same weights to fill."""
    graph = parse(CASES[name].text, CASES[name].blobs)
    again = graph_from_mapping(json.loads(json.dumps(graph_to_mapping(graph), allow_nan=False)), 2**20)
    one, other = build(graph), build(again)
    other.load_state_dict(one.state_dict())
    assert one.code == other.code
    images = torch.from_numpy(CASES[name].images(name))
    assert torch.equal(one(images), other(images))


def test_everything_recorded_is_compared() -> None:
    assert recorded().keys() == {f"case/{name}" for name in CASES} | {
        f"{w}/{name}" for name in NETS for w in ("thin", "full")
    }


# -- whole networks ----------------------------------------------------------------------------------------------------


def answer(writer: Writer) -> np.ndarray:
    images_NCHW = noise("image", (1, *writer.input_shape[1:]), 128.0)
    return evaluate(parse(writer.text, writer.blobs, outputs=[writer.scores]), images_NCHW)


def assert_same_answer(got: np.ndarray, wanted: np.ndarray) -> None:
    """Scores that are alike, and not alike for all classes."""
    golden.assert_close(got.reshape(wanted.shape), wanted, relative=1e-4)
    assert np.std(wanted) > 0.05 * np.abs(wanted).max()


@pytest.mark.parametrize("name", NETS)
def test_narrow_networks(name: str) -> None:
    assert_same_answer(answer(NETS[name][0](THIN)), recorded()[f"thin/{name}"])


@pytest.mark.slow
@pytest.mark.parametrize("name", NETS)
def test_networks(name: str) -> None:
    assert_same_answer(answer(NETS[name][0](1)), recorded()[f"full/{name}"])


@pytest.mark.parametrize("name", NETS)
def test_parameters_are_as_many_as_published(name: str) -> None:
    """Without weights: nothing is allocated."""
    make, published = NETS[name]
    graph = caffe.parse(make(1).text.encode(), None).graph
    assert describe(graph, nn.Module()).parameters == published
    assert all(parameter.array.size <= 2048 or parameter.array.strides[0] == 0 for parameter in graph.parameters)


def test_layers_of_a_residual_network() -> None:
    """BatchNorm and Scale are one layer, convolutions are those of torch, and the file's names stay."""
    writer = resnet50(THIN)
    graph = parse(writer.text, writer.blobs)
    kinds = [type(layer).__name__ for layer in build(graph).children()]
    assert (kinds.count("Conv2d"), kinds.count("CntkBatchNorm2d"), kinds.count("Linear")) == (53, 53, 1)
    assert "multiply" not in {node.op for node in graph.nodes}
    assert {"res2a_branch1", "scale_2a_branch1", "res2a", "pool5"} <= {node.source for node in graph.nodes}


# -- encodings and syntax ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "form",
    [Form(v1=True), Form(legacy_shapes=True), Form(packed=False), Form(double=True), Form(True, True, False, True)],
    ids=str,
)
def test_encodings_of_weights(form: Form) -> None:
    for name in ("conv", "dense", "batch_norm_scale"):
        case = CASES[name]
        got = evaluate(parse(case.text, case.blobs, form), case.images(name))
        np.testing.assert_array_equal(got, evaluate_case(name))


def test_both_syntaxes_say_the_same() -> None:
    writer = caffenet(THIN)
    old, modern = parse(writer.text, writer.blobs, Form(v1=True)), parse(_modern(writer.text), writer.blobs)
    assert [(n.name, n.op, n.attributes, n.shape) for n in modern.nodes] == [
        (n.name, n.op, n.attributes, n.shape) for n in old.nodes
    ]
    assert build(modern).code == build(old).code


def _modern(text: str) -> str:
    """V1 layers as current ones."""
    types = {"CONVOLUTION": "Convolution", "RELU": "ReLU", "POOLING": "Pooling", "INNER_PRODUCT": "InnerProduct"}
    types |= {"DROPOUT": "Dropout", "SOFTMAX": "Softmax", "LRN": "LRN"}
    for old, new in types.items():
        text = text.replace(f"type: {old} ", f'type: "{new}" ')
    return text.replace("layers {", "layer {")


SPELLINGS = {
    "as it is": lambda text: text,
    "colons": lambda text: text.replace("_param {", "_param: {"),
    "angle brackets": lambda text: text.replace("{", "<").replace("}", ">"),
    "one line": lambda text: " ".join(text.split()),
    "separators": lambda text: text.replace("pad: 1", "pad: 1;").replace("stride: 2", "stride: 2,"),
    "comments": lambda text: text.replace("{", "{ # a comment { : \n"),
    "lists": lambda text: text.replace("kernel_size: 3", "kernel_size: [3, 3]").replace('bottom: "x"', 'bottom: ["x"]'),
    "quotes": lambda text: text.replace('"y"', "'y'").replace('"x"', '"" "x"'),
    "escapes": lambda text: text.replace('"y"', r'"\171"').replace('"x"', r'"\x78"'),
    "hexadecimal": lambda text: text.replace("kernel_size: 3", "kernel_size: 0x3"),
    "windows": lambda text: "\ufeff" + text.replace("\n", "\r\n"),
    "what caffe ignores": lambda text: text.replace(
        "pad: 1", 'pad: 1 weight_filler { type: "xavier" } engine: CUDNN'
    ).replace('name: "l"', 'name: "l" phase: TRAIN param { lr_mult: 1 decay_mult: 0 }'),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_spellings(spelling: str) -> None:
    text = SPELLINGS[spelling](CASES["conv"].text)
    got = evaluate(parse(text, CASES["conv"].blobs), CASES["conv"].images("conv"))
    np.testing.assert_array_equal(got, evaluate_case("conv"))


@pytest.mark.parametrize(
    "head", ['input: "x" input_shape { dim: 2 dim: 3 dim: 9 dim: 10 }', 'input: "x" input_dim: [2, 3, 9, 10]']
)
def test_inputs_without_a_layer(head: str) -> None:
    text = head + "\n" + CASES["conv"].layers
    got = evaluate(parse(text, CASES["conv"].blobs), CASES["conv"].images("conv"))
    np.testing.assert_array_equal(got, evaluate_case("conv"))


# -- train_val files ---------------------------------------------------------------------------------------------------

TRAIN_VAL = """
name: "LeNet"
layer { name: "data" type: "Data" top: "data" top: "label" include { phase: TRAIN }
        transform_param { mirror: true crop_size: 10 mean_value: [104, 117, 123] } data_param { source: "a" } }
layer { name: "data" type: "Data" top: "data" top: "label" include { phase: TEST }
        transform_param { crop_size: 12 mean_value: [104, 117, 123] scale: 0.5 } data_param { source: "b" } }
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1" param { lr_mult: 0 } param { lr_mult: 2 }
        convolution_param { num_output: 4 kernel_size: 5 } }
layer { name: "relu1" type: "ReLU" bottom: "conv1" top: "conv1" }
layer { name: "noise" type: "Dropout" bottom: "conv1" top: "conv1" include { phase: TRAIN } }
layer { name: "debug" type: "AbsVal" bottom: "conv1" top: "debug" include { stage: "debug" } }
layer { name: "ip" type: "InnerProduct" bottom: "conv1" top: "ip" inner_product_param { num_output: 5 } }
layer { name: "accuracy" type: "Accuracy" bottom: "ip" bottom: "label" top: "accuracy" include { phase: TEST } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }
layer { name: "weighed" type: "Power" bottom: "loss" top: "weighed" power_param { scale: 0.3 } }
"""
BLOBS = {
    "conv1": [noise("w", (4, 3, 5, 5)), noise("b", (4,))],
    "ip": [noise("ip", (5, 256)), noise("ip b", (5,))],
}


def test_a_train_val_file() -> None:
    """Phase TEST; data, loss and accuracy left out; the size from the transform, the channels from the weights."""
    model = caffe.parse(TRAIN_VAL.encode(), caffemodel(BLOBS))
    graph = model.graph
    assert [node.name for node in graph.nodes] == ["conv1", "relu1", "flatten", "ip"] or graph.outputs == ("ip",)
    assert graph.inputs[0].shape == (3, 12, 12)
    assert model.preprocess == {"mean": (104.0, 117.0, 123.0), "scale": 0.5, "known_from": "the prototxt"}
    assert [p.learning_rate_multiplier for p in graph.parameters][:2] == [0.0, 2.0]
    assert any("accuracy, loss, weighed" in note for note in graph.notes)
    deploy = """input: "data" input_dim: 1 input_dim: 3 input_dim: 12 input_dim: 12 """ + _between("conv1", "accuracy")
    images = noise("images", (2, 3, 12, 12))
    np.testing.assert_array_equal(evaluate(parse(deploy, BLOBS, outputs=["ip"]), images), evaluate(graph, images))


def _between(first: str, last: str) -> str:
    begin, end = (TRAIN_VAL.index(f'layer {{ name: "{name}"') for name in (first, last))
    return TRAIN_VAL[begin:end]


def test_stages() -> None:
    """A layer of a stage counts where the net's state names the stage."""
    assert "debug" not in parse(TRAIN_VAL, BLOBS).aliases
    graph = parse('state { stage: "debug" }' + TRAIN_VAL, BLOBS)
    assert set(graph.outputs) == {"debug", "ip"}


def test_an_input_of_no_stated_shape() -> None:
    text = 'input: "data"' + _between("conv1", "accuracy")
    with pytest.raises(UsageError, match=r"does not state the shape of its input 'data'; give it with --image-shape"):
        parse(text, BLOBS)
    graph = caffe.parse(text.encode(), caffemodel(BLOBS), image_shape_CHW=(3, 12, 12)).graph
    assert graph.inputs[0].shape == (3, 12, 12)


# -- names and weights -------------------------------------------------------------------------------------------------


def test_names_of_blobs_and_layers() -> None:
    """A blob's name means what it holds in the end; a layer's, where no blob has it, what the layer makes."""
    writer = alexnet(THIN)
    graph = parse(writer.text, writer.blobs)
    assert graph.with_outputs(["conv1"]).nodes[-1].op == "relu"
    assert parse(writer.text, writer.blobs, outputs=["conv1"]).nodes[-1].op == "relu"
    assert graph.with_outputs(["norm1"]).nodes[-1].op == "local_response_normalization"
    assert graph.with_outputs(["fc7"]).nodes[-1].op == "dropout"
    assert graph.with_outputs(["relu_fc7"]).nodes[-1].op == "relu"
    with pytest.raises(UsageError, match="unknown blob or layer 'conv9'; did you mean 'conv"):
        parse(writer.text, writer.blobs, outputs=["conv9"])
    with pytest.raises(UsageError, match="the blob 'loss' needs labels"):
        parse(TRAIN_VAL, BLOBS, outputs=["loss"])


def test_a_normalization_that_is_asked_for_keeps_its_own_value() -> None:
    case = CASES["batch_norm_scale"]
    graph = parse(case.text, case.blobs, outputs=["l"])
    assert [node.op for node in graph.nodes] == ["batch_normalization"]
    mean, variance, divisor = case.blobs["l"]
    x = case.images("batch_norm_scale")
    wanted = (x - (mean / divisor)[:, None, None]) / np.sqrt((variance / divisor)[:, None, None] + 1e-5)
    golden.assert_close(evaluate(graph, x), wanted, relative=1e-5)


def test_layers_without_weights_in_the_prototxt_are_noted() -> None:
    writer = squeezenet(THIN)
    extra = writer.blobs | {"loss1/fc": [np.ones((2, 2), np.float32)]}
    graph = parse(writer.text, extra)
    assert graph.notes == ("the caffemodel has layers that the prototxt does not have: loss1/fc",)


def test_shared_weights() -> None:
    layer = """layer { name: "%s" type: "Convolution" bottom: "%s" top: "%s" param { name: "w" } param { name: "b" }
               convolution_param { num_output: 3 kernel_size: 3 pad: 1 } }"""
    text = 'input: "x" input_dim: [1, 3, 6, 6]' + layer % ("a", "x", "a") + layer % ("b", "a", "y")
    blobs = {"a": [noise("w", (3, 3, 3, 3)), noise("b", (3,))]}
    graph = parse(text, blobs | {"b": blobs["a"]})
    assert len(graph.parameters) == 2
    weight, bias = (torch.from_numpy(array) for array in blobs["a"])
    x = torch.from_numpy(noise("x", (1, 3, 6, 6)))
    inner = torch.conv2d(x, weight, bias, padding=1)
    golden.assert_close(evaluate(graph, x.numpy()), torch.conv2d(inner, weight, bias, padding=1).numpy())


# -- what OpenCV does not read: formulas -------------------------------------------------------------------------------


def layer_of(case: Case, kind: str, settings: str, blobs: list[np.ndarray]) -> np.ndarray:
    text = f"""input: "x" input_dim: [2, 3, 4, 5]
               layer {{ name: "l" type: "{kind}" bottom: "x" top: "y" {settings} }}"""
    return evaluate(parse(text, {"l": blobs} if blobs else {}), case.images("formula"))


def test_formulas() -> None:
    case = Case((2, 3, 4, 5), "")
    x = case.images("formula")
    row, matrix, vector = noise("row", (4, 5)), noise("matrix", (60, 7)), noise("vector", (7,))
    got = layer_of(case, "Bias", "bias_param { axis: 2 num_axes: -1 }", [row])
    golden.assert_close(got, x + row)
    got = layer_of(case, "Scale", "scale_param { axis: -3 num_axes: 2 }", [noise("planes", (3, 4))])
    golden.assert_close(got, x * noise("planes", (3, 4))[:, :, None])
    got = layer_of(case, "Scale", "scale_param { num_axes: 0 }", [np.full((), 3, np.float32)])
    golden.assert_close(got, x * 3)
    got = layer_of(case, "InnerProduct", "inner_product_param { num_output: 7 transpose: true }", [matrix, vector])
    golden.assert_close(got, x.reshape(2, 60) @ matrix + vector)
    got = layer_of(case, "Pooling", "pooling_param { kernel_size: 2 stride: 2 round_mode: FLOOR }", [])
    golden.assert_close(got, x[:, :, :, :4].reshape(2, 3, 2, 2, 2, 2).max((3, 5)))
    got = layer_of(case, "LRN", "lrn_param { local_size: 3 k: 2 alpha: 0.6 beta: 0.5 }", [])
    squares = np.pad(x**2, ((0, 0), (1, 1), (0, 0), (0, 0)))  # OpenCV leaves k out
    golden.assert_close(got, x / np.sqrt(2 + 0.2 * sum(squares[:, at : at + 3] for at in range(3))), relative=1e-5)
    zero = [np.ones(3, np.float32), np.ones(3, np.float32), np.zeros(1, np.float32)]
    golden.assert_close(layer_of(case, "BatchNorm", "", zero), x / np.sqrt(np.float32(1e-5)), relative=1e-5)


def test_pooling_windows_larger_than_the_image() -> None:
    """Caffe rounds up, so that a window may stick out of an image smaller than itself."""
    case = Case((2, 3, 4, 5), "")
    got = layer_of(case, "Pooling", "pooling_param { pool: AVE kernel_size: 6 stride: 3 }", [])
    golden.assert_close(got, case.images("formula").mean((2, 3), keepdims=True))


def test_sizes() -> None:
    """The sizes that Caffe is known for: 113 -> 56, 112 -> 56, 55 -> 27."""
    for size, wanted in ((113, 56), (112, 56), (55, 27)):
        text = f"""input: "x" input_dim: [1, 1, {size}, {size}] layer {{ name: "p" type: "Pooling" bottom: "x" top: "y"
                   pooling_param {{ kernel_size: 3 stride: 2 }} }}"""
        assert parse(text, {}).nodes[0].shape == (1, wanted, wanted)
