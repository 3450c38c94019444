"""Networks that are no classifiers, have several heads or one score: shown, converted, asked. Caffe's are small."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
import pytest
import torch
from caffe_files import caffemodel
from torch import nn

import golden
import zip_golden
from command_line import Convolve, assert_refused
from convolve import Model, load, load_graph
from convolve.errors import UsageError
from convolve.importers.loader import PreprocessOverrides
from convolve.transforms.preprocess import Preprocess

HEAD = 'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 1 dim: 4 dim: 4 } } }\n'
COLUMNS = np.tile(np.eye(4, dtype=np.float32), (1, 4)) * 0.005  # row k adds up column k


def dense(name: str, outputs: int) -> str:
    settings = f"inner_product_param {{ num_output: {outputs} bias_term: false }}"
    return f'layer {{ name: "{name}" type: "InnerProduct" bottom: "data" top: "{name}" {settings} }}\n'


def ends_in(kind: str, name: str, bottom: str) -> str:
    return f'layer {{ name: "{name}" type: "{kind}" bottom: "{bottom}" top: "{name}" }}\n'


def pair(folder: Path, text: str, **weights: np.ndarray) -> str:
    (folder / "net.prototxt").write_text(HEAD + text)
    (folder / "net.caffemodel").write_bytes(caffemodel({name: [array] for name, array in weights.items()}))
    return f"{folder / 'net.prototxt'}+{folder / 'net.caffemodel'}"


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    assert cv2.imwrite(str(tmp_path / "x.png"), np.tile(np.array([0, 40, 80, 200], np.uint8), (4, 1)))
    return tmp_path / "x.png"


@pytest.fixture
def two_heads(tmp_path: Path) -> str:
    heads = dense("age", 3) + dense("gender", 2) + ends_in("Softmax", "prob_age", "age")
    return pair(tmp_path, heads + ends_in("Softmax", "prob_gender", "gender"), age=COLUMNS[:3], gender=COLUMNS[2:])


def predicted(outcome: str) -> dict[str, float]:
    [image] = json.loads(outcome)["images"]
    return {one["class"]: one["probability"] for one in image["classes"]}


# -- one score --------------------------------------------------------------------------------------------------------


def test_one_sigmoid_is_two_classes(tmp_path: Path, picture: Path, convolve: Convolve) -> None:
    """OpenCV 4.10 answers 0.982 for the blob prob."""
    model = pair(tmp_path, dense("score", 1) + ends_in("Sigmoid", "prob", "score"), score=COLUMNS[3:])
    (tmp_path / "names.txt").write_text("none\nmask\n")
    for options in ([], ["--output", "prob"], ["--labels", tmp_path / "names.txt"]):
        found = predicted(convolve("predict", model, picture, "--json", *options).out)
        assert [*found] == (["mask", "none"] if "--labels" in options else ["1", "0"])
        assert [*found.values()] == pytest.approx([0.98201, 0.01799], abs=1e-5)
    assert convolve("convert", model, "--to", "onnx", "--out", tmp_path / "net.onnx").code == 0
    assert predicted(convolve("predict", tmp_path / "net.onnx", picture, "--json").out)["1"] == pytest.approx(
        0.98201, abs=1e-5
    )


def test_one_number_is_a_number_until_two_classes_are_named(tmp_path: Path, picture: Path, convolve: Convolve) -> None:
    model = pair(tmp_path, dense("score", 1), score=COLUMNS[3:])
    rows = list(csv.reader(io.StringIO(convolve("predict", model, picture).out)))
    assert rows[1][1] == "4"
    assert_refused(convolve("evaluate", model, "--data", "sample"), 2, "gives the numbers of score, not classes")
    (tmp_path / "names.txt").write_text("none\nmask\n")
    named = convolve("predict", model, picture, "--json", "--labels", tmp_path / "names.txt")
    assert predicted(named.out)["mask"] == pytest.approx(0.98201, abs=1e-5)
    converted = convolve("convert", model, "--to", "onnx", "--out", tmp_path / "number.onnx")
    assert "not a classifier (score has no class scores)" in converted.out


# -- several heads ----------------------------------------------------------------------------------------------------


def test_a_head_gives_its_classes(two_heads: str, tmp_path: Path, picture: Path, convolve: Convolve) -> None:
    (tmp_path / "gender.txt").write_text("female\nmale\n")
    chosen = ["--output", "prob_gender", "--labels", tmp_path / "gender.txt"]
    found = predicted(convolve("predict", two_heads, picture, "--json", *chosen).out)
    z = COLUMNS[2:] @ np.tile([0, 40, 80, 200], 4)
    assert found == pytest.approx({"male": 1 / (1 + np.exp(z[0] - z[1])), "female": 1 / (1 + np.exp(z[1] - z[0]))})
    assert convolve("convert", two_heads, "--to", "convolve", "--out", tmp_path / "gender", *chosen).code == 0
    assert predicted(convolve("predict", tmp_path / "gender", picture, "--json").out) == pytest.approx(found)
    for refused in (convolve("evaluate", two_heads, "--data", "sample"), convolve("serve", two_heads, "--port", 0)):
        assert_refused(refused, 2, "several outputs; choose one with --output: prob_age, prob_gender")
    shown = convolve("show", two_heads).out
    assert "outputs           prob_age (3,), prob_gender (2,)" in shown


def test_predict_asks_all_heads(two_heads: str, tmp_path: Path, picture: Path, convolve: Convolve) -> None:
    [said] = json.loads(convolve("predict", two_heads, picture, "--json").out)["images"]
    assert [*said["heads"]] == ["prob_age", "prob_gender"]
    for name, count in (("prob_age", 3), ("prob_gender", 2)):
        alone = json.loads(convolve("predict", two_heads, picture, "--json", "--output", name).out)["images"][0]
        assert said["heads"][name]["classes"] == alone["classes"] and len(alone["classes"]) == count
    line = convolve("predict", two_heads, picture, "--top", 1).out
    assert "prob_age: " in line and "; prob_gender: " in line
    convolve("predict", two_heads, picture, "--top", 1, "--csv", tmp_path / "said.csv")
    [title, row] = csv.reader((tmp_path / "said.csv").read_text().splitlines())
    heads = ("prob_age", "prob_gender")
    assert title[1:-1] == [f"{head}_{each}" for head in heads for each in ("class_1", "probability_1")]
    assert row[1] == said["heads"]["prob_age"]["classes"][0]["class"]
    assert_refused(convolve("predict", two_heads, picture, "--sort-into", tmp_path / "s"), 2, "--sort-into")


def test_several_heads_in_one_file(two_heads: str, tmp_path: Path, picture: Path, convolve: Convolve) -> None:
    pixels = np.random.default_rng(0).uniform(0, 255, (5, 1, 4, 4)).astype(np.float32)
    logits = pixels.reshape(5, 16) @ COLUMNS[:3].T
    ages = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    for form, out in (("onnx", "all.onnx"), ("convolve", "folder"), ("exported-program", "all.pt2")):
        assert convolve("convert", two_heads, "--to", form, "--out", tmp_path / out).code == 0
    outcome = convolve("convert", tmp_path / "folder", "--to", "onnx", "--out", tmp_path / "again.onnx")
    assert "gives prob_age (3,), prob_gender (2,)" in outcome.out
    for name in ("all.onnx", "again.onnx"):
        session = onnxruntime.InferenceSession(tmp_path / name)
        assert [port.name for port in session.get_outputs()] == ["prob_age", "prob_gender"]
        np.testing.assert_allclose(session.run(["prob_age"], {"data": pixels})[0], ages, atol=1e-5)
        assert "choose one with --output: prob_age, prob_gender" in convolve("show", tmp_path / name).out
    chosen = ["--output", "prob_age", "--json"]
    [first, *_] = predicted(convolve("predict", tmp_path / "again.onnx", picture, *chosen).out).values()
    z = COLUMNS[:3] @ np.tile([0, 40, 80, 200], 4)
    assert first == pytest.approx(np.exp(z).max() / np.exp(z).sum())  # not through a softmax twice
    some = ["--output", "gender", "--output", "prob_age"]
    assert convolve("convert", two_heads, "--to", "onnx", "--out", tmp_path / "some.onnx", *some).code == 0
    assert [port.name for port in onnxruntime.InferenceSession(tmp_path / "some.onnx").get_outputs()] == some[1::2]
    assert_refused(convolve("predict", tmp_path / "folder", "x.png"), 4, "a network that is not a classifier")
    refused = convolve("convert", two_heads, "--to", "onnx", "--out", tmp_path / "b.onnx", "--with-preprocessing")
    assert_refused(refused, 2, "--with-preprocessing of --to onnx: only for classifiers of images")


# -- any network ------------------------------------------------------------------------------------------------------


def test_load_graph_opens_what_is_no_classifier(tmp_path: Path) -> None:
    """A network of CNTK's that turns images into images, and its answers."""
    values = golden.arrays("exam", "free_dimension/free_dims_fcn/io.npz")
    path = tmp_path / "net.model"
    path.write_bytes(golden.read("exam", "free_dimension/free_dims_fcn/net.model"))
    network = load_graph(path, overrides=PreprocessOverrides(image_shape_CHW=(1, 7, 7)))
    assert network.inputs == {"features": (1, 7, 7)} and [*network.outputs.values()] == [(2, 7, 7)]
    with torch.no_grad():
        got = network.module(torch.from_numpy(values["in__features"]))
    golden.assert_close(got.numpy(), values["out0"])
    assert "compared on 36 samples" in str(network.export(tmp_path / "net.onnx"))
    [name] = network.inputs
    [answer] = onnxruntime.InferenceSession(tmp_path / "net.onnx").run(None, {name: values["in__features"]})
    golden.assert_close(answer, values["out0"])
    network.save(tmp_path / "folder")
    again = load_graph(tmp_path / "folder")
    assert (again.inputs, again.outputs) == (network.inputs, network.outputs)
    with torch.no_grad():
        assert torch.equal(again.module(torch.from_numpy(values["in__features"])), got)


