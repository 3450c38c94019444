"""A user's own images: every layout, the names of the classes, the part held out, the size that is taken."""

from __future__ import annotations

import base64
import zipfile
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

from convolve.data.caching import measured
from convolve.data.lists import find_lists, open_list, open_lists
from convolve.data.open import open_data
from convolve.data.sources.cifar import CLASS_NAMES
from convolve.data.sources.source import ArraySource
from convolve.errors import ConvolveError, DataError
from convolve.formats.decode import Decoding
from convolve.formats.idx import read_idx
from convolve.prepare.mnist import prepare_mnist

NAMES = ("cat", "dög", "wolf")
COUNTS = (10, 6, 3)


def write(path: Path, number: int, size: tuple[int, int] = (12, 10)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encoded(number, size))


def encoded(number: int, size: tuple[int, int] = (12, 10)) -> bytes:
    return cv2.imencode(".png", np.full((*size, 3), number, np.uint8))[1].tobytes()


def rows() -> list[tuple[int, str, int]]:
    """(number, class name, class) of each image."""
    classes = [k for k, count in enumerate(COUNTS) for _ in range(count)]
    return [(number, NAMES[k], k) for number, k in enumerate(classes)]


def class_folders(place: Path) -> Path:
    for number, name, _ in rows():
        write(place / name / "deeper" / f"{number}.png" if number % 2 else place / name / f"{number}.png", number)
    (place / ".hidden").mkdir()
    return place


def map_file(place: Path) -> Path:
    for number, _, _ in rows():
        write(place / f"{number}.png", number)
    (place / "images.txt").write_text("".join(f".../{number}.png\t{k}\n" for number, _, k in rows()))
    (place / "labels.txt").write_text("".join(f"{name}\n" for name in NAMES), encoding="utf-8")
    return place / "images.txt"


def zipped_map(place: Path) -> Path:
    with zipfile.ZipFile(place / "all.zip", "w") as archive:
        for number, _, _ in rows():
            archive.writestr(f"in/{number}.png", encoded(number))
    (place / "images.txt").write_text("".join(f"{n}\t.../all.zip@/in/{n}.png\t{k}\n" for n, _, k in rows()))
    (place / "classmappings.txt").write_text("".join(f"{k}\t{n}\n" for k, n in enumerate(NAMES)), encoding="utf-8")
    return place / "images.txt"


def base64_map(place: Path) -> Path:
    lines = [f"{k}\t{base64.b64encode(encoded(number)).decode()}\n" for number, _, k in rows()]
    (place / "images.txt").write_text("".join(lines))
    (place / "labels.txt").write_text("".join(f"{name}\n" for name in NAMES), encoding="utf-8")
    return place / "images.txt"


def table(place: Path) -> Path:
    for number, _, _ in rows():
        write(place / "images" / f"{number}.png", number)
    lines = [f"{name},images/{number}.png\n" for number, name, _ in rows()]
    (place / "images.csv").write_text("label,path\n" + "".join(lines), encoding="utf-8")
    return place / "images.csv"


LAYOUTS = {f.__name__: f for f in (class_folders, map_file, zipped_map, base64_map, table)}


def numbers(part) -> list[int]:  # type: ignore[no-untyped-def]
    return [int(part.load(index, Decoding(gray=True))[0, 0, 0]) for index in range(len(part))]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_layout_holds_the_same_images(layout: str, tmp_path: Path) -> None:
    place = LAYOUTS[layout](tmp_path)
    own = open_lists(place)
    assert own.class_names == NAMES and not own.numbered and own.held_out
    labels = dict(zip(numbers(own.train) + numbers(own.test), [*own.train.labels_N, *own.test.labels_N], strict=True))
    assert {number: int(label) for number, label in labels.items()} == {number: k for number, _, k in rows()}
    held_out = Counter(own.test.labels_N.tolist())
    assert {*held_out} == {0, 1, 2} and all(held_out[k] < count for k, count in enumerate(COUNTS))
    again = open_lists(place)
    assert numbers(again.test) == numbers(own.test) and again.fingerprint() == own.fingerprint()
    assert [measured(part, Decoding()).size for part in (own.train, own.test)] == [(12, 10), (12, 10)]


def test_two_parts(tmp_path: Path) -> None:
    class_folders(tmp_path / "train")
    write(tmp_path / "val" / "wolf" / "a.png", 200)
    own = open_lists(tmp_path)
    assert not own.held_out and numbers(own.test) == [200] and own.test.labels_N.tolist() == [2]
    assert len(own.train) == sum(COUNTS)
    test = open_list(tmp_path / "val", ("wolf", "x", "dög", "cat"))
    assert test.labels_N.tolist() == [0]
    write(tmp_path / "val" / "fox" / "a.png", 200)
    with pytest.raises(
        DataError, match=r"val: 'fox' is not among the classes cat, dög, wolf; name the subfolders after the classes"
    ):
        open_lists(tmp_path)


