"""One file, the whole answer: an exported file takes a photograph of any size and says what `predict` says."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
import torch

from command_line import Convolve, assert_refused, files_in
from convolve.errors import ConvolveError, ModelError
from convolve.export import any_size
from convolve.export.inputs import natural_images
from convolve.export.metadata import KEY
from convolve.loading import load
from convolve.model import Model
from convolve.models import build_model
from convolve.prediction import Prediction
from convolve.specs.model import ModelSpec
from convolve.training.confidence import fit_confidence
from convolve.training.outliers import fit_outliers
from convolve.transforms.preprocess import Preprocess, Resize
from runtimes import metadata, session

NAMES = ("a", "b", "c")
SPEC = ModelSpec(name="convnet-cifar10", variant="tiny")
# (height, width) of photographs: tall, wide, the network's own, much smaller, larger.
SIZES = ((90, 41), (37, 120), (24, 32), (9, 7), (151, 203), (24, 300), (33, 32))


def model_of(**changes: object) -> Model:
    given = {"channels": 3, "height": 24, "width": 32, "mean": 120.0, "scale": 1 / 64}
    preprocess = Preprocess(**{**given, "interpolation": "linear_antialiased", **changes})  # type: ignore[arg-type]
    module = build_model(SPEC, preprocess.shape_CHW, len(NAMES), seed=3).eval()
    return Model(module, SPEC, preprocess, NAMES)


def confident(model: Model) -> Model:
    """The model, with a certainty learned from images like those that are asked: half are none of these."""
    pixels_NCHW = natural_images(40, model.preprocess.shape_CHW, np.random.default_rng(1))
    images_NCHW = (torch.from_numpy(pixels_NCHW).float() - 120) / 64
    labels_N = torch.arange(40) % len(NAMES)
    with torch.no_grad():
        logits_NK, features_ND = model.with_features()(images_NCHW)
        detector = fit_outliers(features_ND, labels_N)
        distances_N = detector(features_ND)
    known = fit_confidence(detector, logits_NK.softmax(1), labels_N, distances_N, "validation")
    return replace(model, confidence=known.asked(accept=0.5, coverage=0.8))


def photographs(folder: Path) -> list[Path]:
    paths = []
    for seed, (height, width) in enumerate(SIZES):
        [image_CHW] = natural_images(1, (3, height, width), np.random.default_rng(seed))
        paths.append(folder / f"{seed}.png")
        cv2.imwrite(str(paths[-1]), image_CHW.transpose(1, 2, 0)[..., ::-1])
    return paths


def asked(file: Path, photograph: Path) -> list[np.ndarray]:
    image_HW3 = cv2.cvtColor(cv2.imread(str(photograph)), cv2.COLOR_BGR2RGB)
    answers: list[np.ndarray] = session(file).run(None, {"image": image_HW3})
    return answers


def assert_same(probabilities_K: np.ndarray, said: Prediction) -> None:
    assert NAMES[int(probabilities_K.argmax())] == said.classes[0][0]
    for name, probability in said.classes:
        assert abs(probabilities_K[NAMES.index(name)] - probability) < 1e-3


@pytest.mark.parametrize(
    ("resize", "order", "border"),
    [
        ("cover", "rgb", 0),
        ("square", "bgr", 0),
        ("squash", "bgr", 0),
        ("letterbox", "gray", 114),
        ("letterbox", "rgb", -1),
    ],
)
def test_a_photograph_of_any_size_gets_the_answer_of_predict(
    resize: Resize, order: str, border: int, tmp_path: Path
) -> None:
    channels, ratio = 1 if order == "gray" else 3, 1.0 if resize == "letterbox" else 0.85
    model = model_of(channels=channels, channel_order=order, resize=resize, crop_ratio=ratio, padding_value=border)
    file, paths = tmp_path / "net.onnx", photographs(tmp_path)
    model.export(file, any_size=True)
    for path, said in zip(paths, model.predict(paths), strict=True):
        [probabilities_K] = asked(file, path)
        assert probabilities_K.shape == (3,)
        assert_same(probabilities_K, said)


def test_it_says_whether_an_image_is_none_of_these(tmp_path: Path) -> None:
    model, file, paths = confident(model_of()), tmp_path / "net.onnx", photographs(tmp_path)
    model.export(file, any_size=True)
    found = model.predict(paths)
    assert {said.none_of_these for said in found} == {True, False}
    for path, said in zip(paths, found, strict=True):
        probabilities_K, none_of_these, distance = asked(file, path)
        assert_same(probabilities_K, said)
        assert (bool(none_of_these), none_of_these.shape) == (said.none_of_these, ())
        assert abs(distance - (said.distance or 0)) < 1e-3 * max(1, distance)
    about = metadata(file)
    assert about["input"] == {"name": "image", "type": "uint8", "axes": "HWC", "shape": ["H", "W", 3]}
    assert about["output"] == {"name": "probabilities", "type": "float32", "axes": "K", "shape": [3]}
    assert [port["name"] for port in about["more_outputs"]] == ["none_of_these", "distance"]


@pytest.mark.parametrize("how", [{}, {"with_preprocessing": True}, {"any_size": True}])
def test_convolve_opens_it_again_with_its_certainty(how: dict[str, bool], tmp_path: Path) -> None:
    model, file, paths = confident(model_of(channel_order="bgr")), tmp_path / "net.onnx", photographs(tmp_path)
    model.export(file, **how)
    again, wanted = load(file), model.predict(paths)
    assert again.confidence and model.confidence and again.confidence.record.accept == 0.5
    for one, other in zip(again.predict(paths), wanted, strict=True):
        assert [name for name, _ in one.classes] == [name for name, _ in other.classes]
        np.testing.assert_allclose([p for _, p in one.classes], [p for _, p in other.classes], atol=1e-4)
        assert (one.none_of_these, one.possible) == (other.none_of_these, other.possible)
        assert one.distance == pytest.approx(other.distance, rel=1e-3)
    again.save(tmp_path / "folder")
    kept = load(tmp_path / "folder")
    assert [each.none_of_these for each in kept.predict(paths)] == [each.none_of_these for each in wanted]
    kept.export(tmp_path / "third.onnx", any_size=True)
    assert [bool(asked(tmp_path / "third.onnx", path)[1]) for path in paths] == [e.none_of_these for e in wanted]


def test_the_command(tmp_path: Path, convolve: Convolve) -> None:
    confident(model_of()).save(tmp_path / "model")
    [*paths] = photographs(tmp_path)
    out = tmp_path / "out" / "net.onnx"
    out.parent.mkdir()
    outcome = convolve("convert", tmp_path / "model", "--to", "onnx", "--out", out, "--any-size")
    assert (outcome.code, outcome.err) == (0, "")
    assert files_in(out.parent) == ["net-model-card.md", "net.onnx"]
    assert "of any size" in (out.parent / "net-model-card.md").read_text()
    said = [json.loads(convolve("predict", each, *paths, "--json").out)["images"] for each in (tmp_path / "model", out)]
    for one, other in zip(*said, strict=True):
        assert (one["none_of_these"], one["classes"][0]["class"]) == (
            other["none_of_these"],
            other["classes"][0]["class"],
        )


def test_scaling_that_onnx_cannot_say_is_refused(model: Path, tmp_path: Path, convolve: Convolve) -> None:
    out = tmp_path / "net.onnx"
    outcome = convolve("convert", model, "--to", "onnx", "--out", out, "--any-size")
    assert_refused(outcome, 4, "resized by OpenCV's \"area\", which ONNX's Resize lacks")
    for form, name in (("exported-program", "net.pt2"), ("convolve", "net")):
        assert_refused(
            convolve("convert", model, "--to", form, "--out", tmp_path / name, "--any-size"), 2, "--any-size"
        )
    assert files_in(tmp_path) == []


def test_a_file_that_would_answer_otherwise_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def without_cutting(nodes: any_size._Nodes, images: str, sides: str, preprocess: Preprocess) -> str:
        return any_size._squash(nodes, images, sides, preprocess)

    monkeypatch.setitem(any_size._WAYS, "cover", without_cutting)
    with pytest.raises(ConvolveError, match=r"not written, .* pixels is off by"):
        model_of().export(tmp_path / "net.onnx", any_size=True)
    assert files_in(tmp_path) == []


def test_damaged_numbers_of_its_certainty_are_named(tmp_path: Path) -> None:
    file = tmp_path / "net.onnx"
    confident(model_of()).export(file)
    found = onnx.load(file)
    [said] = [prop for prop in found.metadata_props if prop.key == KEY]
    values = json.loads(said.value)
    for damaged, message in ((([1], "AAAA"), "buffer size"), (([1], "AADAfw=="), "finite"), (([], "AACAPw=="), "axes")):
        values["confidence_beside"]["variances_R"] = dict(zip(("shape", "float32"), damaged, strict=True))
        said.value = json.dumps(values)
        onnx.save(found, file)
        with pytest.raises(ModelError, match=message):
            load(file)
