"""Writes the table by which checkpoints of timm's and torchvision's networks are recognized.

    python benchmarks/architectures.py

Needs both packages, and a torch that they fit; builds each network on the meta device, in a few minutes. Networks that
cannot be built there, or have no published weights, are left out; so are those that we build ourselves.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import timm
import torch
import torchvision

import convolve
from convolve.importers.pytorch.architectures import fingerprint, own_shapes

TABLE = Path(convolve.__file__).parent / "importers" / "pytorch" / "architectures.csv"


def networks() -> Iterator[tuple[str, torch.nn.Module]]:
    for name in torchvision.models.list_models(module=torchvision.models):
        also = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
        with torch.device("cpu" if name.startswith("regnet") else "meta"):  # these compute their widths as tensors
            yield f"torchvision:{name}", torchvision.models.get_model(name, num_classes=10, **also)
    pretrained = {name.partition(".")[0] for name in timm.list_pretrained()}
    for name in sorted(pretrained):
        with suppress(NotImplementedError, RuntimeError, TypeError), torch.device("meta"):
            yield f"timm:{name}", timm.create_model(name, num_classes=10)


def main() -> None:
    ours = {fingerprint(shapes) for shapes in own_shapes().values()}
    rows = []
    for name, module in networks():
        shapes = {key: tuple(tensor.shape) for key, tensor in module.state_dict().items()}
        if (digits := fingerprint(shapes)) not in ours:
            rows.append((name, digits))
    with TABLE.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([("name", "fingerprint"), *rows])
    print(f"{len(rows)} networks in {TABLE}")


if __name__ == "__main__":
    main()
