"""Work in threads comes back in order, errors in their place, whatever the threads take at a time."""

from __future__ import annotations

import pytest

from convolve.data.ahead import in_order


@pytest.mark.parametrize("ahead", [1, 5, 24, 100, 1000])
@pytest.mark.parametrize("threads", [1, 3])
def test_an_error_comes_after_everything_before_it(ahead: int, threads: int) -> None:
    def work(number: int) -> int:
        if number == 57:
            raise ValueError("at 57")
        return number * number

    found: list[int] = []
    with pytest.raises(ValueError, match="at 57"):
        for result in in_order(work, range(100), threads, ahead):
            found.append(result)
    assert found == [number * number for number in range(57)]
    assert list(in_order(work, range(50), threads, ahead)) == found[:50]


@pytest.mark.parametrize("ahead", [3, 12, 60, 200])
def test_no_more_is_begun_than_there_is_room_for(ahead: int) -> None:
    begun: list[int] = []
    results = in_order(begun.append, range(10_000), 3, ahead)
    for _ in range(50):
        next(results)
    assert len(begun) <= 50 + max(ahead, 3)
    results.close()
