"""The page in a real browser: given, dropped, pasted and drawn pictures, by mouse and keyboard, at any width."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from browser import Browser, needs_browser
from serving import Client, encoded, noise, serving

from convolve.loading import load
from convolve.model import Model
from convolve.models import build_model
from convolve.records import Target, TargetKind
from convolve.specs.model import ModelSpec
from convolve.transforms.preprocess import Preprocess

pytestmark = needs_browser

NAMES = ("Egyptian cat", "space shuttle <b>", "a very long name of a class, as ImageNet has, with commas", "fox", "owl",
         "ox")  # fmt: skip
SEVEN = [(0.3, 0.25), (0.5, 0.25), (0.7, 0.25), (0.6, 0.5), (0.5, 0.7), (0.45, 0.85)]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def digits(model: Path) -> Iterator[Client]:
    with serving(load(model)) as client:
        yield client


@pytest.fixture(scope="module")
def photos() -> Iterator[Client]:
    """A model of color photographs that nobody has said the preprocessing of."""
    spec = ModelSpec(variant="tiny")
    preprocess = Preprocess(3, 96, 96, 114.0, 1 / 256, known_from="")
    with serving(Model(build_model(spec, (3, 96, 96), len(NAMES), 0), spec, preprocess, NAMES)) as client:
        yield client


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "holiday <1>.jpg"
    path.write_bytes(encoded(noise(120, 200, 3), ".jpg"))
    return path


def url(client: Client) -> str:
    return f"http://127.0.0.1:{client.port}/"


def answer_of(client: Client, image: bytes) -> str:
    return str(client.ask("/predict", image).said["classes"][0]["class"])


def assert_quiet(browser: Browser, client: Client) -> None:
    """Nothing was asked of any other address, and the browser has nothing to complain about."""
    assert browser.complaints == []
    own = (url(client), "data:", f"blob:{url(client)}")
    assert browser.requested and all(address.startswith(own) for address in browser.requested)


def test_a_chosen_photo(browser: Browser, photos: Client, photo: Path) -> None:
    browser.open(url(photos))
    assert "appears here" in browser.text("#best")
    assert "not say how its images were prepared" in browser.text("header")
    browser.give(photo)
    browser.wait_for_state("done")
    expected = photos.ask("/predict?top=5", photo.read_bytes()).said
    best = expected["classes"][0]
    assert browser.text("#best").startswith(best["class"])
    shown = browser.run("[...document.querySelectorAll('#classes .name')].map(name => name.textContent)")
    assert shown == [found["class"] for found in expected["classes"]]
    widths = browser.run(
        "[...document.querySelectorAll('#classes .track')].map(track => "
        "track.firstChild.getBoundingClientRect().width / track.getBoundingClientRect().width)"
    )
    assert widths == pytest.approx([found["probability"] for found in expected["classes"]], abs=0.02)
    assert "scaled and center-cropped from 200x120 to 96x96" in browser.text("#fitted")
    assert browser.run("[seen.naturalWidth, seen.naturalHeight]") == [96, 96]
    assert painted(browser) > 50
    assert browser.run("document.querySelector('b:not([id])')") is None  # the name of a class is no markup
    assert_quiet(browser, photos)


def painted(browser: Browser) -> int:
    """Pixels of the map that have some color."""
    return int(browser.run(
        "map.getContext('2d').getImageData(0, 0, map.width, map.height).data.filter((v, i) => i % 4 == 3 && v).length"
        .replace("map.", "document.getElementById('map').")
    ))  # fmt: skip


def test_another_class_is_looked_for(browser: Browser, photos: Client, photo: Path) -> None:
    browser.open(url(photos))
    browser.give(photo)
    browser.wait_for_state("done")
    before = browser.run("document.getElementById('map').toDataURL()")
    second = browser.run("document.querySelectorAll('#classes .name')[1].textContent")
    browser.run("document.querySelectorAll('#classes button')[1].click()")
    browser.wait_for_state("done")
    assert browser.text("#what") == second
    assert browser.run("document.getElementById('map').toDataURL()") != before
    assert browser.run("document.getElementById('map').getAttribute('aria-label')").startswith(f"{second} is seen")
    pressed = browser.run("[...document.querySelectorAll('#classes button')].map(b => b.getAttribute('aria-pressed'))")
    assert pressed == ["false", "true", "false", "false", "false"]


@pytest.mark.parametrize("way", ["drop", "paste"])
def test_pictures_come_by_drop_and_paste(way: str, browser: Browser, photos: Client, photo: Path) -> None:
    browser.open(url(photos))
    content = base64.b64encode(photo.read_bytes()).decode()
    browser.run(f"""(() => {{
        const data = new DataTransfer();
        const bytes = Uint8Array.from(atob("{content}"), (letter) => letter.charCodeAt(0));
        data.items.add(new File([bytes], "photo.jpg", {{ type: "image/jpeg" }}));
        const event = "{way}" === "drop"
            ? new DragEvent("drop", {{ dataTransfer: data, bubbles: true, cancelable: true }})
            : new ClipboardEvent("paste", {{ clipboardData: data, bubbles: true }});
        document.body.dispatchEvent(event);
    }})()""")
    browser.wait_for_state("done")
    assert browser.text("#best").startswith(answer_of(photos, photo.read_bytes()))


def test_a_drawn_digit(browser: Browser, digits: Client) -> None:
    browser.open(url(digits))
    browser.draw("#paper", SEVEN)
    browser.wait_for_state("done")
    first = browser.run("seen.src")
    assert_drawn_as_mnist(browser)
    small = [(0.1 + 0.3 * x, 0.6 + 0.3 * y) for x, y in SEVEN]
    browser.run("document.getElementById('clear').click()")
    assert browser.text("#best").startswith("Draw")
    browser.draw("#paper", small)
    browser.wait_for_state("done")
    assert_drawn_as_mnist(browser)
    assert mean_difference(browser, first) < 6  # drawn small in a corner, it is the same to the model
    assert_quiet(browser, digits)


def seen_pixels(browser: Browser, source: str = "seen.src") -> np.ndarray:
    """The picture in a data URI, as (H, W)."""
    png = base64.b64decode(str(browser.run(source)).partition(",")[2])
    return cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_GRAYSCALE)


def mean_difference(browser: Browser, other: str) -> float:
    return float(np.abs(seen_pixels(browser).astype(float) - seen_pixels(browser, f"'{other}'")).mean())


def assert_drawn_as_mnist(browser: Browser) -> None:
    """White on black, 20 pixels large, the center of mass in the middle (LeCun's description of MNIST)."""
    ink = seen_pixels(browser).astype(float)
    assert ink.shape == (28, 28) and ink.max() > 200 and np.median(ink) == 0
    rows, columns = np.nonzero(ink > 60)
    assert 19 <= max(np.ptp(rows), np.ptp(columns)) + 1 <= 21
    places = np.arange(28) + 0.5
    assert (ink.sum(1) * places).sum() / ink.sum() == pytest.approx(14, abs=0.6)
    assert (ink.sum(0) * places).sum() / ink.sum() == pytest.approx(14, abs=0.6)


def test_drawing_with_the_keyboard(browser: Browser, digits: Client) -> None:
    """With the keyboard alone, from the top of the page: a line on the paper, then the map of the second class."""
    browser.open(url(digits))
    browser.key("Tab")
    assert focused(browser) == "paper"
    browser.key(" ")
    assert browser.text("#spoken") == "Pen down"
    browser.key("ArrowDown", 20)
    browser.key(" ")
    browser.wait_for_state("done")
    ink = seen_pixels(browser) > 60
    assert ink.any(1).sum() >= 19 and ink.any(0).sum() <= 5  # an upright line
    browser.key("Tab", 5)  # choose, camera, clear, first class, second class
    assert browser.run("document.activeElement === document.querySelectorAll('#classes button')[1]")
    browser.key("Enter")
    browser.wait_for_state("done")
    assert browser.text("#what") == browser.run("document.querySelectorAll('#classes .name')[1].textContent")
    assert_quiet(browser, digits)


def focused(browser: Browser) -> str:
    return str(browser.run("document.activeElement.id"))


def test_a_file_that_is_no_image_and_then_one_that_is(browser: Browser, digits: Client, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no image at all")
    (tmp_path / "digit.png").write_bytes(encoded(noise(28, 28)))
    browser.open(url(digits))
    browser.give(tmp_path / "notes.txt")
    browser.wait_for_state("problem")
    assert "not a JPEG, PNG" in browser.text("#problem")
    assert browser.text("#hint") == "notes.txt"
    browser.give(tmp_path / "digit.png")
    browser.wait_for_state("done")
    assert browser.run("document.getElementById('problem').hidden")
    assert browser.text("#best").startswith(answer_of(digits, (tmp_path / "digit.png").read_bytes()))


def test_a_server_that_has_gone(browser: Browser, model: Path, tmp_path: Path) -> None:
    (tmp_path / "digit.png").write_bytes(encoded(noise(28, 28)))
    with serving(load(model)) as client:
        browser.open(url(client))
    browser.give(tmp_path / "digit.png")
    browser.wait_for_state("problem")
    assert "does not answer" in browser.text("#problem")


@pytest.mark.parametrize("width", [320, 360, 768, 1280])
def test_it_fits_every_width(width: int, browser: Browser, photos: Client, photo: Path) -> None:
    browser.open(url(photos), width, 800)
    browser.give(photo)
    browser.wait_for_state("done")
    assert browser.run("document.documentElement.scrollWidth") <= width
    out = browser.run(
        "[...document.querySelectorAll('main *')].filter(e => e.getBoundingClientRect().right > innerWidth + 1 && "
        "!e.closest('pre, .unseen')).map(e => e.outerHTML)"
    )
    assert out == []
    heights = browser.run("[...document.querySelectorAll('button')].map(b => b.getBoundingClientRect().height)")
    assert min(heights) >= 40  # a finger finds it


def test_everything_has_a_name_for_a_screen_reader(browser: Browser, digits: Client) -> None:
    browser.open(url(digits))
    browser.draw("#paper", SEVEN)
    browser.wait_for_state("done")
    nodes = browser.call("Accessibility.getFullAXTree")["nodes"]
    spoken = [(node["role"]["value"], node.get("name", {}).get("value", "")) for node in nodes if not node["ignored"]]
    roles = {role for role, _ in spoken}
    assert {"button", "image", "heading", "list", "status", "main"} <= roles
    assert all(name for role, name in spoken if role in ("button", "image", "heading"))
    assert any(role == "image" and "arrow keys" in name for role, name in spoken)
    assert any(role == "image" and "is seen mostly" in name for role, name in spoken)


@pytest.mark.parametrize("dark", [False, True])
def test_text_can_be_read(dark: bool, browser: Browser, photos: Client, photo: Path) -> None:
    """Contrast of at least 4.5 (WCAG 2.2, 1.4.3), by the formula of its relative luminance."""
    browser.open(url(photos), dark=dark)
    browser.give(photo)
    browser.wait_for_state("done")
    pairs = browser.run("""[...document.querySelectorAll('main *')]
        .filter((e) => e.innerText && [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim()))
        .map((e) => {
            let behind = e;
            while (getComputedStyle(behind).backgroundColor === 'rgba(0, 0, 0, 0)') behind = behind.parentElement;
            return [e.innerText.slice(0, 40), getComputedStyle(e).color, getComputedStyle(behind).backgroundColor];
        })""")
    assert len(pairs) > 20
    for text, front, back in pairs:
        light, shade = sorted((luminance(front), luminance(back)), reverse=True)
        assert (light + 0.05) / (shade + 0.05) >= 4.5, (text, front, back)


def luminance(color: str) -> float:
    values = [float(part) / 255 for part in color[color.index("(") + 1 : -1].split(",")[:3]]
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in values]
    return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))


