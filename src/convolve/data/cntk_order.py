"""The order in which CNTK 2.7's readers deliver sequences, exactly: sweeps and workers.

An image is a sequence of one sample. The readers shuffle twice (BlockRandomizer): whole chunks over the data set, then
sequences among the chunks of a sliding window. The tests follow CNTK 2.7 number by number.
"""

import numpy as np

from convolve.cntk_random import Draws

CHUNK_BYTES = 32 << 20  # chunkSizeInBytes, CNTK's default for CTF files
WINDOW_CHUNKS = 128  # randomization_window_in_chunks, the default of CNTK's Python MinibatchSource


# Legend: N sequences, C chunks in the shuffled order.


def chunks_by_bytes(byte_counts_N: np.ndarray, chunk_bytes: int = CHUNK_BYTES) -> np.ndarray:
    """Chunk number (int64) of each sequence of a CTF file whose sequences take `byte_counts_N` bytes.

    A chunk is closed when the next sequence would make it larger than `chunk_bytes`. Image readers make each image
    a chunk of its own: there the chunks are `np.arange(count)`.
    """
    ends_N = np.cumsum(byte_counts_N)
    begins_chunk_N = np.zeros(len(ends_N), np.int64)
    start = 0
    while True:
        limit = (ends_N[start - 1] if start else 0) + chunk_bytes
        start = max(start + 1, int(np.searchsorted(ends_N, limit, side="right")))
        if start >= len(ends_N):
            return np.cumsum(begins_chunk_N)
        begins_chunk_N[start] = 1


def sweep_order(
    chunk_N: np.ndarray,
    sweep: int,
    *,
    seed: int = 0,
    window_chunks: int = WINDOW_CHUNKS,
    window_samples: int = 0,
    sample_counts_N: np.ndarray | None = None,
    workers: int = 1,
    rank: int = 0,
) -> np.ndarray:
    """Sequence numbers (int64) in the order of pass `sweep` (from 0) over the data, with randomization on.

    `chunk_N` is the chunk of each sequence, rising along the file. A `window_samples` other than 0 replaces
    `window_chunks`; `sample_counts_N` (default: 1 each) are then the lengths of the sequences. With several `workers`,
    `rank` gets the chunks whose position in the shuffled list, modulo `workers`, is `rank`.
    """
    number_N = np.cumsum(np.diff(chunk_N, prepend=chunk_N[:1]) != 0)
    place_of_chunk = np.argsort(_shuffled(int(number_N[-1]) + 1, seed + sweep))
    place_N = place_of_chunk[number_N]
    order_N = np.argsort(place_N, kind="stable")
    sizes_C = np.bincount(place_N)
    if window_samples:
        windows = _windows_by_samples(np.bincount(place_N, sample_counts_N), window_samples)
    else:
        windows = _windows_by_chunks(len(sizes_C), window_chunks)
    mixed_N = np.array(_mixed_within_windows(order_N, sizes_C, windows, seed + sweep))
    own: np.ndarray = mixed_N[place_N[mixed_N] % workers == rank]
    return own


def _shuffled(count: int, seed: int) -> list[int]:
    """The numbers below `count`, each in turn swapped with any other: CNTK's biased shuffle."""
    numbers = list(range(count))
    for i, draw in zip(range(count), Draws(seed).stream(), strict=False):
        j = draw % count
        numbers[i], numbers[j] = numbers[j], numbers[i]
    return numbers


Windows = list[tuple[int, int]]  # for each chunk the range [begin, end) of chunks that it mixes with


def _windows_by_chunks(count: int, size: int) -> Windows:
    width = max(size, 1)
    begins = (min(max(c - size // 2, 0), max(count - width, 0)) for c in range(count))
    return [(begin, min(begin + width, count)) for begin in begins]


def _windows_by_samples(sample_counts_C: np.ndarray, size: int) -> Windows:
    """The chunks within half of `size` samples on either side; each window begins as its left neighbor's."""
    ends = np.cumsum(sample_counts_C).tolist()
    starts = [0, *ends[:-1]]
    windows: Windows = []
    begin, end = 0, 1
    for chunk, start in enumerate(starts):
        while start - starts[begin] > size // 2:
            begin += 1
        end = max(end, chunk + 1)
        while end < len(starts) and ends[end] - start < size // 2:
            end += 1
        windows.append((begin, end))
    return windows


def _mixed_within_windows(order_N: np.ndarray, sizes_C: np.ndarray, windows: Windows, seed: int) -> list[int]:
    """`order_N` after each sequence in turn was swapped with one drawn from its window, if each is within
    the other's."""
    starts = [0, *np.cumsum(sizes_C).tolist()]
    begins, ends = np.repeat(windows, sizes_C, axis=0).T.tolist()
    order: list[int] = order_N.tolist()
    place = np.repeat(np.arange(len(sizes_C)), sizes_C).tolist()  # the chunk of the sequence that stands there now
    draws = Draws(seed).stream()
    for here, (begin, end) in enumerate(zip(begins, ends, strict=True)):
        first, count = starts[begin], starts[end] - starts[begin]
        there = first + next(draws) % count
        while not (begin <= place[there] < end and begins[there] <= place[here] < ends[there]):
            there = first + next(draws) % count
        order[here], order[there] = order[there], order[here]
        place[here], place[there] = place[there], place[here]
    return order
