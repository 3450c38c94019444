"""PyTorch checkpoints: a state_dict, alone or inside what a training saved, or a network that was saved whole."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from convolve.errors import ModelError, UnsupportedError, legible
from convolve.graph.shapes import MAX_VALUES, Shape
from convolve.importers.loader import PreprocessOverrides
from convolve.importers.pytorch import tensors as files
from convolve.importers.pytorch.architectures import (
    COUNTER,
    OWN,
    Architecture,
    Shapes,
    architecture,
    fingerprint,
    in_order,
    known,
    known_in_order,
    shapes_of,
)  # fmt: skip
from convolve.importers.pytorch.config import beside
from convolve.importers.pytorch.tensors import Tensors, open_tensors
from convolve.models import bare_model
from convolve.models.packages import Published, can_be_built, is_published, pretrained, published
from convolve.models.uninitialized import uninitialized
from convolve.specs.model import NetworkSpec
from convolve.transforms.preprocess import Preprocess

__all__ = ["Checkpoint", "is_pytorch", "read"]

_MOST_CLASSES = 2**24  # a damaged file may state any number
MAX_DEPTH = 6  # of dictionaries around a state_dict: {"model": {"module": {...}}} and the like


@dataclass(frozen=True)
class Checkpoint:
    """A network from a checkpoint. `origin`: which part of the file was read; `first`: its first weights."""

    module: nn.Module
    spec: NetworkSpec
    preprocess: Preprocess
    classes: int
    origin: str
    class_names: tuple[str, ...]
    first: NDArray[np.float32]


def is_pytorch(path: Path) -> bool:
    """Whether `path` is a PyTorch checkpoint, or `timm:NAME`, a network whose weights timm publishes."""
    return is_published(str(path)) or files.is_pytorch(path)


def read(path: Path, overrides: PreprocessOverrides) -> Checkpoint:
    """The network in a checkpoint, with the preprocessing that was published for its architecture.

    Raises UnsupportedError for an unknown architecture, ModelError where `overrides.arch` does not fit.
    """
    if is_published(str(path)):
        return _published(str(path))
    tensors = open_tensors(path)
    if len(tensors.shapes) > 4 * MAX_VALUES:
        raise ModelError(
            f"{path} has {len(tensors.shapes):,} tensors, more than any known network; give a checkpoint of one network"
        )
    said = beside(path)
    name, held_in, found = _found(path, tensors, overrides.arch, said.architecture)
    made = architecture(name)
    if said.published:
        made = replace(made, published=said.published)
    channels, classes = _sizes(made, found)
    height = width = made.published.size
    if overrides.image_shape_CHW:
        _, height, width = overrides.image_shape_CHW
    module = bare_model(made.spec, (channels, height, width), classes)
    wanted = {key: tuple(tensor.shape) for key, tensor in module.state_dict().items()}
    plan = _plan(wanted, found, tensors.is_ordered)
    if isinstance(plan, str):
        raise ModelError(f"{path}{f', {legible(held_in)}' if held_in else ''} does not fit {name}: {plan}")
    state = {ours: tensors.read(f"{held_in}.{theirs}" if held_in else theirs) for ours, theirs in plan.items()}
    counters = {key: torch.zeros((), dtype=torch.int64) for key in wanted if key not in state}
    if any(parameter.is_meta for parameter in module.parameters()):
        uninitialized(module)
    module.load_state_dict(state | counters)
    origin = f"PyTorch checkpoint, {name}{f', its {legible(held_in)}' if held_in else ''}"
    preprocess = _preprocess(made.published, (channels, height, width))
    if said.published:
        preprocess = replace(preprocess, known_from="timm's config.json")
    return Checkpoint(
        module.eval(), made.spec, preprocess, classes=classes,
        origin=origin, class_names=said.class_names, first=next(iter(state.values())).numpy(),
    )  # fmt: skip


def _published(name: str) -> Checkpoint:
    module, said = pretrained(name), published(name)
    tensors = [*module.state_dict().values()]
    classes = int(getattr(module, "num_classes", len(tensors[-1])))
    if not classes:
        raise UnsupportedError(f"{name} outputs features, not classes; choose a network that was trained to classify")
    preprocess = replace(_preprocess(said, (3, said.size, said.size)), known_from="timm")
    return Checkpoint(
        module.eval(), NetworkSpec(name), preprocess, classes=classes,
        origin="timm's weights", class_names=(), first=tensors[0].numpy(),
    )  # fmt: skip


# -- recognition ------------------------------------------------------------------------------------------------------


def _found(path: Path, tensors: Tensors, arch: str | None, stated: str) -> tuple[str, str, Shapes]:
    """(the architecture's name, the path of its state_dict in the file, that state_dict's shapes). If several
    architectures have these tensors, it is the `stated` one, or else the one in the file's name."""
    parts = _parts(tensors.shapes)
    if arch:
        made = architecture(arch)
        wanted = shapes_of(made.spec, (3, made.published.size, made.published.size), 1000)
        shared = {held_in: len(wanted.keys() & part.keys()) for held_in, part in parts.items()}
        best = _averaged_first(held_in for held_in in parts if shared[held_in] == max(shared.values()))
        return arch, best, parts[best]
    matches = {held_in: names for held_in, part in parts.items() if (names := known().get(fingerprint(part)))}
    if not matches and tensors.is_ordered:
        matches = {held_in: names for held_in, part in parts.items() if (names := known_in_order().get(in_order(part)))}
    if not matches:
        raise UnsupportedError(_unrecognized(path, tensors.shapes))
    held_in = _averaged_first(matches)
    names = matches[held_in]
    called = [name for name in names if name.rpartition(":")[2] == stated.partition(".")[0]]
    called = called or [name for name in names if name.rpartition(":")[2].lower() in path.name.lower()]
    first = next(filter(can_be_built, names), names[0])
    return max(called, key=len, default=first), held_in, parts[held_in]