def test_several_classes_and_numbers(browser: Browser, photo: Path) -> None:
    spec, preprocess = ModelSpec(variant="tiny"), Preprocess(3, 96, 96, 114.0, 1 / 256)
    module = build_model(spec, (3, 96, 96), len(NAMES), 0)
    limits = (0.0, 1.0, 0.0, 1.0, 1.0, 1.0)
    several = Model(module, spec, preprocess, NAMES, target=Target(TargetKind.CLASSES, thresholds=limits))
    with serving(several) as client:
        browser.open(url(client))
        browser.give(photo)
        browser.wait_for_state("done")
        large = browser.run("[...document.querySelectorAll('#best strong')].map(each => each.textContent)")
        assert {*large} == {NAMES[0], NAMES[2]}
        assert (
            browser.run("document.querySelectorAll('#classes button:not([disabled])').length") == 6
        )  # the 5 likeliest, and one it is of
        assert_quiet(browser, client)
    numbers = Model(module, spec, preprocess, NAMES, target=Target(TargetKind.NUMBER))
    with serving(numbers) as client:
        browser.open(url(client))
        browser.give(photo)
        browser.wait_for_state("done")
        said = client.ask("/predict", photo.read_bytes()).said["numbers"]
        assert browser.run("document.querySelectorAll('#best strong').length") == len(said)
        shown = float(browser.run("document.querySelector('#best strong').textContent"))
        assert shown == pytest.approx(said[NAMES[0]], rel=1e-4)
        assert_quiet(browser, client)
