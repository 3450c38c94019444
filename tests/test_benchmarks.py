"""The list of all benchmarks names scripts and options that there are, and says what it leaves out; the images that it
writes are those that it was given."""

from __future__ import annotations

import sys
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest

from cifar10_files import samples, write_binary

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def script(name: str) -> ModuleType:
    sys.path.insert(0, str(BENCHMARKS))
    try:
        return import_module(name)
    finally:
        sys.path.remove(str(BENCHMARKS))


@pytest.mark.parametrize("each", script("all").BENCHMARKS, ids=lambda each: each.name)
def test_scripts_and_options_are_there(each: Any) -> None:
    source = (BENCHMARKS / f"{each.name}.py").read_text(encoding="utf-8")
    for word in (*each.full.split(), *each.short.split()):
        assert not word.startswith("--") or f'"{word}"' in source
    assert f'results_of("{each.name}")' in source


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    module = script("all")
    found = module.lying_at(None, None, tmp_path)
    by_name = {each.name: each for each in module.BENCHMARKS}
    assert module.run(by_name["images"], False, found) == "left out: no archives (--data, --cntk)"
    assert module.run(by_name["images"], True, found) == "left out: it has no short form"
    assert by_name["mnist"].words(False, found) == ["--data", "sample", "--rounds", "3"]
    (tmp_path / "cifar-10-batches-bin").mkdir()
    assert by_name["cifar10"].words(False, module.lying_at(tmp_path, None, tmp_path))[1] == str(tmp_path)


def test_cifar10_is_written_as_jpeg_files_of_its_own(tmp_path: Path) -> None:
    """Whatever form the files have: as many as asked for, near the pixels, listed for both parts."""
    module, peers = script("image_peers"), script("cifar10_peers")
    data, out = write_binary(tmp_path / "data"), tmp_path / "out"
    out.mkdir()
    module.lay_out(data, replace(peers.CASE, images=30), out)
    assert len(list(out.glob("*.jpg"))) == 20 and len((out / "train_map.txt").read_text().splitlines()) == 30
    images_NCHW, _ = samples("train")
    decoded_HWC = cv2.imread(str(out / "3.jpg"))
    assert decoded_HWC is not None and decoded_HWC.shape == (32, 32, 3)
    means = [np.abs(decoded_HWC[:, :, ::-1].mean((0, 1)) - image_CHW.mean((1, 2))).max() for image_CHW in images_NCHW]
    assert int(np.argmin(means)) == 3
