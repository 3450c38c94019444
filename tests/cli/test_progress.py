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


def labels(found: Iterator[Batch]) -> list[list[int]]:
    return [labels_N.tolist() for _, labels_N in found]


def test_it_changes_nothing_and_is_silent_when_all_is_quick(capsys: pytest.CaptureFixture[str]) -> None:
    assert labels(with_progress(batches(), 10, "evaluated")) == labels(batches())
    assert capsys.readouterr() == ("", "")


def test_a_line_now_and_then_with_the_time_left(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "_LINE_SECONDS", -1.0)
    labels(with_progress(batches(), 10, "evaluated"))
    first, *_, last = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r"evaluated: 4 of 10 images, \d+ s left", first)
    assert last == "evaluated: 10 of 10 images, 0 s left"
