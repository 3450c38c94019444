"""CNTK models as artifacts: opened by content, saved and read back to the same answers, asked by the command line."""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from command_line import Convolve, assert_refused
from convolve.errors import ConvolveError, ModelError, UsageError
from convolve.formats.image_map import write_image_map
from convolve.formats.mean_xml import write_mean_xml
from convolve.importers import presets
from convolve.importers.loader import PreprocessOverrides
from convolve.importers.presets import Preset
from convolve.loading import load
from convolve.models.memory_layout import to_channels_last
from zip_golden import ARCHIVE, values_of


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few of CNTK's own files under names that say nothing."""
    folder = tmp_path_factory.mktemp("cntk")
    for case in ("net_resnet", "net_lenet"):
        (folder / f"{case}.bin").write_bytes(ARCHIVE.read(f"v2/{case}.model"))
        (folder / f"{case}.old").write_bytes(ARCHIVE.read(f"v1/{case}.v1"))
    return folder


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for number in range(6):
        (folder / f"{number}.png").write_bytes(_png(rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)))
    write_image_map(folder / "map.txt", [(f".../{number}.png", number % 3) for number in range(6)])
    return folder


def _png(image_HWC: np.ndarray) -> bytes:
    return bytes(cv2.imencode(".png", image_HWC)[1])


@pytest.mark.parametrize("name", ["net_resnet.bin", "net_resnet.old", "net_lenet.bin", "net_lenet.old"])
def test_it_answers_as_cntk_before_and_after_it_was_stored(name: str, files: Path, tmp_path: Path) -> None:
    opened = load(files / name)
    x, y = values_of(Path(name).stem)
    with torch.no_grad():
        torch.testing.assert_close(opened.module(x), y, rtol=1e-4, atol=1e-5)
        opened.save(tmp_path / "model")
        again = load(tmp_path / "model")
        assert torch.equal(again.module(x), opened.module(x))
    assert (again.preprocess, again.class_names, again.training_info) == (
        opened.preprocess, opened.class_names, opened.training_info,
    )  # fmt: skip
    again.save(tmp_path / "copy")
    for file in ("model.json", "weights.safetensors"):
        assert (tmp_path / "copy" / file).read_bytes() == (tmp_path / "model" / file).read_bytes()


def test_preprocessing_travels(files: Path, tmp_path: Path, pictures: Path) -> None:
    mean_HWC = np.random.default_rng(1).uniform(0, 255, (16, 16, 3)).astype(np.float32)
    write_mean_xml(tmp_path / "mean.xml", mean_HWC)
    (tmp_path / "labels.txt").write_text("".join(f"class {k}\n" for k in range(10)))
    asked = PreprocessOverrides(
        mean=str(tmp_path / "mean.xml"), channel_order="rgb", scale=0.5, labels=tmp_path / "labels.txt"
    )
    opened = load(files / "net_resnet.bin", asked)
    opened.save(tmp_path / "model")
    again = load(tmp_path / "model")
    assert again.class_names[3] == "class 3"
    assert again.preprocess.known_from == "the command line" and not again.preprocess_warning
    assert again.preprocess.mean_image_CHW is not None
    np.testing.assert_array_equal(again.preprocess.mean_image_CHW, mean_HWC[:, :, ::-1].transpose(2, 0, 1))
    assert again.predict([pictures]) == opened.predict([pictures])
    # By hand: the central square, 16x16, RGB planes, minus the mean, halved.
    image = cv2.imread(str(pictures / "0.png"))[:, 5:25]
    seen_HWC = (cv2.resize(image, (16, 16)).astype(np.float32) - mean_HWC)[:, :, ::-1] * 0.5
    with torch.no_grad():
        expected = opened.module(torch.from_numpy(seen_HWC.transpose(2, 0, 1).copy())[None]).softmax(1)[0].max()
    assert again.predict([pictures / "0.png"])[0].classes[0][1] == pytest.approx(float(expected), rel=1e-5)
    per_channel = load(files / "net_resnet.bin", PreprocessOverrides(mean="104,117,123"))
    per_channel.save(tmp_path / "channels")
    assert load(tmp_path / "channels").preprocess.mean == (104.0, 117.0, 123.0)


