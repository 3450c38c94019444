"""Exported files asked as a user would, without convolve: onnxruntime, and PyTorch's own loader."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch


def metadata(path: Path) -> dict[str, Any]:
    if path.suffix == ".onnx":
        text = session(path).get_modelmeta().custom_metadata_map["convolve"]
    else:
        files = {"convolve.json": ""}
        torch.export.load(path, extra_files=files)
        text = files["convolve.json"]
    about: dict[str, Any] = json.loads(text)
    return about


def answer(path: Path, images: np.ndarray) -> np.ndarray:
    """logits_NK of `images`, as the file takes them."""
    if path.suffix == ".onnx":
        logits: np.ndarray = session(path).run(["logits"], {"images": images})[0]
        return logits
    with torch.no_grad():
        return np.asarray(torch.export.load(path).module()(torch.from_numpy(images)))


def session(path: Path) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
