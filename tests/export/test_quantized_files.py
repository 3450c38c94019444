"""Files in int8, by us or by anybody else's tool: opened again, they say what the model says, "none of these" too."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_dynamic, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from test_any_size import NAMES, asked, model_of, photographs
from test_smaller import NAMES as COLORS
from test_smaller import Colors

from command_line import Convolve, assert_refused, files_in
from convolve.export.inputs import natural_images
from convolve.loading import load
from convolve.model import Model
from convolve.prediction import Prediction
from convolve.records import Target, TargetKind
from convolve.training.confidence import fit_confidence
from convolve.training.outliers import fit_outliers
from convolve.transforms.preprocess import Preprocess, Resize
from runtimes import metadata, session

HUES = ((40, 50, 200), (50, 200, 40), (200, 40, 50), (120, 120, 120))  # blue, green, red, and what is none of these


def tinted(count: int, seed: int, hues: int = 3) -> np.ndarray:
    """uint8 images_NCHW of the first of HUES in turn, each somewhat different."""
    rng = np.random.default_rng(seed)
    colors = np.array(HUES[:hues])[np.arange(count) % hues] + rng.integers(-30, 31, (count, 3))
    return (0.9 * colors[..., None, None] + 0.1 * natural_images(count, (3, 40, 50), rng)).astype(np.uint8)


def sure_model() -> Model:
    """It tells three colors apart, knows what is none of them, and loses next to nothing in int8."""
    preprocess = Preprocess(
        3, 16, 20, channel_order="rgb", scale=1 / 255, interpolation="linear_antialiased", crop_ratio=0.8
    )
    model = Model.from_module(Colors(loud=False).eval(), preprocess, COLORS)
    images_NCHW = torch.from_numpy(tinted(60, 1)[..., :16, :20]).float() / 255
    with torch.no_grad():
        logits_NK, features_ND = model.with_features()(images_NCHW)
        labels_N = torch.arange(60) % 3
        detector = fit_outliers(features_ND, labels_N)
        known = fit_confidence(detector, logits_NK.softmax(1), labels_N, detector(features_ND), "validation")
    return replace(model, confidence=known.asked(accept=0.95, coverage=0.8))


def files_of(folder: Path) -> list[Path]:
    paths = [folder / f"{number}.png" for number in range(12)]
    for path, image_CHW in zip(paths, tinted(12, 3, hues=4), strict=True):
        cv2.imwrite(str(path), image_CHW.transpose(1, 2, 0)[..., ::-1])
    return paths


class Images(CalibrationDataReader):  # type: ignore[misc]  # without types
    """Images as the file takes them: normalized planes, pixels, or one photograph."""

    def __init__(self, path: Path) -> None:
        port = session(path).get_inputs()[0]
        pixels_NCHW = tinted(16, 2, hues=4)[..., :16, :20]
        images = pixels_NCHW.astype(np.float32) / 255
        if port.type == "tensor(uint8)":
            images = pixels_NCHW.transpose(0, 2, 3, 1)
        self._rest: Iterator[np.ndarray] = iter(images if port.name == "image" else [images])
        self._name = port.name

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(({self._name: np.ascontiguousarray(each)} for each in self._rest), None)


def beside(path: Path) -> list[str]:
    """As docs/how-to/export.md advises."""
    return [node.name for node in onnx.load(path).graph.node if node.name.startswith("distance/")]


def dynamic(path: Path, out: Path) -> None:
    quantize_dynamic(path, out, op_types_to_quantize=["MatMul", "Gemm"], nodes_to_exclude=beside(path))


def static(path: Path, out: Path, form: QuantFormat = QuantFormat.QDQ) -> None:
    """With all that onnxruntime's own documentation advises before it, symbolic shapes too."""
    quant_pre_process(str(path), str(out))
    quantize_static(out, out, Images(path), quant_format=form, per_channel=True, nodes_to_exclude=beside(out))


