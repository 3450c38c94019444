"""Caffe's LMDBs, written by lmdb and Google's protobuf from the fields that caffe.proto has, against the same files."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from convolve.data.open import open_data, open_to_check
from convolve.data.sources.lmdb import open_lmdb
from convolve.errors import DataError, FormatError
from convolve.formats.caffe_lmdb import open_caffe_lmdb
from convolve.formats.decode import Decoding

lmdb = pytest.importorskip("lmdb")
descriptor_pb2 = pytest.importorskip("google.protobuf.descriptor_pb2")


def datum_class() -> Callable[[], object]:
    """caffe.proto: message Datum."""
    from google.protobuf import descriptor_pool, message_factory

    kind = descriptor_pb2.FieldDescriptorProto
    fields = [("channels", 1, kind.TYPE_INT32), ("height", 2, kind.TYPE_INT32), ("width", 3, kind.TYPE_INT32)]
    fields += [("data", 4, kind.TYPE_BYTES), ("label", 5, kind.TYPE_INT32), ("float_data", 6, kind.TYPE_FLOAT)]
    file = descriptor_pb2.FileDescriptorProto(name="caffe.proto", package="caffe", syntax="proto2")
    message = file.message_type.add(name="Datum")
    for name, number, of in [*fields, ("encoded", 7, kind.TYPE_BOOL)]:
        label = kind.LABEL_REPEATED if name == "float_data" else kind.LABEL_OPTIONAL
        message.field.add(name=name, number=number, type=of, label=label)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("caffe.Datum"))


Datum = datum_class()


def plain(image_HWC: np.ndarray, label: int) -> bytes:
    """As Caffe's CVMatToDatum."""
    height, width, channels = image_HWC.shape
    data = image_HWC.transpose(2, 0, 1).tobytes()
    return Datum(channels=channels, height=height, width=width, data=data, label=label).SerializeToString()


def encoded(image_HWC: np.ndarray, label: int) -> bytes:
    """As its ReadFileToDatum, which convert_imageset -encoded calls."""
    content = cv2.imencode(".png", image_HWC)[1].tobytes()
    return Datum(data=content, label=label, encoded=True).SerializeToString()


def write(folder: Path, records: list[bytes]) -> Path:
    folder.parent.mkdir(exist_ok=True)
    with lmdb.open(str(folder), map_size=1 << 24) as environment, environment.begin(write=True) as transaction:
        for number, record in enumerate(records):
            transaction.put(b"%08d_n%d/%d.JPEG" % (number, number % 3, number), record)
    return folder


def images(channels: int, count: int = 12) -> list[np.ndarray]:
    rng = np.random.default_rng(channels)
    return [rng.integers(0, 256, (5 + number, 7, channels), dtype=np.uint8) for number in range(count)]


@pytest.mark.parametrize("pack", [plain, encoded])
@pytest.mark.parametrize("channels", [1, 3])
def test_images_and_labels(channels: int, pack: Callable[[np.ndarray, int], bytes], tmp_path: Path) -> None:
    wanted = images(channels)
    write(tmp_path / "x_lmdb", [pack(image, number % 3) for number, image in enumerate(wanted)])
    source = open_lmdb(tmp_path / "x_lmdb")
    assert source.labels_N.tolist() == [number % 3 for number in range(len(wanted))]
    for index, image_HWC in enumerate(wanted):
        assert np.array_equal(source.load(index, Decoding(gray=channels == 1)), image_HWC)
    assert source.location(4) == f"{tmp_path / 'x_lmdb' / 'data.mdb'}: record 00000004_n1/4.JPEG"
    assert source.digest() == open_lmdb(tmp_path / "x_lmdb").digest()


@pytest.mark.parametrize("parts", [("train",), ("train", "val"), ("train", "val", "test")])
def test_a_set_of_them(parts: tuple[str, ...], tmp_path: Path) -> None:
    for number, part in enumerate(parts):
        write(
            tmp_path / "set" / f"ilsvrc12_{part}_lmdb",
            [plain(image, k % 3) for k, image in enumerate(images(3, 12 - 3 * number))],
        )
    (tmp_path / "set" / "labels.txt").write_text("bear\ncat\nkoala\n")
    data = open_data(str(tmp_path / "set"))
    assert data.class_names == ("bear", "cat", "koala")
    assert data.held_out == (len(parts) == 1)
    assert len(data.train) + len(data.test) == (12 if len(parts) == 1 else 21 if len(parts) == 2 else 18)
    checked = open_to_check(tmp_path / "set", None, lambda *fault: pytest.fail(str(fault)))
    assert [len(part) for _, part in checked] == [12, 9, 6][: len(parts)]


