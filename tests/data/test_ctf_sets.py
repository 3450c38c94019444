"""CTF text with any numbers as features and labels: nothing is squashed to bytes."""

from pathlib import Path

import numpy as np
import pytest
import torch

from convolve.data.open import open_data
from convolve.data.options import DataOptions
from convolve.data.sources.source import ArraySource
from convolve.errors import DataError
from convolve.loading import load
from convolve.run import train

VALUES_ND = np.round(np.random.default_rng(0).normal(size=(30, 12)), 4).astype(np.float32)
CLASSES_N = np.arange(30) % 3
ONE_HOT_N = [" ".join("1" if k == label else "0" for k in range(3)) for label in CLASSES_N]


def write(path: Path, labels_N: list[str], values_ND: np.ndarray = VALUES_ND) -> Path:
    lines = [
        f"|labels {label} |features {' '.join(map(str, values_D))}\n"
        for label, values_D in zip(labels_N, values_ND, strict=True)
    ]
    path.write_text("".join(lines), encoding="utf-8")
    return path


def both_parts(path: Path, target: str = "class") -> tuple[ArraySource, ArraySource]:
    return open_data(str(path), options=DataOptions(target=target)).arrays  # type: ignore[arg-type]


def test_numbers_come_as_they_are_and_a_fifth_is_held_out(tmp_path: Path) -> None:
    train_part, test_part = both_parts(write(tmp_path / "a.ctf", ONE_HOT_N))
    assert (len(train_part), len(test_part), train_part.shape_CHW) == (24, 6, (3, 2, 2))
    found_ND = torch.cat([train_part.images_NCHW, test_part.images_NCHW]).flatten(1).numpy()
    assert found_ND.dtype == np.float32
    assert sorted(map(tuple, found_ND.tolist())) == sorted(map(tuple, VALUES_ND.tolist()))


def test_bytes_stay_bytes(tmp_path: Path) -> None:
    pixels_ND = np.random.default_rng(0).integers(0, 256, (30, 12))
    train_part, _ = both_parts(write(tmp_path / "a.ctf", ONE_HOT_N, pixels_ND))
    assert train_part.images_NCHW.dtype == torch.uint8


def test_two_files_and_labels_by_their_places(tmp_path: Path) -> None:
    write(tmp_path / "train.ctf", [f"{label}:1" for label in CLASSES_N])
    write(tmp_path / "test.ctf", ["2:1"] * 30)
    train_part, test_part = both_parts(tmp_path)
    assert train_part.labels_N.tolist() == CLASSES_N.tolist()
    assert test_part.labels_N.tolist() == [2] * 30


def test_labels_that_are_numbers(tmp_path: Path) -> None:
    path = write(tmp_path / "a.ctf", [f"{label / 8} -1.5" if label else "0.5 2" for label in CLASSES_N])
    train_part, _ = both_parts(path, "number")
    assert set(map(tuple, train_part.labels_N.tolist())) == {(0.5, 2.0), (0.125, -1.5), (0.25, -1.5)}
    with pytest.raises(DataError, match=r"line 1: expected one 1 and otherwise zeros .* data.target=number"):
        open_data(str(path))


def test_a_run_tests_what_it_held_out(tmp_path: Path) -> None:
    path = write(tmp_path / "a.ctf", ONE_HOT_N, np.repeat(VALUES_ND, 3, axis=1)[:, :36] + CLASSES_N[:, None])
    run = train("mnist", data=str(path), out=tmp_path / "run", epochs=1, **{"threads": 1})
    model = load(tmp_path / "run")
    assert run.result["test_unreadable"] == 0
    assert run.result["data_fingerprint"] == open_data(str(path)).fingerprint()
    assert model.training_info.test_images == 6
