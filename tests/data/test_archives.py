"""Archives as --data: they hold the same set as the folder that was packed, or are refused; nothing lands elsewhere."""

from __future__ import annotations

import io
import os
import shutil
import sys
import tarfile
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePath

import cv2
import numpy as np
import pytest

import cifar10_files
from convolve.data import archives
from convolve.data.image_files import find_images
from convolve.data.known import unpacked
from convolve.data.open import open_data, open_to_check
from convolve.data.walk import PassedOver, walk
from convolve.errors import DataError
from convolve.formats.archive import ByteReader

FORMS = {"zip": ".zip", "tar": ".tar", "gztar": ".tar.gz", "bztar": ".tar.bz2", "xztar": ".tar.xz"}

Content = dict[str, bytes | str]  # name -> bytes of a file, or where a link leads


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CONVOLVE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "unpacked"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for number, name in enumerate(("bear", "koala", "koala/deep", "r\u00f8d")):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for file in range(4):
            pixels = np.full((8, 8, 3), 30 * number + file, np.uint8)
            (tmp_path / "photos" / name / f"{file}.png").write_bytes(cv2.imencode(".png", pixels)[1].tobytes())
    return tmp_path / "photos"


def what_is_there(where: Path) -> list[tuple[str, int, bytes]]:
    """(class/.../name, label, bytes) of every training and test image, in order; the description names the place."""
    data, found = open_data(str(where)), []
    for part in (data.train, data.test):
        for index, label in enumerate(part.labels_N.tolist()):
            at = PurePath(part.file(index)).parts
            start = max(position for position, each in enumerate(at) if each in data.class_names)
            found.append(("/".join(at[start:]), label, part.read(index)))
    assert where.name in data.description
    return found


def zipped(path: Path, content: Content) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, what in content.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = (0o120777 if isinstance(what, str) else 0o100644) << 16
            archive.writestr(info, what)
    return path


def tarred(path: Path, content: Content) -> Path:
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as archive:
        for name, what in content.items():
            info = tarfile.TarInfo(name)
            if isinstance(what, str):
                info.type, info.linkname = tarfile.SYMTYPE, what
                archive.addfile(info)
            else:
                info.size = len(what)
                archive.addfile(info, io.BytesIO(what))
    return path


PACKERS = {"photos.zip": zipped, "photos.tar": tarred}
packers = pytest.mark.parametrize("name", PACKERS)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("wrapped", [True, False])
def test_an_archive_is_the_folder_that_was_packed(form: str, wrapped: bool, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "packed").mkdir()
    root, base = (tmp_path, "photos") if wrapped else (photos, ".")
    packed = shutil.make_archive(str(tmp_path / "packed" / "photos"), form, root, base)
    assert what_is_there(Path(packed)) == what_is_there(photos)
    (name, source), *_ = open_to_check(Path(packed), None, lambda *_: None)
    assert (name, len(source)) == ("training", 16)


def test_a_folder_with_an_archive_for_each_class(photos: Path, tmp_path: Path) -> None:
    for form, folder in zip(FORMS, sorted(photos.iterdir()), strict=False):
        shutil.make_archive(str(tmp_path / "each" / folder.name), form, folder)
    assert what_is_there(tmp_path / "each") == what_is_there(photos)


def test_an_archive_beside_what_was_unpacked_from_it_is_not_looked_at(photos: Path, tmp_path: Path) -> None:
    before = what_is_there(photos)
    shutil.make_archive(str(photos / "koala"), "zip", photos / "koala")
    shutil.make_archive(str(photos / "everything"), "tar", tmp_path, "photos/bear")
    assert what_is_there(photos) == before


def test_an_archive_beside_a_published_set_is_not_looked_at(tmp_path: Path) -> None:
    cifar10_files.write_binary(tmp_path)
    shutil.make_archive(str(tmp_path / "tools"), "zip", Path(__file__).parent)
    assert unpacked(tmp_path) == tmp_path
    assert len(open_data(str(tmp_path)).class_names) == 10


def test_an_archive_beside_folders_is_said_to_be_left_out(photos: Path) -> None:
    shutil.make_archive(str(photos / "cat"), "zip", photos / "koala")
    data = open_data(str(photos))
    assert "cat" not in data.class_names
    assert "cat.zip is an archive, and ignored: unpack it beside the others" in data.description


@pytest.mark.parametrize("form", FORMS)
def test_images_in_an_archive_are_predicted(form: str, photos: Path, tmp_path: Path) -> None:
    packed = shutil.make_archive(str(tmp_path / "a"), form, photos)
    with ByteReader() as reader:
        found = [reader.read(location) for location in find_images([packed])]
        assert found == [reader.read(location) for location in find_images([photos])]


