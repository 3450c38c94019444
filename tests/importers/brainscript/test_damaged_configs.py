"""Seeded mistakes in real configurations: no crash, no hang, each error with line and column."""

from pathlib import Path

import pytest
from fuzz_brainscript import check


@pytest.mark.parametrize("first", range(0, 300, 50))
def test_damaged_configurations(first: int, tmp_path: Path) -> None:
    for seed in range(first, first + 50):
        check(seed, tmp_path)


@pytest.mark.parametrize("language", ["ndl", "simple", "mel"])
def test_damaged_older_configurations(language: str, tmp_path: Path) -> None:
    for seed in range(60):
        check(seed, tmp_path, language)
