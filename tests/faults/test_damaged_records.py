"""Records that are read back, one to three of their values damaged: an answer or one plain sentence, never a traceback.

A seeded share; `python tests/faults/test_damaged_records.py SEED COUNT MODEL` tries more, on a model folder.
"""

from __future__ import annotations

import copy
import json
import math
import random
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest

from convolve.errors import ConvolveError
from convolve.loading import load
from convolve.recipe import to_mapping
from convolve.recipes import load_recipe

COUNT = 40
LONGEST = 1800  # letters of a message: a screen
VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 1, 2**31, 2**63, 10**400, -(10**400), 1.5, math.nan, math.inf, -math.inf, 1e308, 1e-320, "", "x",
    "nan", "\x1b[2J", "9" * 5000, [], [[]], {}, {"a": 1}, [1, 2, 3], [None] * 3, ["x"] * 50, {"kind": "shift"},
    "1*9999999999", "[" * 100,
)  # fmt: skip
Place = tuple[str | int, ...]


def places(value: Any, place: Place = ()) -> Iterator[Place]:
    if place:
        yield place
    items = value.items() if isinstance(value, dict) else enumerate(value[:20]) if isinstance(value, list) else ()
    for key, item in items:
        yield from places(item, (*place, key))


def damaged(value: Any, draw: random.Random) -> Any:
    value = copy.deepcopy(value)
    for _ in range(draw.randint(1, 3)):
        *above, last = draw.choice([*places(value)])
        holder = value
        for key in above:
            holder = holder[key]
        if isinstance(holder, dict) and draw.random() < 0.2:
            del holder[last]
        elif isinstance(holder, dict) and draw.random() < 0.2:
            holder[draw.choice(["x", f"{last}y", "format"])] = draw.choice(VALUES)
        else:
            holder[last] = draw.choice(VALUES)
    return value


def model_json(sound: Path, place: Path, damage: Callable[[Any], Any]) -> Path:
    folder = Path(shutil.copytree(sound, place / "model", dirs_exist_ok=True))
    (folder / "model.json").write_text(json.dumps(damage(json.loads((folder / "model.json").read_text()))))
    return folder


def onnx_metadata(sound: Path, place: Path, damage: Callable[[Any], Any]) -> Path:
    exported = place / "sound.onnx"
    if not exported.exists():
        load(sound).export(exported)
    file = onnx.load(exported)
    (entry,) = [entry for entry in file.metadata_props if entry.key == "convolve"]
    entry.value = json.dumps(damage(json.loads(entry.value)))
    onnx.save(file, place / "a.onnx")
    return place / "a.onnx"


def ask(path: Path) -> None:
    image = path.parent / "image.png"
    cv2.imwrite(str(image), np.zeros((28, 28), np.uint8))
    load(path).predict([image])


def recipe(sound: Path, place: Path, damage: Callable[[Any], Any]) -> Path:
    (place / "a.json").write_text(json.dumps(damage(to_mapping(load_recipe("mnist")))))
    return place / "a.json"


KINDS: dict[str, tuple[Callable[..., Path], Callable[[Path], object]]] = {
    "model.json": (model_json, ask),
    "ONNX metadata": (onnx_metadata, ask),
    "recipe": (recipe, lambda path: load_recipe(str(path))),
}


def run(kind: str, sound: Path, place: Path, seed: int, count: int) -> int:
    """How many of `count` damaged records were refused; whatever else is raised than a ConvolveError goes through."""
    make, read = KINDS[kind]
    refused = 0
    for number in range(count):
        draw = random.Random(f"{seed} {number}")
        path = make(sound, place, lambda value, draw=draw: damaged(value, draw))
        try:
            read(path)
        except ConvolveError as error:
            refused += 1
            assert len(str(error)) <= LONGEST and "\x1b" not in str(error), (number, str(error))
    return refused


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_record_is_refused_or_means_something(kind: str, model: Path, tmp_path: Path) -> None:
    make, read = KINDS[kind]
    read(make(model, tmp_path, lambda value: value))  # a sound one
    assert run(kind, model, tmp_path, 0, COUNT) > COUNT / 2


if __name__ == "__main__":
    from tempfile import TemporaryDirectory

    seed, count, sound = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    for kind in KINDS:
        with TemporaryDirectory() as name:
            print(kind, run(kind, sound, Path(name), seed, count), "of", count, "refused")
