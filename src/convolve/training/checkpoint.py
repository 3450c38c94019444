"""Checkpoints: everything a run needs to resume with the same result bit for bit, in two files that survive a `kill
-9`.

    checkpoints/step-00001234.safetensors   all tensors
    checkpoints/step-00001234.json          the rest, and the SHA-256 of both; it is written last

The two newest are kept: if the newest is damaged, the one before it is used, with a warning.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from convolve.atomic import parse_json, read_whole, replacing, write_json
from convolve.errors import ConvolveError, ModelError
from convolve.records import CheckpointHead
from convolve.records.reading import from_json, to_json

KEEP = 2


def save_checkpoint(folder: Path, step: int, tensors: dict[str, torch.Tensor], state: dict[str, Any]) -> None:
    """Write the checkpoint of `step`, then delete all but the newest `KEEP`. `state` must be serializable as JSON."""
    stem = folder / f"step-{step:08d}"
    content = save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
    with replacing(stem.with_suffix(".safetensors")) as temporary:
        temporary.write_bytes(content)
    head = CheckpointHead(step, state, _sha256(content, step, state))
    write_json(stem.with_suffix(".json"), to_json(head))
    _remove_older(folder)


def _remove_older(folder: Path) -> None:
    """Delete all but the newest `KEEP`, also tensors whose JSON was never written."""
    paths = [path for path in inside(folder) if path.name.startswith("step-")]
    kept = [path.stem for path in paths if path.suffix == ".json"][-KEEP:]
    for path in paths:
        if path.stem not in kept:
            path.unlink()


def load_checkpoint(folder: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any], list[str]] | None:
    """(tensors, state, warnings) of the newest intact checkpoint; None if there is none at all.

    Raises `ModelError` if there are checkpoints and every one of them is damaged.
    """
    warnings: list[str] = []
    for path in reversed([path for path in inside(folder) if path.match("step-*.json")]):
        try:
            head = from_json(CheckpointHead, parse_json(read_whole(path, ModelError).decode("utf-8")))
            content = read_whole(path.with_suffix(".safetensors"), ModelError)
            if _sha256(content, head.step, head.state) != head.sha256:
                raise ValueError("its checksum differs")
            tensors = load(content)
        except (OSError, ValueError, ModelError, SafetensorError) as error:
            warnings.append(f"checkpoint {path.with_suffix('')} is damaged ({error}); using the one before it")
            continue
        _remove_older(folder)  # a kill may have come before the deletion
        return tensors, head.state, warnings
    if warnings:
        raise ModelError(f"every checkpoint in {folder} is damaged; start the run over with --restart")
    return None


def inside(folder: Path) -> list[Path]:
    """What a folder holds, in order; nothing if there is none. `Path.glob` would hide that it cannot be read."""
    try:
        return sorted(folder.iterdir())
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ConvolveError(f"cannot read {folder}: {error.strerror}; check its permissions and its disk") from None


def _sha256(content: bytes, step: int, state: dict[str, Any]) -> str:
    """The SHA-256 of the tensors, and of the values in a canonical form of JSON."""
    digest = hashlib.sha256(content)
    digest.update(json.dumps([step, state], sort_keys=True).encode())
    return digest.hexdigest()