def test_load_graph_opens_classifiers_and_inner_nodes(tmp_path: Path, model: Path) -> None:
    path = tmp_path / "net.model"
    path.write_bytes(zip_golden.ARCHIVE.read("v2/net_resnet.model"))
    whole = load_graph(path)
    names = [node.name for node in whole.graph.nodes] if whole.graph else []
    two = load_graph(path, [names[2], names[-1]])
    assert [*two.outputs.values()] == [whole.graph.nodes[2].shape, (10,)] if whole.graph else False
    own = load_graph(model)
    assert own.graph is None and own.outputs == {"logits": (10,)} and own.inputs == {"images": (1, 28, 28)}
    with torch.no_grad():
        images = torch.rand(2, 1, 28, 28)
        np.testing.assert_allclose(own.module(images), load(model).module(images), atol=1e-5)
    with pytest.raises(UsageError, match="kept whole"):
        own.save(tmp_path / "x")
    with pytest.raises(UsageError, match="unknown node"):
        load_graph(path, ["nothing", "at-all"])


def test_show_tells_of_networks_that_are_no_classifiers(tmp_path: Path, convolve: Convolve) -> None:
    path = tmp_path / "net.model"
    path.write_bytes(golden.read("exam", "splice_broadcast/splice_bcast_gap/net.model"))
    shown = json.loads(convolve("show", path, "--json").out)
    assert shown["inputs"] == {"features": [4, 8, 8]} and [*shown["outputs"].values()] == [[8, 8, 8]]
    assert "no output is a score for each class" in convolve("show", path).out


