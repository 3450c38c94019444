"""The packed cache: the same bits whoever fills it, whatever happens to it."""

from __future__ import annotations

import copy
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import convolve
from command_line import Convolve, assert_refused
from convolve.data import caching, packed
from convolve.data.build import build_data
from convolve.data.lists import open_lists
from convolve.data.packed import PackedSource, shrunk
from convolve.formats.decode import Decoding
from convolve.recipe import Recipe
from convolve.recipes import resolve
from convolve.transforms.table import TRANSFORMS

CROPS = (
    '[{"kind": "crop", "crop_type": "randomside", "side_ratio": 0.875}, {"kind": "scale", "width": 32, "height": 32}]'
)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """JPEG files of several sizes, all larger than what is kept in memory as it is."""
    rng = np.random.default_rng(0)
    for number in range(24):
        place = tmp_path / "photos" / ("train" if number < 20 else "val") / "ab"[number % 2] / f"{number:02}.jpg"
        place.parent.mkdir(parents=True, exist_ok=True)
        small = rng.integers(0, 256, (12, 9 + number % 5, 3), np.uint8)
        image_HWC = cv2.resize(small, (110 + 10 * (number % 5), 150), interpolation=cv2.INTER_CUBIC)
        place.write_bytes(cv2.imencode(".jpg", image_HWC)[1].tobytes())
    return tmp_path / "photos"


def recipe_of(cache: Path | str, **settings: Any) -> Recipe:
    known = {
        "data.image_size": 32, "data.mean_image": "", "data.train_transforms": CROPS,
        "run.global_batch_size": 4, "data.cache": str(cache),
    }  # fmt: skip
    return resolve("cifar10-aug", known | settings)


@pytest.fixture(autouse=True)
def _anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """What another process would have in memory: nothing. Packs are small."""
    monkeypatch.setattr(packed, "_pack_in", packed.Pack)
    monkeypatch.setattr(packed, "PACK_BYTES", 30_000)


def epochs(recipe: Recipe, photos: Path, count: int = 2, warn: Any = lambda message: None) -> list[bytes]:
    """The batches of each epoch."""
    loader = build_data(recipe, open_lists(photos), 2, warn=warn).loader
    found = [
        b"".join(images.contiguous().numpy().tobytes() for images, _ in loader.epoch(epoch)) for epoch in range(count)
    ]
    source = loader.datasets[0].source
    if isinstance(source, PackedSource):
        source.pack.flush()
    return found


def test_a_copy_gives_the_same_images(photos: Path, tmp_path: Path) -> None:
    source = build_data(recipe_of(tmp_path / "cache"), open_lists(photos), 2, warn=print).loader.datasets[0].source
    assert isinstance(source, PackedSource)
    copied = copy.copy(source)
    assert (copied.load(3, source.decoding) == source.load(3, source.decoding)).all()
    assert copied.labels_N.tolist() == source.labels_N.tolist()


def packs(cache: Path) -> list[Path]:
    return sorted(cache.glob("*/*.pack"))


def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that are decoded from here on."""
    names: list[str] = []
    read = packed.FileSource.load

    def load(self: packed.FileSource, index: int, decoding: Decoding) -> Any:
        names.append(self.file(index))
        return read(self, index, decoding)

    monkeypatch.setattr(packed.FileSource, "load", load)
    return names


def see_packs_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look for new packs at each image, without the file system's clock."""
    monkeypatch.setattr(packed, "_LOOKING", 0)
    monkeypatch.setattr(packed, "_changed_ns", lambda folder: len([*folder.glob("*.pack")]))


