"""What `evaluate` says while it goes on."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from convolve.cli import progress
from convolve.cli.progress import with_progress
from convolve.data.dataset import Batch, Dataset
from convolve.data.sources.source import ArraySource

DATASET = Dataset(ArraySource(torch.arange(10, dtype=torch.uint8).reshape(10, 1, 1, 1), torch.arange(10)))


def batches() -> Iterator[Batch]:
    return DATASET.batches(np.arange(10)[::-1], 4)


def images(batch: Batch) -> int:
    return len(batch[1])


def labels(found: Iterator[Batch]) -> list[list[int]]:
    return [labels_N.tolist() for _, labels_N in found]


def test_it_changes_nothing_and_is_silent_when_all_is_quick(capsys: pytest.CaptureFixture[str]) -> None:
    assert labels(with_progress(batches(), 10, "evaluated", images)) == labels(batches())
    assert capsys.readouterr() == ("", "")


def test_a_line_now_and_then_with_the_time_left(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "_LINE_SECONDS", -1.0)
    labels(with_progress(batches(), 10, "evaluated", images))
    first, *_, last = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r"evaluated: 4 of 10 images, [\d,]+ images/s, \d+ s left", first)
    assert re.fullmatch(r"evaluated: 10 of 10 images, [\d,]+ images/s, 0 s left", last)


def test_what_was_there_before_does_not_count_as_quick(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A million images were there, of ten more two a second."""
    monkeypatch.setattr(progress, "_LINE_SECONDS", -1.0)
    clock = iter(range(0, 10_000, 1))
    monkeypatch.setattr(progress.time, "monotonic", lambda: float(next(clock)))
    list(with_progress(iter([[0] * 4]), 1_000_010, "predicted", len, done=1_000_000))
    (line,) = capsys.readouterr().err.splitlines()
    said = re.fullmatch(r"predicted: 1,000,004 of 1,000,010 images, (\d) images/s, (\d+) s left", line)
    assert said and int(said[1]) <= 4 and int(said[2]) >= 1


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.2, "0 s"), (99, "99 s"), (100, "2 min"), (5000, "83 min"), (12_000, "3 h 20 min")]
)
def test_time_as_people_say_it(seconds: float, said: str) -> None:
    assert progress.time_left(seconds) == said


def test_brackets_and_colons_are_printed_as_they_stand(capsys: pytest.CaptureFixture[str]) -> None:
    said = "pip install '.[photos]' for the class [/b] in a:smile:"
    progress.stderr_console().print(said)
    assert capsys.readouterr().err == f"{said}\n"