def operators(path: Path, out: Path) -> None:
    static(path, out, QuantFormat.QOperator)


def assert_same(one: Prediction, other: Prediction) -> None:
    (name, p), (other_name, q) = one.classes[0], other.classes[0]
    assert (name, one.none_of_these) == (other_name, other.none_of_these)
    assert (p, one.distance) == (pytest.approx(q, abs=0.02), pytest.approx(other.distance, rel=0.2))


@pytest.mark.parametrize(
    ("quantize", "how"),
    [
        (dynamic, {"any_size": True}),
        (static, {}),
        (static, {"any_size": True}),
        (operators, {"with_preprocessing": True}),
        (operators, {"any_size": True}),
    ],
)
def test_what_others_quantize_is_opened_with_its_certainty(
    quantize: Callable[[Path, Path], None], how: dict[str, bool], tmp_path: Path
) -> None:
    model, paths = sure_model(), files_of(tmp_path)
    model.export(tmp_path / "net.onnx", **how)
    quantize(tmp_path / "net.onnx", tmp_path / "small.onnx")
    small = load(tmp_path / "small.onnx")
    assert small.architecture is None and small.confidence and small.confidence.has_sets and model.confidence
    assert small.confidence.record == replace(model.confidence.record, temperature=1.0)
    said = small.predict(paths)
    assert [each.none_of_these for each in said] == [False, False, False, True] * 3
    for one, other in zip(said, model.predict(paths), strict=True):
        assert_same(one, other)
    small.ask(accept=1.0, coverage=None)
    assert not any(said.none_of_these for said in small.predict(paths))


@pytest.mark.parametrize(
    ("resize", "order", "ratio"),
    [("square", "bgr", 0.85), ("squash", "rgb", 0.85), ("letterbox", "gray", 1.0), ("cover", "gray", 0.7)],
)
def test_a_file_for_any_size_is_asked_for_its_answer_to_the_whole_photograph(
    resize: Resize, order: str, ratio: float, tmp_path: Path
) -> None:
    channels = 1 if order == "gray" else 3
    model = model_of(channels=channels, channel_order=order, resize=resize, crop_ratio=ratio, width=24)
    paths, small = photographs(tmp_path), tmp_path / "small.onnx"
    model.export(tmp_path / "net.onnx", any_size=True)
    dynamic(tmp_path / "net.onnx", small)
    for path, said in zip(paths, load(small).predict(paths), strict=True):
        np.testing.assert_allclose([dict(said.classes)[name] for name in NAMES], asked(small, path)[0], atol=1e-3)


def test_central_squares_that_become_oblong_are_refused(tmp_path: Path, convolve: Convolve) -> None:
    model_of(resize="square").export(tmp_path / "net.onnx", any_size=True)
    dynamic(tmp_path / "net.onnx", tmp_path / "small.onnx")
    assert_refused(convolve("show", tmp_path / "small.onnx"), 4, "whose central square becomes 32x24")


@pytest.mark.parametrize("kind", [TargetKind.CLASSES, TargetKind.NUMBER])
def test_other_answers_stay_what_they_are(kind: TargetKind, tmp_path: Path) -> None:
    mean = {"mean": (3.0, 4.0, 5.0), "spread": (2.0, 3.0, 4.0)} if kind == TargetKind.NUMBER else {}
    model: Model = replace(model_of(), target=Target(kind, **mean))  # type: ignore[arg-type]
    model.export(tmp_path / "net.onnx")
    dynamic(tmp_path / "net.onnx", tmp_path / "small.onnx")
    images_NCHW = natural_images(4, model.preprocess.shape_CHW, np.random.default_rng(0))
    small = load(tmp_path / "small.onnx")
    assert small.target.kind == kind
    np.testing.assert_allclose(small.probabilities(images_NCHW), model.probabilities(images_NCHW), atol=0.05)