def test_a_module_of_ones_own_becomes_a_model(tmp_path: Path, picture: Path) -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Sequential(nn.Conv2d(1, 6, 3, padding=1), nn.BatchNorm2d(6), nn.SiLU())
            self.head = nn.Linear(6, 3)

        def forward(self, images_NCHW: torch.Tensor) -> torch.Tensor:
            x = self.stem(images_NCHW)
            return self.head((x + x.flip(3)).mean((2, 3)))  # type: ignore[no-any-return]

    module = Own().eval()
    preprocess = Preprocess(1, 4, 4, mean=100.0, scale=0.01)
    model = Model.from_module(module, preprocess, ["a", "b", "c"])
    images = torch.randn(5, 1, 4, 4)
    with torch.no_grad():
        np.testing.assert_allclose(model.module(images), module(images), atol=1e-5)
    model.save(tmp_path / "own")
    answers = load(tmp_path / "own").predict([picture])[0].classes
    pixels = torch.tensor([0.0, 40, 80, 200]).repeat(4, 1)[None, None]
    with torch.no_grad():
        wanted = module((pixels - 100) * 0.01).softmax(1)[0]
    assert dict(answers) == pytest.approx(dict(zip("abc", wanted.tolist(), strict=True)), abs=1e-5)
    assert [p for p in model.module.parameters() if p.requires_grad]
    with pytest.raises(UsageError, match="gives 3 scores, but there are 2 class names"):
        Model.from_module(module, preprocess, ["a", "b"])
