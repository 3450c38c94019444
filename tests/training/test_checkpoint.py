"""Checkpoints outlive damage: the newest whole one is used, and the damage is told."""

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from convolve.errors import ConvolveError, ModelError
from convolve.training import checkpoint
from convolve.training.checkpoint import load_checkpoint, save_checkpoint


def filled(folder: Path, steps: int = 3) -> Path:
    for step in range(1, steps + 1):
        save_checkpoint(folder, step, {"w": torch.full((3,), float(step))}, {"step": step, "third": 1 / 3})
    return folder


def test_a_value_that_is_another_one_is_damage(tmp_path: Path) -> None:
    """The digest is over the JSON too: of its values, not of how they are written."""
    newest = sorted(filled(tmp_path).glob("step-*.json"))[-1]
    newest.write_text(json.dumps(json.loads(newest.read_text())))  # in one line
    assert load_checkpoint(tmp_path)[2] == []  # type: ignore[index]
    newest.write_text(newest.read_text().replace('"step": 3, "third"', '"step": 2, "third"'))
    _, state, warnings = load_checkpoint(tmp_path) or pytest.fail("none found")
    assert state["step"] == 2 and "step-00000003 is damaged" in warnings[0]


def test_the_newest_comes_back_whole(tmp_path: Path) -> None:
    tensors, state, warnings = load_checkpoint(filled(tmp_path)) or pytest.fail("none found")
    assert tensors["w"].tolist() == [3, 3, 3]
    assert state == {"step": 3, "third": 1 / 3}
    assert warnings == []
    assert len(list(tmp_path.iterdir())) == 4  # two checkpoints of two files


@pytest.mark.parametrize("damage", ["flip", "cut", "remove", "json", "half"])
def test_a_damaged_one_gives_way_to_the_one_before(damage: str, tmp_path: Path) -> None:
    filled(tmp_path)
    tensors_file, json_file = tmp_path / "step-00000003.safetensors", tmp_path / "step-00000003.json"
    content = bytearray(tensors_file.read_bytes())
    match damage:
        case "flip":
            content[-1] ^= 1
            tensors_file.write_bytes(content)
        case "cut":
            tensors_file.write_bytes(content[:-4])
        case "remove":
            tensors_file.unlink()
        case "json":
            json_file.write_text('{"step": 3')
        case "half":
            json_file.write_text("{}")
    tensors, state, warnings = load_checkpoint(tmp_path) or pytest.fail("none found")
    assert (tensors["w"][0], state["step"]) == (2, 2)
    assert "step-00000003 is damaged" in warnings[0]


def test_all_damaged_is_an_error_and_none_is_none(tmp_path: Path) -> None:
    assert load_checkpoint(tmp_path) is None
    filled(tmp_path)
    for path in tmp_path.glob("*.safetensors"):
        path.write_bytes(b"x")
    with pytest.raises(ModelError, match="--restart"):
        load_checkpoint(tmp_path)


def test_a_folder_that_cannot_be_listed_for_once_loses_no_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`Path.glob` takes it for an empty one; then all was removed that a second listing showed."""
    filled(tmp_path, steps=2)
    before = {path.name for path in tmp_path.iterdir()}
    failures = [PermissionError(errno.EACCES, "Permission denied")]

    def failing_once(list_it: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def listed(path: Any) -> Any:
            if failures:
                raise failures.pop()
            return list_it(path)

        return listed

    monkeypatch.setattr(os, "scandir", failing_once(os.scandir))
    monkeypatch.setattr(os, "listdir", failing_once(os.listdir))
    with pytest.raises(ConvolveError, match="cannot read"):
        checkpoint._remove_older(tmp_path)
    assert before <= {path.name for path in tmp_path.iterdir()}
    failures.append(PermissionError(errno.EACCES, "Permission denied"))
    with pytest.raises(ConvolveError, match="cannot read"):
        load_checkpoint(tmp_path)
