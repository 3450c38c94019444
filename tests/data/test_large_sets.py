"""Sets of ImageNet's size: exact order, damaged images, sizes that change with the passes, fingerprints."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from convolve.data import known
from convolve.data.caching import load
from convolve.data.damaged import Damaged
from convolve.data.dataset import Dataset
from convolve.data.known import dataset_info, fake_data
from convolve.data.loader import Loader
from convolve.data.open import open_data
from convolve.data.sources import files
from convolve.data.sources.files import FileSource
from convolve.data.sources.map_file import open_map_file
from convolve.data.sources.source import ArraySource
from convolve.errors import DataError, MissingDataError
from convolve.transforms.transform import Image

IMAGES = 1_281_167
COUNT = 20


def test_a_shuffle_of_a_million_is_exact_and_goes_on_anywhere() -> None:
    """As many samples as ImageNet has; the label of each is its number, its image one pixel."""
    numbers = ArraySource(torch.zeros(IMAGES, 1, 1, 1, dtype=torch.uint8), torch.arange(IMAGES))
    batches = Loader((Dataset(numbers),), (256,), "shuffled", (), 0.0, 1.0, seed=1)
    one, other = batches.order(0), batches.order(1)
    assert not np.array_equal(one, other)
    for order_N in (one, other):
        assert np.array_equal(np.sort(order_N), np.arange(IMAGES))
    assert abs(np.corrcoef(one, np.arange(IMAGES))[0, 1]) < 0.01
    rest = [labels_N for _, labels_N in batches.epoch(1, first_batch=5000)]
    assert np.array_equal(torch.cat(rest).numpy(), other[5000 * 256 :])
    assert len(rest) == -(-IMAGES // 256) - 5000


@pytest.fixture
def pictures(tmp_path: Path) -> FileSource:
    """Images that hold their own number, which is the label, too; 3, 4 and the last one are damaged or missing."""
    for number in range(COUNT):
        encoded = cv2.imencode(".png", np.full((4, 4, 3), number, np.uint8))[1].tobytes()
        (tmp_path / f"{number}.png").write_bytes(encoded[:30] if number in (3, 4) else encoded)
    (tmp_path / f"{COUNT - 1}.png").unlink()
    (tmp_path / "map.txt").write_text("".join(f".../{number}.png\t{number}\n" for number in range(COUNT)))
    return open_map_file(tmp_path / "map.txt")


def on_demand(pictures: FileSource, damaged: Damaged | None, fill: int = 0) -> Dataset:
    def planes(image_HWC: Image, _: np.random.Generator) -> Image:
        return np.ascontiguousarray(image_HWC.transpose(2, 0, 1)[None]) + np.uint8(fill)

    return Dataset(pictures, planes, damaged=damaged)


def test_others_stand_in_for_damaged_images(pictures: FileSource) -> None:
    told: list[str] = []
    samples = on_demand(pictures, Damaged(3, told.append))
    order_N = np.arange(COUNT)[::-1].copy()
    expected = [{3: 5, 4: 5, COUNT - 1: 0}.get(number, number) for number in order_N.tolist()]
    for _ in range(2):
        batches = list(samples.batches(order_N, 6))
        assert [len(labels_N) for _, labels_N in batches] == [6, 6, 6, 2]
        assert torch.cat([labels_N for _, labels_N in batches]).tolist() == expected
        assert torch.cat([images_NCHW[:, 0, 0, 0] for images_NCHW, _ in batches]).tolist() == expected
    assert len(told) == 3  # each once, whatever the passes and threads
    assert all(f"map.txt: line {line}: " in "\n".join(told) for line in (4, 5, COUNT))
    table = load(samples)
    assert table.labels_N.tolist() == table.images_NCHW[:, 0, 0, 0].tolist() == expected[::-1]


def test_more_damage_than_the_recipe_allows(pictures: FileSource) -> None:
    with pytest.raises(
        DataError, match=r"3 training images are damaged, but data\.damaged_limit allows only 2: .*line 4.*line 5"
    ):
        list(on_demand(pictures, Damaged(2, lambda message: None)).batches(np.arange(COUNT), 6))
    with pytest.raises(DataError, match=r"line 4: .*3\.png"):
        list(on_demand(pictures, None).batches(np.arange(COUNT), 6))


def test_all_images_damaged(pictures: FileSource) -> None:
    damaged = on_demand(pictures.take(np.array([3, 4])), Damaged(2, lambda message: None))
    with pytest.raises(DataError, match="all training images are damaged"):
        list(damaged.batches(np.arange(2), 2))


def test_sizes_share_the_passes(pictures: FileSource) -> None:
    damaged = Damaged(3, lambda message: None)
    stages = tuple(on_demand(pictures, damaged, fill) for fill in (0, 100, 200))
    loader = Loader(stages, (1,), "file", (), 0.0, 1.0, seed=0, passes=7)
    seen = [int(next(loader.epoch(epoch))[0][0, 0, 0, 0]) for epoch in range(9)]
    assert seen == [0, 0, 100, 100, 200, 200, 200, 200, 200]  # passes that are left over go to the later stages
    assert loader.dataset_size == loader.samples == COUNT


def test_of_a_large_set_some_sizes_are_asked(pictures: FileSource, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(files, "_bytes_of", lambda file: len(asked.append(file) or file))
    whole = pictures.digest()
    assert len(asked) == COUNT
    monkeypatch.setattr(files, "_SIZES_ASKED", 5)
    asked.clear()
    assert pictures.digest() != whole
    assert [Path(file).stem for file in asked] == ["0", "4", "8", "12", "16"]


def test_ilsvrc2012_is_not_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("CONVOLVE_DATA", raising=False)
    with pytest.raises(MissingDataError, match=r"no ILSVRC2012 in .*image-net\.org.*convolve prepare ilsvrc2012"):
        open_data(None, "ilsvrc2012")


def test_noise_in_place_of_imagenet_fits_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    assert fake_data("mnist").is_official(dataset_info("mnist"))
    monkeypatch.setattr(known, "_FAKE_BYTES", 1 << 25)
    noise, info = fake_data("ilsvrc2012"), dataset_info("ilsvrc2012")
    assert (1 << 25) - 3 * 256 * 256 < noise.arrays[0].images_NCHW.numel() <= 1 << 25
    assert noise.array_shape_CHW == info.shape_CHW and len(noise.class_names) == 1000
    assert not noise.is_official(info)
    assert len(noise.test) * info.train_samples // info.test_samples <= len(noise.train) + 30