def test_a_model_of_unknown_preprocessing_says_so_once(files: Path, pictures: Path, convolve: Convolve) -> None:
    outcome = convolve("predict", files / "net_resnet.bin", pictures / "0.png", "--json")
    assert outcome.code == 0 and outcome.err.count("\n") == 1
    assert "assumed" in outcome.err and "--channel-order" in outcome.err
    known = convolve("predict", files / "net_resnet.bin", pictures / "0.png", "--channel-order", "bgr", "--json")
    assert (known.code, known.err) == (0, "")
    assert json.loads(known.out)["images"] == json.loads(outcome.out)["images"]
    assert convolve("predict", files / "net_lenet.bin", pictures / "0.png", "--json").err == ""  # gray, scale inside


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--mean", "1,2"], "one number or 3"),
        (["--mean", "much"], "--mean takes"),
        (["--mean", "nowhere.xml"], "nowhere.xml"),
        (["--channel-order", "gray"], "channel_order"),
        (["--preset", "alexnet"], "227 pixels, this network for 16"),
        (["--preset", "alexnett"], "did you mean 'alexnet'?"),
        (["--labels", "nowhere.txt"], "nowhere.txt"),
        (["--image-shape", "3x16"], "for example 1x28x28"),
        (["--image-shape", "3x8x32"], "cannot be an image"),
        (["--output", "nothing"], "nothing"),
    ],
)
def test_what_does_not_fit_the_model_is_refused(
    words: list[str], said: str, files: Path, pictures: Path, convolve: Convolve
) -> None:
    outcome = convolve("predict", files / "net_resnet.bin", pictures, *words)
    assert_refused(outcome, 3 if "nowhere" in said else 2, said)


def test_evaluate_counts_exactly(files: Path, pictures: Path, tmp_path: Path, convolve: Convolve) -> None:
    model = files / "net_resnet.bin"
    said = json.loads(convolve("evaluate", model, "--data", pictures / "map.txt", "--json").out)
    predicted = [
        int(image["classes"][0]["class"])
        for image in json.loads(convolve("predict", model, pictures, "--json").out)["images"]
    ]
    assert said["samples"] == 6
    assert said["errors"] == sum(k != number % 3 for number, k in enumerate(predicted))
    for number in range(6):
        (tmp_path / "set" / str(number % 3)).mkdir(parents=True, exist_ok=True)
        shutil.copy(pictures / f"{number}.png", tmp_path / "set" / str(number % 3))
    folders = json.loads(convolve("evaluate", model, "--data", tmp_path / "set", "--json").out)
    assert (folders["samples"], folders["errors"]) == (6, said["errors"])
    assert folders["test_loss"] == pytest.approx(said["test_loss"], rel=1e-6)
    table = convolve("evaluate", model, "--data", pictures / "map.txt").out
    assert "6 test images" in table and "published" not in table


