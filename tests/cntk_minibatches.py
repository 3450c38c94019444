"""CNTK's minibatches of whole sequences, and its order without randomization: the recordings compare them with ours."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import numpy as np

# Legend: N sequences.


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
