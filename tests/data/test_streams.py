"""No two purposes, and no two moments of one, share their random numbers."""

from __future__ import annotations

from itertools import product

from convolve.data.streams import Purpose, generator


def test_every_moment_has_numbers_of_its_own() -> None:
    moments: list[tuple[Purpose, *tuple[int, ...]]] = [(Purpose.SPLIT, seed) for seed in range(4)]
    moments += [(Purpose.TEST_PART, label) for label in range(4)]
    moments += [(Purpose.ORDER, seed, epoch) for seed, epoch in product(range(4), range(4))]
    for purpose in (Purpose.BATCH, Purpose.IMAGE):
        moments += [(purpose, *numbers) for numbers in product(range(4), range(4), range(4))]
    first = [int(generator(purpose, *numbers).integers(2**63)) for purpose, *numbers in moments]
    assert len({*first}) == len(first)