def test_two_maps_without_names_count_their_classes_together(tmp_path: Path) -> None:
    for number in range(4):
        write(tmp_path / f"{number}.png", number)
    (tmp_path / "train_map.txt").write_text(".../0.png\t0\n.../1.png\t2\n")
    (tmp_path / "test_map.txt").write_text(".../2.png\t4\n")
    own = open_lists(tmp_path)
    assert own.class_names == ("0", "1", "2", "3", "4") and own.numbered and not own.held_out
    assert own.train.chunk_N is not None and own.train.chunk_N.tolist() == [0, 1]


@pytest.mark.parametrize(("size", "own"), [((32, 32), False), ((32, 40), True)])
def test_ten_classes_without_names_are_cifar10_only_at_its_size(
    size: tuple[int, int], own: bool, tmp_path: Path
) -> None:
    for number in range(10):
        write(tmp_path / f"{number}.png", number, size)
    for name in ("train_map.txt", "test_map.txt"):
        (tmp_path / name).write_text("".join(f".../{number}.png\t{number}\n" for number in range(10)))
    found = open_data(str(tmp_path), "cifar10")
    assert (found.array_shape_CHW is None) == own
    assert found.name == (tmp_path.name if own else "cifar10")
    assert found.class_names == (tuple("0123456789") if own else CLASS_NAMES)


@pytest.mark.parametrize(
    ("sizes", "common"),
    [
        ([(12, 10)] * 4, (12, 10)), ([(96, 96)] * 4, (96, 96)), ([(97, 97)] * 4, None),
        ([(12, 10), (12, 10), (12, 11), (12, 10)], None),
    ],
)  # fmt: skip
def test_the_size_is_known_if_all_have_a_small_one(
    sizes: list[tuple[int, int]], common: tuple[int, int] | None, tmp_path: Path
) -> None:
    for part in ("train", "test"):
        for number, size in enumerate(sizes):
            write(tmp_path / part / "ab"[number % 2] / f"{number}.png", number, size)
    assert measured(open_lists(tmp_path).train, Decoding(gray=True)).size == common


@pytest.mark.parametrize("channels", [1, 3])
def test_small_images_of_one_size_are_in_memory_from_the_start(channels: int, tmp_path: Path) -> None:
    class_folders(tmp_path)
    own = open_lists(tmp_path)
    for part in (own.train, own.test):
        cached = measured(part, Decoding(gray=channels == 1))
        assert isinstance(cached, ArraySource) and cached.labels_N.tolist() == part.labels_N.tolist()
        for index in range(len(part)):
            assert (cached.load(index, Decoding()) == part.load(index, Decoding(gray=channels == 1))).all()
            assert cached.location(index) == part.location(index)
        assert cached.take(np.array([1])).load(0, Decoding(gray=True))[0, 0, 0] == numbers(part)[1]


def test_damaged_images_and_more_than_fits_stay_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class_folders(tmp_path)
    own = open_lists(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr("convolve.data.caching.CACHE_BYTES", 1000)
        assert not isinstance(measured(own.train, Decoding()), ArraySource)
    Path(own.train.location(2)).write_bytes(b"none")
    train = measured(own.train, Decoding())
    assert not isinstance(train, ArraySource) and train.size == (12, 10)


def test_the_fingerprint_tells_sets_apart_but_not_where_they_lie(tmp_path: Path) -> None:
    prints = [open_lists(class_folders(tmp_path / name)).fingerprint() for name in ("one", "other")]
    assert prints[0] == prints[1]
    (tmp_path / "one" / "cat" / "0.png").rename(tmp_path / "one" / "wolf" / "0.png")
    write(tmp_path / "other" / "cat" / "0.png", 0, (12, 30))
    assert len({*prints, *(open_lists(tmp_path / name).fingerprint() for name in ("one", "other"))}) == 3


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("path,label\n0.png,0\n1.png,3\n", r"images\.csv: line 3: the label is 3; with 3 classes"),
        ("path,label\n0.png,cat\n0.png,dog\n", "no class has two images"),
    ],
)
def test_what_is_refused(lines: str, message: str, tmp_path: Path) -> None:
    write(tmp_path / "0.png", 0)
    (tmp_path / "images.csv").write_text(lines)
    (tmp_path / "labels.txt").write_text("a\nb\nc\n")
    with pytest.raises(DataError, match=message):
        open_lists(tmp_path / "images.csv")


