"""Configurations written from BrainScript's documentation: each trains a step and is tested, on tiny data."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from command_line import Convolve
from convolve.formats.ctf import write_ctf

CORPUS = Path(__file__).parents[1] / "corpus" / "language"
NOTES = {"IncludedNetwork": 1, "Corners": 2}  # an action that is skipped; keys that nothing reads


@pytest.mark.parametrize("file", sorted(CORPUS.glob("*.cntk")), ids=lambda file: file.stem)
def test_it_trains_and_is_tested(file: Path, convolve: Convolve, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    labels_N = rng.integers(0, 3, 48)
    images_ND = rng.integers(0, 120, (48, 64))
    images_ND[np.arange(48), 20 * labels_N] += 120
    write_ctf(tmp_path / "train.txt", labels_N, images_ND, 3)
    outcome = convolve("run", file, f"data={tmp_path}", f"out={tmp_path}", "--json")
    assert outcome.code == 0, outcome.err
    (test,) = json.loads(outcome.out)["tests"]
    assert test["samples"] == 48
    losses = [value for name, value in test.items() if name.lower().startswith("ce")]
    assert losses and np.isfinite(losses).all() and losses[0] < 3
    assert outcome.err.count("warning: ") == NOTES.get(file.stem, 0), outcome.err
