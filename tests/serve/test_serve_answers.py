"""The answers of the server: those of `predict`, whoever asks and however many."""

from __future__ import annotations

import asyncio
import base64
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from serving import PATIENCE_SECONDS, Client, encoded, noise, serving
from torch import nn

from convolve.errors import FormatError
from convolve.explanation import log_odds, occlusion
from convolve.importers.loader import PreprocessOverrides
from convolve.loading import load
from convolve.model import Model
from convolve.records import Target, TargetKind
from convolve.serve import service
from convolve.serve.batching import Answer, Batcher, Prepared
from convolve.specs.model import ModelSpec
from convolve.training.confidence import fit_confidence
from convolve.training.outliers import fit_outliers
from convolve.transforms.preprocess import Preprocess, fit_image
from zip_golden import ARCHIVE

GRAY_IN_COLOR = np.repeat(noise(28, 28), 3, axis=2)
UPLOADS = {
    "exact.png": encoded(noise(28, 28)),
    "gray stored in color.png": encoded(GRAY_IN_COLOR),
    "color.png": encoded(noise(40, 60, 3)),
    "photo.jpg": encoded(noise(200, 150, 3), ".jpg"),
    "small.bmp": encoded(noise(9, 7, 3), ".bmp"),
    "wide.webp": encoded(noise(30, 300, 3), ".webp"),
}


@pytest.fixture(scope="module")
def color_model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """CNTK's own network for 16x16 color images, BGR, minus a mean."""
    path = tmp_path_factory.mktemp("cntk") / "net_resnet.bin"
    path.write_bytes(ARCHIVE.read("v2/net_resnet.model"))
    return load(path, PreprocessOverrides(mean="104,117,123", scale=1 / 64))


@pytest.fixture(scope="module")
def digits(model: Path) -> Iterator[Client]:
    with serving(load(model)) as client:
        yield client


@pytest.mark.parametrize("name", UPLOADS)
@pytest.mark.parametrize("kind", ["gray", "color"])
def test_it_answers_as_predict(kind: str, name: str, model: Path, color_model: Model, tmp_path: Path) -> None:
    asked = load(model) if kind == "gray" else color_model
    (tmp_path / name).write_bytes(UPLOADS[name])
    (expected,) = asked.predict([tmp_path / name], top=3)
    with serving(asked) as client:
        status, said, _ = client.ask("/predict?top=3", UPLOADS[name])
    assert status == 200
    assert [found["class"] for found in said["classes"]] == [label for label, _ in expected.classes]
    assert [found["probability"] for found in said["classes"]] == pytest.approx([p for _, p in expected.classes])
    assert [asked.class_names[found["index"]] for found in said["classes"]] == [label for label, _ in expected.classes]
    assert said["fitted"] == expected.fitted


def test_it_says_none_of_these_as_predict_does(model: Path, tmp_path: Path) -> None:
    asked = load(model)
    detector = fit_outliers(torch.rand(40, 12), torch.arange(40) % 10)  # the tiny network has twelve features
    asked.confidence = fit_confidence(
        detector, torch.rand(40, 10).softmax(1), torch.arange(40) % 10, torch.rand(40), "validation"
    ).asked(0.5, 0.5)
    (tmp_path / "exact.png").write_bytes(UPLOADS["exact.png"])
    (expected,) = asked.predict([tmp_path / "exact.png"])
    with serving(asked) as client:
        said = client.ask("/predict", UPLOADS["exact.png"]).said
    assert said["none_of_these"] is expected.none_of_these and said["distance"] == pytest.approx(expected.distance)
    assert tuple(said["possible"]) == expected.possible


def test_classes_may_be_called_by_any_bytes(model: Path) -> None:
    names = tuple(f"K\udce4fer {number} <r\u00f8d>" for number in range(10))
    with serving(replace(load(model), class_names=names)) as client:
        said = client.ask("/predict?top=10", UPLOADS["exact.png"]).said
        assert {found["class"] for found in said["classes"]} == {*names}
        assert client.ask("/explain?class=3", UPLOADS["exact.png"]).said["class"] == names[3]


