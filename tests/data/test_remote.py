"""What lies elsewhere: it is read whole or not at all, in an order that the seed decides, within a bounded cache."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from command_line import Convolve, assert_refused
from convolve import cache, load, remote
from convolve.data import shard_layout
from convolve.data.dataset import Dataset
from convolve.data.image_files import find_images
from convolve.data.loader import Loader
from convolve.data.open import open_data
from convolve.data.order import streamed_order
from convolve.data.sources.files import FileSource
from convolve.data.sources.shards import open_shards
from convolve.errors import DataError, MissingDataError
from convolve.formats.archive import ByteReader
from processes import start
from remote_servers import Store, failing_store, lead_to_s3, nginx, s3
from shard_files import CLASSES, picture, samples, write_shards, write_tar

pytest.importorskip("fsspec", reason="fsspec is not installed")
pytest.importorskip("aiohttp", reason="aiohttp is not installed")


@pytest.fixture(autouse=True)
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A cache of its own, and a process that knows no state of any object."""
    monkeypatch.setenv("CONVOLVE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(remote, "PAUSES", (0.0, 0.0, 0.0))
    for name in ("_states", "_marked", "_following", "_fetching"):
        monkeypatch.setattr(remote, name, {})
    shard_layout._remote_files.cache_clear()
    yield
    shard_layout._remote_files.cache_clear()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    write_shards(tmp_path / "there")
    with failing_store(tmp_path / "there") as server:
        yield server


ALL = "set-{000..002}.tar"


def images(source: FileSource) -> list[int]:
    """The number of each picture, whose bytes must be right."""
    numbers = [int(source.location(index)[-8:-4]) for index in range(len(source))]
    assert [source.read(index) for index in range(len(source))] == [picture(number) for number in numbers]
    return numbers


def test_addresses() -> None:
    for text in ("s3://team/photos", "https://host:80/a/b.tar", "S3://team/photos"):
        assert (
            remote.address(Path(text)) == remote.address(text) == text.lower().replace(":/", "://").replace("///", "//")
        )
    for text in ("/a/b", "C:\\photos", "C:/photos", "timm:resnet18", "file:///a", "a.prototxt+b.caffemodel"):
        assert remote.address(text) is None


def test_nginx(tmp_path: Path, convolve: Convolve) -> None:
    """Folders that it lists, patterns, single shards; the class names beside them; images without labels."""
    write_shards(tmp_path / "there/set")
    write_tar(tmp_path / "there/set/val-0.tar", samples(range(30, 33)))
    write_tar(tmp_path / "there/new/0.tar", [(f"{n:04}.png", picture(n)) for n in range(5)])
    with nginx(tmp_path / "there", tmp_path / "nginx") as url:
        for name, count in (("set", 27), ("set/", 27), ("set/set-{000..001}.tar", 16), ("set/s*.tar", 24)):
            found = open_shards(Path(f"{url}/{name}"))
            assert (len(images(found)), found.class_names) == (count, CLASSES)
        with ByteReader() as reader:
            places = list(find_images([Path(f"{url}/new")]))
            assert [reader.read(place) for place in places] == [picture(number) for number in range(5)]
        checked = convolve("check-data", f"{url}/set/set-000.tar")
        assert "8 training images" in checked.out, checked
        with pytest.raises(MissingDataError, match=rf"{url}/nothing.*correct the address"):
            open_data(f"{url}/nothing")


@pytest.mark.parametrize("kind", ["small", "moto"])
def test_s3(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, convolve: Convolve) -> None:
    """Written there, kept when written again, read from there, with the index that lies beside."""
    write_shards(tmp_path / "set")
    with s3(monkeypatch, tmp_path / "s3", kind) as bucket:
        arguments = ("prepare", "shards", "--source", tmp_path / "set", "--out", f"{bucket}/photos")
        first, again = convolve(*arguments), convolve(*arguments)
        assert first.code == again.code == 0, first.err + again.err
        assert (
            f"{bucket}/photos: 24 training images in 1 shards\n" in first.out and "1 of them already there" in again.out
        )
        names = [name.rpartition("/")[2] for name in remote.names(f"{bucket}/photos")[0]]
        assert names == ["labels.txt", "train-000000.tar", "train-index.npz"]
        shutil.rmtree(tmp_path / "cache")
        found = open_shards(Path(f"{bucket}/photos"))
        assert not list((tmp_path / "cache" / "remote").glob("*.tar"))  # nobody had to read them for it
        assert sorted(images(found)) == list(range(24)) and found.class_names == CLASSES
        assert open_data(f"{bucket}/photos").description.startswith(f"{bucket}/photos, 3 classes")
        with pytest.raises(MissingDataError, match="s3://team/elsewhere: there are no shards"):
            open_data(f"{bucket}/elsewhere")


def test_a_model_from_elsewhere(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with nginx(model.parent, tmp_path / "nginx") as url:
        assert load(f"{url}/{model.name}").class_names == load(model).class_names
        assert load(Path(f"{url}/{model.name}")).class_names == tuple("0123456789")
        with pytest.raises(DataError, match=rf"{url}/none"):
            load(f"{url}/none.onnx")


@pytest.mark.parametrize("faults", [["503", "500"], ["cut", "cut"], ["short", "cut", "503"], ["no ranges"]])
def test_what_fails_now_and_then_is_asked_again(store: Store, faults: list[str]) -> None:
    store.faults = {f"/set-{number:03}.tar": [*faults] for number in range(3)}
    assert sorted(images(open_shards(Path(f"{store.url}/{ALL}")))) == list(range(24))
    assert not any(store.faults.values())


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("short", ["set-001.tar", "4 attempts", "check the connection"]),
        ("cut", ["set-001.tar", "4 attempts", "check the connection"]),
        ("503", ["set-001.tar", "4 attempts", "503"]),
        ("403", ["set-001.tar", "credentials were refused", "ask its owner"]),
        ("change", ["set-001.tar", "changed while it was read", "start over"]),
    ],
)
def test_what_fails_for_good_is_one_sentence(
    store: Store, convolve: Convolve, tmp_path: Path, fault: str, words: list[str]
) -> None:
    store.faults = {"/set-001.tar": [fault] * 99}
    found = convolve("train", "photos", "--data", f"{store.url}/{ALL}", "--out", tmp_path / "run")
    assert_refused(found, 3, *words)
    assert not (tmp_path / "run").exists()
    cached = [path.name for path in (tmp_path / "cache" / "remote").iterdir()]
    assert not [name for name in cached if "set-001" in name]  # a hash stands before it, in which 001 may be


