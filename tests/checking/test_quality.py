"""Planted doubts: dark, bright, empty, blurred, odd images and small classes are named; what only seems so is not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from command_line import Convolve
from convolve.checking.check import check_data
from scenes import save, scene

# Legend: H rows, W columns, C channels (B, G, R).


def planted(folder: Path, make: Callable[[np.ndarray], np.ndarray], name: str = "planted.jpg") -> list[tuple[str, str]]:
    """(kind, file) of what is found in 40 scenes and one that `make` changed."""
    for number in range(40):
        save(folder / "ab"[number % 2] / f"{number}.jpg", scene(number))
    save(folder / "a" / name, make(scene(99)))
    findings = check_data(folder).findings
    assert all(finding.images[0][0] == "training" for finding in findings.kept)
    return [(finding.kind, Path(finding.place).name) for finding in findings.kept]


def blurred(sigma: float) -> Callable[[np.ndarray], np.ndarray]:
    return lambda image_HWC: cv2.GaussianBlur(image_HWC, (0, 0), sigma)


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (blurred(1.5), "blurred"), (blurred(4), "blurred"),
        (lambda image: image // 4, "dark"), (lambda image: image // 10, "dark"),
        (lambda image: 245 + image // 64, "bright"),
        (lambda image: np.full_like(image, 120), "empty"),
        (lambda image: np.hstack([image] * 3), "odd shape"),
        (lambda image: image[:24, :32], "odd size"),
    ],
)  # fmt: skip
def test_what_is_doubtful_is_named(make: Callable[[np.ndarray], np.ndarray], kind: str, tmp_path: Path) -> None:
    assert planted(tmp_path, make) == [(kind, "planted.jpg")]


def red(image_HWC: np.ndarray) -> np.ndarray:
    """In gray at most 76."""
    return image_HWC * np.uint8([0, 0, 1])


def sharp_in_one_place(image_HWC: np.ndarray) -> np.ndarray:
    soft_HWC = cv2.GaussianBlur(image_HWC, (0, 0), 6)
    soft_HWC[60:120, 80:160] = image_HWC[60:120, 80:160]
    return soft_HWC


@pytest.mark.parametrize("make", [red, sharp_in_one_place, lambda image: image, lambda image: image[:90, :120]])
def test_what_only_seems_doubtful_is_not_named(make: Callable[[np.ndarray], np.ndarray], tmp_path: Path) -> None:
    assert planted(tmp_path, make) == []


def test_what_most_images_have_is_not_odd(tmp_path: Path) -> None:
    for number in range(20):
        save(tmp_path / "ab"[number % 2] / f"{number}.jpg", scene(number, (100, 400)))
    assert check_data(tmp_path).findings.kept == []


@pytest.mark.parametrize(("bits", "kinds"), [(12, ["few bits"]), (13, ["few bits"]), (14, ["dark"]), (16, [])])
def test_bits_that_are_not_used(bits: int, kinds: list[str], tmp_path: Path) -> None:
    """A camera's 12 bits in a file of 16: nearly black where the file is read as it is."""

    def make(image_HWC: np.ndarray) -> np.ndarray:
        return image_HWC.astype(np.uint16) << 8 >> (16 - bits)

    assert [kind for kind, _ in planted(tmp_path, make, "planted.png")] == kinds


@pytest.mark.parametrize("ending", ["png", "webp", "tif"])
def test_transparent_parts(ending: str, tmp_path: Path) -> None:
    """What is hidden is seen, as transparency is dropped; an alpha channel that hides nothing is no matter."""

    def with_alpha(hidden: slice) -> Callable[[np.ndarray], np.ndarray]:
        def make(image_HWC: np.ndarray) -> np.ndarray:
            alpha_HW = np.full(image_HWC.shape[:2], 255, np.uint8)
            alpha_HW[hidden] = 0
            return np.dstack([image_HWC, alpha_HW])

        return make

    name = f"planted.{ending}"
    assert planted(tmp_path / "a", with_alpha(slice(0, 60)), name) == [("transparent", name)]
    assert planted(tmp_path / "b", with_alpha(slice(0, 0)), name) == []


@pytest.mark.parametrize(
    ("counts", "few"), [((40, 9), "b"), ((30, 9), ""), ((9, 4), ""), ((300, 14), "b"), ((300, 16), "")]
)
def test_classes_with_few_images(counts: tuple[int, int], few: str, tmp_path: Path) -> None:
    for name, count in zip("ab", counts, strict=True):
        for number in range(count):
            save(tmp_path / name / f"{number}.png", scene(1000 * ord(name) + number, (40, 40)))
    findings = check_data(tmp_path).findings.kept
    assert [finding.kind for finding in findings] == ["few images"] * bool(few)
    for finding in findings:
        assert f"{counts[1]} images of class {few}; the largest class has {counts[0]}" in finding.what
        assert finding.images[0] == ("training", counts[0]) and len(finding.images) == 6


def test_images_that_exif_turns_are_counted_and_no_fault(tmp_path: Path, convolve: Convolve) -> None:
    for number in range(6):
        image = Image.fromarray(scene(number)[:, :, ::-1])
        exif = image.getexif()
        exif[0x112] = (1, 6, 3)[number % 3]
        path = tmp_path / "ab"[number % 2] / f"{number}.jpg"
        path.parent.mkdir(exist_ok=True)
        image.save(path, exif=exif)
    outcome = convolve("check-data", tmp_path)
    assert outcome.code == 0
    assert outcome.out.splitlines()[0] == "images with an EXIF orientation: 4"
    assert outcome.out.endswith("and 3 more (--json lists them)\n6 training images: nothing found\n")