def test_a_published_error_stands_beside_ours(
    files: Path, pictures: Path, tmp_path: Path, convolve: Convolve, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = Preset("mine", "Famous.model", 16, "bgr", 1.0, 0.5, 0.75, 0.401, 0.177)
    monkeypatch.setitem(presets.presets(), "mine", mine)
    shutil.copy(files / "net_resnet.bin", tmp_path / "famous.model")
    outcome = convolve("evaluate", tmp_path / "famous.model", "--data", pictures / "map.txt")
    assert (outcome.code, outcome.err) == (0, "")
    assert "published: error 40.100%, top-5 error 17.700%" in outcome.out
    converted = convolve("convert", tmp_path / "famous.model", "--to", "convolve", "--out", tmp_path / "converted")
    assert converted.code == 0, converted.err
    assert load(tmp_path / "converted").preprocess.crop_ratio == 0.75
    again = convolve("evaluate", tmp_path / "converted", "--data", pictures / "map.txt")
    assert again.out == outcome.out


def test_evaluate_refuses_what_it_cannot_count(files: Path, pictures: Path, tmp_path: Path, convolve: Convolve) -> None:
    model = files / "net_resnet.bin"
    assert_refused(convolve("evaluate", model), 2, "--data")
    assert_refused(convolve("evaluate", model, "--data", tmp_path / "nowhere.txt"), 3, "nowhere.txt does not exist")
    write_image_map(tmp_path / "map.txt", [(str(pictures / "0.png"), 10)])
    assert_refused(convolve("evaluate", model, "--data", tmp_path / "map.txt"), 3, "map.txt: line 1", "10 classes")
    (tmp_path / "torn.png").write_bytes((pictures / "0.png").read_bytes()[:100])
    write_image_map(tmp_path / "map.txt", [(str(pictures / "0.png"), 1), (str(tmp_path / "torn.png"), 1)])
    assert_refused(convolve("evaluate", model, "--data", tmp_path / "map.txt"), 3, "map.txt: line 2", "torn.png")


def test_features_of_an_inner_layer(files: Path, pictures: Path, tmp_path: Path, convolve: Convolve) -> None:
    model, picture = files / "net_resnet.bin", pictures / "0.png"
    load(model).save(tmp_path / "model")
    answers = {}
    for place in (model, tmp_path / "model"):
        out = json.loads(convolve("predict", place, picture, "--output", "c_1", "--json").out)
        assert out["shape"] == [4, 16, 16]
        answers[place] = np.array(out["images"][0]["features"])
    np.testing.assert_array_equal(answers[model], answers[tmp_path / "model"])
    assert convolve("predict", model, pictures, "--output", "c_1", "--npz", tmp_path / "f.npz").code == 0
    arrays = np.load(tmp_path / "f.npz")
    np.testing.assert_allclose(arrays["features"][0], answers[model], rtol=1e-3, atol=1e-3)  # another batch size
    assert len(arrays["paths"]) == 6
    head, row = csv.reader(convolve("predict", model, picture, "--output", "z").out.splitlines())
    assert [*head[:2], head[-1]] == ["path", "feature_0", "error"]
    logits = torch.tensor([float(value) for value in row[1:-1]])
    told = json.loads(convolve("predict", model, picture, "--json").out)["images"][0]["classes"][0]["probability"]
    assert float(logits.softmax(0).max()) == pytest.approx(told, rel=1e-5)
    assert_refused(convolve("predict", model, picture, "--npz", tmp_path / "g.npz"), 2, "--output")
    assert_refused(convolve("predict", tmp_path / "model", picture, "--output", "c_9"), 2, "did you mean")


def test_features_of_our_own_networks(model: Path, pictures: Path, convolve: Convolve) -> None:
    out = json.loads(convolve("predict", model, pictures / "0.png", "--output", "fc1", "--json").out)
    assert out["shape"] == [12]
    assert_refused(convolve("predict", model, pictures, "--output", "fc9"), 2, "did you mean")
    with pytest.raises(UsageError, match="fc1"):
        load(model, node="fc1").save(pictures / "never")


def test_convert_and_show(files: Path, tmp_path: Path, convolve: Convolve) -> None:
    model = files / "net_lenet.bin"
    outcome = convolve("convert", model, "--to", "convolve", "--out", tmp_path / "lenet")
    assert outcome.code == 0 and "10 classes" in outcome.out
    assert_refused(convolve("convert", model, "--to", "convolve", "--out", tmp_path / "lenet"), 2, "exists already")
    assert_refused(convolve("convert", model, "--to", "coreml", "--out", tmp_path / "x"), 2, "known: convolve")
    first, second = (json.loads(convolve("show", place, "--json").out) for place in (model, tmp_path / "lenet"))
    assert first == second
    assert first.keys() >= {"parameters", "flops_per_image", "layers", "input_shape", "class_names"}
    assert (first["input_shape"], first["in_the_graph"]) == ([1, 12, 12], ["times 0.00390625"])
    text = convolve("show", model).out
    assert all(word in text for word in ("conv1_convolution", "Conv2d", "times 0.00390625", "the graph", "CNTK v2"))


# -- damage ------------------------------------------------------------------------------------------------------------


def _alter(folder: Path, **values: Any) -> None:
    head = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps(head | values))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"graph": None}, "either model or graph"),
        ({"model": {"name": "convnet-mnist"}}, "either model or graph"),
        ({"hook": "import os"}, "unknown field 'hook'"),
        ({"class_names": ["cat"]}, "classes have names"),
        ({"class_names": [[]] * 10}, "must be a text"),
        ({"preprocess": {"channels": 3, "height": 16, "width": 16, "mean": []}}, "mean"),
        ({"preprocess": {"channels": 1, "height": 16, "width": 16}}, "preprocessing gives"),
        ({"preprocess": {"channels": 3, "height": 16, "width": 16, "resize": "warp"}}, "resize"),
    ],
)
def test_an_altered_head_is_refused(values: dict[str, Any], words: str, files: Path, tmp_path: Path) -> None:
    load(files / "net_resnet.bin").save(tmp_path / "model")
    _alter(tmp_path / "model", **values)
    with pytest.raises(ConvolveError, match=words) as caught:
        load(tmp_path / "model")
    assert caught.value.exit_code in (3, 4)