def test_it_is_unpacked_once_and_anew_when_it_changed(photos: Path, cache: Path, tmp_path: Path) -> None:
    packed = Path(shutil.make_archive(str(tmp_path / "a"), "zip", photos))
    there = unpacked(packed)
    assert there == unpacked(packed) and there.is_relative_to(cache)
    (photos / "bear" / "5.png").write_bytes((photos / "bear" / "1.png").read_bytes())
    shutil.make_archive(str(tmp_path / "a"), "zip", photos)
    assert unpacked(packed) != there and len(what_is_there(packed)) == 17


def test_many_at_once_unpack_it_once(photos: Path, cache: Path, tmp_path: Path) -> None:
    packed = Path(shutil.make_archive(str(tmp_path / "a"), "gztar", photos))
    with ThreadPoolExecutor(8) as pool:
        assert len({*pool.map(unpacked, [packed] * 8)}) == 1
    assert len(what_is_there(packed)) == 16
    assert not list(cache.glob("*/.*"))


def test_what_a_killed_process_left_is_no_set(photos: Path, cache: Path, tmp_path: Path) -> None:
    packed = Path(shutil.make_archive(str(tmp_path / "a"), "zip", photos))
    there = unpacked(packed)
    (there / "bear" / "1.png").unlink()
    there.rename(there.with_name(".partial"))
    assert len(what_is_there(packed)) == 16


IMAGE = cv2.imencode(".png", np.zeros((4, 4), np.uint8))[1].tobytes()


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege")
@packers
def test_links_in_a_circle_lead_nowhere(name: str, cache: Path, tmp_path: Path) -> None:
    content = {"koala/1.png": IMAGE, "koala/x.png": "y.png", "koala/y.png": "x.png", "bear/1.png": IMAGE}
    passed = PassedOver()
    folder = unpacked(PACKERS[name](tmp_path / name, content))
    assert [Path(path).name for path in walk(folder, passed)] == ["1.png", "1.png"] and len(passed.dangling) == 2


