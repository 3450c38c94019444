"""The configurations of tests/corpus/brainscript/trained, written from the language's documentation, on images and
numbers made here: each trains, and tests what it trained."""

import base64
import math
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest

from convolve.formats.mean_xml import write_mean_xml
from convolve.importers.brainscript.job import read_job
from convolve.loading import load
from convolve.records import TargetKind
from convolve.run_config import run_job
from convolve.training.events import silent

TRAINED = Path(__file__).parents[1] / "corpus" / "brainscript" / "trained"
SIZES = ((26, 40), (33, 31), (24, 36), (30, 44))  # rows and columns
WRITTEN = {  # what a configuration writes, and how many lines
    "gray_faces": ("gray.p", 10), "float_sensors": ("sensors.z", 24), "brightness_regression": ("numbers.z", 24),
}  # fmt: skip
REGRESSION = {"brightness_regression", "pose_from_pictures"}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 training and 10 test images of four kinds, of mixed sizes, and numbers, in all the forms that readers take."""
    folder, random = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    (folder / "images").mkdir()
    with zipfile.ZipFile(folder / "images.zip", "w") as archive:
        for part, count in (("train", 24), ("test", 10)):
            lines, base64_lines = [], []
            for number in range(count):
                kind = number % 4
                image_HWC = random.integers(0, 80, (*SIZES[number % 3], 3)).astype(np.uint8)
                image_HWC[:, :, kind % 3] += np.uint8(100 + 40 * (kind == 3))
                content = cv2.imencode(".png", image_HWC)[1].tobytes()
                (folder / "images" / f"{part}{number}.png").write_bytes(content)
                archive.writestr(f"{part}{number}.png", content)
                lines.append(f".../images/{part}{number}.png\t{kind}\n")
                base64_lines.append(f"{number}\t{kind}\t{base64.b64encode(content).decode()}\n")
            (folder / f"{part}_map.txt").write_text("".join(lines))
            (folder / f"{part}_base64.txt").write_text("".join(base64_lines))
    zipped = [f".../images.zip@/train{number}.png\t{number % 4}\n" for number in range(24)]
    (folder / "zip_map.txt").write_text("".join(zipped))
    write_mean_xml(folder / "mean.xml", np.full((18, 30, 3), 90, np.float32))
    numbers_N2 = random.normal(size=(24, 2)).round(3)
    pixels_ND = (random.normal(size=(24, 48)) + np.repeat(numbers_N2, 24, axis=1)).round(3)
    texts = {
        "train_labels.ctf": [f"|labels {number % 4}:1" for number in range(24)],
        "sensors.ctf": [f"|labels {_text(np.eye(4)[n % 4])} |features {_text(pixels_ND[n])}" for n in range(24)],
        "numbers.ctf": [f"|target {_text(numbers_N2[n])} |features {_text(pixels_ND[n])}" for n in range(24)],
        "numbers_of_images.ctf": [f"|target {n % 4 - 1.5} {(n % 3) / 4}" for n in range(24)],
    }  # fmt: skip
    for name, rows in texts.items():
        (folder / name).write_text("\n".join(rows) + "\n")
    return folder


def _text(values_D: np.ndarray) -> str:
    return " ".join(f"{value:.3f}" for value in values_D)


@pytest.mark.parametrize("config", sorted(TRAINED.glob("*.cntk")), ids=lambda config: config.stem)
def test_trains_and_tests(config: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(data)
    job = read_job([str(config)])
    assert not job.refused and not job.warnings
    results = run_job(job, silent)
    model = load(Path("models") / config.stem)
    assert model.target.kind == (TargetKind.NUMBER if config.stem in REGRESSION else TargetKind.CLASS)
    assert len(results) == (3 if config.stem == "zipped_archive" else 1)
    for result in results:
        figures = [value for name, value in result.items() if name not in ("test", "model", "samples")]
        assert result["samples"] in (10, 24) and figures and all(math.isfinite(value) for value in figures)
    written = {
        "gray_faces": ("gray.p", 10),
        "float_sensors": ("sensors.z", 24),
        "brightness_regression": ("numbers.z", 24),
    }
    if config.stem in written:
        name, lines = written[config.stem]
        assert len((data / "out" / name).read_text().splitlines()) == lines