def classes_of_images(folder: Path) -> Path:
    for number, image_CHW in enumerate(tinted(24, 4)):
        place = folder / ("val" if number < 6 else "train") / COLORS[number % 3]
        place.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(place / f"{number}.png"), image_CHW.transpose(1, 2, 0)[..., ::-1])
    return folder


def test_our_int8_keeps_none_of_these_and_takes_any_size(tmp_path: Path, convolve: Convolve) -> None:
    model, paths, out = sure_model(), files_of(tmp_path), tmp_path / "out" / "small.onnx"
    model.save(tmp_path / "model")
    data = classes_of_images(tmp_path / "data")
    order = ["convert", tmp_path / "model", "--to", "onnx", "--out", out, "--quantize", "int8", "--any-size"]
    made = convolve(*order, "--data", data)
    assert (made.code, made.err) == (0, "")
    assert files_in(out.parent) == ["small-model-card.md", "small.onnx"]
    about = metadata(out)
    assert (about["input"]["name"], about["quantized"]["error"], about["quantized"]["test_images"]) == ("image", 0, 6)
    said = load(out).predict(paths)
    assert [each.none_of_these for each in said] == [False, False, False, True] * 3
    for path, other, one in zip(paths, model.predict(paths), said, strict=True):
        assert_same(one, other)
        probabilities_K, none_of_these, distance = asked(out, path)
        assert (bool(none_of_these), one.distance) == (one.none_of_these, pytest.approx(distance, rel=1e-3))
        assert COLORS[int(probabilities_K.argmax())] == one.classes[0][0]
    outcome = convolve("evaluate", out, "--data", data, "--json")
    assert (outcome.code, json.loads(outcome.out)["errors"]) == (0, 0)


def test_a_page_with_a_small_file(tmp_path: Path, convolve: Convolve) -> None:
    model = sure_model()
    model.save(tmp_path / "model")
    order = ["--to", "web", "--cdn", "--quantize", "int8", "--data", classes_of_images(tmp_path / "data")]
    done = convolve("convert", tmp_path / "model", *order, "--out", tmp_path / "page")
    assert (done.code, done.err) == (0, "") and "int8, " in done.out
    operators = {node.op_type for node in onnx.load(tmp_path / "page/model.onnx").graph.node}
    assert operators & {"QLinearConv", "DequantizeLinear"}
    about = json.loads((tmp_path / "page/model.json").read_text())
    known = model.confidence and model.confidence.record
    said = {"farthest": known.farthest, "least_probability": known.least_probability, "within": None} if known else {}
    assert about["confidence"] == said


@pytest.mark.parametrize(
    ("options", "words"),
    [(["--batch-size", "2"], "takes one image at a time"), (["--opset", "17"], "--any-size needs opset 18")],
)
def test_what_a_file_for_any_size_cannot_have(
    options: list[str], words: str, tmp_path: Path, convolve: Convolve
) -> None:
    model_of().save(tmp_path / "model")
    order = ["convert", tmp_path / "model", "--to", "onnx", "--any-size", "--out", tmp_path / "a.onnx"]
    assert_refused(convolve(*order, *options), 2, words)
    assert files_in(tmp_path) == ["model/model-card.md", "model/model.json", "model/weights.safetensors"]


def test_a_file_for_any_size_in_another_opset(tmp_path: Path, convolve: Convolve) -> None:
    model, out, paths = model_of(), tmp_path / "a.onnx", photographs(tmp_path)
    model.save(tmp_path / "model")
    order = ["convert", tmp_path / "model", "--to", "onnx", "--any-size", "--opset", "20", "--out", out]
    assert convolve(*order).code == 0
    assert onnxruntime.InferenceSession(str(out)).get_inputs()[0].name == "image"
    for path, said in zip(paths, model.predict(paths), strict=True):
        assert NAMES[int(asked(out, path)[0].argmax())] == said.classes[0][0]
