"""CNTK's own small models, for tests that stand above the importers."""

from __future__ import annotations

import io
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import torch

FOLDER = Path(__file__).parent / "golden" / "importers"
ARCHIVE = ZipFile(FOLDER / "oracle.zip")


def values_of(case: str) -> tuple[torch.Tensor, torch.Tensor]:
    """(input, output) of a network with one of each, as CNTK computed it."""
    values = np.load(io.BytesIO(ARCHIVE.read(f"io/{case}.npz")))
    [name] = [key for key in values if key.startswith("in__")]
    return torch.from_numpy(values[name]), torch.from_numpy(values["out0"])