@pytest.mark.skipif(sys.platform == "win32", reason="Windows limits no files")
def test_a_cache_on_a_full_disk(store: Store, tmp_path: Path) -> None:
    words = ("train", "photos", "--data", f"{store.url}/{ALL}", "--out", tmp_path / "run")
    environ = {"CONVOLVE_CACHE": str(tmp_path / "cache")}
    found = start(tmp_path / "log", *words, most_file_bytes=3000, environ=environ).outcome()
    assert_refused(found, 1, "set-000.tar", "cache", "File too large", "free space there")
    assert not (tmp_path / "run").exists() and not list((tmp_path / "cache").rglob("*.tar"))


def test_an_object_that_changes_between_two_readings(store: Store, tmp_path: Path) -> None:
    found = open_shards(Path(f"{store.url}/{ALL}"))
    write_tar(tmp_path / "there/set-001.tar", samples(range(30, 38)))
    for path in (tmp_path / "cache" / "remote").iterdir():
        path.unlink()
    with pytest.raises(DataError, match=r"set-001\.tar: the object was changed while it was read"):
        images(found)


def test_refused_credentials_of_s3(
    store: Store, monkeypatch: pytest.MonkeyPatch, convolve: Convolve, tmp_path: Path
) -> None:
    pytest.importorskip("s3fs", reason="s3fs is not installed")
    lead_to_s3(monkeypatch, store.url)
    store.faults = {"always": ["403"]}
    found = convolve("train", "photos", "--data", "s3://team/photos", "--out", tmp_path / "run")
    assert_refused(found, 3, "s3://team/photos", "credentials were refused", "AWS_ACCESS_KEY_ID")


