"""The golden models: what CNTK wrote, what went in, what came out."""

from __future__ import annotations

import io
import json
from functools import cache
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import torch

from convolve.graph.build import build
from convolve.graph.graph import Graph

FOLDER = Path(__file__).parent.parent / "golden" / "importers"


@cache
def archive(name: str) -> ZipFile:
    return ZipFile(FOLDER / f"{name}.zip")


def read(name: str, member: str) -> bytes:
    return archive(name).read(member)


def cases(name: str, folder: str) -> list[str]:
    """The cases that `folder` of the archive `name` has files for."""
    return sorted(Path(member).stem for member in archive(name).namelist() if member.startswith(f"{folder}/"))


def arrays(name: str, member: str) -> dict[str, np.ndarray]:
    return dict(np.load(io.BytesIO(read(name, member))))


def oracle_index() -> dict[str, dict[str, Any]]:
    index: dict[str, dict[str, Any]] = json.loads(read("oracle", "models_index.json"))
    return index


def evaluate(graph: Graph, values: dict[str, np.ndarray]) -> list[np.ndarray]:
    """The outputs of the built graph for the `in__*` arrays, matched by the inputs' names in the file."""
    module = build(graph)
    inputs = [torch.from_numpy(values[f"in__{leaf.source}"]).reshape(-1, *leaf.shape) for leaf in graph.inputs]
    with torch.no_grad():
        result = module(*inputs)
    return [value.numpy() for value in (result if isinstance(result, tuple) else (result,))]


def assert_close(got: np.ndarray, wanted: np.ndarray, relative: float = 1e-4) -> None:
    """Equal up to `relative` of the largest wanted number."""
    assert got.shape == wanted.shape
    np.testing.assert_allclose(got, wanted, rtol=0, atol=relative * max(float(np.abs(wanted).max()), 1e-6))