def test_each_image_is_decoded_once(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    see_packs_at_once(monkeypatch)
    names = decoded(monkeypatch)
    first = epochs(recipe_of(tmp_path / "cache"), photos, 3)
    trained = [name for name in names if "/train/" in name]
    assert len({*trained}) == 20 and len(trained) == 21  # the first one also tells whether they are small
    assert len(packs(tmp_path / "cache")) == 3
    names.clear()
    assert epochs(recipe_of(tmp_path / "cache"), photos, 3) == first  # another process
    assert len([name for name in names if "/train/" in name]) == 1


def test_a_damaged_image_is_decoded_and_packed_once_more(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    see_packs_at_once(monkeypatch)
    cache = tmp_path / "cache"
    whole = epochs(recipe_of(cache), photos)
    before = packs(cache)
    for pack in before:  # the last image of each
        pack.write_bytes(pack.read_bytes()[:-1] + bytes([pack.read_bytes()[-1] ^ 1]))
    names = decoded(monkeypatch)
    assert epochs(recipe_of(cache), photos) == whole
    now = packs(cache)
    assert len({name for name in names if "/train/" in name}) >= len(before) < len(now)
    names.clear()
    assert epochs(recipe_of(cache), photos) == whole
    assert len([name for name in names if "/train/" in name]) == 1  # the first, which tells whether they are small
    assert packs(cache) == now


@pytest.mark.skipif(sys.platform == "win32", reason="what is mapped can be neither removed nor cut")
def test_what_is_lost_is_decoded_to_the_same_bits(photos: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    whole = epochs(recipe_of(cache), photos)
    one, other, third, *_ = packs(cache)
    one.unlink()
    other.write_bytes(other.read_bytes()[:-100])
    third.write_bytes(third.read_bytes()[:50] + b"xxx" + third.read_bytes()[53:])
    (one.parent / ".left.1.tmp").write_bytes(b"of a killed process")
    os.utime(one.parent / ".left.1.tmp", (0, 0))
    assert epochs(recipe_of(cache), photos) == whole
    assert not (one.parent / ".left.1.tmp").exists()
    assert epochs(recipe_of(cache), photos) == whole


@pytest.mark.skipif(sys.platform == "win32", reason="what is mapped cannot be removed")
def test_an_image_that_changes_is_packed_anew(photos: Path, tmp_path: Path) -> None:
    cache, place = tmp_path / "cache", photos / "train/a/02.jpg"
    before = epochs(recipe_of(cache), photos)
    stamp = place.stat()
    place.write_bytes((photos / "train/b/07.jpg").read_bytes())
    os.utime(place, ns=(stamp.st_atime_ns, stamp.st_mtime_ns + 1_000_000))
    after = epochs(recipe_of(cache), photos)
    assert after != before
    shutil.rmtree(cache)
    assert epochs(recipe_of(cache), photos) == after


def test_one_cache_serves_other_parts_and_crops_but_no_other_size(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    epochs(recipe_of(cache), photos, 1)
    names = decoded(monkeypatch)
    epochs(recipe_of(cache, **{"data.validation_fraction": 0.2, "run.seed": 5}), photos, 1)
    assert len([name for name in names if "/train/" in name]) <= 9  # the held-out ones, which are evaluated, too
    epochs(recipe_of(cache, **{"data.train_transforms": CROPS.replace("0.875", "0.4")}), photos, 1)
    assert len([*cache.iterdir()]) == 2


def test_made_fit_before_the_transforms_nothing_changes(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a recipe resizes images first, the cache holds what comes of that, if it does not fit in memory."""
    flips = {"data.train_transforms": '[{"kind": "flip"}]'}
    epochs(recipe_of(tmp_path / "memory", **flips), photos)
    assert not (tmp_path / "memory").exists()
    monkeypatch.setattr(caching, "CACHE_BYTES", 0)
    plain = epochs(recipe_of("none", **flips), photos)
    for _ in range(2):
        assert epochs(recipe_of(tmp_path / "disk", **flips), photos) == plain
    assert packs(tmp_path / "disk")


def test_room() -> None:
    image_HWC = np.random.default_rng(0).integers(0, 256, (100, 200, 3), np.uint8)
    assert shrunk(image_HWC, (40, 40)).shape == (40, 80, 3)
    assert shrunk(image_HWC[:, :, :1], (40, 40)).shape == (40, 80, 1)
    assert shrunk(image_HWC, (90, 40)) is image_HWC and shrunk(image_HWC, None) is image_HWC
    by_hand = image_HWC.reshape(50, 2, 100, 2, 3).mean((1, 3))
    assert np.abs(shrunk(image_HWC, (50, 50)) - by_hand).max() <= 0.5


def test_a_full_disk_is_said_once_and_the_training_goes_on(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, heard = epochs(recipe_of(tmp_path / "cache"), photos), list[str]()

    def full(path: Path) -> Any:
        raise packed.cannot_write(path, OSError(28, "No space left on device"))

    with monkeypatch.context() as patch:
        patch.setattr(packed, "replacing", full)
        assert epochs(recipe_of(tmp_path / "other"), photos, warn=heard.append) == whole
    assert len(heard) == 1 and "No space left on device" in heard[0] and "decoded in each epoch" in heard[0]


def test_transforms_do_not_write_into_the_cache() -> None:
    image_HWC = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    image_HWC.flags.writeable = False
    for name, kind in TRANSFORMS.items():
        transform = kind(width=20, height=20) if name == "scale" else None if name == "intensity" else kind()
        if transform and transform.fits_images:
            transform.on_image(image_HWC, np.random.default_rng(0))


def test_a_folder_that_cannot_be_is_refused(photos: Path, tmp_path: Path, convolve: Convolve) -> None:
    (tmp_path / "file").write_text("")
    words = ("--set", f"data.cache={tmp_path}/file/x", "--set", f"data.train_transforms={CROPS}")
    small = ("--set", "data.image_size=32", "--set", "data.mean_image=", "--epochs", 1)
    outcome = convolve("train", "cifar10-aug", "--data", photos, "--out", tmp_path / "run", *small, *words)
    assert_refused(outcome, 1, "cannot write", "file")


FILLING = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import test_packed
from convolve.data import packed
packed.PACK_BYTES = int(sys.argv[4])
print(hash(b"".join(test_packed.epochs(test_packed.recipe_of(sys.argv[2]), Path(sys.argv[3])))))
"""


def fill(cache: Path, photos: Path, pack_bytes: int) -> subprocess.Popen[str]:
    """A process of its own, which says what it saw."""
    tests = Path(__file__).parent
    paths = [str(Path(convolve.__file__).parents[1]), str(tests.parent)]
    environ = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "PYTHONHASHSEED": "0"}
    words = (sys.executable, "-c", FILLING, str(tests), str(cache), str(photos), str(pack_bytes))
    return subprocess.Popen(words, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_several_processes_fill_one_cache(photos: Path, tmp_path: Path) -> None:
    """What waits to be written when one ends is written then."""
    begun = [fill(tmp_path / "cache", photos, 30_000) for _ in range(3)]
    alone = fill(tmp_path / "own", photos, 1 << 30)
    said = {process.communicate() for process in (*begun, alone)}
    assert len(said) == 1 and said.pop()[1] == ""
    assert len(packs(tmp_path / "own")) == 1
    assert packs(tmp_path / "cache")
