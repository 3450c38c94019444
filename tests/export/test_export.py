"""Exported files answer as the model does, say what they are, and are not written where they would not."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import cv2
import numpy as np
import onnx
import onnx.reference
import pytest
import torch
from torch import nn

from command_line import Convolve, assert_refused, files_in
from convolve.errors import ConvolveError, UnsupportedError, UsageError, install_hint
from convolve.export import exported_program
from convolve.export import onnx as onnx_form
from convolve.export.inputs import natural_images
from convolve.export.parity import disagreement, distance
from convolve.formats.mean_xml import write_mean_xml
from convolve.graph.build import build
from convolve.graph.draft import Draft
from convolve.importers.loader import PreprocessOverrides
from convolve.loading import load
from convolve.model import Model
from convolve.specs.model import ModelSpec
from convolve.transforms.preprocess import Preprocess
from runtimes import answer, metadata
from zip_golden import ARCHIVE, FOLDER

ENDINGS = {"onnx": ".onnx", "exported-program": ".pt2"}


@pytest.fixture(scope="module")
def resnet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network of CNTK's for color images of 16x16 and ten classes."""
    path = tmp_path_factory.mktemp("cntk") / "resnet.model"
    path.write_bytes(ARCHIVE.read("v2/net_resnet.model"))
    return path


def pixels(count: int, model: Model) -> np.ndarray:
    return np.random.default_rng(7).integers(0, 256, (count, *model.preprocess.shape_CHW), dtype=np.uint8)


def by_hand(images_NCHW: np.ndarray, model: Model) -> np.ndarray:
    """The pixels as the network sees them."""
    want = model.preprocess
    planes = images_NCHW[:, ::-1] if want.channel_order == "bgr" else images_NCHW
    mean = np.float32(want.mean) if np.ndim(want.mean) == 0 else np.array(want.mean, np.float32)[:, None, None]
    mean = mean if want.mean_image_CHW is None else want.mean_image_CHW
    scale = np.array(want.scale, np.float32).reshape(-1, 1, 1)
    return ((planes.astype(np.float32) - mean) * scale).astype(np.float32)


