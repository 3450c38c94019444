"""Exported files asked as a user would, without convolve: onnxruntime, and PyTorch's own loader."""

from __future__ import annotations

import base64
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


def prepared_for(about: dict[str, Any], images_NCHW: np.ndarray) -> np.ndarray:
    """uint8 pixels, gray or in RGB planes, as the metadata says that the file takes them."""
    if about["input"]["axes"] == "NHWC":
        return np.ascontiguousarray(images_NCHW.transpose(0, 2, 3, 1))
    want = about["preprocess"]
    planes = images_NCHW[:, ::-1] if want["channel_order"] == "bgr" else images_NCHW
    mean: Any = np.array(want["mean"], np.float32).reshape(-1, 1, 1)
    if about["preprocess_mean_image"]:
        mean = np.frombuffer(base64.b64decode(about["preprocess_mean_image"]), "<f4").reshape(images_NCHW.shape[1:])
    return np.ascontiguousarray((planes.astype(np.float32) - mean) * np.float32(want["scale"]))


def session(path: Path) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