def test_nobody_answers(convolve: Convolve, tmp_path: Path) -> None:
    found = convolve("train", "photos", "--data", f"http://127.0.0.1:9/{ALL}", "--out", tmp_path / "run")
    assert_refused(found, 3, "http://127.0.0.1:9/set-000.tar", "check the connection")


def test_the_cache_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A set ten times larger than the cache, in several epochs: at no time is there more, and nothing is missing."""
    for number in range(40):
        write_tar(tmp_path / f"there/set-{number:03}.tar", samples(range(number * 6, number * 6 + 6)))
    size = (tmp_path / "there/set-000.tar").stat().st_size
    with failing_store(tmp_path / "there") as store:
        listed = open_shards(Path(f"{store.url}/set-{{000..039}}.tar"))
        monkeypatch.setenv("CONVOLVE_CACHE_GIB", str(4.5 * size / 2**30))
        store.asked.clear()
        most = [0]
        trim = cache.trim

        def watched(room: int = 0) -> None:
            trim(room)
            most[0] = max(most[0], sum(cache.sizes(["remote"]).values()) + room)

        monkeypatch.setattr(remote, "trim", watched)
        for epoch in range(2):
            order_N = streamed_order(listed.stream_N, 12, np.random.default_rng(epoch))  # type: ignore[arg-type]
            listed.expect(order_N)
            assert sorted(images(listed.take(order_N))) == list(range(240))
        fetched = [path for path in store.asked if not path.startswith("HEAD")]
    assert most[0] <= 4.5 * size
    assert len(fetched) < 2.5 * 40  # of each epoch about one for each shard, not one for each image


def test_the_order_of_a_stream() -> None:
    """Each sample once; another order in each epoch; of a worker's rows only its own shards; few at a time."""
    shard_N = np.repeat(np.arange(640), 50)
    orders = [streamed_order(shard_N, 256, np.random.default_rng([7, epoch])) for epoch in range(2)]
    for order_N in orders:
        assert np.array_equal(np.sort(order_N), np.arange(len(shard_N)))
    assert not np.array_equal(*orders)
    assert np.array_equal(orders[0], streamed_order(shard_N, 256, np.random.default_rng([7, 0])))
    rows = [orders[0][np.arange(len(shard_N)) % 256 // 64 == worker] for worker in range(4)]
    read = [set(shard_N[own_N].tolist()) for own_N in rows]
    assert sum(map(len, read)) <= 640 + 4  # the last batch is short, and its rows are others'
    window = [len({*shard_N[orders[0][at : at + 256]].tolist()}) for at in range(0, len(shard_N) - 256, 256)]
    assert max(window) <= 3 * 16 and np.mean(window) > 16
    assert abs(np.corrcoef(orders[0], np.arange(len(shard_N)))[0, 1]) < 0.1
    one = streamed_order(np.zeros(10, np.int64), 4, np.random.default_rng(0))
    assert sorted(one.tolist()) == list(range(10))


def test_a_stream_goes_on_anywhere(store: Store) -> None:
    """From any batch of any epoch, also from its first, the batches are those of the run that was not stopped."""
    found = open_shards(Path(f"{store.url}/{ALL}"))

    def planes(image_HWC: np.ndarray, _: np.random.Generator) -> np.ndarray:
        return np.ascontiguousarray(image_HWC.transpose(2, 0, 1)[None])

    loader = Loader((Dataset(found, planes),), (5,), "shuffled", (), 0.0, 1.0, seed=3)
    for epoch in range(2):
        whole = list(loader.epoch(epoch))
        assert sum(len(labels_N) for _, labels_N in whole) == 24
        for first in range(5):
            rest = list(loader.epoch(epoch, first_batch=first))
            for (pixels, labels_N), (others, other_labels_N) in zip(whole[first:], rest, strict=True):
                assert pixels.equal(others) and labels_N.equal(other_labels_N)
