"""What a format is to the mutants, and what the makers of sound files share."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from convolve.model import Model
from convolve.models import build_model
from convolve.specs.model import ModelSpec
from convolve.transforms.preprocess import Preprocess

REPOSITORY = Path(__file__).parents[2]


@dataclass(frozen=True)
class Format:
    """`make` fills a folder with sound cases, each a folder of its own, and `read` is given one of these or a damaged
    copy: it returns what it read, or raises a ConvolveError.

    `files`: patterns, one of which is drawn, of the files that are damaged. `exact`: nothing but what the sound case
    gave may come of it, as it has checksums; `sealed`: even where
    these are written anew. `warm`: it keeps what it reads once, such as grammars, and a sound case starts no threads:
    that is read before processes are forked. `place`: what each refusal must name, an expression.
    """

    make: Callable[[Path], object]
    read: Callable[[Path], Any]
    files: tuple[str, ...] = ("**/*",)
    exact: bool = False
    sealed: bool = False
    warm: bool = False
    place: str = ""


def write_cases(place: Path, cases: Mapping[str, Mapping[str, bytes | str]]) -> None:
    """name of a case -> name of a file -> what is in it."""
    for name, files in cases.items():
        for file, content in files.items():
            path = place / name / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.encode() if isinstance(content, str) else content)


def tiny_model() -> Model:
    """The tiny network for ten digits, with fresh weights."""
    spec = ModelSpec(variant="tiny")
    preprocess = Preprocess(1, 28, 28, 0.0, 1 / 256, known_from="")
    return Model(build_model(spec, (1, 28, 28), 10, 0), spec, preprocess, tuple("0123456789"), "mnist")


def digest(parts: Iterable[Any]) -> str:
    """Of bytes, arrays and tensors."""
    found = hashlib.sha256()
    for part in parts:
        found.update(part if isinstance(part, bytes) else np.ascontiguousarray(part).tobytes())
    return found.hexdigest()


def weights_of(model: Model) -> str:
    return digest(tensor.detach().numpy() for _, tensor in sorted(model.module.state_dict().items()))


def digest_of_files(folder: Path, names: Iterable[str] = ("**/*",)) -> str:
    files = sorted({path for name in names for path in folder.glob(name) if path.is_file()})
    return digest(part for path in files for part in (str(path.relative_to(folder)).encode(), path.read_bytes()))