def test_other_weights_are_refused(files: Path, tmp_path: Path) -> None:
    load(files / "net_resnet.bin").save(tmp_path / "model")
    load(files / "net_lenet.bin").save(tmp_path / "other")
    shutil.copy(tmp_path / "other" / "weights.safetensors", tmp_path / "model")
    with pytest.raises(ModelError, match="checksum"):
        load(tmp_path / "model")
    content = (tmp_path / "other" / "weights.safetensors").read_bytes()
    _alter(tmp_path / "model", weights_sha256=hashlib.sha256(content).hexdigest())
    with pytest.raises(ModelError, match=r"weights\.safetensors does not fit|more than the weights"):
        load(tmp_path / "model")


def test_a_head_nested_too_deep_is_damage(files: Path, tmp_path: Path) -> None:
    load(files / "net_resnet.bin").save(tmp_path / "model")
    (tmp_path / "model" / "model.json").write_text("[" * 100_000)
    with pytest.raises(ModelError, match="damaged"):
        load(tmp_path / "model")


def test_another_reader_finds_the_weights(files: Path, tmp_path: Path) -> None:
    opened = load(files / "net_resnet.bin")
    opened.save(tmp_path / "model")
    stored = load_file(tmp_path / "model" / "weights.safetensors")
    assert stored.keys() == opened.module.state_dict().keys()


def test_a_layer_that_onednn_writes_past_stays_in_planes() -> None:
    """Strided 1x1 convolutions of fewer than 8 channels: with AVX2 their backward pass in channels_last may crash."""
    hit, spared = nn.Conv2d(4, 8, 1, stride=2), nn.Conv2d(8, 8, 1, stride=2)
    network, images_NCHW = nn.Sequential(hit, spared), torch.randn(2, 4, 8, 8)
    expected_NCHW = network(images_NCHW)
    for _ in range(2):  # once loaded, once more to be trained
        to_channels_last(network)
    laid_out: list[bool] = []
    for layer in network:
        layer.register_forward_pre_hook(lambda layer, inputs: laid_out.append(inputs[0].is_contiguous()))
    got_NCHW = network(images_NCHW.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(got_NCHW, expected_NCHW)
    assert laid_out[0] and hit.weight.stride() == (4, 1, 1, 1)
    assert spared.weight.stride() == (8, 1, 8, 8)
