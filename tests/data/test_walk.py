"""What of a folder counts as an image: what a person sees, behind links too; the rest is counted."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path, PurePath

import cv2
import numpy as np
import pytest

from convolve.checking.check import check_data
from convolve.data.image_files import find_images
from convolve.data.sources.folder import open_folder
from convolve.data.walk import PassedOver, holds_images, images_in, is_image_name, subfolders, walk
from convolve.errors import DataError, MissingDataError
from convolve.formats import image_kind

JPEG = cv2.imencode(".jpg", np.full((8, 8, 3), 99, np.uint8))[1].tobytes()
RAW = b"FUJIFILMCCD-RAW 0201FF383501"

no_links = pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege")


def put(folder: Path, *names: str, content: bytes = JPEG) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def seen(folder: Path, passed: PassedOver | None = None) -> list[str]:
    return [PurePath(path).relative_to(folder).as_posix() for path in walk(folder, passed)]


def by_folder(folder: Path) -> list[str]:
    source = open_folder(folder)
    return [PurePath(source.file(index)).relative_to(folder).as_posix() for index in range(len(source))]


def by_prediction(folder: Path) -> list[str]:
    return [PurePath(location.file).relative_to(folder).as_posix() for location in find_images([folder])]


# Left behind by JupyterLab, Synology, macOS, Windows, QNAP, file managers: beside the classes and within them.
UNSEEN = (
    ".ipynb_checkpoints/k-checkpoint.jpg", "@eaDir/k.jpg/SYNOFILE_THUMB_M.jpg", "__MACOSX/koala/._k.jpg", "._k.jpg",
    ".thumbnails/k.jpg", ".DS_Store", "Thumbs.db", "desktop.ini", "#recycle/k.jpg", ".@__thumb/k.jpg",
    "$RECYCLE.BIN/k.jpg",
)  # fmt: skip


@pytest.mark.parametrize("list_them", [seen, by_folder, by_prediction])
def test_what_no_person_sees_is_no_image(list_them: Callable[[Path], list[str]], tmp_path: Path) -> None:
    put(tmp_path, "koala/k.jpg", "koala/deep/k.jpg", "bear/k.jpg")
    for place in ("", "koala/", "koala/deep/"):
        put(tmp_path, *(place + name for name in UNSEEN))
    assert list_them(tmp_path) == ["bear/k.jpg", "koala/deep/k.jpg", "koala/k.jpg"]
    passed = PassedOver()
    assert len(list(walk(tmp_path, passed))) == 3 and not passed


def test_in_the_order_of_the_names_on_the_way(tmp_path: Path) -> None:
    put(tmp_path, "b/a.jpg", "b.jpg", "a/b.jpg", "a/a/a.jpg", "c.jpg", "a b/c.jpg")
    assert seen(tmp_path) == [
        path.relative_to(tmp_path).as_posix() for path in sorted(tmp_path.rglob("*.jpg"))
    ]  # fmt: skip
    here = Path.cwd()
    os.chdir(tmp_path)
    try:
        assert [*walk(".")] == seen(tmp_path)
    finally:
        os.chdir(here)


def test_bytes_tell_where_the_ending_does_not(tmp_path: Path) -> None:
    put(tmp_path, "a", "b.JFIF", "c.img", "d.1", "e.Jpg", "f.jpe")
    put(tmp_path, "g.jpg", content=b"taken at its word, and refused when it is decoded")
    put(tmp_path, "notes", "h.dat", "i.txt", "i.very_long_ending", content=b"BMW and P1 are words")
    put(tmp_path, "k.RAF", "l.raf", content=RAW)
    passed = PassedOver()
    assert seen(tmp_path, passed) == ["a", "b.JFIF", "c.img", "d.1", "e.Jpg", "f.jpe", "g.jpg"]
    assert str(passed) == "6 files passed over: 2 without an ending, 2 .raf (camera raw), 1 .dat, 1 .txt"


def test_a_zip_is_looked_at_as_a_folder_is(tmp_path: Path) -> None:
    put(tmp_path / "set", "koala/a", "koala/b.jpg", "koala/c.jfif", *("koala/" + name for name in UNSEEN))
    put(tmp_path / "set", "koala/d.raf", content=RAW)
    packed = shutil.make_archive(str(tmp_path / "a"), "zip", tmp_path / "set")
    in_folder, in_zip = PassedOver(), PassedOver()
    names = seen(tmp_path / "set", in_folder)
    assert [location.member for location in find_images([packed], in_zip)] == names
    assert str(in_zip) == str(in_folder) == "1 file passed over: 1 .raf (camera raw)"


def test_a_pattern_names_images(tmp_path: Path) -> None:
    """Windows' shells hand it to the program."""
    put(tmp_path, "b.jpg", "a.jpg", "c.jpg")
    for pattern, names in (("*.jpg", "abc"), ("[ab].*", "ab")):
        found = [Path(location.file) for location in find_images([tmp_path / pattern])]
        assert found == [tmp_path / f"{name}.jpg" for name in names]
    with pytest.raises(MissingDataError, match="no file matches"):
        list(find_images([tmp_path / "*.png"]))


