"""Images decoded on demand: the same whatever the threads, in bounded memory, with the name of whatever is damaged."""

from __future__ import annotations

import json
import threading
from collections.abc import Generator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from convolve.data.build import mean_image
from convolve.data.caching import cached
from convolve.data.dataset import Dataset
from convolve.data.evaluation import eval_dataset
from convolve.data.hold_out import hold_out_validation
from convolve.data.loader import Loader
from convolve.data.ordered_map import ordered_map, prefetch
from convolve.data.sources.files import FileSource
from convolve.data.sources.map_file import open_map_file
from convolve.errors import DataError
from convolve.formats.decode import Decoding, decode_image, to_planes
from convolve.transforms.color import Color
from convolve.transforms.crop import Crop
from convolve.transforms.pad import Pad
from convolve.transforms.preprocess import Preprocess, fit_image
from convolve.transforms.scale import Scale
from convolve.transforms.transform import Image, transform_image

COUNT = 30
TRANSFORMS = (Crop("randomside", side_ratio=(0.7,)), Scale(12, 10), Color(0.2, 0.2, 0.2))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Colorful images of many sizes and a map file of them."""
    folder, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for number in range(COUNT):
        height, width = rng.integers(16, 60, size=2)
        small = rng.integers(0, 256, (4, 5, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f"{number}.png"), cv2.resize(small, (int(width), int(height))))
    (folder / "map.txt").write_text("".join(f".../{number}.png\t{number % 3}\n" for number in range(COUNT)))
    return folder


def pictures(folder: Path) -> FileSource:
    return open_map_file(folder / "map.txt")


def augmented(image_HWC: Image, rng: np.random.Generator) -> Image:
    return to_planes(transform_image(image_HWC, TRANSFORMS, rng), 3)[None]


def batches(folder: Path, threads: int = 4, order: str = "shuffled", seed: int = 0) -> Loader:
    dataset = Dataset(pictures(folder), augmented, seed=seed, threads=threads)
    return Loader((dataset,), (8,), order, (), mean=100.0, scale=0.5, seed=seed)


def assert_same(one: list[tuple[torch.Tensor, torch.Tensor]], other: list[tuple[torch.Tensor, torch.Tensor]]) -> None:
    assert len(one) == len(other)
    for (images, labels), (same_images, same_labels) in zip(one, other, strict=True):
        assert torch.equal(images, same_images) and torch.equal(labels, same_labels)


@pytest.mark.parametrize("threads", [1, 2, 7])
def test_threads_change_nothing(threads: int, folder: Path) -> None:
    assert_same(list(batches(folder, threads).epoch(1)), list(batches(folder).epoch(1)))


@pytest.mark.parametrize("order", ["shuffled", "cntk", "file"])
def test_an_epoch_goes_on_anywhere(order: str, folder: Path) -> None:
    source = batches(folder, order=order)
    whole = list(source.epoch(2))
    assert sum(len(labels) for _, labels in whole) == COUNT and len(whole) == len(source.sizes(2)) == 4
    for first in range(len(source.sizes(2))):
        assert_same(list(source.epoch(2, first)), whole[first:])


def test_choices_belong_to_the_image_and_the_epoch(folder: Path) -> None:
    """Image i of epoch e is the same whatever stands before it; another epoch or seed changes it."""

    def by_number(order: str, epoch: int, seed: int = 0) -> list[torch.Tensor]:
        samples = Dataset(pictures(folder), augmented, seed=seed)
        order_N = np.arange(COUNT) if order == "file" else np.random.default_rng(9).permutation(COUNT)
        found = torch.cat([images for images, _ in samples.batches(order_N, 7, epoch)])
        return list(found[torch.from_numpy(order_N.argsort())])

    file = by_number("file", 3)
    assert all(torch.equal(a, b) for a, b in zip(file, by_number("shuffled", 3), strict=True))
    for other in (by_number("file", 4), by_number("file", 3, seed=1)):
        assert sum(torch.equal(a, b) for a, b in zip(file, other, strict=True)) == 0


def test_images_on_demand_and_in_the_cache_are_the_same(folder: Path) -> None:
    want = Preprocess(3, 14, 12)
    samples = eval_dataset(pictures(folder), want)
    table = cached(samples, (14, 12))
    assert not samples.is_cached and table.is_cached
    for number in range(COUNT):
        picture = decode_image((folder / f"{number}.png").read_bytes(), number)
        np.testing.assert_array_equal(table.source.images_NCHW[number], fit_image(picture, want)[0])
    transforms = (Pad(2, 128), Crop("randomside", crop_width=12, crop_height=14))
    one, other = (Loader((source,), (8,), "shuffled", transforms, 1.0, 0.5, seed=3) for source in (samples, table))
    assert_same(list(one.epoch(1)), list(other.epoch(1)))
    np.testing.assert_allclose(mean_image(samples), table.source.images_NCHW.numpy().mean(0), atol=1e-4)
    np.testing.assert_array_equal(mean_image(samples), mean_image(table))


def test_an_image_that_is_damaged_ends_the_epoch_with_its_line(folder: Path, tmp_path: Path) -> None:
    copied = copy_with_damage(folder, tmp_path, [13])
    with pytest.raises(DataError, match=r"map\.txt: line 14: .*13\.png"):
        list(batches(copied).epoch(0))


def test_loading_names_all_that_is_damaged(folder: Path, tmp_path: Path) -> None:
    copied = copy_with_damage(folder, tmp_path, [3, 4, 20])
    words = r"3 of 30 images are damaged or missing: .*line 4: .*3\.png.*; .*line 5; .*line 21; "
    with pytest.raises(DataError, match=words):
        cached(eval_dataset(pictures(copied), Preprocess(3, 8, 8)), (8, 8))


def copy_with_damage(folder: Path, place: Path, damaged: list[int]) -> Path:
    for file in folder.iterdir():
        content = file.read_bytes()
        (place / file.name).write_bytes(content[:50] if file.stem in map(str, damaged) else content)
    return place


def test_a_part_of_the_set_keeps_places_and_labels(folder: Path) -> None:
    train, rest = hold_out_validation(pictures(folder), 0.3, seed=5)
    assert (len(train), len(rest)) == (21, 9)
    numbers = [int(part.location(index).rpartition(" ")[2]) - 1 for part in (train, rest) for index in range(len(part))]
    assert sorted(numbers) == list(range(COUNT))
    assert [*train.labels_N.tolist(), *rest.labels_N.tolist()] == [number % 3 for number in numbers]


def test_no_more_is_begun_than_asked_for() -> None:
    begun: list[int] = []

    def work(number: int) -> int:
        begun.append(number)
        return number

    results = ordered_map(work, range(100), threads=3, ahead=5)
    assert [next(results) for _ in range(4)] == [0, 1, 2, 3]
    results.close()
    assert len(begun) <= 9


def test_an_early_end_leaves_no_thread_behind(folder: Path) -> None:
    before = threading.active_count()
    epoch = batches(folder).epoch(0)
    next(epoch)
    assert threading.active_count() > before
    epoch.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before


def test_prefetched_items_come_in_order_and_with_their_error() -> None:
    def items() -> Generator[int, None, None]:
        yield from range(5)
        raise DataError("here")

    found: list[int] = []
    with pytest.raises(DataError, match="here"):
        for item in prefetch(items(), ahead=2):
            found.append(item)
    assert found == list(range(5))


def test_work_goes_on_while_an_item_is_in_use_but_not_too_far() -> None:
    begun = [threading.Event() for _ in range(4)]

    def items() -> Generator[int, None, None]:
        for number, event in enumerate(begun):
            event.set()
            yield number

    found = prefetch(items(), ahead=1)
    assert next(found) == 0
    assert begun[1].wait(60)
    assert not begun[2].is_set()
    assert [*found] == [1, 2, 3]


def test_jpegs_are_decoded_small_where_that_is_enough(tmp_path: Path) -> None:
    small = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    large = cv2.resize(small, (320, 240))
    encoded = cv2.imencode(".jpg", large)[1].tobytes()
    sizes = {
        None: (240, 320), (240, 320): (240, 320), (121, 160): (240, 320), (120, 160): (120, 160), (60, 60): (60, 80),
        (1, 1): (30, 40), (500, 10): (240, 320),
    }  # fmt: skip
    for min_size, size in sizes.items():
        for gray in (False, True):
            decoded = decode_image(encoded, "a", Decoding(gray=gray, min_size=min_size))
            assert decoded.shape == (*size, 1 if gray else 3)
            whole = decode_image(encoded, "a", Decoding(gray=gray))
            expected = cv2.resize(whole, size[::-1], interpolation=cv2.INTER_AREA)
            assert np.abs(decoded.squeeze().astype(float) - expected).mean() < 2
    png = cv2.imencode(".png", large)[1].tobytes()
    small = decode_image(png, "a", Decoding(min_size=(1, 1)))
    assert small.shape == (240, 320, 3)  # OpenCV would only scale it, without care


@pytest.mark.parametrize("in_memory", [True, False])
def test_map_files_in_the_order_of_cntks_reader(in_memory: bool, tmp_path: Path) -> None:
    """Two sweeps over 20 images in batches of 4, as CNTK 2.7 delivered them (tests/golden/cntk_order)."""
    golden = Path(__file__).parents[1] / "golden" / "cntk_order" / "images.json"
    for number in range(20):
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.full((4, 4), number, np.uint8))
    (tmp_path / "map.txt").write_text("".join(f".../{number}.png\t0\n" for number in range(20)))
    samples = eval_dataset(pictures(tmp_path), Preprocess(1, 4, 4))
    if in_memory:
        samples = cached(samples, (4, 4))
    source = Loader((samples,), (4,), "cntk", (), mean=0.0, scale=1.0, seed=5)
    batches = [images[:, 0, 0, 0].int().tolist() for epoch in range(2) for images, _ in source.epoch(epoch)]
    assert batches == json.loads(golden.read_text())["seed0"]
