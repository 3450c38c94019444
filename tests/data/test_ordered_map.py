"""Work comes back in order, errors in their place, by one thread or several, whatever they take at a time."""

from __future__ import annotations

import threading
import time

import pytest

from convolve.data import ordered_map as module
from convolve.data.ordered_map import TRIED, WORTH_A_THREAD, ordered_map


@pytest.fixture(params=["short work", "long work"])
def _length(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any work counts as short, or as long."""
    monkeypatch.setattr(module, "WORTH_A_THREAD", {"short work": 1e9, "long work": 0.0}[request.param])


@pytest.mark.usefixtures("_length")
@pytest.mark.parametrize("ahead", [1, 5, 24, 100, 1000])
@pytest.mark.parametrize("threads", [1, 3])
def test_an_error_comes_after_everything_before_it(ahead: int, threads: int) -> None:
    def work(number: int) -> int:
        if number == 57:
            raise ValueError("at 57")
        return number * number

    found: list[int] = []
    with pytest.raises(ValueError, match="at 57"):
        for result in ordered_map(work, range(100), threads, ahead):
            found.append(result)
    assert found == [number * number for number in range(57)]
    assert list(ordered_map(work, range(50), threads, ahead)) == found[:50]


def test_threads_share_long_work_and_short_work_stays_where_it_is() -> None:
    def workers(seconds: float) -> set[int]:
        def work(_: int) -> int:
            if seconds:
                time.sleep(seconds)
            return threading.get_ident()

        *first, rest = ordered_map(work, range(TRIED + 12), 3, 12)
        assert {*first[:TRIED]} == {threading.get_ident()}
        return {*first[TRIED:], rest}

    assert threading.get_ident() not in workers(3 * WORTH_A_THREAD)
    assert workers(0) == {threading.get_ident()}


@pytest.mark.usefixtures("_length")
@pytest.mark.parametrize("ahead", [3, 12, 60, 200])
def test_no_more_is_begun_than_there_is_room_for(ahead: int) -> None:
    begun: list[int] = []
    results = ordered_map(begun.append, range(10_000), 3, ahead)
    for _ in range(50):
        next(results)
    assert len(begun) <= 50 + max(ahead, 3)
    results.close()
