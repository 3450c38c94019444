"""Map files and class folders: in order, exactly once, with the line of whatever is damaged."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from convolve.data.dataset import Batch, Dataset
from convolve.data.sources.classes import class_numbers
from convolve.data.sources.folder import has_class_folders, open_folder
from convolve.data.sources.map_file import open_map_file
from convolve.errors import DataError
from convolve.formats.decode import Decoding
from convolve.transforms.transform import Image

COUNT = 23


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Images that hold their own number, half of them in a zip, and a map file of them all."""
    with zipfile.ZipFile(tmp_path / "half.zip", "w") as archive:
        lines = []
        for number in range(COUNT):
            encoded = cv2.imencode(".png", np.full((4, 4, 3), number, np.uint8))[1].tobytes()
            name = f"{number}.png"
            if number % 2:
                archive.writestr(name, encoded)
            else:
                (tmp_path / name).write_bytes(encoded)
            place = f".../half.zip@/{name}" if number % 2 else f".../{name}"
            lines.append(f"{place}\t{number % 5}\n")
    (tmp_path / "map.txt").write_text("".join(lines))
    return tmp_path


def batches(pictures: Path, batch_size: int, gray: bool = False, note: list[int] | None = None) -> Iterator[Batch]:
    """All images of the map file, in order, as they are; `note` hears of each that was read."""

    def planes(image_HWC: Image, _: np.random.Generator) -> Image:
        if note is not None:
            note.append(int(image_HWC[0, 0, 0]))
        return image_HWC.transpose(2, 0, 1)[None]

    dataset = Dataset(open_map_file(pictures / "map.txt"), planes, Decoding(gray=gray))
    return dataset.batches(np.arange(COUNT), batch_size)


@pytest.mark.parametrize("batch_size", [1, 4, 23, 100])
@pytest.mark.parametrize("gray", [True, False])
def test_in_order_and_exactly_once(batch_size: int, gray: bool, pictures: Path) -> None:
    found = list(batches(pictures, batch_size, gray))
    assert [len(images) for images, _ in found[:-1]] == [batch_size] * (len(found) - 1)
    images_NCHW = torch.cat([images for images, _ in found])
    assert images_NCHW.shape == (COUNT, 1 if gray else 3, 4, 4)
    assert images_NCHW[:, 0, 0, 0].tolist() == list(range(COUNT))
    assert torch.cat([labels for _, labels in found]).tolist() == [number % 5 for number in range(COUNT)]


def test_damage_names_its_line(pictures: Path) -> None:
    (pictures / "6.png").write_bytes((pictures / "6.png").read_bytes()[:40])
    with pytest.raises(DataError, match=r"map\.txt: line 7: .*6\.png"):
        list(batches(pictures, 5))


def test_no_more_is_read_ahead_than_a_batch(pictures: Path) -> None:
    read: list[int] = []
    found = batches(pictures, 8, note=read)
    next(found)
    found.close()  # type: ignore[attr-defined]
    assert len(read) <= 16


def test_class_folders_by_name(pictures: Path, tmp_path: Path) -> None:
    for name, numbers in (("wolf", (0, 2)), ("cat", (4,))):
        (tmp_path / "set" / name).mkdir(parents=True)
        for number in numbers:
            (pictures / f"{number}.png").rename(tmp_path / "set" / name / f"{number}.png")
    assert has_class_folders(tmp_path / "set") and not has_class_folders(tmp_path / "set" / "cat")
    (tmp_path / "deep" / "cat" / "2020").mkdir(parents=True)
    (tmp_path / "deep" / "cat" / "2020" / "1.png").touch()
    assert has_class_folders(tmp_path / "deep")
    by_name = open_folder(tmp_path / "set", ["wolf", "bear", "cat"])
    assert [(Path(by_name.file(index)).name, int(by_name.labels_N[index])) for index in range(3)] == [
        ("4.png", 2), ("0.png", 0), ("2.png", 0),
    ]  # fmt: skip
    for wanted in (["0", "1"], ["0", "1", "2"], ["wolf", "kitten"]):  # no names, and names of which one is missing
        with pytest.raises(DataError, match=r"not among the classes .*name the subfolders after the classes"):
            open_folder(tmp_path / "set", wanted)


def test_synsets_stand_for_numbers_in_their_order() -> None:
    assert class_numbers(["n01440764", "n02000000"], ["0", "1"]) == [0, 1]
    assert class_numbers(["n02000000"], ["n01440764 tench", "n02000000 x, y"]) == [1]
    assert class_numbers(sorted(["zero", "one"]), ["0", "1"]) is None
