"""A training that has become slow is said, once, with what would help."""

from __future__ import annotations

import pytest

from convolve.training import rate_watch
from convolve.training.rate_watch import RateWatch

SIZE = (3, 32, 32)


def looked(rates: list[float], waited: float = 0.0, threads: int = 2) -> list[str | None]:
    """What is told when each ten seconds have one of `rates`, of which `waited` is spent waiting."""
    watch, samples, seconds = RateWatch(), 0.0, 0.0
    found = [watch.look(SIZE, 0, 0.0, 0.0, threads)]
    for rate in rates:
        samples, seconds = samples + 10 * rate, seconds + 10
        if seconds >= watch.due:
            found.append(watch.look(SIZE, round(samples), seconds, waited * seconds, threads))
    return found[1:]


@pytest.fixture(autouse=True)
def _two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rate_watch, "usable_cores", lambda: 2)
    monkeypatch.setattr(rate_watch, "idle_cores", lambda: 1)


def test_a_rate_below_half_is_said_once() -> None:
    first, second, third = looked([600, 650, 280, 100])
    assert first is second is None and third is not None
    assert third.startswith("the training has slowed from 650 to 280 images/s: other processes keep 1 of 2 cores busy")
    assert "--threads 1" in third


def test_the_reason_is_what_it_waits_for(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "waits for images 80% of the time" in (looked([600, 200], waited=0.8)[-1] or "")
    monkeypatch.setattr(rate_watch, "idle_cores", lambda: 2)
    assert "throttled" in (looked([600, 200])[-1] or "")


def test_larger_images_may_take_longer() -> None:
    watch = RateWatch()
    for size, samples, seconds in (((3, 16, 16), 0, 0), ((3, 16, 16), 9000, 10), (SIZE, 9100, 20), (SIZE, 10000, 30)):
        assert watch.look(size, samples, float(seconds), 0.0, 2) is None