@packers
@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"set/inner.zip": b"PK"}, "holds another archive, set/inner.zip; unpack it"),
        ({"set/inner.TAR.gz": b""}, "holds another archive, set/inner.TAR.gz"),
        ({"koala/1.png/x.png": IMAGE}, "koala/1.png/x.png: a file and a folder have the same name"),
        ({"koala/1.png/x/y.png": IMAGE}, "koala/1.png/x/y.png: a file and a folder have the same name"),
        ({"../a.png": IMAGE}, "the member ../a.png leads out of the archive"),
        ({"/tmp/a.png": IMAGE}, "the member /tmp/a.png leads out"),
        ({"C:/a.png": IMAGE}, "the member C:/a.png leads out"),
        ({"koala/x": "/etc"}, "the link koala/x leads out of the archive, to /etc"),
        ({"koala/x.png": "../../../a.png"}, "the link koala/x.png leads out"),
        ({"a/b/c/d.png": IMAGE, "here": "a/b/c", "x": "here/../../../.."}, "the link x leads out"),
        ({"here": ".", "x": "here/here/../.."}, "the link x leads out"),
    ],
)
def test_what_leads_out_or_is_an_archive_again_is_refused(
    name: str, more: Content, words: str, cache: Path, tmp_path: Path
) -> None:
    if "the link" in words and sys.platform == "win32":
        pytest.skip("links need a privilege")
    packed = PACKERS[name](tmp_path / name, {"koala/1.png": IMAGE, "bear/1.png": IMAGE} | more)
    with pytest.raises(DataError) as refused:
        unpacked(packed)
    assert words in str(refused.value) and str(packed) in str(refused.value)
    assert [path for path in cache.rglob("*") if path.is_file()] == []
    assert {path.name for path in tmp_path.iterdir()} <= {name, "cache"}


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege")
@packers
def test_links_within_are_followed(name: str, tmp_path: Path) -> None:
    images = {f"store/{number}.png": IMAGE for number in range(3)}
    links: Content = {"koala/more": "../store", "bear/1.png": "../store/1.png", "bear/2.png": "./1.png"}
    there = unpacked(PACKERS[name](tmp_path / name, images | links))
    assert len(open_data(str(there)).class_names) == 3
    assert (there / "bear" / "2.png").read_bytes() == (there / "koala" / "more" / "1.png").read_bytes() == IMAGE


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege")
def test_hard_links_are_links(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        info = tarfile.TarInfo("store/1.png")
        info.size = len(IMAGE)
        archive.addfile(info, io.BytesIO(IMAGE))
        link = tarfile.TarInfo("koala/deep/1.png")
        link.type, link.linkname = tarfile.LNKTYPE, "store/1.png"
        archive.addfile(link)
        pipe = tarfile.TarInfo("koala/pipe")
        pipe.type = tarfile.FIFOTYPE
        archive.addfile(pipe)
    there = unpacked(tmp_path / "a.tar")
    assert (there / "koala" / "deep" / "1.png").read_bytes() == IMAGE
    assert not (there / "koala" / "pipe").exists()


@packers
def test_what_no_person_sees_stays_packed(name: str, tmp_path: Path) -> None:
    hidden: Content = {"__MACOSX/koala/._1.png": b"", "koala/.x.zip": b"", "@eaDir/1.png": IMAGE}
    there = unpacked(PACKERS[name](tmp_path / name, {"koala/1.png": IMAGE, "bear/1.png": IMAGE} | hidden))
    assert sorted(path.relative_to(there).as_posix() for path in there.rglob("*.*")) == ["bear/1.png", "koala/1.png"]


@packers
def test_more_than_images_can_be_is_refused(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packed = PACKERS[name](tmp_path / name, {f"koala/{number}.png": IMAGE for number in range(20)})
    for limit in ({"ALWAYS_BYTES": 19 * len(IMAGE), "MOST_TIMES": 0}, {"_MOST_FILES": 19}):
        with monkeypatch.context() as patched:
            for constant, value in limit.items():
                patched.setattr(archives, constant, value)
            with pytest.raises(DataError, match=r"unpacks to more than .*; if you trust it, unpack it yourself"):
                unpacked(packed)
    assert len(list(unpacked(packed).iterdir())) == 1


@pytest.mark.parametrize("form", FORMS)
def test_damage_is_named_and_leaves_nothing(form: str, photos: Path, cache: Path, tmp_path: Path) -> None:
    packed = Path(shutil.make_archive(str(tmp_path / "a"), form, photos))
    whole, random = packed.read_bytes(), np.random.default_rng(0)
    for trial in range(60):
        damaged = bytearray(whole)
        if trial % 2:
            damaged = damaged[: int(random.integers(len(whole)))]
        else:
            damaged[int(random.integers(len(whole)))] ^= 1 << int(random.integers(8))
        packed.write_bytes(damaged)
        if archives.is_archive(packed):  # of a name that was damaged, a zip has another member
            try:
                archives.unpacked(packed)
            except DataError as error:
                assert str(packed) in str(error)
        assert not list(cache.glob("*/.*"))


@pytest.mark.parametrize("form", FORMS)
def test_one_that_was_cut_off_is_called_so(form: str, photos: Path, tmp_path: Path) -> None:
    packed = Path(shutil.make_archive(str(tmp_path / "a"), form, photos))
    packed.write_bytes(packed.read_bytes()[: packed.stat().st_size // 2])
    with pytest.raises(DataError, match=r"a\.(zip|tar.*): .*(damaged|cut off).*; get it again"):
        open_data(str(packed), "cifar10")


def test_a_locked_zip_is_refused(tmp_path: Path) -> None:
    packed = zipped(tmp_path / "a.zip", {"koala/1.png": IMAGE})
    content = bytearray(packed.read_bytes())
    content[content.find(b"PK\x01\x02") + 8] |= 1  # the flag that says so, in the directory
    packed.write_bytes(content)
    with pytest.raises(DataError, match=r"koala/1\.png is encrypted"):
        unpacked(packed)


@packers
def test_one_name_twice_is_refused(name: str, tmp_path: Path) -> None:
    packed = PACKERS[name](tmp_path / name, {"koala/1.png": IMAGE, "koala/./1.png": IMAGE})
    with pytest.raises(DataError, match="differ only in case"):
        unpacked(packed)


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="names are Unicode there")
def test_names_of_all_systems(tmp_path: Path) -> None:
    """macOS writes UTF-8 without a word, Windows the code page of its console and back slashes, a tar any bytes."""
    content = {b"K\x84fer\\1.png": "K\u00e4fer/1.png", "r\u00f8d/2.png".encode(): "r\u00f8d/2.png"}
    stand_ins = [str(number) * len(name) for number, name in enumerate(content)]
    packed = zipped(tmp_path / "a.zip", dict.fromkeys(stand_ins, IMAGE))
    packed_bytes = packed.read_bytes()
    for stand_in, name in zip(stand_ins, content, strict=True):
        packed_bytes = packed_bytes.replace(stand_in.encode(), name)
    packed.write_bytes(packed_bytes)
    there = unpacked(packed)
    assert {path.relative_to(there).as_posix() for path in there.rglob("*.png")} == set(content.values())
    odd = os.fsdecode(b"Koalab\xe4r/1.png")
    assert (unpacked(tarred(tmp_path / "a.tar", {odd: IMAGE})) / odd).exists()


def test_no_place_to_unpack_to(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packed = Path(shutil.make_archive(str(tmp_path / "a"), "zip", photos))
    (tmp_path / "file").touch()
    monkeypatch.setenv("CONVOLVE_CACHE", str(tmp_path / "file"))
    with pytest.raises(Exception, match="cannot write"):
        unpacked(packed)