def test_one_alone(tmp_path: Path) -> None:
    data = open_data(str(write(tmp_path / "x", [plain(image, k % 3) for k, image in enumerate(images(3))])))
    assert data.held_out and data.numbered and data.class_names == ("0", "1", "2")


@pytest.mark.parametrize(
    ("record", "words"),
    [
        (Datum(data=b"123", label=1 << 30, channels=1, height=1, width=3).SerializeToString(), None),
        (Datum(data=b"123", label=-1).SerializeToString(), "class -1; classes count from 0"),
        (b"no datum of Caffe", "not a Datum of Caffe"),
        (b"\x22\xff\xff\xff\x7f", "not a Datum of Caffe"),
        (b"\x28" + b"\xff" * 12, "not a Datum of Caffe"),
    ],
)
def test_a_record_that_is_none_is_named(record: bytes, words: str | None, tmp_path: Path) -> None:
    folder = write(tmp_path / "x", [plain(image, k % 3) for k, image in enumerate(images(1))] + [record])
    with pytest.raises(DataError, match=words or "class 1073741824 in a list of 13 images") as refused:
        open_data(str(folder))
    assert "record 00000012_n0/12.JPEG" in str(refused.value)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        (
            {"channels": 1, "height": 2, "width": 2, "float_data": [0.5] * 4},
            r"1 x 2 x 2 .* in 0 bytes; .* not floats",
        ),
        ({"channels": 2, "height": 1, "width": 1, "data": b"12"}, "images have 1 or 3 channels"),
        ({"channels": 3, "height": 1 << 20, "width": 1 << 20, "data": b"12"}, "in 2 bytes"),
        ({"data": b"no image", "encoded": True}, "not a JPEG"),
    ],
)
def test_an_image_that_is_none_is_named(fields: dict[str, object], words: str, tmp_path: Path) -> None:
    source = open_lmdb(write(tmp_path / "x", [Datum(label=0, **fields).SerializeToString()]))
    with pytest.raises(DataError, match=words) as refused:
        source.load(0, Decoding())
    assert "record 00000000_n0/0.JPEG" in str(refused.value)


def test_names_that_do_not_reach(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("bear\ncat\n")
    folder = write(tmp_path / "x", [plain(image, k % 3) for k, image in enumerate(images(1))])
    with pytest.raises(FormatError, match=r"00000002_n2/2\.JPEG: class 2, but only 2 have names"):
        open_lmdb(folder)


def test_many_records_of_all_sizes_in_the_order_of_their_keys(tmp_path: Path) -> None:
    """Some in pages of their own, in a tree of several levels, after others were taken out again."""
    rng, kept = random.Random(0), {}
    with lmdb.open(str(tmp_path / "x"), map_size=1 << 26) as environment:
        for _ in range(5):
            with environment.begin(write=True) as transaction:
                for key in rng.sample(sorted(kept), len(kept) // 3):
                    transaction.delete(key)
                    del kept[key]
                for _ in range(1500):
                    key, size = b"%d" % rng.randrange(10**12), rng.choice((0, 10, 500, 2000, 2040, 4080, 20000))
                    kept[key] = Datum(label=rng.randrange(9), data=rng.randbytes(size), encoded=True)
                    transaction.put(key, kept[key].SerializeToString())
    found = open_caffe_lmdb(tmp_path / "x")
    assert list(found.keys) == sorted(kept)
    for index, key in enumerate(found.keys):
        assert (found.read(index), found.labels_N[index]) == (kept[key].data, kept[key].label)


def test_none_at_all(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no record"):
        open_lmdb(write(tmp_path / "x", []))


def test_what_is_no_whole_file_is_named(tmp_path: Path) -> None:
    folder = write(tmp_path / "x", [plain(image, k % 3) for k, image in enumerate(images(3, 40))])
    whole = (folder / "data.mdb").read_bytes()
    for end in (0, 100, 4096, 5000, len(whole) // 2, len(whole) - 4096, len(whole) - 1):
        (folder / "data.mdb").write_bytes(whole[:end])
        with pytest.raises(FormatError, match=r"x.data\.mdb: byte"):
            open_lmdb(folder)
    (folder / "data.mdb").write_bytes(random.Random(0).randbytes(len(whole)))
    with pytest.raises(FormatError, match="not an LMDB file of a machine like this one"):
        open_lmdb(folder)
