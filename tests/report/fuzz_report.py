"""Write reports of damaged run folders: `python fuzz_report.py COUNT [SEED]`.

One to three values of a folder are replaced: of a JSON file, a line of metrics.jsonl, a tensor of the evaluation. Each
folder must either have its report or be refused by an error of one line, with exit code 2 or 3. The script prints one
line of counts, or fails with what went wrong.
"""

from __future__ import annotations

import json
import random
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load_file, save_file

from convolve.errors import ConvolveError
from convolve.report import write_report

Array = npt.NDArray[Any]
VALUES: list[Any] = [
    None, True, -1, 0, 1, 2**31, 2**63, 10**400, 0.5, -0.0, 1.5, 1e308, 5e-324, float("nan"), float("inf"), "", "x",
    "2026-05-20T10:11:12+00:00", "\x00", [], [1], {}, {"a": 1}, [[[[]]]],
]  # fmt: skip
FILES = ("start.json", "result.json", "recipe.json", "state.json", "model/model.json", "metrics.jsonl")


def _other(array: Array, draw: random.Random) -> Array:
    """The tensor in another size, of another type, or with values that are none."""
    return [
        array[:-1],
        array[:0],
        array[..., None],
        array.astype(np.float64),
        np.full_like(array, draw.choice([0, 1, 9, 10, 255])),
        -array.astype(np.int64),
        array * np.float32("nan"),
    ][draw.randrange(7)]


def damage(run: Path, draw: random.Random) -> None:
    name = draw.choice([*FILES, "evaluation.safetensors"])
    path = run / name
    if name == "evaluation.safetensors":
        tensors = load_file(path)
        key = draw.choice(sorted(tensors))
        tensors[key] = _other(tensors[key], draw)
        if draw.random() < 0.2:
            del tensors[key]
        save_file({name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}, path)
        return
    if draw.random() < 0.1:
        content = path.read_bytes()
        path.write_bytes(draw.choice([content[: len(content) // 2], b"", b"[" * 100_000, b"\xff\xfe", b"null", b"[]"]))
        return
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n") if name == "metrics.jsonl" else None
    number = draw.randrange(len(lines)) if lines else 0
    try:
        values = json.loads(lines[number] if lines else path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):  # damaged before
        return
    _replace(values, draw)
    if lines:
        lines[number] = json.dumps(values)
    path.write_text("\n".join(lines) if lines else json.dumps(values), encoding="utf-8")


def _replace(values: Any, draw: random.Random) -> None:
    """Another value for a key, at any depth; or no such key, or one more."""
    if not isinstance(values, dict) or not values:
        return
    key = draw.choice(sorted(values))
    if isinstance(values[key], dict) and draw.random() < 0.7:
        _replace(values[key], draw)
    elif draw.random() < 0.15:
        del values[key]
    elif draw.random() < 0.1:
        values["more"] = 1
    else:
        values[key] = draw.choice(VALUES)


def outcome(run: Path) -> str:
    try:
        write_report(run)
    except ConvolveError as error:
        assert error.exit_code in (2, 3) and "\n" not in str(error), repr(error)
        return "refused by name"
    return "reported"


def main() -> None:
    sys.path.insert(0, str(Path(__file__).parent))
    from test_report import make_run

    count, draw = int(sys.argv[1]), random.Random(int(sys.argv[2]) if len(sys.argv) > 2 else 0)
    with tempfile.TemporaryDirectory() as folder:
        whole, counts = make_run(Path(folder) / "whole", epochs=3, images=40), Counter[str]()
        for number in range(count):
            run = shutil.copytree(whole, Path(folder) / "run")
            for _ in range(draw.randint(1, 3)):
                damage(run, draw)
            try:
                counts[outcome(run)] += 1
            except Exception:
                print(f"folder {number}: {sorted(path.name for path in run.iterdir())}", file=sys.stderr)
                raise
            shutil.rmtree(run)
    print(f"{count} folders: {counts['reported']} reported, {counts['refused by name']} refused by name")


if __name__ == "__main__":
    main()
