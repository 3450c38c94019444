"""CNTK's order, number by number, against what CNTK 2.7 delivered."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convolve.cntk_random import Draws
from convolve.data.cntk_order import CHUNK_BYTES, chunks_by_bytes, sweep_order

GOLDEN = Path(__file__).parents[1] / "golden"
IMAGES = json.loads((GOLDEN / "cntk_order" / "images.json").read_text())
RECORDED = json.loads((GOLDEN / "cntk_order" / "recorded.json").read_text())
CTF = {
    name: case
    for name, case in json.loads((GOLDEN / "ctf" / "expected.json").read_text()).items()
    if name.startswith(("random_", "shard", "max_samples", "two_sweeps", "batching"))
}


def file_order(count: int, sweep: int, *, workers: int = 1, rank: int = 0) -> np.ndarray:
    """Sequence numbers (int64) of pass `sweep` with randomization off: every `workers`-th one.

    CNTK counts on over the sweeps, so a worker meets other sequences in the next one unless `workers` divides `count`.
    """
    return np.arange((rank - sweep * count) % workers, count, workers)


def minibatches(
    orders: Iterable[np.ndarray],
    size: int,
    *,
    sample_counts_N: np.ndarray | None = None,
    max_samples: int | None = None,
) -> Iterator[tuple[np.ndarray, bool]]:
    """Cut one sweep order after another into minibatches: (sequence numbers, whether a sweep ends here).

    A minibatch takes whole sequences while their samples stay within `size`, at least one sequence, and crosses from
    one sweep into the next, as those of CNTK's Python MinibatchSource do; BrainScript's do not: cut each sweep alone.
    No minibatch follows the one with which `max_samples` are reached.
    """
    batch: list[int] = []
    samples, sweep_ends = 0, False
    left = math.inf if max_samples is None else max_samples
    for order_N in orders:
        last = len(order_N) - 1
        for position, sequence in enumerate(order_N.tolist()):
            count = 1 if sample_counts_N is None else int(sample_counts_N[sequence])
            if batch and (samples + count > size or samples >= left):
                yield np.array(batch), sweep_ends
                left -= samples
                batch, samples, sweep_ends = [], 0, False
                if left <= 0:
                    return
            batch.append(sequence)
            samples += count
            sweep_ends |= position == last
    if batch:
        yield np.array(batch), sweep_ends


def share(size: int, workers: int, rank: int) -> int:
    """How many of the `size` samples of a global minibatch worker `rank` takes."""
    return size // workers + (rank < size % workers)


def sweeps(case: dict[str, Any], byte_counts: list[int], sample_counts: list[int]) -> Iterator[np.ndarray]:
    """This worker's share of each sweep, as the options of a recorded case have it."""
    options, (workers, rank) = case["options"], case["partition"]
    chunk_N = chunks_by_bytes(np.array(byte_counts), options.get("chunkSizeInBytes", CHUNK_BYTES))
    for sweep in range(options.get("max_sweeps", 1) if "max_samples" not in options else 100):
        if not options.get("randomize"):
            yield file_order(len(chunk_N), sweep, workers=workers, rank=rank)
            continue
        yield sweep_order(
            chunk_N,
            sweep,
            seed=options.get("randomization_seed", 0),
            window_chunks=options.get("randomization_window_in_chunks", 128),
            window_samples=options.get("randomization_window_in_samples", 0),
            sample_counts_N=np.array(sample_counts),
            workers=workers,
            rank=rank,
        )


def ours(case: dict[str, Any], byte_counts: list[int], sample_counts: list[int]) -> list[tuple[list[int], bool]]:
    batches = minibatches(
        sweeps(case, byte_counts, sample_counts),
        share(case["minibatch_size"], *case["partition"]),
        sample_counts_N=np.array(sample_counts),
        max_samples=case["options"].get("max_samples"),
    )
    return [(numbers.tolist(), ends) for numbers, ends in batches]


def ends_are_comparable(case: dict[str, Any]) -> bool:
    """In file order CNTK notices the end of a sweep by the samples of all workers, we by those of this one."""
    return case["partition"][0] == 1 or bool(case["options"].get("randomize"))


@pytest.mark.parametrize("name", CTF)
def test_text_files(name: str) -> None:
    case = CTF[name]
    lines = (GOLDEN / "ctf" / f"{name}.ctf").read_bytes().splitlines(keepends=True)
    # A line is a sample; in this one file pairs of lines are sequences (the last line is one alone).
    size = 2 if name == "batching_seq" else 1
    sequences = [lines[i : i + size] for i in range(0, len(lines), size)]
    batches = ours(case, [sum(map(len, s)) for s in sequences], [len(s) for s in sequences])
    first_values = [[int(s[0][0]) // size for s in m["f"]["data"]] for m in case["minibatches"]]
    assert [numbers for numbers, _ in batches] == first_values
    if ends_are_comparable(case):
        assert [ends for _, ends in batches] == [m["f"]["sweep_end"] for m in case["minibatches"]]


@pytest.mark.parametrize("case", RECORDED)
def test_recorded(case: dict[str, Any]) -> None:
    batches = ours(case, case["byte_counts"], case["sample_counts"])
    assert [numbers for numbers, _ in batches] == case["minibatches"]
    if ends_are_comparable(case):
        assert [ends for _, ends in batches] == case["sweep_ends"]


@pytest.mark.parametrize("seed", [0, 7])
def test_images_two_sweeps(seed: int) -> None:
    orders = [sweep_order(np.arange(20), sweep, seed=seed) for sweep in range(2)]
    assert [numbers.tolist() for numbers, _ in minibatches(orders, 4)] == IMAGES[f"seed{seed}"]


@pytest.mark.parametrize("rank", [0, 1])
def test_images_two_workers(rank: int) -> None:
    for name, order in {
        "seed0": sweep_order(np.arange(20), 0, workers=2, rank=rank),
        "norand": file_order(20, 0, workers=2, rank=rank),
    }.items():
        expected = IMAGES[f"{name}_rank{rank}_of2"]
        assert [numbers.tolist() for numbers, _ in minibatches([order], share(4, 2, rank))] == expected


def test_workers_share_every_sweep_without_loss() -> None:
    chunk_N = np.repeat(np.arange(10), 7)
    for order in (
        [sweep_order(chunk_N, 3, workers=3, rank=rank) for rank in range(3)],
        [file_order(70, 3, workers=3, rank=rank) for rank in range(3)],
    ):
        assert sorted(np.concatenate(order)) == list(range(70))
    assert [share(10, 4, rank) for rank in range(4)] == [3, 3, 2, 2]


def test_the_chunk_numbers_themselves_do_not_matter() -> None:
    """A part of a table keeps the chunk numbers of the whole."""
    assert (sweep_order(np.array([3, 3, 8, 8, 9]), 1) == sweep_order(np.array([0, 0, 1, 1, 2]), 1)).all()


def test_random_numbers_are_those_of_cpp() -> None:
    """The C++ standard, [rand.predef]: the 10000th invocation of a default-constructed mt19937_64."""
    assert next(islice(Draws(5489).stream(), 9999, None)) == 9981545732273789042


def test_chunks_close_before_they_grow_too_large() -> None:
    assert chunks_by_bytes(np.array([4, 4, 4, 9, 1, 12, 1, 1, 8]), 10).tolist() == [0, 0, 1, 2, 2, 3, 4, 4, 4]
    assert chunks_by_bytes(np.array([1, 1, 1]), 1 << 30).tolist() == [0, 0, 0]
