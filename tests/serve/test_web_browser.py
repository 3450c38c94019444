"""The folder of `convert --to web` in a real browser: the same pixels, the same answers, all that the page does."""

from __future__ import annotations

import asyncio
import base64
import functools
import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import Browser, axe_core, needs_browser
from PIL import Image, features
from serving import encoded

from convolve.errors import ConvolveError
from convolve.explanation import occlusion
from convolve.export.inputs import natural_images
from convolve.loading import load
from convolve.model import Model
from convolve.models import build_model
from convolve.records import Target, TargetKind
from convolve.smaller import Asked
from convolve.specs.model import ModelSpec
from convolve.transforms.preprocess import Preprocess, fit_image
from convolve.web.folder import write_page
from convolve.web.runtime import Runtime, packed

pytestmark = needs_browser

NAMES = ("Egyptian cat", "space shuttle <b>", "a very long name of a class, as ImageNet has, with commas", "fox", "owl",
         "ox")  # fmt: skip


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def static(folder: Path) -> Iterator[str]:
    """The address of a server that knows nothing but files."""
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    camera = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
    browser = Browser(tmp_path_factory.mktemp("profile"), camera)
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def runtime() -> Runtime:
    try:
        return packed(Path(os.environ["WEB_RUNTIME"]) if "WEB_RUNTIME" in os.environ else None)
    except ConvolveError as error:
        pytest.skip(str(error))


def photo_model(**preprocess: Any) -> Model:
    spec = ModelSpec(variant="tiny")
    fields = {"interpolation": "linear_antialiased", "known_from": ""} | preprocess
    preparing = Preprocess(3, 96, 96, 114.0, 1 / 256, **fields)
    return Model(build_model(spec, (3, 96, 96), len(NAMES), 0), spec, preparing, NAMES)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory, runtime: Runtime) -> Iterator[tuple[str, Model]]:
    folder, model = tmp_path_factory.mktemp("web") / "page", photo_model()
    write_page(model, "a <model>", folder, runtime)
    with static(folder) as address:
        yield address, model


def photo(height: int, width: int, seed: int = 0, channels: int = 3) -> np.ndarray:
    """(H, W, C), as natural as random numbers are."""
    return natural_images(1, (channels, height, width), np.random.default_rng(seed))[0].transpose(1, 2, 0)


# -- the same pixels ---------------------------------------------------------------------------------------------------

FILTERS = ("area", "linear", "linear_antialiased", "nearest", "cubic", "lanczos")
CUTS: list[dict[str, Any]] = [
    {"resize": "cover", "interpolation": "linear_antialiased", "crop_ratio": 0.875},
    {"resize": "square", "crop_ratio": 0.8},
    {"resize": "squash", "crop_ratio": 0.75, "interpolation": "area"},
    {"resize": "letterbox", "padding_value": -1},
    {"resize": "letterbox", "padding_value": 114},
]
SIZES = [(90, 140), (33, 21), (40, 300), (301, 17), (30, 40), (64, 48), (400, 401)]


@pytest.mark.parametrize("how", ["cover", "squash", "letterbox", "square", "cut"])
def test_preprocessing_is_the_models_to_one_level(how: str, browser: Browser, photos: tuple[str, Model]) -> None:
    browser.open(photos[0])
    ways = CUTS if how == "cut" else [{"resize": how, "interpolation": each} for each in FILTERS]
    for way in ways:
        for number, (height, width) in enumerate(SIZES):
            preprocess = Preprocess(1 + 2 * (number % 2), 30, 40, **way)
            image_HWC = photo(height, width, number)  # BGR, as OpenCV decodes
            expected_CHW, done = fit_image(image_HWC, preprocess)
            got_CHW, said = fitted_in(browser, image_HWC, preprocess)
            off = np.abs(got_CHW.astype(int) - expected_CHW.astype(int))
            assert off.max() <= 1, (way, height, width)
            assert off.mean() < 0.2, (way, height, width)  # OpenCV's area and lanczos round halves in ways of their own
            assert not off.any() or preprocess.filter not in ("linear", "nearest"), (way, height, width)
            assert said == done


def fitted_in(browser: Browser, image_HWC: np.ndarray, preprocess: Preprocess) -> tuple[np.ndarray, str]:
    height, width, _ = image_HWC.shape
    about = json.dumps(preprocess.mapping() | {"size_before_crop": preprocess.size_before_crop})
    rgba = np.dstack([image_HWC[:, :, ::-1], np.full((height, width), 255, np.uint8)])
    said = browser.run(f"""import("/fit.js").then(({{ fit }}) => {{
        const made = fit({{ data: {bytes_in_page(rgba.tobytes())}, width: {width}, height: {height} }}, {about});
        return {{ fitted: made.fitted, data: btoa(String.fromCharCode(...made.data)) }};
    }})""")
    got = np.frombuffer(base64.b64decode(said["data"]), np.uint8)
    return got.reshape(preprocess.height, preprocess.width, -1).transpose(2, 0, 1), said["fitted"]


