"""What `convolve predict --output NODE` writes: the features of a layer, image by image."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from convolve.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray


def write_features(
    names: list[str],
    features: NDArray[Any],
    model: str,
    node: str,
    *,
    as_json: bool,
    csv_file: Path | None,
    npz_file: Path | None,
) -> None:
    """`features` (N, ...) as one JSON object, as arrays `paths` and `features`, or as a table, which is the default."""
    if sum(map(bool, (as_json, csv_file, npz_file))) > 1:
        raise UsageError("--json, --csv and --npz exclude each other; choose one")
    if as_json:
        images = [{"path": name, "features": values.tolist()} for name, values in zip(names, features, strict=True)]
        head = {"model": model, "output": node, "shape": list(features.shape[1:])}
        print(json.dumps(head | {"images": images}, ensure_ascii=False))
    elif npz_file:
        _write_npz(names, features, npz_file)
    elif csv_file:
        from convolve.atomic import replacing

        with replacing(csv_file) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            _write_table(names, features, file)
    else:
        _write_table(names, features, sys.stdout)
    if csv_file or npz_file:
        print(f"features {features.shape[1:]} of {len(names)} images in {csv_file or npz_file}", file=sys.stderr)


def _write_table(names: list[str], features: NDArray[Any], file: TextIO) -> None:
    """path, then the numbers, the last axis fastest."""
    flat = features.reshape(len(features), -1)
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["path", *(f"feature_{k}" for k in range(flat.shape[1]))])
    for name, row in zip(names, flat, strict=True):
        writer.writerow([name, *(f"{value:.8g}" for value in row)])


def _write_npz(names: list[str], features: NDArray[Any], path: Path) -> None:
    import numpy as np

    from convolve.atomic import replacing

    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez(file, paths=np.array(names), features=features)
