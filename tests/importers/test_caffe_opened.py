"""Caffe models as artifacts: `net.prototxt+net.caffemodel` wherever a model goes, with means, labels and presets."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from caffe_files import Writer, blob, caffemodel, noise
from caffe_nets import alexnet

from command_line import Convolve, assert_refused
from convolve.errors import UsageError
from convolve.formats.image_map import write_image_map
from convolve.importers.loader import PreprocessOverrides
from convolve.importers.presets import presets
from convolve.loading import load


def small_net(classes: int = 5) -> Writer:
    """One of each kind on images 3x20x24: normalization, a shortcut, concatenation, pooling that rounds up."""
    net = Writer((1, 3, 20, 24))
    x = net.relu(net.normalized("c1", net.conv("c1", "data", 8, 3, pad=1, bias=False, relu=False)))
    x = net.pool("p1", net.lrn("n1", x), "pool: MAX kernel_size: 3 stride: 2")
    sides = [net.conv("c2", x, 8, 3, pad=1, group=2), net.conv("c3", x, 8, 1)]
    x = net.layer("Eltwise", "sum", sides, "sum", "eltwise_param { coeff: 1 coeff: 0.5 }")
    x = net.pool("p2", net.concat("both", [x, "c3"]), "pool: AVE kernel_size: 3 stride: 2 pad: 1")
    net.softmax(net.dense("scores", net.dropout(x), classes, 6 * 7, last=True))
    return net


def write(folder: Path, net: Writer, name: str = "net") -> str:
    (folder / f"{name}.prototxt").write_text(net.text)
    (folder / f"{name}.caffemodel").write_bytes(caffemodel(net.blobs))
    return f"{folder / name}.prototxt+{folder / name}.caffemodel"


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write(tmp_path_factory.mktemp("caffe"), small_net())


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for number in range(6):
        image_HWC = np.random.default_rng(number).integers(0, 256, (20, 24, 3), dtype=np.uint8)
        (folder / f"{number}.png").write_bytes(bytes(cv2.imencode(".png", image_HWC)[1]))
    write_image_map(folder / "map.txt", [(f".../{number}.png", number % 5) for number in range(6)])
    return folder


def test_it_is_stored_and_read_back(pair: str, tmp_path: Path) -> None:
    opened = load(pair)
    assert (
        opened.class_names == tuple("01234")
        and opened.training_info.imported_from == "net.prototxt+net.caffemodel (Caffe)"
    )
    opened.save(tmp_path / "model")
    again, x = load(tmp_path / "model"), torch.from_numpy(noise("x", (2, 3, 20, 24), 100.0))
    with torch.no_grad():
        assert torch.equal(again.module(x), opened.module(x))
    assert again.preprocess == opened.preprocess and again.preprocess_warning


def test_the_command_line(pair: str, pictures: Path, tmp_path: Path, convolve: Convolve) -> None:
    shown = json.loads(convolve("show", pair, "--json").out)
    assert shown["input_shape"] == [3, 20, 24] and "softmax at the end" in shown["notes"][0]
    assert shown["parameters"] == 3 * 8 * 9 + 16 + 8 * 4 * 9 + 8 + 8 * 8 + 8 + 5 * 16 * 42 + 5
    rows = {layer["source"]: layer for layer in shown["layers"] if layer["source"]}
    assert (rows["scale_c1"]["kind"], rows["p1"]["output_shape"]) == ("CntkBatchNorm2d", [8, 10, 12])
    (tmp_path / "words.txt").write_text("".join(f"n0000000{k} thing {k}, another word\n" for k in range(5)))
    asked = ("--mean", "104,117,123", "--labels", tmp_path / "words.txt")
    predicted = json.loads(convolve("predict", pair, pictures, *asked, "--json").out)["images"]
    assert predicted[0]["classes"][0]["class"].startswith("n0000000")
    evaluated = json.loads(convolve("evaluate", pair, "--data", pictures / "map.txt", *asked, "--json").out)
    wrong = sum(int(image["classes"][0]["class"][8]) != number % 5 for number, image in enumerate(predicted))
    assert (evaluated["samples"], evaluated["errors"]) == (6, wrong)
    assert convolve("convert", pair, "--to", "convolve", "--out", tmp_path / "model", *asked).code == 0
    again = json.loads(convolve("predict", tmp_path / "model", pictures, "--json").out)["images"]
    assert again == predicted


def test_class_folders_by_synset(pair: str, pictures: Path, tmp_path: Path, convolve: Convolve) -> None:
    """Folders called n00000003 go with the label "n00000003 thing 3"."""
    (tmp_path / "words.txt").write_text("".join(f"n0000000{k} thing {k}\n" for k in range(5)))
    for number in range(6):
        folder = tmp_path / "set" / f"n0000000{number % 5}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number}.png").write_bytes((pictures / f"{number}.png").read_bytes())
    labels = ("--labels", tmp_path / "words.txt", "--json")
    by_folder = json.loads(convolve("evaluate", pair, "--data", tmp_path / "set", *labels).out)
    by_map = json.loads(convolve("evaluate", pair, "--data", pictures / "map.txt", *labels).out)
    assert (by_folder["samples"], by_folder["errors"]) == (6, by_map["errors"])


def test_features_of_a_blob(pair: str, pictures: Path, tmp_path: Path, convolve: Convolve) -> None:
    """By the blob's name: what it holds in the end; the same from the folder that `convert` makes."""
    load(pair).save(tmp_path / "model")
    for place in (pair, tmp_path / "model"):
        said = json.loads(convolve("predict", place, pictures / "0.png", "--output", "c1", "--json").out)
        assert said["shape"] == [8, 20, 24] and np.min(said["images"][0]["features"]) == 0  # after its ReLU
    assert_refused(convolve("predict", pair, pictures, "--output", "c9"), 2, "did you mean")


