"""Which images are held out: by their own bytes, with near copies, bursts and groups on one side."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from convolve.data.hold_out import find_held_out, hold_out_validation
from convolve.data.lists import open_lists
from convolve.data.options import DataOptions
from convolve.data.relations import relate
from convolve.data.sources.folder import open_folder
from convolve.data.splits import Splits
from convolve.errors import ConvolveError, DataError, UsageError
from convolve.formats.table import Columns


def picture(number: int, side: int = 72) -> np.ndarray:
    """A picture that shows something of its own, with a margin for shifts."""
    rng = np.random.default_rng(number)
    coarse_HWC = cv2.resize(rng.integers(0, 256, (9, 9, 3), np.uint8), (side, side), interpolation=cv2.INTER_CUBIC)
    return np.asarray(cv2.GaussianBlur(coarse_HWC, (0, 0), 0.7))


def reshot(number: int, shot: int) -> np.ndarray:
    """Moved by up to four of 64 pixels, in another light."""
    rng = np.random.default_rng([number, shot])
    top, left = rng.integers(0, 9, 2) if shot else (4, 4)
    moved_HWC = picture(number)[top : top + 64, left : left + 64].astype(np.float32)
    return np.clip(moved_HWC * (1 + 0.1 * rng.uniform(-1, 1)) + 10 * rng.uniform(-1, 1), 0, 255).astype(np.uint8)


def write(path: Path, image_HWC: np.ndarray, quality: int = 90) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(".jpg", image_HWC, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes())


def folder(place: Path, first: int, last: int, classes: str = "cat dog") -> Path:
    names = classes.split()
    for number in range(first, last):
        write(place / names[number % len(names)] / f"{number}.jpg", reshot(number, 0))
    return place


def sides(splits: Splits) -> dict[str, bool]:
    """File name -> whether it is held out."""
    parts = ((splits.train, False), (splits.test, True))
    return {Path(part.location(index)).name: side for part, side in parts for index in range(len(part))}


def test_additions_change_no_side(tmp_path: Path) -> None:
    before = sides(open_lists(folder(tmp_path, 0, 120)))
    splits = open_lists(folder(tmp_path, 120, 200, "cat dog bird"))
    after = sides(splits)
    assert {name: after[name] for name in before} == before
    assert 0.1 < np.mean([*after.values()]) < 0.3
    assert "by a hash of their bytes" in splits.description
    (tmp_path / "cat" / "0.jpg").rename(tmp_path / "dog" / "renamed.jpg")
    assert sides(open_lists(tmp_path))["renamed.jpg"] == before["0.jpg"]


def test_reshots_stay_together(tmp_path: Path) -> None:
    for number in range(60):
        for shot in range(5):
            name = f"{(7 * (5 * number + shot)) % 300}.jpg"
            write(tmp_path / f"{number % 3}" / name, reshot(number, shot), 60 + 8 * shot)
    side_of, splits = defaultdict(set), open_lists(tmp_path)
    for name, side in sides(splits).items():
        side_of[pow(7, -1, 300) * int(Path(name).stem) % 300 // 5].add(side)
    assert len(side_of) == 60 and all(len(each) == 1 for each in side_of.values())
    assert 0.05 < len(splits.test) / 300 < 0.35 and "near copies (300 images) stay together" in splits.description
    train, validation = hold_out_validation(splits.train, 0.3, seed=1)
    units = [{*part.units_N.tolist()} for part in (train, validation)]  # type: ignore[attr-defined]
    assert not units[0] & units[1] and 0.3 <= len(validation) / len(splits.train) < 0.35


def test_pictures_that_all_look_alike_are_held_out_all_the_same(tmp_path: Path) -> None:
    for number in range(100):
        grain = np.random.default_rng(number).integers(-3, 4, (64, 64, 3))
        image_HWC = np.clip(reshot(number % 2, 0) + grain, 0, 255).astype(np.uint8)
        write(tmp_path / f"{number % 2}" / f"{number}.jpg", image_HWC)
    splits = open_lists(tmp_path)
    assert {*splits.test.labels_N.tolist()} == {0, 1} and 5 < len(splits.test) < 40


def test_each_class_with_two_images_has_one_on_either_side(tmp_path: Path) -> None:
    for number in range(80):
        write(tmp_path / f"{number // 2:02}" / f"{number}.jpg", reshot(number, 0))
    write(tmp_path / "single" / "1.jpg", reshot(1000, 0))
    splits = open_lists(tmp_path)
    assert splits.train.labels_N.tolist() == [*range(41)] and splits.test.labels_N.tolist() == [*range(40)]


def test_copies_of_one_file_are_on_one_side(tmp_path: Path) -> None:
    folder(tmp_path, 0, 40)
    for number in range(40):
        write(tmp_path / "cat" / f"copy{number}.jpg", reshot(number, 0))
    found = sides(open_lists(tmp_path))
    assert all(found[f"copy{number}.jpg"] == found[f"{number}.jpg"] for number in range(40))


def test_of_many_images_class_and_name_decide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("convolve.data.relations.MOST_READ", 20)
    splits = open_lists(folder(tmp_path, 0, 60))
    assert "by a hash of their class and file name" in splits.description
    before = sides(splits)
    for file in tmp_path.rglob("*.jpg"):
        write(file, reshot(int(file.stem) + 1000, 0))
    after = sides(open_lists(folder(tmp_path, 60, 80)))
    assert {name: after[name] for name in before} == before


def test_groups_lie_in_one_part(tmp_path: Path) -> None:
    for number in range(120):
        write(tmp_path / f"{number % 2}" / f"patient{number // 4:02}-{number}.jpg", reshot(number, 0))
    splits = open_lists(tmp_path, options=DataOptions(group="patient([0-9]+)"))
    of_patient = defaultdict(set)
    for name, side in sides(splits).items():
        of_patient[name[:9]].add(side)
    assert {len(each) for each in of_patient.values()} == {1} and "30 groups stay whole" in splits.description
    for group, message in (("site[0-9]", "it matches no path"), ("(", "nor a valid regular expression")):
        with pytest.raises(UsageError, match=message):
            open_lists(tmp_path, options=DataOptions(group=group))
    with pytest.raises(DataError, match="each class is one group"):
        open_lists(tmp_path, options=DataOptions(group="/[01]/"))


def photograph(path: Path, number: int, second: int, model: str = "C1") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    exif[0x010F], exif[0x0110] = "Maker", model
    exif.get_ifd(0x8769)[0x9003] = f"2024:05:01 12:{second // 60:02}:{second % 60:02}"
    Image.fromarray(reshot(number, 0)).save(path, exif=exif)


def test_a_burst_stays_together(tmp_path: Path) -> None:
    for number in range(90):
        photograph(tmp_path / f"{number % 2}" / f"{number}.jpg", number, 10 * (number // 3) + number % 3)
        write(tmp_path / f"{number % 2}" / f"video{number // 10}_frame_{number:03}.jpg", reshot(100 + number, 0))
    photograph(tmp_path / "0" / "other.jpg", 999, 1, "C2")
    source = open_folder(tmp_path).by_class_and_name()
    relations = relate(source)
    unit_of = {Path(source.location(index)).stem: int(unit) for index, unit in enumerate(relations.unit_N)}
    bursts = [{unit_of[f"{number}"] for number in range(first, first + 3)} for first in range(0, 90, 3)]
    assert all(len(burst) == 1 for burst in bursts) and len(set.union(*bursts)) == 30
    videos = defaultdict(set)
    for name, unit in unit_of.items():
        if name.startswith("video"):
            videos[name[:6]].add(unit)
    assert {len(units) for units in videos.values()} == {2}  # a folder is another place
    assert unit_of["other"] not in set.union(*bursts)
    assert "bursts (90 images) and numbered frames (90 images) stay together" in relations.said[0]


def test_a_model_is_tested_on_what_it_has_not_seen(tmp_path: Path) -> None:
    """After additions: the images held out before, and of the new ones those that fall there."""
    splits = open_lists(folder(tmp_path / "set", 0, 80))
    assert splits.membership
    before = sides(splits)
    tested = {name for name, is_test in before.items() if is_test}

    def found() -> tuple[set[str], str]:
        answer = find_held_out(open_folder(tmp_path / "set").by_class_and_name(), splits.membership)  # type: ignore[arg-type]
        assert answer
        return {Path(answer[0].location(index)).name for index in range(len(answer[0]))}, answer[1]

    assert found() == (tested, "the part held out in training")
    folder(tmp_path / "set", 80, 160)
    for number in range(80):  # shot again: not one of them may be tested on if its original was learned from
        write(tmp_path / "set" / "cat" / f"again{number}.jpg", reshot(number, 1))
    names, said = found()
    assert tested <= names and not names & {name for name, is_test in before.items() if not is_test}
    again = {int(name[5:-4]) for name in names if name.startswith("again")}
    assert again == {int(name[:-4]) for name in tested} and " of the images added since (160)" in said
    assert find_held_out(open_folder(folder(tmp_path / "other", 300, 340)), splits.membership) is None


def test_a_new_image_near_both_parts_is_left_out(tmp_path: Path) -> None:
    """Of a row of three pictures, each overlaps the next by far: the one in the middle comes last."""

    def taken(number: int, left: int) -> np.ndarray:
        return picture(number, 96)[16:80, left : left + 64]

    for number in range(60):
        for left in (4, 16):
            write(tmp_path / f"{number % 2}" / f"{number}-{left}.jpg", taken(number, left))
    splits = open_lists(tmp_path)
    before, both = sides(splits), {}
    for number in range(60):
        write(tmp_path / f"{number % 2}" / f"{number}-10.jpg", taken(number, 10))
        both[number] = before[f"{number}-4.jpg"] != before[f"{number}-16.jpg"]
    assert splits.membership and 5 < sum(both.values()) < 40
    answer = find_held_out(open_folder(tmp_path).by_class_and_name(), splits.membership)
    assert answer and "left out, since they resemble images of both parts: " in answer[1]
    found = {Path(answer[0].location(index)).name for index in range(len(answer[0]))}
    assert not found & {name for name, is_test in before.items() if not is_test}
    assert {name for name, is_test in before.items() if is_test} <= found
    assert not found & {f"{number}-10.jpg" for number, is_both in both.items() if is_both}


def test_one_image_a_class_is_refused_before_any_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(30):
        write(tmp_path / f"{number}" / "1.jpg", reshot(number, 0))
    monkeypatch.setattr("convolve.data.hold_out.relate", None)
    with pytest.raises(ConvolveError, match="no class has two images"):
        open_lists(tmp_path)


def test_a_column_of_a_table_says_the_groups_or_the_parts(tmp_path: Path) -> None:
    rows = ["path,label,site,split\n"]
    for number in range(120):
        write(tmp_path / "images" / f"{number}.jpg", reshot(number, 0))
        split = ("train", "train", "val", "test")[number % 4]
        rows.append(f"images/{number}.jpg,{number % 2},site{number // 4},{split}\n")
    (tmp_path / "parts.csv").write_text("".join(rows))
    splits = open_lists(tmp_path / "parts.csv")
    assert [(role, len(part)) for role, part in splits.parts] == [("training", 60), ("validation", 30), ("test", 30)]
    (tmp_path / "sites.csv").write_text("".join(row.rpartition(",")[0] + "\n" for row in rows))
    for options in (DataOptions(group="site"), DataOptions(columns=Columns(group="site"))):
        splits = open_lists(tmp_path / "sites.csv", options=options)
        sites = [{int(Path(part.file(n)).stem) // 4 for n in range(len(part))} for _, part in splits.parts]
        assert "30 groups stay whole" in splits.description and not sites[0] & sites[1]
        assert len(sites[0]) + len(sites[1]) == 30


def test_a_model_of_many_images_knows_its_part_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("convolve.data.relations.MOST_READ", 20)
    monkeypatch.setattr("convolve.data.hold_out.MOST_READ", 20)  # of the names, only so many are remembered
    splits = open_lists(folder(tmp_path, 0, 80))
    assert splits.membership and splits.membership.by_name and len(splits.membership.trained) == 20
    answer = find_held_out(open_folder(folder(tmp_path, 80, 100)).by_class_and_name(), splits.membership)
    assert answer and answer[1] == "the part held out in training"
    names = {Path(answer[0].location(index)).name for index in range(len(answer[0]))}
    assert names == {name for name, is_test in sides(open_lists(tmp_path)).items() if is_test}


def test_what_was_trained_on_alone(tmp_path: Path) -> None:
    """Who asks for the error on the training images gets it, and is told."""
    splits = open_lists(folder(tmp_path, 0, 60))
    assert splits.membership
    for index in range(len(splits.test)):
        Path(splits.test.location(index)).unlink()
    answer = find_held_out(open_folder(tmp_path).by_class_and_name(), splits.membership)
    assert answer and answer[1] == "all of which the model was trained on" and len(answer[0]) == len(splits.train)