def bytes_in_page(content: bytes) -> str:
    return f"""Uint8Array.from(atob("{base64.b64encode(content).decode()}"), (one) => one.charCodeAt(0))"""


# -- the same answers --------------------------------------------------------------------------------------------------


def answer(browser: Browser, path: Path) -> dict[str, Any]:
    """What the page's model says of a file."""
    said: dict[str, Any] = browser.run(
        f"predict(new Blob([{bytes_in_page(path.read_bytes())}]), new AbortController().signal)"
    )
    return said


def images(folder: Path) -> Iterator[Path]:
    """Of each kind, turned each way; where there can be, with pixels that are hardly there, or not at all."""
    kinds: list[tuple[str, dict[str, Any]]] = [
        ("jpg", {"quality": 90}), ("png", {}), ("webp", {"quality": 90}), ("webp", {"lossless": True, "exact": True}),
    ]  # fmt: skip
    if features.check("avif"):
        kinds.append(("avif", {"quality": 90}))
    for number in range(8 * len(kinds)):
        (kind, options), exif = kinds[number // 8], Image.Exif()
        exif[0x112] = number % 8 + 1
        image = Image.fromarray(photo(100 + 7 * number, 150, number)[:, :, ::-1].copy())
        if kind == "png" or "exact" in options:
            image.putalpha(
                Image.fromarray(photo(image.height, image.width, number, 1)[:, :, 0]).point(lambda a: a - 100)
            )
        path = folder / f"{number}.{kind}"
        image.save(path, exif=exif, **options)
        yield path


@pytest.mark.parametrize("orientation", ["exif", "stored"])
def test_answers_are_the_models(orientation: str, browser: Browser, runtime: Runtime, tmp_path: Path) -> None:
    model = photo_model(orientation=orientation)
    write_page(model, "photos", tmp_path / "page", runtime)
    (tmp_path / "images").mkdir()
    paths = list(images(tmp_path / "images"))
    assert len(paths) >= 32
    with static(tmp_path / "page") as address:
        browser.open(address)
        for path, expected in zip(paths, model.predict([*paths]), strict=True):
            said = answer(browser, path)
            assert said["fitted"] == expected.fitted
            got = [found["probability"] for found in said["classes"]]
            assert got == pytest.approx([p for _, p in expected.classes], abs=2e-3), path.name
            assert said["classes"][0]["class"] == expected.classes[0][0], path.name


def test_several_classes_and_numbers(browser: Browser, runtime: Runtime, tmp_path: Path) -> None:
    model = photo_model()
    (tmp_path / "photo.png").write_bytes(encoded(photo(120, 200)))
    limits = (0.0, 1.0, 0.0, 1.0, 1.0, 1.0)
    several = replace(model, target=Target(TargetKind.CLASSES, thresholds=limits))
    numbers = replace(model, target=Target(TargetKind.NUMBER))
    write_page(several, "several", tmp_path / "several", runtime)
    write_page(numbers, "numbers", tmp_path / "numbers", runtime)
    with static(tmp_path) as address:
        browser.open(f"{address}several/")
        browser.give(tmp_path / "photo.png")
        browser.wait_for_state("done")
        large = browser.run("[...document.querySelectorAll('#best strong')].map(each => each.textContent)")
        assert {*large} == {NAMES[0], NAMES[2]}
        browser.open(f"{address}numbers/")
        browser.give(tmp_path / "photo.png")
        browser.wait_for_state("done")
        said = answer(browser, tmp_path / "photo.png")["numbers"]
        [expected] = numbers.predict([tmp_path / "photo.png"])
        assert list(said.values()) == pytest.approx([value for _, value in expected.numbers], abs=2e-3)
        assert browser.complaints == []


def test_a_small_file_answers_as_it_does_elsewhere(browser: Browser, runtime: Runtime, tmp_path: Path) -> None:
    for number in range(24):
        place = tmp_path / "data" / ("val" if number < 6 else "train") / NAMES[number % 6]
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{number}.png").write_bytes(encoded(photo(100, 120, number)))
    asked = Asked(quantize="int8", data=str(tmp_path / "data"), max_error_increase=100)
    model = replace(photo_model(), class_names=tuple(sorted(NAMES)))
    write_page(model, "small", tmp_path / "page", runtime, asked)
    small = load(tmp_path / "page/model.onnx")
    assert small.architecture is None
    paths = [tmp_path / f"data/val/{NAMES[number]}/{number}.png" for number in range(6)]
    with static(tmp_path / "page") as address:
        browser.open(address)
        for path, expected in zip(paths, small.predict([*paths]), strict=True):
            found = answer(browser, path)["classes"]
            assert [each["probability"] for each in found] == pytest.approx([p for _, p in expected.classes], abs=0.02)
            assert found[0]["class"] == expected.classes[0][0]
    assert browser.complaints == []


# -- the page ----------------------------------------------------------------------------------------------------------


def test_a_photo_and_where_it_is_seen(browser: Browser, photos: tuple[str, Model], tmp_path: Path) -> None:
    address, model = photos
    (tmp_path / "photo.png").write_bytes(encoded(photo(120, 200)))
    browser.open(address)
    browser.give(tmp_path / "photo.png")
    browser.wait_for_state("done")
    [expected] = model.predict([tmp_path / "photo.png"])
    assert browser.text("#best").startswith(expected.classes[0][0])
    assert browser.run("document.getElementById('loading').hidden")
    assert browser.run("[seen.naturalWidth, seen.naturalHeight]") == [96, 96]
    assert browser.run("document.getElementById('map').getAttribute('aria-label')").startswith(expected.classes[0][0])
    browser.run("document.querySelectorAll('#classes button')[1].click()")
    browser.wait_for_state("done")
    assert browser.text("#what") == expected.classes[1][0]
    assert browser.complaints == []
    own = (address, "data:", f"blob:{address}")
    assert browser.requested and all(each.startswith(own) for each in browser.requested)


def test_the_map_is_that_of_serve(browser: Browser, photos: tuple[str, Model], tmp_path: Path) -> None:
    address, model = photos
    (tmp_path / "photo.png").write_bytes(encoded(photo(96, 96)))
    browser.open(address)
    index = answer(browser, tmp_path / "photo.png")["classes"][0]["index"]
    got = np.array(browser.run(f"explainClass({index}, null, new AbortController().signal)")["change"])

    async def ask(image_CHW: np.ndarray) -> Any:
        return model.probabilities(image_CHW[None])[0].numpy()

    image_CHW, _ = fit_image(photo(96, 96), model.preprocess)
    assert len(got) >= 6
    assert got == pytest.approx(asyncio.run(occlusion(ask, image_CHW, index, len(got))), abs=1e-3)


def test_the_camera(browser: Browser, photos: tuple[str, Model]) -> None:
    """Chromium's make-believe camera shows a picture that moves."""
    browser.open(photos[0])
    browser.run("document.getElementById('camera').click()")
    browser.wait(lambda: browser.text("#camera") == "Take the picture")
    browser.run("document.getElementById('camera').click()")
    browser.wait_for_state("done")
    assert browser.text("#camera") == "Camera"
    assert browser.run("document.getElementById('live').srcObject") is None  # it is off again
    assert "scaled and center-cropped" in browser.text("#fitted")
    assert browser.complaints == []


def test_what_is_no_image(browser: Browser, photos: tuple[str, Model], tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no image at all")
    (tmp_path / "photo.png").write_bytes(encoded(photo(120, 200)))
    browser.open(photos[0])
    browser.give(tmp_path / "notes.txt")
    browser.wait_for_state("problem")
    assert "Give a JPEG, PNG" in browser.text("#problem")
    browser.give(tmp_path / "photo.png")
    browser.wait_for_state("done")


def test_a_folder_without_its_model(browser: Browser, runtime: Runtime, tmp_path: Path) -> None:
    write_page(photo_model(), "photos", tmp_path / "page", runtime)
    (tmp_path / "page" / "model.onnx").unlink()
    with static(tmp_path / "page") as address:
        browser.open(address)
        browser.wait_for_state("problem")
    assert "model.onnx could not be loaded from its server (404)" in browser.text("#problem")


@pytest.mark.parametrize(("width", "dark"), [(360, False), (1280, True)])
def test_anyone_can_use_it(width: int, dark: bool, browser: Browser, photos: tuple[str, Model], tmp_path: Path) -> None:
    """axe-core, with the rules of WCAG and of good practice, finds nothing before and after an answer."""
    axe = axe_core(tmp_path)
    (tmp_path / "photo.png").write_bytes(encoded(photo(120, 200)))
    browser.open(photos[0], width, 800, dark=dark)
    for state in ("empty", "done"):
        if state == "done":
            browser.give(tmp_path / "photo.png")
            browser.wait_for_state("done")
        assert browser.violations(axe) == []
        assert browser.run("document.documentElement.scrollWidth") <= width
