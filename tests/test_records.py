"""Records are read as they were written, and whatever else stands in a file is named with its field."""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest

from convolve.errors import DataError
from convolve.records import Count, Fraction, Loss, Moment
from convolve.records.reading import FieldError, from_json, read_record, to_json


class Color(StrEnum):
    RED = "red"
    BLUE = "blue"


@dataclass(frozen=True)
class Inner:
    names: tuple[str, ...]
    counts: dict[str, Count]


@dataclass(frozen=True)
class Record:
    count: Count
    error: Fraction
    loss: Loss
    at: Moment
    color: Color
    inner: Inner
    told: str | None
    is_last: bool = False
    more: int | None = None


WHOLE = Record(3, 0.25, math.inf, "2026-05-20T10:11:12+00:00", Color.RED, Inner(("a", "b"), {"x": 1}), None)


def test_what_is_written_is_read() -> None:
    text = json.dumps(to_json(WHOLE))
    assert from_json(Record, json.loads(text)) == WHOLE
    assert '"told": null' in text and '"is_last": false' in text and "more" not in text
    assert type(from_json(Record, to_json(WHOLE) | {"error": 1}).error) is float


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"count": -1}, "count must be between 0 and 9.0072e+15, got -1"),
        ({"count": 2.0}, "count must be a whole number, got 2.0"),
        ({"count": True}, "count must be a whole number, got True"),
        ({"count": 10**400}, "count must be between 0 and 9.0072e+15, got a number of 400 digits"),
        ({"error": 10**400}, "error is too large"),
        ({"error": math.nan}, "error must be between 0 and 1, got nan"),
        ({"loss": "1"}, "loss must be a number, got '1'"),
        ({"at": "noon"}, "at must be a date and time in ISO 8601, got 'noon'"),
        ({"color": []}, "color must be one of red, blue, got []"),
        ({"inner": {"names": ["a", 1], "counts": {}}}, "inner.names[1] must be a text, got 1"),
        ({"inner": {"names": [], "counts": {"x": None}}}, "inner.counts.x must be a whole number, got None"),
        ({"inner": {"names": []}}, "inner.counts is missing"),
        ({"inner": 3}, "inner must be a mapping, got 3"),
        ({"tald": ""}, "unknown field 'tald'; did you mean 'told'?"),
    ],
)
def test_another_value_is_named_with_its_field(change: dict[str, Any], said: str) -> None:
    with pytest.raises(FieldError) as caught:
        from_json(Record, to_json(WHOLE) | change)
    assert str(caught.value).startswith(said)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "[" * 100_000, "\udcff", "1" * 5000])
def test_a_file_that_holds_no_record_is_one_sentence(text: str, tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    path.write_text(text, encoding="utf-8", errors="surrogateescape")
    with pytest.raises(DataError) as caught:
        read_record(path, Record, "write it again")
    assert str(caught.value).startswith(f"{path} is damaged (") and str(caught.value).endswith("); write it again")
    assert "\n" not in str(caught.value)


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "endless").symlink_to("/dev/zero")
    (tmp_path / "folder").mkdir()
    for name in ("pipe", "endless", "folder"):
        with pytest.raises(DataError, match=name):
            read_record(tmp_path / name, Record, "write it again")
    with (tmp_path / "large").open("wb") as file:
        file.truncate(1 << 40)  # takes no room
    with pytest.raises(DataError, match="1,099,511,627,776 bytes, but at most"):
        read_record(tmp_path / "large", Record, "write it again")
