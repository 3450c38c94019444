"""Label files: names alone, or with their numbers on either side; anything else is refused with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from convolve.errors import FormatError, MissingDataError
from convolve.formats.labels import read_labels


@pytest.mark.parametrize(
    ("content", "names"),
    [
        ("cat\ndog", ("cat", "dog")),
        ("\ufeffcat\r\n gray dog \r\n", ("cat", "gray dog")),
        ("0\tn01440764\n1\tn01443537\n", ("n01440764", "n01443537")),
        ("n01440764\t0\nn01443537\t1\n", ("n01440764", "n01443537")),
        ("n01443537\t1\nn01440764\t0\n", ("n01440764", "n01443537")),
        ("1\tcat\n0\tdog\n", ("dog", "cat")),
        ("1\t0\n0\t1\n", ("1", "0")),
        ("crane\ncrane\n", ("crane", "crane")),
    ],
)
def test_names_in_their_order(content: str, names: tuple[str, ...], tmp_path: Path) -> None:
    path = tmp_path / "labels.txt"
    path.write_bytes(content.encode())
    assert read_labels(path) == names


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "names no class"),
        (b"cat\n\ndog\n", "line 2"),
        (b"cat\n1\tdog\n", "line 2"),
        (b"0\tcat\n2\tdog\n", r"line 2.*numbers 0\.\.1, each once.*'2'"),
        (b"0\tcat\n0\tdog\n", "line 2.*each once"),
        (b"cat\t0\ndog\tone\n", "line 2.*'one'"),
        (b"0\tcat\t1\n", "line 1"),
        (b"0\tcat\n1\t\n", "line 2"),
        ("cat\ndog\n".encode("utf-16"), "UTF-8"),
    ],
)
def test_what_is_none_is_refused(content: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / "labels.txt"
    path.write_bytes(content)
    with pytest.raises(FormatError, match=words):
        read_labels(path)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match="nowhere"):
        read_labels(tmp_path / "nowhere")
