"""Configurations in NDL, with SimpleNetworkBuilder and with the older readers: trained, tested and written."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from command_line import Convolve
from convolve.formats.ctf import write_ctf

CORPUS = Path(__file__).parents[1] / "corpus" / "ndl"


def write_digits(folder: Path) -> None:
    """Images of 8 x 8 whose bright quarter tells the class, in every form that the older readers take."""
    rng = np.random.default_rng(1)
    for name, count in (("train", 96), ("test", 24)):
        labels_N = rng.integers(0, 4, count)
        images_NHW = rng.integers(0, 100, (count, 8, 8))
        for image, label in zip(images_NHW, labels_N, strict=True):
            row, column = divmod(int(label), 2)
            image[4 * row : 4 * row + 4, 4 * column : 4 * column + 4] += 140
        write_ctf(folder / f"digits_{name}.txt", labels_N, images_NHW.reshape(count, -1), 4)
        if name == "train":
            write_ctf(folder / "digits_two.txt", labels_N % 2, images_NHW.reshape(count, -1), 2)
            rows = [[f"k{label}", *map(str, image.ravel())] for image, label in zip(images_NHW, labels_N, strict=True)]
            columns, commas = ("\t".join(row) for row in rows), (",".join([*row[1:], row[0]]) for row in rows)
            (folder / "digits_columns.txt").write_text("\n".join(columns) + "\n", encoding="utf-8")
            (folder / "digits_commas.txt").write_text("\n".join(commas) + "\n", encoding="utf-8")
    (folder / "digits_mapping.txt").write_text("k0\nk1\nk2\nk3\n", encoding="utf-8")


def write_photos(folder: Path) -> None:
    """Images of 16 x 14 in one of four colors, and their map file."""
    rng = np.random.default_rng(1)
    lines = []
    for number in range(32):
        image_HWC = rng.integers(0, 90, (14, 16, 3)).astype(np.uint8)
        image_HWC[:, :, : number % 4] += 120
        cv2.imwrite(str(folder / f"{number}.png"), image_HWC)
        lines.append(f"{folder / f'{number}.png'}\t{number % 4}\n")
    (folder / "photos.map").write_text("".join(lines), encoding="utf-8")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The corpus, and its data."""
    write_digits(tmp_path)
    write_photos(tmp_path)
    for file in CORPUS.iterdir():
        shutil.copy(file, tmp_path / file.name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


# What four epochs come to at most, of chance's 0.75: the quarter of an image that is bright, the color of another.
@pytest.mark.parametrize(
    ("name", "error", "most"),
    [
        ("Digits", "errs", 0.4),
        ("Inline", "Err", 0.4),
        ("Normalized", "errs", 0.4),
        ("Photos", "errTop2", 0.6),
        ("Simple", "EvalErrorPrediction", 0.4),
        ("SimpleDropout", "EvalClassificationError", 0.7),
        ("Transfer", "errs", 0.3),
        ("TopTwo", "TopTwo", 0.6),
    ],
)
def test_the_corpus(name: str, error: str, most: float, convolve: Convolve, folder: Path) -> None:
    outcome = convolve("run", f"{name}.cntk", "DataDir=.", "OutDir=out", "--json")
    assert outcome.code == 0, outcome.err
    assert "unknown" not in outcome.err
    result = json.loads(outcome.out)["tests"][-1]
    assert result[error] <= most
    for command in (("show", f"{name}.cntk"), ("run", f"{name}.cntk", "--translate", "recipe.yaml")):
        outcome = convolve(*command)
        assert outcome.code == 0, outcome.err