def test_it_says_the_five_most_likely(digits: Client) -> None:
    said = digits.ask("/predict", UPLOADS["exact.png"]).said
    values = [found["probability"] for found in said["classes"]]
    assert len(values) == 5 and values == sorted(values, reverse=True)
    assert "seen" not in said
    everything = digits.ask("/predict?top=99", UPLOADS["exact.png"]).said["classes"]
    assert sorted(found["class"] for found in everything) == list("0123456789")
    assert sum(found["probability"] for found in everything) == pytest.approx(1)


@pytest.mark.parametrize("kind", ["gray", "color"])
def test_what_is_seen_is_what_the_model_is_given(kind: str, model: Path, color_model: Model) -> None:
    asked = load(model) if kind == "gray" else color_model
    image_HWC = noise(50, 40, 3)
    with serving(asked) as client:
        seen = client.ask("/predict?seen=1", encoded(image_HWC)).said["seen"]
    png = base64.b64decode(seen.removeprefix("data:image/png;base64,"))
    planes_HWC = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED)
    expected_CHW, _ = fit_image(image_HWC, asked.preprocess)
    shown_CHW = planes_HWC[None] if kind == "gray" else planes_HWC[:, :, ::-1].transpose(2, 0, 1)
    np.testing.assert_array_equal(shown_CHW, expected_CHW)


