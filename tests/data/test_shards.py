"""WebDataset's shards as a source: what is read is what tarfile wrote, in all forms that shards have."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import numpy as np
import pytest

from command_line import Convolve, assert_refused
from convolve.data.image_files import find_images
from convolve.data.open import open_data
from convolve.data.sources import shard_index
from convolve.data.sources.shards import open_shards
from convolve.errors import DataError
from convolve.formats.archive import ByteReader, Location
from shard_files import CLASSES, picture, samples, write_shards, write_tar


@pytest.fixture(autouse=True)
def cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CONVOLVE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_every_image_with_its_label(tmp_path: Path) -> None:
    found = open_shards(write_shards(tmp_path / "set"))
    assert found.class_names == CLASSES and len(found) == 24
    for index in range(24):
        number = int(found.location(index)[-8:-4])
        assert found.read(index) == picture(number) and found.labels_N[index] == number % 3
        assert found.location(index) == f"{tmp_path / 'set'}/set-{number % 3:03}.tar@/{number:04}.png"
    order = [found.by_class_and_name().location(index)[-8:-4] for index in range(24)]
    assert order == [f"{number:04}" for number in sorted(range(24), key=lambda number: (number % 3, number))]


@pytest.mark.parametrize("kind", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("prefix", ["", "./a/", "ä/", f"{'f' * 90}/{'g' * 60}/"])
def test_all_forms_of_tar(tmp_path: Path, kind: int, prefix: str) -> None:
    write_tar(tmp_path / "one.tar", samples(range(9), prefix), kind)
    found = open_shards(tmp_path / "one.tar")
    assert [found.read(index) for index in range(9)] == [picture(number) for number in range(9)]
    assert found.file(3) == f"{tmp_path / 'one.tar'}@/{prefix.removeprefix('./')}0003.png"


@pytest.mark.parametrize(
    "labels",
    [
        {".cls": b"%d\n"},
        {".json": b'{"caption": "x", "label": %d}'},
        {".json": b"%d"},
        {".cls": b"%d", ".json": b'{"caption": "x"}', ".txt": b"of no meaning"},
        {".cls": b"%d", ".json": b'{"label": "whatever it is called"}'},
    ],
)
def test_forms_of_labels(tmp_path: Path, labels: dict[str, bytes]) -> None:
    members = [("._a.png", b"macOS"), ("notes.txt", b"notes"), ("0.seg.png", b"a mask")]
    for number in range(6):
        members.append((f"{number}.png", picture(number)))
        members += [(f"{number}{ending}", text.replace(b"%d", b"%d" % (number % 2))) for ending, text in labels.items()]
    write_tar(tmp_path / "s.tar", members)
    found = open_shards(tmp_path / "s.tar")
    assert found.labels_N.tolist() == [0, 1, 0, 1, 0, 1] and found.class_names is None


def test_names_of_classes(tmp_path: Path) -> None:
    """In .cls, in .json, or as the folders of the keys; in whatever order the members come."""
    words = ["dog", "cat", "dog", "cat"]
    pictures = [(f"{n}.png", picture(n)) for n in range(4)]
    write_tar(tmp_path / "a.tar", [*pictures, *((f"{n}.cls", word.encode()) for n, word in enumerate(words))])
    said = [(f"{n}.json", json.dumps({"class": word}).encode()) for n, word in enumerate(words)]
    write_tar(tmp_path / "b.tar", [*said, *pictures])
    write_tar(tmp_path / "c.tar", [(f"{word}/{n}.png", picture(n)) for n, word in enumerate(words)])
    for name in "abc":
        found = open_shards(tmp_path / f"{name}.tar")
        assert (found.class_names, found.labels_N.tolist()) == (("cat", "dog"), [1, 0, 1, 0])
    assert open_shards(tmp_path / "a.tar", ("ape", "dog", "cat")).labels_N.tolist() == [1, 2, 1, 2]
    with pytest.raises(DataError, match=r"'dog' is not among the classes ape, cat"):
        open_shards(tmp_path / "a.tar", ("ape", "cat"))


def test_classes_in_a_table_beside_the_shards(tmp_path: Path, convolve: Convolve) -> None:
    """KEY and class, also for train/ and val/ together; it counts before what lies in the shards."""
    pictures = [(f"a/{n}.png", picture(n)) for n in range(6)]
    write_tar(tmp_path / "set/train/0.tar", pictures[:4])
    write_tar(tmp_path / "set/val/0.tar", pictures[4:])
    rows = [f"a/{n},{'cat' if n % 2 else 'dog'}" for n in range(6)]
    table = tmp_path / "set" / "classes.csv"
    table.write_text("\n".join(["key,class", *rows, "b/7,owl"]))
    splits = open_data(str(tmp_path / "set"))
    assert splits.class_names == ("cat", "dog", "owl")
    assert (splits.train.labels_N.tolist(), splits.test.labels_N.tolist()) == ([0, 0, 1, 1], [0, 1])
    one = tmp_path / "one"
    labeled = [*pictures, *((f"a/{n}.cls", b"7") for n in range(6))]
    write_tar(one / "0.tar", labeled)
    (one / "classes.tsv").write_text("file\tlabel\n" + "\n".join(f"a/{n}.png\t{n % 2}" for n in range(6)))
    assert open_shards(one).labels_N.tolist() == [0, 1, 0, 1, 0, 1]
    for bad, words in (
        (rows[:4], ["val/0.tar@/a/4.png", "classes.csv gives this key no class", "add a row"]),
        ([*rows, "a/2,cat"], ["classes.csv: line 8", "a/2 is cat here and dog above", "correct one"]),
        ([*rows, "a/9"], ["classes.csv: line 8", "1 columns, the header has 2"]),
    ):
        table.write_text("\n".join(["key,class", *bad]))
        assert_refused(convolve("train", "photos", "--data", tmp_path / "set", "--out", tmp_path / "run"), 3, *words)
    write_tar(one / "1.tar", labeled)
    with pytest.raises(DataError, match=r"0\.tar@/a/0\.png and .*1\.tar@/a/0\.png have the same key.*rename one"):
        open_shards(one)


def test_the_parts_of_a_set(tmp_path: Path) -> None:
    for folder in ("by_name", "by_folder/train", "by_folder/val"):
        (tmp_path / folder).mkdir(parents=True)
    for number in range(2):
        write_tar(tmp_path / f"by_name/x-train-{number}.tar", samples(range(number, 12, 2)))
        write_tar(tmp_path / f"by_folder/train/{number}.tar", samples(range(number, 12, 2)))
    write_tar(tmp_path / "by_name/x-val-0.tar", samples(range(12, 18)))
    write_tar(tmp_path / "by_folder/val/0.tar", samples(range(12, 18)))
    for place in (tmp_path / "by_name", tmp_path / "by_folder"):
        (place / "labels.txt").write_text("ape\nbee\ncow\n")
        splits = open_data(str(place))
        assert (len(splits.train), len(splits.test), splits.class_names) == (12, 6, ("ape", "bee", "cow"))
    for pattern, count in (("x-train-{0..1}.tar", 12), ("x-{train,val}-0.tar", 12), ("x-train-[1].tar", 6), ("*", 18)):
        found = open_shards(tmp_path / "by_name" / pattern)
        assert len(found) == count
    with pytest.raises(DataError, match=r"x-train-2\.tar, which .* does not exist; .*correct the pattern"):
        open_shards(tmp_path / "by_name/x-train-{0..2}.tar")


def test_the_index_is_made_once_and_mapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = write_shards(tmp_path / "set")
    first = open_shards(place)
    with monkeypatch.context() as patched:
        patched.setattr(shard_index, "_make", None)
        again = open_shards(place)
    assert isinstance(again.listing, shard_index.ShardListing)
    for array in (again.listing.index.rows_N, again.listing.index.names):
        assert isinstance(array.base, np.memmap)
    assert again.digest() == first.digest()
    assert again.listing.index.rows_N.nbytes + again.listing.index.names.nbytes < 24 * 50
    write_tar(place / "set-001.tar", samples(range(30, 36)))
    assert len(open_shards(place)) == 22  # a shard that changed makes another index


def test_the_same_wherever_they_lie(tmp_path: Path) -> None:
    place = write_shards(tmp_path / "set")
    before = open_data(str(place)).fingerprint()
    place.rename(tmp_path / "elsewhere")
    assert open_data(str(tmp_path / "elsewhere")).fingerprint() == before


def test_images_to_predict_need_no_labels(tmp_path: Path) -> None:
    write_tar(tmp_path / "new/0.tar", [(f"{n}.png", picture(n)) for n in range(5)])
    write_shards(tmp_path / "set")
    with ByteReader() as reader:
        assert [reader.read(place) for place in find_images([tmp_path / "new"])] == [picture(n) for n in range(5)]
        assert len(list(find_images([tmp_path / "set", tmp_path / "new" / "*.tar"]))) == 29
        assert reader.read(Location(str(tmp_path / "new/0.tar"), "3.png")) == picture(3)  # as a table calls it
    with pytest.raises(DataError, match=r"0\.png: its images have no labels; give each a KEY\.cls"):
        open_shards(tmp_path / "new")


def cut(path: Path, size: int) -> None:
    path.write_bytes(path.read_bytes()[:size])


def break_a_header(place: Path) -> None:
    content = bytearray((place / "set-001.tar").read_bytes())
    content[content.index(b"0004.png")] = ord("9")
    (place / "set-001.tar").write_bytes(content)


BAD = {
    "cut within an image": (lambda place: cut(place / "set-001.tar", 2600), ["set-001.tar", "0004.png", "get the"]),
    "cut between members": (lambda place: cut(place / "set-001.tar", 2048), ["set-001.tar", "byte 1536", "cut off"]),
    "cut before its end": (lambda place: cut(place / "set-002.tar", 16 * 1024), ["set-002.tar", "0023.cls", "cut off"]),
    "a damaged header": (break_a_header, ["set-001.tar", "byte 2048", "damaged"]),
    "no tar": (lambda place: (place / "set-001.tar").write_bytes(b"\x1f\x8b" * 999), ["set-001.tar", "gunzip"]),
    "another label of one key": (
        lambda place: write_tar(place / "set-003.tar", [("0004.png", picture(9)), ("0004.cls", b"2")]),
        ["key 0004", "1 in", "set-001.tar", "2 in", "set-003.tar", "correct one"],
    ),
    "another label in .json": (
        lambda place: write_tar(place / "set-003.tar", [*samples([50]), ("0050.json", b'{"label": 1}')]),
        ["set-003.tar", "key 0050", ".cls says 2, .json 1", "correct"],
    ),
    "a key without an image": (
        lambda place: write_tar(place / "set-003.tar", [*samples([50]), ("0051.cls", b"1")]),
        ["set-003.tar", "key 0051", "no image", "remove the label"],
    ),
    "a key without a label": (
        lambda place: write_tar(place / "set-003.tar", [*samples([50]), ("0051.png", picture(51))]),
        ["set-003.tar", "key 0051", "has no label", "label all"],
    ),
    "a name among numbers": (
        lambda place: write_tar(place / "set-003.tar", [("0051.png", picture(51)), ("0051.cls", b"cat")]),
        ["set-003.tar", "key 0051", "the name cat", "set-000.tar", "by number or by name"],
    ),
    "an empty label": (
        lambda place: write_tar(place / "set-003.tar", [*samples([50]), ("0051.png", picture(51)), ("0051.cls", b"")]),
        ["set-003.tar", "key 0051", "empty"],
    ),
    "two images of a key": (
        lambda place: write_tar(place / "set-003.tar", [*samples([50]), ("0050.jpg", picture(51))]),
        ["set-003.tar", "key 0050", "0050.png and 0050.jpg"],
    ),
    "a class that no list names": (
        lambda place: write_tar(place / "set-003.tar", [("0051.png", picture(51)), ("0051.cls", b"7")]),
        ["set-003.tar@/0051.png", "class 7, but only 3 have names", "labels.txt"],
    ),
    "a shard of nothing": (lambda place: write_tar(place / "set-003.tar", []), ["set-003.tar", "no image"]),
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD)
def test_bad_shards_are_one_sentence(tmp_path: Path, convolve: Convolve, kind: str) -> None:
    place = write_shards(tmp_path / "set")
    harm, words = BAD[kind]
    harm(place)
    found = convolve("train", "photos", "--data", place, "--out", tmp_path / "run")
    assert_refused(found, 3, *words)
    assert not (tmp_path / "run").exists()
    checked = convolve("check-data", place)
    assert checked.code == 3 and all(word in checked.out for word in words), checked.out


def test_two_shards_of_one_name(tmp_path: Path) -> None:
    write_shards(tmp_path / "a")
    write_shards(tmp_path / "b")
    with pytest.raises(
        DataError, match=r"the shards .*a/set-000\.tar and .*b/set-000\.tar have the same name, set-000"
    ):
        open_shards(tmp_path / "{a,b}" / "set-000.tar")


def test_keys_that_each_shard_counts_anew(tmp_path: Path) -> None:
    """They name other images; but the same image under one key has one label."""
    for shard, numbers in (("a", range(4)), ("b", range(5, 9))):
        members = [(f"{at}.png", picture(number)) for at, number in enumerate(numbers)]
        labels = [(f"{at}.cls", b"%d" % (number % 2)) for at, number in enumerate(numbers)]
        write_tar(tmp_path / f"{shard}.tar", [*members, *labels])
    assert open_shards(tmp_path).labels_N.tolist() == [0, 1, 0, 1, 1, 0, 1, 0]
    write_tar(tmp_path / "c.tar", [("0.png", picture(0)), ("0.cls", b"1")])
    with pytest.raises(DataError, match=r"key 0: its labels differ, 0 in .*a\.tar and 1 in .*c\.tar"):
        open_shards(tmp_path)