@pytest.mark.parametrize("order", ["bgr", "rgb"])
def test_mean_images(order: str, pair: str, pictures: Path, tmp_path: Path) -> None:
    """A mean of 24x30 is cut to its central 20x24, as Caffe cuts the image it is subtracted from."""
    mean_CHW = 128 + noise("mean", (3, 24, 30), 100.0)
    (tmp_path / "mean.binaryproto").write_bytes(blob(mean_CHW))
    opened = load(pair, PreprocessOverrides(mean=str(tmp_path / "mean.binaryproto"), channel_order=order, scale=0.5))
    seen_HWC = (cv2.imread(str(pictures / "0.png")) - mean_CHW.transpose(1, 2, 0)[2:22, 3:27]) * 0.5
    planes = seen_HWC.transpose(2, 0, 1)[:: -1 if order == "rgb" else 1].copy()
    opened.preprocess = opened.preprocess.__class__(**vars(opened.preprocess) | {"resize": "cover"})
    with torch.no_grad():
        wanted = opened.module(torch.from_numpy(planes)[None]).softmax(1)[0].max()
    assert opened.predict([pictures / "0.png"])[0].classes[0][1] == pytest.approx(float(wanted), rel=1e-5)
    (tmp_path / "small.binaryproto").write_bytes(blob(mean_CHW[:, :10]))
    with pytest.raises(UsageError, match=r"mean must be an image \(3, 20, 24\)"):
        load(pair, PreprocessOverrides(mean=str(tmp_path / "small.binaryproto")))


def test_a_published_model(tmp_path: Path) -> None:
    """Known by the caffemodel's name: mean, size, crop, classes, errors."""
    net = alexnet(thin=16)
    (tmp_path / "deploy.prototxt").write_text(net.text)
    (tmp_path / "bvlc_alexnet.caffemodel").write_bytes(caffemodel(net.blobs))
    opened = load(f"{tmp_path}/deploy.prototxt+{tmp_path}/bvlc_alexnet.caffemodel")
    assert str(opened.preprocess) == (
        "central 0.88671875 of the shorter side scaled to 227x227 BGR, pixel - (104.007, 116.669, 122.679), "
        "as stored, whatever EXIF says"
    )
    assert not opened.preprocess_warning and opened.training_info.preset == "bvlc-alexnet"
    assert opened.class_names[:2] == ("n01440764 tench", "n01443537 goldfish") and len(opened.class_names) == 1000


def test_the_classes_of_imagenet() -> None:
    """1,000 different ones, sorted by synset as the challenge numbers them."""
    names = presets()["vgg-ilsvrc-16"].class_names
    assert len({*names}) == 1000 and list(names) == sorted(names)
    assert (names[134], names[517], names[999]) == ("n02012849 crane", "n03126707 crane", "n15075141 toilet tissue")