def test_200_clients_at_once(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All connected before the first asks, three questions each: every answer right, and the model asked in batches."""
    asked, images = load(model), [noise(28, 28, seed=seed) for seed in range(200)]
    expected = asked.probabilities(np.stack([image.transpose(2, 0, 1) for image in images])).argmax(1).tolist()
    sizes: list[int] = []
    answer = asked.answered
    monkeypatch.setattr(asked, "answered", lambda images, *by: (sizes.append(len(images)), answer(images, *by))[1])
    with serving(asked) as client:
        sizes.clear()  # of the warm-up
        found = asyncio.run(_ask_together(client.port, [encoded(image) for image in images], 3))
    assert found == [[str(k)] * 3 for k in expected]
    assert sum(sizes) == 600 and max(sizes) > 8


async def _ask_together(port: int, bodies: list[bytes], times: int) -> list[list[str]]:
    connections = await asyncio.gather(*(asyncio.open_connection("127.0.0.1", port) for _ in bodies))

    async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, body: bytes) -> list[str]:
        found = []
        for _ in range(times):
            writer.write(b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200"), head
            length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
            found.append(json.loads(await reader.readexactly(length))["classes"][0]["class"])
        writer.close()
        return found

    return await asyncio.gather(*(ask(*pair, body) for pair, body in zip(connections, bodies, strict=True)))


def test_a_model_that_fails_harms_nobody_else(
    model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = load(model)
    answer = asked.answered

    def moody(images_NCHW: np.ndarray, _engine: None) -> tuple[torch.Tensor, list[dict[str, Any]]]:
        if (images_NCHW == 255).all():
            raise RuntimeError("I do not like white")
        return answer(images_NCHW)

    monkeypatch.setattr(asked, "answered", moody)
    with serving(asked) as client:
        bad = client.ask("/predict", encoded(np.full((28, 28, 1), 255, np.uint8)))
        assert bad.status == 500 and "I do not like white" in bad.said["error"]
        assert client.ask("/predict", UPLOADS["exact.png"]).status == 200
    assert "moody" in capsys.readouterr().err  # where it happened


def test_damaged_images_harm_nobody_in_their_batch(model: Path) -> None:
    asked = load(model)
    good, expected = noise(28, 28).transpose(2, 0, 1), asked.probabilities(noise(28, 28).transpose(2, 0, 1)[None])[0]

    def damaged() -> Prepared:
        raise FormatError("the image", "", "is damaged")

    async def ask() -> list[Answer | BaseException]:
        batcher = Batcher(asked, asyncio.Lock(), list[int]().append)
        questions = [damaged if k % 3 == 0 else lambda: Prepared(good, "") for k in range(9)]
        asking = [asyncio.create_task(batcher.answer(prepare)) for prepare in questions]
        await asyncio.sleep(0)  # all have asked: one batch
        answering = asyncio.create_task(batcher.run())
        answers = await asyncio.gather(*asking, return_exceptions=True)
        answering.cancel()
        await asyncio.wait([answering])
        return answers

    for k, answer in enumerate(asyncio.run(ask())):
        assert isinstance(answer, FormatError if k % 3 == 0 else Answer)
        if isinstance(answer, Answer):
            np.testing.assert_allclose(answer.probabilities_K, expected, rtol=1e-5)


def test_images_are_prepared_while_the_model_rests(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cores that do both at once make the threads of the network wait for each other."""
    asked, running, prepared_meanwhile = load(model), threading.Event(), []
    answer, prepare = asked.answered, service.fitted_image

    def slowly(images_NCHW: np.ndarray, _engine: None) -> tuple[torch.Tensor, list[dict[str, Any]]]:
        running.set()
        time.sleep(0.02)
        running.clear()
        return answer(images_NCHW)

    def watched(*arguments: Any) -> Prepared:
        prepared_meanwhile.append(running.is_set())
        return prepare(*arguments)

    monkeypatch.setattr(service, "fitted_image", watched)
    monkeypatch.setattr(asked, "answered", slowly)
    with serving(asked) as client:
        asyncio.run(_ask_together(client.port, [encoded(noise(28, 28, seed=seed)) for seed in range(20)], 5))
    assert prepared_meanwhile == [False] * 100


def test_an_answer_that_is_no_number(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = load(model)
    answer = asked.answered

    def no_numbers(images_NCHW: np.ndarray, _engine: None) -> tuple[torch.Tensor, list[dict[str, Any]]]:
        answers_NK, sure = answer(images_NCHW)
        return torch.full_like(answers_NK, torch.nan), sure

    with serving(asked) as client:
        monkeypatch.setattr(asked, "answered", no_numbers)
        for question in ("/predict", "/explain"):
            status, said, _ = client.ask(question, UPLOADS["exact.png"])
            assert status == 500 and "not a number" in said["error"]


# -- where it looks ----------------------------------------------------------------------------------------------------


class OneCorner(nn.Module):
    """Class 1 for light in the lower right quarter of 20x20 pixels, class 0 for darkness there; sees nothing else."""

    def forward(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        light_N = images_NCHW[:, :, 10:, 10:].mean((1, 2, 3))
        return torch.stack([-light_N, light_N], 1)


CORNER = Model(OneCorner(), ModelSpec(), Preprocess(1, 20, 20, 128.0, 1 / 64), ("dark", "light"))


def test_the_map_lies_where_the_model_looks() -> None:
    image_HWC = np.zeros((20, 20, 1), np.uint8)
    image_HWC[12:18, 12:18] = 250
    with serving(CORNER) as client:
        for index, sign in ((1, 1), (0, -1)):
            status, said, _ = client.ask(f"/explain?class={index}", encoded(image_HWC))
            assert status == 200 and (said["class"], said["index"]) == (CORNER.class_names[index], index)
            change = np.array(said["change"]) * sign
            assert change[change.shape[0] // 4 : change.shape[0] // 4 + 2].max() == 0  # nothing is seen up there
            assert np.unravel_index(change.argmax(), change.shape) > tuple(side // 2 for side in change.shape)
            assert change.max() > 0.05


def test_the_map_is_the_change_of_the_log_odds(model: Path) -> None:
    """Against the difference of logits: log p/(1-p) = logit - logsumexp of the others."""
    asked, image_CHW, index = load(model), noise(28, 28).transpose(2, 0, 1), 3

    async def ask(image_CHW: np.ndarray) -> np.ndarray:
        return asked.probabilities(image_CHW[None]).numpy()[0]

    change_RS = asyncio.run(occlusion(ask, image_CHW, index, 7))
    assert change_RS.shape == (7, 7)
    for row, column in ((0, 0), (3, 5), (6, 6)):  # cells of 4 pixels, covers of 10 around their centers
        covered_CHW = image_CHW.copy()
        top, left = max(4 * row + 2 - 5, 0), max(4 * column + 2 - 5, 0)
        covered_CHW[:, top : 4 * row + 7, left : 4 * column + 7] = round(float(image_CHW.mean()))
        expected = _log_odds(asked, image_CHW, index) - _log_odds(asked, covered_CHW, index)
        assert change_RS[row, column] == pytest.approx(expected, abs=1e-4)


def _log_odds(asked: Model, image_CHW: np.ndarray, index: int) -> float:
    with torch.no_grad():
        logits_K = asked.module(torch.from_numpy(image_CHW[None]) / 256)[0].double()
    others = torch.cat([logits_K[:index], logits_K[index + 1 :]])
    return float(logits_K[index] - others.logsumexp(0))


def test_the_map_knows_answers_that_are_beyond_float32() -> None:
    """Certain to 1 - 1e-30, and covered to 1 - 1e-20: probabilities would show no change at all."""

    async def ask(image_CHW: np.ndarray) -> np.ndarray:
        rest = 1e-30 if (image_CHW == 200).any() else 1e-20
        return np.array([1.0, rest], np.float32)

    image_CHW = np.zeros((1, 12, 12), np.uint8)
    image_CHW[0, 6, 6] = 200
    change_RS = asyncio.run(occlusion(ask, image_CHW, 0, 6))
    assert change_RS.max() == pytest.approx(np.log(1e10), rel=1e-4)
    assert change_RS[0, 0] == 0


def test_who_leaves_is_not_waited_for(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that asks for a map, and goes, leaves the model to the others."""
    asked, started, sizes = load(model), threading.Event(), []
    answer = asked.answered

    def slowly(images_NCHW: np.ndarray, _engine: None) -> tuple[torch.Tensor, list[dict[str, Any]]]:
        sizes.append(len(images_NCHW))
        started.set()
        time.sleep(0.1)
        return answer(images_NCHW)

    monkeypatch.setattr("convolve.serve.service.cells_for", lambda model: 14)
    monkeypatch.setattr(asked, "answered", slowly)
    body = UPLOADS["exact.png"]
    with serving(asked) as client:
        head = b"POST /explain HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body)
        with client.open(head, body):
            assert started.wait(PATIENCE_SECONDS)
        for _ in range(3):
            assert client.ask("/predict", body).status == 200
    assert sizes[-2:] == [1, 1] and sum(sizes) < 3 * 14  # and no rows of the map beside them


def of_target(target: Target, *names: str) -> Model:
    return replace(CORNER, target=target, class_names=names)


def test_several_classes_and_numbers_are_answered_as_predict_does(tmp_path: Path) -> None:
    image = encoded(np.full((20, 20, 1), 200, np.uint8))
    (tmp_path / "a.png").write_bytes(image)
    several = of_target(Target(TargetKind.CLASSES, thresholds=(0.9, 0.6)), "dark", "light")
    with serving(several) as client:
        [expected] = several.predict([tmp_path / "a.png"])
        assert [found["class"] for found in client.ask("/predict", image).said["classes"]] == ["light"]
        assert [name for name, _ in expected.classes] == ["light"]
        both = client.ask("/predict?top=2", image).said["classes"]
        assert [(found["class"], found["over"]) for found in both] == [("light", True), ("dark", False)]
        change = np.array(client.ask("/explain?class=1", image).said["change"])
        assert change.shape[0] > 5
    numbers = of_target(Target(TargetKind.NUMBER, mean=(10.0, 0.0), spread=(2.0, 1.0)), "width", "height")
    with serving(numbers) as client:
        [expected] = numbers.predict([tmp_path / "a.png"])
        said = client.ask("/predict", image).said["numbers"]
        assert said == pytest.approx(dict(expected.numbers)) and said["width"] == pytest.approx(10 - 2 * 72 / 64)
        assert client.ask("/explain", image).status == 400
        assert 'data-target="number"' in client.ask("/").said


def test_the_odds_of_a_class_by_itself() -> None:
    assert log_odds(np.array([0.9, 0.8], np.float32), 1, by_itself=True) == pytest.approx(np.log(4), rel=1e-5)
