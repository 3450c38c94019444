"""A model folder that is whole works wherever it is; one with a missing or altered file is refused."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from command_line import Convolve, assert_refused
from convolve.errors import ModelError
from convolve.loading import load


def altered(**values: Any) -> Callable[[Path], object]:
    """model.json with other values."""

    def alter(folder: Path) -> None:
        head = json.loads((folder / "model.json").read_text())
        (folder / "model.json").write_text(json.dumps(head | values))

    return alter


def flipped(folder: Path) -> None:
    """One bit of the weights."""
    content = bytearray((folder / "weights.safetensors").read_bytes())
    content[-1] ^= 1
    (folder / "weights.safetensors").write_bytes(content)


def cut(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:-10])


def replaced(name: str, make: Callable[[Path], object]) -> Callable[[Path], object]:
    """Something else in the place of a file."""

    def replace(folder: Path) -> None:
        (folder / name).unlink()
        make(folder / name)

    return replace


def removed(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).unlink()


TINY = {"name": "convnet-mnist", "variant": "tiny", "dropout": [0.5]}
SIZE = {"channels": 1, "height": 28, "width": 28, "mean": 0.0, "scale": 1.0}
DAMAGE: dict[str, tuple[Callable[[Path], object], int, list[str]]] = {
    # what happened -> exit code, and what the line must say
    "no weights": (removed("weights.safetensors"), 3, ["weights.safetensors", "copy the model folder again"]),
    "no head": (removed("model.json"), 3, ["model.json is missing", "copy the model folder again"]),
    "flipped bit": (flipped, 3, ["weights.safetensors", "checksum", "copy the model folder again"]),
    "cut weights": (cut("weights.safetensors"), 3, ["weights.safetensors", "checksum"]),
    "cut head": (cut("model.json"), 3, ["model.json is damaged", "copy the model folder again"]),
    "head of bytes": (lambda folder: (folder / "model.json").write_bytes(b"\xff\xfe"), 3, ["model.json is damaged"]),
    "head of a list": (lambda folder: (folder / "model.json").write_text("[]"), 3, ["model.json is damaged"]),
    "empty head": (lambda folder: (folder / "model.json").write_text("{}"), 3, ["class_names is missing"]),
    "newer format": (altered(format=99), 4, ["format 99", "update convolve"]),
    "no sizes": (altered(preprocess={}), 3, ["model.json is damaged"]),
    "unknown size": (altered(preprocess=SIZE | {"depth": 3}), 3, ["model.json is damaged", "'depth'"]),
    "unknown field": (altered(model=TINY | {"new": 1}), 3, ["model.json is damaged", "'new'"]),
    "missing field": (altered(model={"name": "convnet-mnist"}), 3, ["model.json is damaged", "dropout"]),
    "unknown network": (altered(model=TINY | {"name": "convnet"}), 4, ["model.json", "did you mean 'convnet-mnist'?"]),
    "other network": (
        altered(model=TINY | {"variant": ""}),
        3,
        ["weights.safetensors does not fit the network", "conv1"],
    ),
    "sizes that nobody has": (
        altered(preprocess=SIZE | {"height": 60_000, "width": 60_000}, model=TINY | {"variant": ""}),
        3,
        ["weights.safetensors does not fit the network"],
    ),
    "endless weights": (
        replaced("weights.safetensors", lambda path: path.symlink_to("/dev/zero")),
        3,
        ["weights.safetensors: it is not a regular file"],
    ),
    "weights from a pipe": (
        replaced("weights.safetensors", os.mkfifo),
        3,
        ["weights.safetensors: it is not a regular file"],
    ),
    "head of a folder": (replaced("model.json", Path.mkdir), 3, ["cannot read", "model.json: Is a directory"]),
    "a text for an error": (
        altered(training_info={"test_error": "small"}),
        3,
        ["model.json is damaged (training_info.test_error must be a number, got 'small')"],
    ),
    "an error above all": (altered(training_info={"test_error": 2}), 3, ["test_error must be between 0 and 1, got 2"]),
    "fewer classes": (altered(class_names=["cat", "dog"]), 3, ["does not fit the network", "fc2"]),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_model_is_refused(
    damage: str, model: Path, tiny_mnist: Path, tmp_path: Path, convolve: Convolve
) -> None:
    change, code, words = DAMAGE[damage]
    folder = shutil.copytree(model, tmp_path / "model")
    change(folder)
    assert_refused(convolve("evaluate", folder, "--data", tiny_mnist), code, str(folder), *words)
    assert_refused(convolve("show", folder), code if damage != "no head" else 2)


def test_what_is_no_model_is_refused(tiny_mnist: Path, tmp_path: Path, convolve: Convolve) -> None:
    assert_refused(convolve("evaluate", tiny_mnist), 3, str(tiny_mnist), "no model.json", "a run folder")
    assert_refused(convolve("evaluate", tmp_path / "nowhere"), 2, "nowhere does not exist", "a run folder")
    pickled = tmp_path / "model.pt"
    torch.save({"conv1.weight": torch.zeros(1)}, pickled)
    assert_refused(convolve("evaluate", pickled), 4, "model.pt", "no known network has these 1 tensors", "--arch")


def test_nothing_is_unpickled(model: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(model, tmp_path / "model")
    trap = pickle.dumps(_Trap(tmp_path / "sprung"))
    (folder / "weights.safetensors").write_bytes(trap)
    altered(weights_sha256=hashlib.sha256(trap).hexdigest())(folder)
    with pytest.raises(ModelError, match=r"weights\.safetensors"):
        load(folder)
    assert not (tmp_path / "sprung").exists()


class _Trap:
    """Leaves a trace where it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.trace,)


def test_evaluate_on_other_data_is_refused(model: Path, tiny_mnist: Path, tmp_path: Path, convolve: Convolve) -> None:
    folder = shutil.copytree(model, tmp_path / "model")
    altered(class_names=[f"digit {k}" for k in range(10)])(folder)
    assert_refused(convolve("evaluate", folder, "--data", tiny_mnist), 3, "digit 0", "classes 0, 1")


def test_saved_and_loaded_it_is_the_same(model: Path, tmp_path: Path) -> None:
    loaded = load(model)
    loaded.save(tmp_path / "copy")
    for name in ("model.json", "weights.safetensors"):
        assert (tmp_path / "copy" / name).read_bytes() == (model / name).read_bytes()


def test_another_reader_finds_the_same_weights(model: Path, tmp_path: Path) -> None:
    weights = load_file(model / "weights.safetensors")
    module = load(model).module
    assert weights.keys() == module.state_dict().keys()
    assert all(torch.equal(tensor, module.state_dict()[name]) for name, tensor in weights.items())
    save_file(weights, tmp_path / "again.safetensors")
    assert sum(tensor.numel() for tensor in weights.values()) == 1772