TRAIN_VAL = """
layer { name: "data" type: "Data" top: "data" top: "label" transform_param { %s } data_param { source: "lmdb" } }
layer { name: "ip" type: "Convolution" bottom: "data" top: "ip" convolution_param { num_output: 5 kernel_size: 20 } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }
"""


def test_what_a_train_val_file_says_of_its_images(tmp_path: Path) -> None:
    place = tmp_path / "net.prototxt"
    (tmp_path / "net.caffemodel").write_bytes(caffemodel({"ip": [noise("w", (5, 3, 20, 20)), noise("b", (5,))]}))
    pair = f"{place}+{tmp_path / 'net.caffemodel'}"
    place.write_text(TRAIN_VAL % "crop_size: 20 mean_value: 104 mean_value: 117 mean_value: 123 scale: 0.5")
    known = load(pair).preprocess
    assert (known.shape_CHW, known.mean, known.scale, known.known_from) == (
        (3, 20, 20), (104.0, 117.0, 123.0), 0.5, "the prototxt",
    )  # fmt: skip
    place.write_text(TRAIN_VAL % "crop_size: 20 mean_value: 128")
    assert load(pair).preprocess.mean == 128
    place.write_text(TRAIN_VAL % 'crop_size: 20 mean_file: "a/mean.binaryproto" scale: 0.5')
    opened = load(pair)
    assert opened.preprocess_warning and opened.preprocess.scale == 0.5
    assert any("mean image a/mean.binaryproto; give it with --mean" in note for note in opened.architecture.notes)  # type: ignore[union-attr]
    place.write_text(TRAIN_VAL % "scale: 0.5")
    with pytest.raises(UsageError, match="does not state the shape of its input 'data'; give it with --image-shape"):
        load(pair)
    assert load(pair, PreprocessOverrides(image_shape_CHW=(3, 20, 20))).preprocess.shape_CHW == (3, 20, 20)


def test_training_goes_on_from_it(tiny: list[str], tmp_path: Path, convolve: Convolve) -> None:
    net = Writer((64, 1, 28, 28))
    x = net.layer("Power", "scaled", ["data"], "scaled", "power_param { scale: 0.00390625 }")
    x = net.pool("pool1", net.conv("conv1", x, 4, 5), "pool: MAX kernel_size: 2 stride: 2")
    net.softmax(net.dense("ip", x, 10, 144, last=True))
    pair = write(tmp_path, net)
    rate = ("--set", "schedule.learning_rates=0.003", "--set", "optimizer.momentum=0")
    outcome = convolve("train", "mnist", *tiny, "--from", pair, "--out", tmp_path / "run", *rate, "--json")
    assert outcome.code == 0, outcome.err
    assert json.loads(outcome.out)["test_error"] < 0.6
    assert [type(layer).__name__ for layer in load(tmp_path / "run").module.children()] == [
        "Conv2d",
        "MaxPool2d",
        "Linear",
    ]


def test_refusals(pair: str, pictures: Path, tmp_path: Path, convolve: Convolve) -> None:
    prototxt, caffemodel_ = pair.split("+")
    for half in (prototxt, caffemodel_):
        assert_refused(convolve("predict", half, pictures), 2, "half of a Caffe model", "net.prototxt+net.caffemodel")
    assert_refused(
        convolve("predict", f"{prototxt}+{tmp_path}/no.caffemodel", pictures), 3, "no.caffemodel", "give a caffemodel"
    )
    assert_refused(convolve("show", f"{tmp_path}/no.prototxt+{caffemodel_}"), 3, "no.prototxt", "give a prototxt")
    net = small_net()
    net.layers[0] = net.layers[0].replace('"Convolution"', '"LSTM"')
    (tmp_path / "odd.prototxt").write_text(net.text)
    assert_refused(
        convolve("show", f"{tmp_path}/odd.prototxt+{caffemodel_}"), 4, "line 3, column 7", "(LSTM) is not supported"
    )
    assert_refused(
        convolve("predict", pair, pictures, "--preset", "bvlc-alexnet"), 2, "227 pixels, this network for 20"
    )
    assert_refused(convolve("predict", pair, pictures, "--mean", "no.binaryproto"), 3, "give a binaryproto file")
