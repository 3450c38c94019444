"""What `evaluate` says while it goes on."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch

from convolve.cli import watched
from convolve.cli.watched import Watched
from convolve.data.table import Table

TABLE = Table(torch.arange(10, dtype=torch.uint8).reshape(10, 1, 1, 1), torch.arange(10))


def labels(samples: Table | Watched) -> list[list[int]]:
    return [labels_N.tolist() for _, labels_N in samples.batches(np.arange(10)[::-1], 4)]


def test_it_changes_nothing_and_is_silent_when_all_is_quick(capsys: pytest.CaptureFixture[str]) -> None:
    assert labels(Watched(TABLE, "evaluated")) == labels(TABLE)
    assert capsys.readouterr() == ("", "")
    assert (len(Watched(TABLE, "")), Watched(TABLE, "").labels_N.tolist()) == (10, list(range(10)))


def test_a_line_now_and_then_with_the_time_left(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watched, "_SECONDS", -1.0)
    labels(Watched(TABLE, "evaluated"))
    first, *_, last = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r"evaluated: 4 of 10 images, \d+ s left", first)
    assert last == "evaluated: 10 of 10 images, 0 s left"