@no_links
def test_links_are_followed_and_loops_are_not(tmp_path: Path) -> None:
    put(tmp_path, "store/a/1.jpg", "store/a/2.jpg", "store/b/3.jpg", "set/own/4.jpg")
    (tmp_path / "set" / "whole").symlink_to(tmp_path / "store" / "a")
    (tmp_path / "set" / "own" / "part").symlink_to(tmp_path / "store" / "b")
    (tmp_path / "set" / "own" / "5.jpg").symlink_to(tmp_path / "store" / "a" / "1.jpg")
    (tmp_path / "set" / "own" / "up").symlink_to("..")
    (tmp_path / "store" / "b" / "back").symlink_to(tmp_path / "set" / "own")
    (tmp_path / "store" / "b" / "self").symlink_to("self")
    (tmp_path / "set" / "own" / "gone.jpg").symlink_to("/nowhere/x.jpg")
    wanted = ["own/4.jpg", "own/5.jpg", "own/part/3.jpg", "whole/1.jpg", "whole/2.jpg"]
    passed = PassedOver()
    assert seen(tmp_path / "set", passed) == by_folder(tmp_path / "set") == by_prediction(tmp_path / "set") == wanted
    assert {Path(link).name for link in passed.dangling} == {"gone.jpg", "self"}
    assert "2 links lead nowhere" in str(passed)
    found = check_data(tmp_path / "set").findings
    assert {Path(each.place).name for each in found.kept if each.kind == "missing image"} == {"gone.jpg", "self"}


def test_a_class_without_a_readable_image_is_an_error_and_a_finding(tmp_path: Path) -> None:
    put(tmp_path, "koala/1.jpg", "koala/2.jpg", "bear/1.jpg", "bear/2.jpg")
    put(tmp_path, "cat/1.raf", "cat/2.raf", "koala/3.raf", content=RAW)
    with pytest.raises(
        DataError, match=r"cat: this folder of a class contains no image \(2 files passed over: 2 \.raf"
    ):
        open_folder(tmp_path)
    checked = check_data(tmp_path)
    kinds = {each.kind: each for each in checked.findings.kept}
    assert Path(kinds["gap"].place).name == "cat"
    assert kinds["passed over"].what == checked.passed_over == "3 files passed over: 3 .raf (camera raw)"
    with pytest.raises(
        DataError, match=r"holds no images that can be read: 2 files passed over: 2 \.raf \(camera raw\)"
    ):
        list(find_images([tmp_path / "cat"]))
    (tmp_path / "cat").rename(tmp_path / "koala" / "more")
    (tmp_path / "dog").mkdir()
    with pytest.raises(DataError, match="dog: this folder of a class contains no image; "):
        open_folder(tmp_path, ["bear", "dog", "koala"])


def test_notes_beside_images_are_counted_and_no_finding(tmp_path: Path) -> None:
    put(tmp_path, "koala/1.jpg", "bear/1.jpg")
    put(tmp_path, "koala/1.xml", "bear/1.xml", "notes/1.xml", content=b"<annotation/>")
    checked = check_data(tmp_path)
    assert not {"passed over", "gap", "unlabeled"} & {*checked.findings.counts}
    assert checked.passed_over == "3 files passed over: 3 .xml; no image in notes"
    put(tmp_path, "1.jpg", "2.jpg")
    assert "2 images beside the folders of the classes left out" in open_folder(tmp_path).passed_over
    assert "unlabeled" in check_data(tmp_path).findings.counts


def test_what_an_extra_would_read_is_said_with_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, "koala/1.jpg", "bear/1.jpg")
    put(tmp_path, "koala/2.HEIC", "koala/3.jpg.heic", content=b"\0\0\0\x18ftypheic")
    assert len(open_folder(tmp_path)) == (4 if find_spec("pillow_heif") else 2)
    monkeypatch.setattr(image_kind, "find_spec", lambda module: None)
    source = open_folder(tmp_path)
    assert len(source) == 2
    assert source.passed_over.startswith("2 files passed over: 2 .heic (HEIC); for HEIC, install its decoder: pip ")


@no_links
def test_a_class_that_is_a_link_to_nowhere_is_an_error(tmp_path: Path) -> None:
    put(tmp_path, "koala/1.jpg", "bear/1.jpg")
    (tmp_path / "cat").symlink_to("/nowhere/cat")
    with pytest.raises(DataError, match="cat: this folder of a class is a broken link"):
        open_folder(tmp_path)
    assert check_data(tmp_path).findings.counts["gap"] == 1


def test_small_questions(tmp_path: Path) -> None:
    put(tmp_path, "koala/deep/1", "1.jpg", "2.png", ".3.jpg")
    (tmp_path / "empty").mkdir()
    assert images_in(tmp_path) == ["1.jpg", "2.png"]
    assert subfolders(tmp_path) == [tmp_path / "empty", tmp_path / "koala"]
    assert holds_images(tmp_path) and holds_images(tmp_path / "koala")
    assert not any(map(holds_images, (tmp_path / "empty", tmp_path / "1.jpg", tmp_path / "none")))
    assert is_image_name("a/b.JPG") and not any(map(is_image_name, ("a/.b.jpg", "@eaDir/b.jpg", "b.txt")))


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="nothing is closed to the superuser")
def test_a_folder_that_cannot_be_listed_is_an_error(tmp_path: Path) -> None:
    put(tmp_path, "koala/1.jpg", "closed/1.jpg")
    (tmp_path / "closed").chmod(0)
    try:
        with pytest.raises(DataError, match=r"closed: cannot be listed \(Permission denied\)"):
            seen(tmp_path)
    finally:
        (tmp_path / "closed").chmod(0o755)
