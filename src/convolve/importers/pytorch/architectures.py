"""Which architecture has the tensor names and shapes of a checkpoint: one of ours, or one of timm or torchvision.

architectures.csv has a row for each of theirs: its name, and a fingerprint of its tensor names and shapes. It is
written by benchmarks/architectures.py.
"""

import csv
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from zlib import crc32

from convolve.errors import look_up
from convolve.graph.shapes import Shape
from convolve.models import MODELS, bare_model
from convolve.models.packages import Published, published
from convolve.specs.model import NetworkSpec

Shapes = Mapping[str, Shape]
COUNTER = "num_batches_tracked"  # of batch normalization; older checkpoints lack it, and nothing reads it


@dataclass(frozen=True)
class Architecture:
    spec: NetworkSpec
    published: Published = field(default_factory=Published)


_HALF, _CIFAR = (0.5, 0.5, 0.5), (0.4914, 0.4822, 0.4465)
# Our own networks, by the names that torchvision, timm and authors of CIFAR-10 networks give them.
OWN = {
    "resnet18": Architecture(NetworkSpec("resnet", "18")),
    "resnet34": Architecture(NetworkSpec("resnet", "34")),
    "resnet50": Architecture(NetworkSpec("resnet", "50")),
    "resnet20": Architecture(NetworkSpec("resnet", "20"), Published(32, crop_ratio=1.0)),
    "resnet20_projection": Architecture(
        NetworkSpec("resnet", "20-projection"), Published(32, _CIFAR, (0.2023, 0.1994, 0.2010), 1.0)
    ),
    "squeezenet1_0": Architecture(NetworkSpec("squeezenet", "1.0")),
    "squeezenet1_1": Architecture(NetworkSpec("squeezenet", "1.1")),
    "tf_efficientnet_lite0": Architecture(
        NetworkSpec("efficientnet-lite0", dropout=(0.2,)), Published(mean=_HALF, std=_HALF)
    ),
    "efficientnet_lite0": Architecture(NetworkSpec("efficientnet-lite0", "symmetric", (0.2,))),
}


def architecture(name: str) -> Architecture:
    """The architecture that `--arch` names: one of ours, `timm:NAME` or `torchvision:NAME`."""
    if name in MODELS and ":" in name:
        return Architecture(NetworkSpec(name), published(name))
    return look_up(OWN, name, "architecture", "--arch")


def fingerprint(shapes: Shapes) -> str:
    """Eight hex digits that depend on names and shapes, but neither on the number of classes nor on color or gray."""
    lines = sorted(f"{name} {_inner(shape)}" for name, shape in shapes.items() if not name.endswith(COUNTER))
    return f"{crc32(chr(10).join(lines).encode()):08x}"


def in_order(shapes: Shapes) -> tuple[tuple[str, Shape], ...]:
    """The last word of each name, with its shape: both stay the same when layers are renamed."""
    return tuple(
        (name.rpartition(".")[2], _inner(shape)) for name, shape in shapes.items() if not name.endswith(COUNTER)
    )


def _inner(shape: Shape) -> Shape:
    """The shape without its first size (channels or classes out); 1 channel in (gray) counts as 3 (color)."""
    return tuple(3 if (axis, size) == (1, 1) else size for axis, size in enumerate(shape) if axis)


def shapes_of(spec: NetworkSpec, shape_CHW: tuple[int, int, int], classes: int) -> dict[str, Shape]:
    return {name: tuple(tensor.shape) for name, tensor in bare_model(spec, shape_CHW, classes).state_dict().items()}


@cache
def own_shapes() -> dict[str, dict[str, Shape]]:
    return {name: shapes_of(row.spec, (3, row.published.size, row.published.size), 1000) for name, row in OWN.items()}


@cache
def known_in_order() -> dict[tuple[tuple[str, Shape], ...], list[str]]:
    """The names of our networks that have these shapes in this order, whatever their layers are called."""
    found: dict[tuple[tuple[str, Shape], ...], list[str]] = {}
    for name, shapes in own_shapes().items():
        found.setdefault(in_order(shapes), []).append(name)
    return found


@cache
def known() -> dict[str, list[str]]:
    """Fingerprint -> the names of the networks that have it, ours first."""
    found: dict[str, list[str]] = {}
    for name, shapes in own_shapes().items():
        found.setdefault(fingerprint(shapes), []).append(name)
    with Path(__file__).with_name("architectures.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            found.setdefault(row["fingerprint"], []).append(row["name"])
    return found