def _parts(shapes: Shapes) -> dict[str, dict[str, Shape]]:
    """The dictionaries of the file by their paths, such as "state_dict.module"."""
    parts: dict[str, dict[str, Shape]] = {"": dict(shapes)}
    for name, shape in shapes.items():
        words = name.split(".", MAX_DEPTH)
        for depth in range(1, len(words)):
            parts.setdefault(".".join(words[:depth]), {})[".".join(words[depth:])] = shape
    return parts


def _averaged_first(held_in: Iterable[str]) -> str:
    """Averaged weights first: a training that keeps them beside the others evaluates them."""
    return min(held_in, key=lambda where: ("ema" not in where.lower(), len(where)))


def _unrecognized(path: Path, shapes: Shapes) -> str:
    names = [name for name in shapes if not name.endswith(COUNTER)]
    if not names:
        return f"{path} holds no tensors; give a checkpoint with a state_dict"
    first, last = (f"{legible(name)} {shapes[name]}" for name in (names[0], names[-1]))
    return (
        f"{path}: no known network has these {len(names)} tensors, {first} to {last}; say which it is with --arch "
        f"({', '.join(OWN)}, timm:NAME or torchvision:NAME), or export it to ONNX with torch.onnx.export"
    )


# -- the plan ---------------------------------------------------------------------------------------------------------


def _sizes(made: Architecture, found: Shapes) -> tuple[int, int]:
    """(channels of the images, number of classes), from the shapes of the first and the last layer of `found`."""
    names = [*shapes_of(made.spec, (3, made.published.size, made.published.size), 1000)]
    first, last = (
        found.get(name, next(iter([*found.values()][at:]), ())) for name, at in ((names[0], 0), (names[-1], -1))
    )
    is_gray = len(first) == 4 and first[1] == 1
    return 1 if is_gray else 3, last[0] if last and 0 < last[0] <= _MOST_CLASSES else 1


def _plan(wanted: Shapes, found: Shapes, is_ordered: bool) -> dict[str, str] | str:
    """Name in the network -> name in the file: each is used or filled exactly once. Else why it does not fit."""
    ours, theirs = ([name for name in names if not name.endswith(COUNTER)] for names in (wanted, found))
    if {*ours} != {*theirs} and is_ordered and [wanted[name] for name in ours] == [found[name] for name in theirs]:
        pairs = [*zip(ours, theirs, strict=True)]
        if all(one.rpartition(".")[2] == other.rpartition(".")[2] for one, other in pairs):
            return dict(pairs)
    for name, other in zip_longest(ours, theirs):
        if name is not None and name not in found:
            return f"{name} is missing"
        if other is not None and other not in wanted:
            return f"{legible(other)} has no place in it"
    wrong = next((name for name in wanted if name in found and wanted[name] != found[name]), None)
    if wrong:
        return f"{wrong} has the shape {found[wrong]}, not {wanted[wrong]}"
    return {name: name for name in wanted if name in found}


def _preprocess(said: Published, shape_CHW: tuple[int, int, int]) -> Preprocess:
    """The preprocessing of torchvision and timm, for pixel values from 0 to 255."""
    mean, scale = tuple(255 * value for value in said.mean), tuple(1 / (255 * value) for value in said.std)
    if shape_CHW[0] == 1:
        mean, scale = (sum(mean) / 3,), (sum(scale) / 3,)
    same = len({*mean}) == len({*scale}) == 1
    return Preprocess(
        *shape_CHW, mean[0] if same else mean, scale[0] if same else scale, resize="cover",
        crop_ratio=said.crop_ratio, orientation="stored", known_from="",
    )  # fmt: skip
