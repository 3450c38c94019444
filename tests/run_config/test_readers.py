"""What the readers of a configuration deliver: one pair of features and labels, from one file or two."""

from __future__ import annotations

import base64
import copy
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from convolve.data.sources.source import ArraySource
from convolve.errors import DataError, UnsupportedError
from convolve.formats.decode import Decoding
from convolve.formats.image_map import write_image_map
from convolve.importers.brainscript.reader import Images, Reader, TextStream
from convolve.run_config.readers import TransformedSource, as_found, as_prepared
from convolve.run_config.readers import test_images as read_images
from convolve.transforms.color import Color
from convolve.transforms.crop import Crop
from convolve.transforms.preprocess import fit_size
from convolve.transforms.scale import Scale
from convolve.transforms.transform import Transform

LABELS = [2, 0, 1]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three samples as text, with labels beside them and apart, and as pictures of 8x6 in a map and in base64."""
    pixels = [" ".join(str(10 * i + j) for j in range(4)) for i in range(3)]
    dense = [" ".join(str(int(k == label)) for k in range(3)) for label in LABELS]
    lines = {
        "both": [f"|y {y} |x {x}" for x, y in zip(pixels, dense, strict=True)],
        "x": [f"|x {x}" for x in pixels],
        "y": [f"|y {label}:1" for label in LABELS],
        "ids": [f"{i} |y {label}:1" for i, label in enumerate(LABELS)],
        "short": [f"|y {label}:1" for label in LABELS[:2]],
    }
    for name, texts in lines.items():
        (tmp_path / f"{name}.txt").write_text("\n".join(texts) + "\n", encoding="utf-8")
    encoded = []
    for number in range(3):
        image = np.full((6, 8, 3), 40 * number, np.uint8)
        image[:, :2] = 255  # a stripe that a crop at the center leaves out
        cv2.imwrite(str(tmp_path / f"{number}.png"), image)
        encoded.append(f"{LABELS[number]}\t{base64.b64encode((tmp_path / f'{number}.png').read_bytes()).decode()}")
    write_image_map(tmp_path / "map.txt", [(str(tmp_path / f"{i}.png"), 7) for i in range(3)])
    (tmp_path / "base64.txt").write_text("\n".join(encoded) + "\n", encoding="utf-8")
    return tmp_path


def text(folder: Path, features: str, labels: str, sparse: bool) -> Reader:
    label_stream = TextStream("labels", str(folder / f"{labels}.txt"), "y", 3, sparse)
    return Reader(TextStream("features", str(folder / f"{features}.txt"), "x", 4, False), label_stream, 3, True)


def images(folder: Path, name: str, labels: str = "") -> Reader:
    stream = TextStream("labels", str(folder / f"{labels}.txt"), "y", 3, True) if labels else None
    transforms = (Crop("randomside", side_ratio=(0.5, 1.0), jitter_type="uniratio"), Scale(4, 4))
    source = Images(str(folder / f"{name}.txt"), "base64" if name == "base64" else "map", transforms, "", False)
    return Reader(source, stream, 3, True)


@pytest.mark.parametrize(("features", "labels", "sparse"), [("both", "both", False), ("x", "y", True)])
def test_text_of_one_file_or_two(folder: Path, features: str, labels: str, sparse: bool) -> None:
    table = read_images(text(folder, features, labels, sparse), (1, 2, 2))
    assert isinstance(table, ArraySource)
    assert table.labels_N.tolist() == LABELS
    assert table.images_NCHW.flatten(1).tolist() == [[10 * i + j for j in range(4)] for i in range(3)]
    assert len(read_images(text(folder, features, labels, sparse), (1, 2, 2), samples=2)) == 2


@pytest.mark.parametrize(("name", "labels"), [("map", "y"), ("base64", "")])
def test_pictures_come_as_their_transforms_make_them(folder: Path, name: str, labels: str) -> None:
    """For a test the crop is at the center, whatever the training does, and nothing is mirrored."""
    reader = images(folder, name, labels)
    found = read_images(reader, (3, 4, 4))
    assert isinstance(found, TransformedSource)
    assert found.labels_N.tolist() == LABELS
    for number in range(3):
        picture = found.load(number, Decoding())
        assert picture.shape == (4, 4, 3) and (picture == 40 * number).all()
    copied = copy.copy(found)
    assert copied.labels_N.tolist() == LABELS and (copied.load(2, Decoding()) == 80).all()
    prepared = as_prepared(reader, (3, 4, 4))
    assert (prepared.resize, prepared.filter) == ("cover", "linear")  # CNTK decodes them whole, and does not average
    found, said = as_found(reader, (3, 4, 4))
    assert (found.resize, found.crop_ratio, found.filter, said) == ("square", 0.5, "linear", "")


WHOLE = {"resize": "squash", "crop_ratio": 1, "filter": "linear", "orientation": "cntk"}


@pytest.mark.parametrize(
    ("transforms", "words"),
    [
        ((), WHOLE),
        ((Scale(30, 20),), WHOLE),
        ((Crop(), Scale(30, 20)), WHOLE),
        ((Scale(30, 20, "cubic"),), WHOLE | {"filter": "cubic"}),
        ((Scale(30, 20, scale_mode="crop"),), WHOLE | {"resize": "cover"}),
        ((Scale(30, 20, scale_mode="pad", pad_value=7),), WHOLE | {"resize": "letterbox", "padding_value": 7}),
        ((Scale(30, 20, scale_mode="pad"),), WHOLE | {"resize": "letterbox", "padding_value": -1}),
        ((Crop("randomside", side_ratio=(0.8, 1.0)), Scale(30, 20)), WHOLE | {"resize": "square", "crop_ratio": 0.8}),
        ((Scale(60, 40), Crop(crop_width=30, crop_height=20)), WHOLE | {"crop_ratio": 0.5}),
        ((Scale(40, 40, scale_mode="crop"), Color(0.1), Crop(crop_width=30, crop_height=20)), None),
        ((Scale(60, 40, scale_mode="pad"), Crop(crop_width=30, crop_height=20)), None),
        ((Crop(crop_width=30, crop_height=20),), None),
        ((Crop(area_ratio=(0.5,)), Scale(30, 20)), None),
    ],
)
def test_what_a_reader_means_for_images_of_any_size(
    tmp_path: Path, transforms: tuple[Transform, ...], words: dict[str, Any] | None
) -> None:
    """The same pixels as those of the run's own test; where no preprocessing has them, that is said."""
    pixels_HWC = np.random.default_rng(0).integers(0, 256, (50, 81, 3), dtype=np.uint8)
    assert cv2.imwrite(str(tmp_path / "a.png"), pixels_HWC)
    write_image_map(tmp_path / "map.txt", [(str(tmp_path / "a.png"), 0)])
    reader = Reader(Images(str(tmp_path / "map.txt"), "map", transforms, "", False), None, 2, False)
    found, said = as_found(reader, (3, 20, 30))
    if words is None:
        assert "a model cannot store the reader's crop and scale" in said and "the closest" in found.known_from
        return
    assert said == "" and {name: getattr(found, name) for name in words} == words
    if transforms:
        np.testing.assert_array_equal(fit_size(pixels_HWC, found), read_images(reader, (3, 20, 30)).load(0, Decoding()))


def test_files_that_do_not_go_together(folder: Path) -> None:
    with pytest.raises(DataError, match=r"short\.txt has 2 labels, .*map\.txt has 3 images"):
        read_images(images(folder, "map", "short"), (3, 4, 4))
    with pytest.raises(DataError, match=r"short\.txt has 2 labels, .*x\.txt has 3 images"):
        read_images(text(folder, "x", "short", True), (1, 2, 2))
    with pytest.raises(UnsupportedError, match="joined by sequence ids"):
        read_images(text(folder, "x", "ids", True), (1, 2, 2))