def logits_of(model: Model, images_NCHW: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        logits_NK: np.ndarray = model.module(torch.from_numpy(by_hand(images_NCHW, model))).numpy()
    return logits_NK


@pytest.mark.parametrize("form", ENDINGS)
def test_convert_a_model_of_ours(form: str, model: Path, tmp_path: Path, convolve: Convolve) -> None:
    out, opened = tmp_path / f"digits{ENDINGS[form]}", load(model)
    outcome = convolve("convert", model, "--to", form, "--out", out)
    assert (outcome.code, outcome.err) == (0, "")
    assert "compared on 1,016 images" in outcome.out  # those of the sample, and noise
    for count in (1, 5):
        images_NCHW = pixels(count, opened)
        np.testing.assert_allclose(answer(out, by_hand(images_NCHW, opened)), logits_of(opened, images_NCHW), atol=1e-5)
    about = metadata(out)
    assert about["input"] == {"name": "images", "type": "float32", "axes": "NCHW", "shape": ["N", 1, 28, 28]}
    assert about["output"] == {"name": "logits", "type": "float32", "axes": "NK", "shape": ["N", 10]}
    assert (about["class_names"], about["data"]) == (list("0123456789"), "mnist")
    assert (about["preprocess"]["mean"], about["preprocess"]["scale"]) == (0.0, 1 / 256)
    assert files_in(tmp_path) == ["digits-model-card.md", out.name]


ASKED = {
    "number": PreprocessOverrides(mean="118", scale=0.5),
    "channels": PreprocessOverrides(mean="104,117,123"),
    "rgb": PreprocessOverrides(mean="104,117,123", channel_order="rgb", scale="0.017,0.0175,0.018"),
    "image": PreprocessOverrides(mean="mean.xml"),
}


@pytest.mark.parametrize("form", ENDINGS)
@pytest.mark.parametrize("case", ASKED)
def test_preprocessing_inside_the_file(
    case: str, form: str, resnet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_mean_xml("mean.xml", np.random.default_rng(1).uniform(0, 255, (16, 16, 3)).astype(np.float32))
    opened, out = load(resnet, ASKED[case]), Path(f"net{ENDINGS[form]}")
    opened.export(out, with_preprocessing=True)
    images_NCHW = pixels(3, opened)
    got = answer(out, np.ascontiguousarray(images_NCHW.transpose(0, 2, 3, 1)))
    wanted = logits_of(opened, images_NCHW)
    np.testing.assert_allclose(got, wanted, atol=1e-4 * np.abs(wanted).max())
    about = metadata(out)
    assert about["input"] == {"name": "images", "type": "uint8", "axes": "NHWC", "shape": ["N", 16, 16, 3]}
    assert (about["preprocess"]["channel_order"], about["preprocess"]["scale"]) == ("rgb", 1.0)
    assert about["preprocess_in_graph"]["channel_order"] == opened.preprocess.channel_order


def test_a_mean_image_travels_in_the_metadata(resnet: Path, tmp_path: Path) -> None:
    mean_HWC = np.random.default_rng(1).uniform(0, 255, (16, 16, 3)).astype(np.float32)
    write_mean_xml(tmp_path / "mean.xml", mean_HWC)
    opened = load(resnet, PreprocessOverrides(mean=str(tmp_path / "mean.xml")))
    opened.export(tmp_path / "net.onnx")
    text = metadata(tmp_path / "net.onnx")["preprocess_mean_image"]
    mean_CHW = np.frombuffer(base64.b64decode(text), "<f4").reshape(3, 16, 16)
    np.testing.assert_array_equal(mean_CHW, mean_HWC.transpose(2, 0, 1))  # the network takes BGR, as the file has it
    again = load(tmp_path / "net.onnx").preprocess
    assert again == opened.preprocess and np.array_equal(again.subtracted, opened.preprocess.subtracted)


def test_an_onnx_file_is_valid_and_says_nothing_of_this_machine(model: Path, tmp_path: Path) -> None:
    path, again = tmp_path / "digits.onnx", tmp_path / "again.onnx"
    opened = load(model)
    opened.export(path)
    made = onnx.load(path)
    onnx.checker.check_model(made, full_check=True)
    assert (made.ir_version, made.producer_name) == (8, "convolve")
    assert [(domain.domain, domain.version) for domain in made.opset_import] == [("", 18)]
    assert [axis.dim_param or axis.dim_value for axis in made.graph.input[0].type.tensor_type.shape.dim] == [
        "N", 1, 28, 28,
    ]  # fmt: skip
    assert [axis.dim_param or axis.dim_value for axis in made.graph.output[0].type.tensor_type.shape.dim] == ["N", 10]
    content = path.read_bytes()
    for place in (str(Path.home()), str(Path(convolve_package())), sys.prefix, str(tmp_path)):
        assert place.encode() not in content
    opened.export(again)
    assert again.read_bytes() == content
    images_NCHW = pixels(2, opened)  # a third runtime, in plain numpy
    [logits] = onnx.reference.ReferenceEvaluator(made).run(None, {"images": by_hand(images_NCHW, opened)})
    np.testing.assert_allclose(logits, logits_of(opened, images_NCHW), atol=1e-5)


def convolve_package() -> str:
    import convolve

    return str(Path(convolve.__file__).parent)


# -- a file that would answer otherwise --------------------------------------------------------------------------------


def test_a_wrong_translation_is_not_written(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    translate = onnx_form.translate

    def wrongly(*arguments: Any) -> Any:
        made = translate(*arguments)
        weight = made.model.graph.initializers["conv2.weight"]
        weight.const_value = onnx_ir_tensor(weight.const_value.numpy() * 1.01)
        return made

    monkeypatch.setattr(onnx_form, "translate", wrongly)
    path = tmp_path / "digits.onnx"
    path.write_text("the old one")
    with pytest.raises(
        ConvolveError, match=r"digits\.onnx was not written.*first difference is in conv2d_1 \(layer conv2"
    ):
        load(model).export(path)
    assert path.read_text() == "the old one" and files_in(tmp_path) == ["digits.onnx"]


def onnx_ir_tensor(array: np.ndarray) -> Any:
    import onnx_ir

    return onnx_ir.tensor(array)


def test_a_wrong_program_is_not_written(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = exported_program._read

    def wrongly(path: Path) -> Any:
        program = read(path)
        program.state_dict["fc1.weight"] *= -1
        return program

    monkeypatch.setattr(exported_program, "_read", wrongly)
    with pytest.raises(ConvolveError, match=r"digits\.pt2 was not written.*\(layer fc1\)") as caught:
        load(model).export(tmp_path / "digits.pt2")
    assert caught.value.exit_code == 1 and files_in(tmp_path) == []


def test_what_counts_as_another_answer() -> None:
    scores = np.array([[1.0, 2.0], [30.0, 20.0]], np.float32)
    assert disagreement(scores, scores + 0.002) == ""  # of 30
    assert "off by 0.00013 of the largest" in disagreement(scores, scores + 0.004)
    assert "shape (1, 2)" in disagreement(scores, scores[:1])
    assert disagreement(scores / 1000, scores / 1000 + 0.00009) == ""  # of 1
    near = np.array([[0.00001, 0.0], [1, 2]], np.float32)
    assert "another class comes first 1 times" in disagreement(near, near[:, [1, 0]] * [[1], [0]] + near * [[0], [1]])
    for nothing in (np.nan, np.inf):
        assert disagreement(scores * nothing, scores * nothing) == ""
        assert disagreement(scores, scores * nothing) and disagreement(scores * nothing, scores)
    assert distance(scores[:0], scores[:0]).size == 0


def test_natural_images_look_natural() -> None:
    """Neighbors are alike, and so are the colors; noise has neither."""
    images = natural_images(8, (3, 64, 48), np.random.default_rng(0)).astype(np.float64)
    across = np.corrcoef(images[..., 1:].ravel(), images[..., :-1].ravel())[0, 1]
    colors = np.corrcoef(images[:, 0].ravel(), images[:, 1].ravel())[0, 1]
    assert across > 0.6 and colors > 0.6 and 40 < images.std() < 70


# -- exported files come back ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for number, image_CHW in enumerate(natural_images(6, (3, 20, 30), np.random.default_rng(0))):
        cv2.imwrite(str(folder / f"{number}.png"), image_CHW.transpose(1, 2, 0))
    return folder


@pytest.mark.parametrize("words", [[], ["--with-preprocessing"]])
def test_predict_asks_an_onnx_file(
    words: list[str], resnet: Path, pictures: Path, tmp_path: Path, convolve: Convolve
) -> None:
    described = ["--mean", "104,117,123", "--scale", "0.5"]
    assert convolve("convert", resnet, "--to", "onnx", "--out", tmp_path / "net.onnx", *described, *words).code == 0
    expected = convolve("predict", resnet, pictures, "--json", *described)
    outcome = convolve("predict", tmp_path / "net.onnx", pictures, "--json")
    assert (outcome.code, outcome.err) == (0, "")
    for one, other in zip(
        json.loads(outcome.out)["images"], json.loads(expected.out)["images"], strict=True
    ):  # fmt: skip
        assert one["path"] == other["path"] and one["fitted"] == other["fitted"]
        assert [row["class"] for row in one["classes"]] == [row["class"] for row in other["classes"]]
        assert [row["probability"] for row in one["classes"]] == pytest.approx(
            [row["probability"] for row in other["classes"]], abs=1e-5
        )


def test_doubt_travels_and_labels_can_be_given(
    resnet: Path, pictures: Path, tmp_path: Path, convolve: Convolve
) -> None:
    path = tmp_path / "net.onnx"
    load(resnet).export(path)
    (tmp_path / "labels.txt").write_text("".join(f"class {k}\n" for k in range(10)))
    outcome = convolve("predict", path, pictures / "0.png", "--labels", tmp_path / "labels.txt")
    assert outcome.code == 0 and "class " in outcome.out and "assumed" in outcome.err
    assert "assumed" not in convolve("predict", path, pictures / "0.png", "--mean", "1").err


def test_a_list_of_classes_that_does_not_fit_is_refused(model: Path, tmp_path: Path, convolve: Convolve) -> None:
    """By whoever is given it, before anything is written."""
    path = tmp_path / "net.onnx"
    load(model).export(path)
    (tmp_path / "labels.txt").write_text("cat\ndog\n")
    before = files_in(tmp_path)
    for words in (
        ["predict", path, tmp_path],
        ["serve", path, "--port", "0"],
        ["convert", path, "--out", tmp_path / "again.onnx", "--to", "onnx"],
    ):
        outcome = convolve(*words, "--labels", tmp_path / "labels.txt")
        assert_refused(outcome, 2, "labels.txt names 2 classes, the network has 10")
    assert files_in(tmp_path) == before


@pytest.mark.parametrize("words", [[], ["--with-preprocessing"]])
def test_an_exported_file_becomes_a_model_again(
    words: list[str], model: Path, pictures: Path, tmp_path: Path, convolve: Convolve
) -> None:
    """What is exported can be shown, converted and trained further, and answers the same."""
    path, again, folder = tmp_path / "net.onnx", tmp_path / "again.onnx", tmp_path / "folder"
    assert convolve("convert", model, "--to", "onnx", "--out", path, *words).code == 0
    assert convolve("convert", path, "--to", "onnx", "--out", again).code == 0
    assert convolve("convert", again, "--to", "convolve", "--out", folder).code == 0
    first, last = load(model), load(folder)
    assert last.class_names == first.class_names and last.preprocess.known_from == first.preprocess.known_from
    for one, other in zip(first.predict([pictures]), last.predict([pictures]), strict=True):
        assert [name for name, _ in one.classes] == [name for name, _ in other.classes]
        np.testing.assert_allclose([p for _, p in one.classes], [p for _, p in other.classes], atol=1e-5)
    assert any(parameter.requires_grad for parameter in last.module.parameters())


def test_show_describes_an_onnx_file(model: Path, tmp_path: Path, convolve: Convolve) -> None:
    path = tmp_path / "digits.onnx"
    opened = load(model)
    opened.export(path)
    said = json.loads(convolve("show", path, "--json").out)
    assert (said["class_names"], said["preprocess"]) == (list(opened.class_names), opened.preprocess.mapping())
    assert said["layers"][0]["kind"] == "Conv2d"
    assert "0, 1, 2" in convolve("show", path).out


def test_what_cannot_be_shown(model: Path, tmp_path: Path, convolve: Convolve) -> None:
    load(model).export(tmp_path / "digits.pt2")
    assert_refused(convolve("show", tmp_path / "digits.pt2"), 2, "digits.pt2", "cannot be shown", "an ONNX file")


def test_onnx_files_of_strangers_and_damaged_ones(
    model: Path, pictures: Path, tmp_path: Path, convolve: Convolve
) -> None:
    whole, path = tmp_path / "whole.onnx", tmp_path / "net.onnx"
    load(model).export(whole)
    made = onnx.load(whole)
    del made.metadata_props[:]
    onnx.save(made, path)
    stranger = convolve("predict", path, pictures)
    assert stranger.code == 0 and "does not say how its images were prepared" in stranger.err
    made.metadata_props.add(key="convolve", value='{"format": 2}')
    onnx.save(made, path)
    assert_refused(convolve("predict", path, pictures), 4, "format 2", "update convolve")
    for text in ("", "[]", '{"format": 1}', json.dumps(metadata(whole) | {"preprocess": {"channels": "x"}})):
        made.metadata_props[0].value = text
        onnx.save(made, path)
        assert_refused(convolve("predict", path, pictures), 3, "net.onnx: its metadata is damaged")
    path.write_bytes(whole.read_bytes()[:5000])
    assert_refused(convolve("predict", path, pictures), 3, "net.onnx: this is not a complete ONNX model")
    load(model).export(tmp_path / "net.pt2")
    assert_refused(
        convolve("predict", tmp_path / "net.pt2", pictures),
        4,
        "net.pt2 is a program of torch.export, which convolve writes but does not read",
    )


# -- refused -----------------------------------------------------------------------------------------------------------


def test_what_convert_refuses(model: Path, resnet: Path, tmp_path: Path, convolve: Convolve) -> None:
    def refused(*words: object, code: int = 2) -> str:
        outcome = convolve("convert", *words)
        assert_refused(outcome, code)
        return outcome.err

    assert "whose name ends in .onnx" in refused(model, "--to", "onnx", "--out", tmp_path / "digits.pt2")
    assert "did you mean 'onnx'" in refused(model, "--to", "onx", "--out", tmp_path / "digits.onnx")
    assert "is for --to onnx or exported-program, not for --to convolve" in refused(
        model, "--to", "convolve", "--out", tmp_path / "x", "--with-preprocessing"
    )
    taken = tmp_path / "taken.onnx"
    taken.mkdir()
    assert "exists already" in refused(model, "--to", "onnx", "--out", taken)
    (tmp_path / "file").write_text("")
    behind = tmp_path / "file" / "digits.onnx"
    assert "file is not a folder" in refused(model, "--to", "onnx", "--out", behind)
    missing = tmp_path / "missing"
    assert "missing" in refused(missing, "--to", "onnx", "--out", tmp_path / "digits.onnx")
    assert files_in(tmp_path) == ["file"]


def test_python_needs_an_ending_and_a_whole_model(model: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"\.onnx \(onnx\), \.pt2 \(exported-program\)"):
        load(model).export(tmp_path / "digits.tflite")
    with pytest.raises(UsageError, match="stops at fc1"):
        load(model, node="fc1").export(tmp_path / "features.onnx")


@pytest.mark.parametrize("package", ["onnx", "onnxscript", "onnxruntime"])
def test_a_missing_package_is_named(
    package: str, model: Path, tmp_path: Path, convolve: Convolve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    outcome = convolve("convert", model, "--to", "onnx", "--out", tmp_path / "digits.onnx")
    assert_refused(outcome, 2, package, install_hint("onnx"))
    assert convolve("convert", model, "--to", "exported-program", "--out", tmp_path / "digits.pt2").code == 0


def test_convert_begins_without_the_extra_onnx() -> None:
    """In a process of its own: here other tests have imported what it must not ask for."""
    program = "import sys; sys.modules['onnx'] = None; import convolve.smaller"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_weights_beyond_protobuf_are_refused(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_form, "MOST_BYTES", 1000)
    with pytest.raises(
        UnsupportedError, match=r"GiB, and an ONNX file is limited to 2; export an ExportedProgram \(\.pt2\)"
    ):
        load(model).export(tmp_path / "digits.onnx")
    load(model).export(tmp_path / "digits.pt2")


@pytest.mark.parametrize(
    ("archive", "case", "code", "words"),
    [
        ("oracle", "roipool", 4, "torch.export cannot trace roi_pool"),
        ("oracle", "times_vec", 2, "give the image shape that they represent with --image-shape"),
    ],
)
def test_networks_that_classify_no_image(
    archive: str, case: str, code: int, words: str, tmp_path: Path, convolve: Convolve
) -> None:
    path = tmp_path / "net.model"
    path.write_bytes(ZipFile(FOLDER / f"{archive}.zip").read(f"v2/{case}.model"))
    for form, ending in ENDINGS.items():
        assert_refused(convolve("convert", path, "--to", form, "--out", tmp_path / f"net{ending}"), code, words)
    assert files_in(tmp_path) == ["net.model"]


def network(draft: Draft, output: str) -> Model:
    """What was drafted, as a classifier of images of 3x8x8."""
    graph = draft.finish([output], "a test")
    [scores] = graph.values()[graph.outputs[0]].shape
    return Model(build(graph), graph, Preprocess(3, 8, 8), tuple(map(str, range(scores))))


def test_convolutions_in_three_dimensions(tmp_path: Path) -> None:
    draft = Draft()
    volume = draft.add("reshape", [draft.input((3, 8, 8), "image")], shape=(1, 3, 8, 8))
    weight = draft.parameter(np.random.default_rng(0).normal(size=(2, 1, 3, 4, 4)).astype(np.float32))
    window = {name: (value,) * 3 for name, value in {"strides": 1, "lower": 0, "upper": 0, "dilation": 1}.items()}
    maps = draft.add("convolution", [volume, weight], groups=1, **window)
    model = network(draft, draft.add("reshape", [maps], shape=(50,)))
    images_NCHW = pixels(3, model)
    for name in ("net.onnx", "net.pt2"):
        model.export(tmp_path / name)
        np.testing.assert_allclose(
            answer(tmp_path / name, by_hand(images_NCHW, model)), logits_of(model, images_NCHW), rtol=1e-4, atol=1e-2
        )


def test_what_torch_cannot_trace_is_named(tmp_path: Path) -> None:
    draft = Draft()
    image = draft.input((3, 8, 8), "image")
    regions = draft.add("reshape", [image], shape=(48, 4))
    pooled = draft.add("roi_pool", [image, regions], output=(1, 1), scale=1.0, kind="max")
    model = network(draft, draft.add("reshape", [pooled], shape=(144,)))
    for name in ("net.onnx", "net.pt2"):
        with pytest.raises(UnsupportedError, match=r"cannot trace roi_pool: .*; --to convolve keeps the model"):
            model.export(tmp_path / name)
    assert files_in(tmp_path) == []


class OneSize(nn.Module):
    def forward(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        return images_NCHW.reshape(2, -1)


class Bessel(nn.Module):
    def forward(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        return torch.special.bessel_j0(images_NCHW.flatten(1))


def test_what_the_form_cannot_say_is_named(tmp_path: Path) -> None:
    def exported(module: nn.Module) -> None:
        Model(module, ModelSpec(), Preprocess(1, 2, 5), tuple("0123456789")).export(tmp_path / "net.onnx")

    with pytest.raises(UnsupportedError, match="the network: it works for one batch size only"):
        exported(OneSize())
    with pytest.raises(UnsupportedError, match=r"ONNX cannot represent .*bessel_j0.*export an ExportedProgram"):
        exported(Bessel())
    assert files_in(tmp_path) == []