def test_a_label_of_no_class_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"images\.csv: line 12: 'dög' is not among the classes cat, wolf"):
        open_list(table(tmp_path), ("cat", "wolf"))


def test_a_damaged_map_names_its_line(tmp_path: Path) -> None:
    map_file(tmp_path)
    (tmp_path / "images.txt").write_text(".../0.png\t0\n.../1.png\tx\n")
    with pytest.raises(DataError, match=r"images\.txt: line 2: the label must be a whole number"):
        open_lists(tmp_path / "images.txt")


def test_what_is_no_own_set(tmp_path: Path, tiny_mnist: Path) -> None:
    (tmp_path / "empty" / "a").mkdir(parents=True)
    (tmp_path / "a.tar.gz").write_bytes(b"\x1f\x8b\x08\x00")
    for place in (tmp_path / "empty", tmp_path / "nothing", tmp_path / "a.tar.gz", tiny_mnist):
        assert find_lists(place) is None
    with pytest.raises(ConvolveError, match="holds no labeled images"):
        open_lists(tmp_path / "empty")
    (tmp_path / "empty" / "recipe.json").write_text("{}")
    with pytest.raises(ConvolveError, match="is a model or a run, not a set of images"):
        open_lists(tmp_path / "empty")
    write(tmp_path / "flat" / "1.png", 1)
    with pytest.raises(ConvolveError, match=r"no CIFAR-10 in .*flat.*your own images need a subfolder"):
        open_data(str(tmp_path / "flat"), "cifar10")


def test_prepared_mnist_is_mnist_and_not_ones_own(tiny_mnist: Path, tmp_path: Path) -> None:
    list(prepare_mnist(tiny_mnist, tmp_path / "mnist"))
    assert open_data(str(tmp_path / "mnist"), "mnist").array_shape_CHW == (1, 28, 28)
    for file in (tmp_path / "mnist").glob("*28x28*"):
        file.unlink()
    own = open_data(str(tmp_path / "mnist"), "mnist")  # the pictures alone
    assert own.array_shape_CHW is None and measured(own.test, Decoding(gray=True)).size == (28, 28)
    images_NHW = read_idx(tiny_mnist / "t10k-images-idx3-ubyte")
    order = np.argsort(read_idx(tiny_mnist / "t10k-labels-idx1-ubyte"), kind="stable")  # by class, then by name
    for index in (0, 149):
        np.testing.assert_array_equal(own.test.load(index, Decoding(gray=True))[:, :, 0], images_NHW[order[index]])


def test_one_class_is_no_set(tmp_path: Path) -> None:
    """As where the images of a table lie in a folder beside it, and the folder of both is given."""
    for number in range(4):
        write(tmp_path / "images" / f"{number}.png", number)
    with pytest.raises(DataError, match=r"only one class \(images\).*a subfolder for each class"):
        open_lists(tmp_path)
    (tmp_path / "labels.csv").write_text("path,label\nimages/0.png,cat\n")
    with pytest.raises(DataError, match=r"give the table itself: .*labels\.csv"):
        open_lists(tmp_path)


def test_identifiers_are_no_class_numbers(tmp_path: Path) -> None:
    for number in range(4):
        write(tmp_path / f"{number}.png", number)
    (tmp_path / "train_map.txt").write_text(".../0.png\t7\n.../1.png\t20240001\n")
    (tmp_path / "test_map.txt").write_text(".../2.png\t999\n")
    with pytest.raises(DataError, match=r"train_map\.txt: line 2: class 20240001 in a list of 3 images.*labels\.txt"):
        open_lists(tmp_path)
    (tmp_path / "train_map.txt").write_text(".../0.png\t7\n.../1.png\t8\n")
    assert len(open_lists(tmp_path).class_names) == 1000


def test_columns_the_other_way_round(tmp_path: Path) -> None:
    (tmp_path / "images.txt").write_text("0\ta/b.png\n")
    with pytest.raises(DataError, match=r"line 1: the columns are in the wrong order; a line is path TAB"):
        open_lists(tmp_path / "images.txt")


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"\0\0\x08\3\0", "byte 0: an IDX file"),
        (b"\x89PNG\r\n\x1a\n\0", "byte 8: a zero byte: a binary or UTF-16 file"),
    ],
)
def test_files_of_other_kinds_are_called_by_their_name(content: bytes, kind: str, tmp_path: Path) -> None:
    (tmp_path / "train").write_bytes(content)
    with pytest.raises(DataError, match=f"train: {kind}, not a list of images"):
        open_lists(tmp_path / "train")
