"""What `convolve prepare folder` writes is what was there."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from command_line import Convolve, assert_refused
from convolve.data.lists import open_lists
from convolve.data.sources.ctf import open_ctf
from convolve.errors import UsageError
from convolve.formats.decode import Decoding
from convolve.formats.mean_xml import read_mean_xml
from convolve.prepare.folder import prepare_folder

NAMES = ("cat", "dög")


def pictures(place: Path, side: int = 12) -> Path:
    """Five noisy pictures of each class."""
    rng = np.random.default_rng(0)
    for name in NAMES:
        (place / name).mkdir(parents=True)
        for number in range(5):
            pixels_HWC = rng.integers(0, 256, (side + number * (side > 20), side, 3), dtype=np.uint8)
            assert cv2.imwrite(str(place / name / f"{number}.png"), pixels_HWC)
    return place


def test_the_lists_hold_the_same_images(tmp_path: Path) -> None:
    source = pictures(tmp_path / "photos")
    first, second = list(prepare_folder(source, tmp_path / "out")), list(prepare_folder(source, tmp_path / "out"))
    assert len(first) == len(second) and sum(report.what == "already there" for report in second) == 4
    own, again = open_lists(source), open_lists(tmp_path / "out")
    assert again.class_names == NAMES and not again.held_out
    for part, listed in ((own.train, again.train), (own.test, again.test)):
        assert listed.labels_N.tolist() == part.labels_N.tolist()
        for index in range(len(part)):
            np.testing.assert_array_equal(listed.load(index, Decoding()), part.load(index, Decoding()))
    table = open_ctf(tmp_path / "out" / "Train_cntk_text.txt", 2, (3, 12, 12))
    expected_NHWC = np.stack([own.train.load(index, Decoding()) for index in range(8)])
    np.testing.assert_array_equal(table.images_NCHW.numpy(), expected_NHWC[..., ::-1].transpose(0, 3, 1, 2))
    assert table.labels_N.tolist() == own.train.labels_N.tolist()
    mean_HWC = read_mean_xml(tmp_path / "out" / "mean.xml", "interleaved_bgr")
    np.testing.assert_allclose(mean_HWC, expected_NHWC.mean(0), rtol=1e-5)


def test_a_validation_part_is_listed_too(tmp_path: Path) -> None:
    for name in ("train", "valid", "test"):
        pictures(tmp_path / "photos" / name)
    list(prepare_folder(tmp_path / "photos", tmp_path / "out"))
    assert [(role, len(part)) for role, part in open_lists(tmp_path / "out").parts] == [
        ("training", 10), ("validation", 10), ("test", 10),
    ]  # fmt: skip


def test_images_of_various_sizes_are_listed_only(tmp_path: Path, convolve: Convolve) -> None:
    outcome = convolve("prepare", "folder", "--source", pictures(tmp_path / "photos", 30), "--out", tmp_path / "out")
    assert outcome.code == 0
    assert "Train_cntk_text.txt: not written, since its images are large or of several sizes" in outcome.out
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"train_map.txt", "test_map.txt", "labels.txt", "prepared.json"}


def test_what_cannot_be_listed(tmp_path: Path, convolve: Convolve) -> None:
    outcome = convolve("prepare", "folder", "--out", tmp_path / "out")
    assert_refused(outcome, 2, "--source")
    (tmp_path / "images.txt").write_text("0\tAAAA\n0\tAAAA\n1\tAAAA\n")
    with pytest.raises(UsageError, match=r"byte \d+: the image is in the list itself"):
        list(prepare_folder(tmp_path / "images.txt", tmp_path / "out"))
