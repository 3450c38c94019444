"""One runtime asks one ONNX file, in a process of its own: some die of a file that they do not read.

    python benchmarks/runtimes_ask.py RUNTIME FOLDER

FOLDER holds model.onnx, images.npy (float32 images_NCHW) and scores.npy (what the model says of them). Prints JSON,
first {"version"}, then {"worst": the largest difference as a part of the largest score, "same": images with the same
first class}.
This program imports nothing of convolve, so that it runs in the environment of a runtime.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Ask = Callable[[np.ndarray], np.ndarray]  # images_1CHW -> scores_1K
MODULES = {"onnxruntime": "onnxruntime", "OpenCV's dnn": "cv2", "OpenVINO": "openvino", "ncnn": "ncnn"}


def onnxruntime(path: Path) -> Ask:
    import onnxruntime as ort

    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return lambda images: np.asarray(session.run(None, {"images": images})[0])


def opencv(path: Path) -> Ask:
    import cv2

    net = cv2.dnn.readNetFromONNX(str(path))

    def ask(images: np.ndarray) -> np.ndarray:
        net.setInput(images)
        return np.asarray(net.forward(net.getUnconnectedOutLayersNames())[0])

    return ask


def openvino(path: Path) -> Ask:
    import openvino as ov

    core = ov.Core()
    core.set_property("CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    compiled = core.compile_model(str(path), "CPU")
    return lambda images: np.asarray(compiled([images])[0])


def ncnn(path: Path) -> Ask:
    """Through pnnx, its own converter, which wants the size of the batch."""
    import ncnn as runtime

    shape = ",".join(map(str, np.load(path.parent / "images.npy", mmap_mode="r").shape[1:]))
    spec = importlib.util.find_spec("pnnx")  # importing it would import torch
    if spec is None or not spec.origin:
        raise ModuleNotFoundError("No module named 'pnnx'")
    program = str(Path(spec.origin).with_name("pnnx"))
    copy = path.with_name("pnnx") / path.name
    copy.parent.mkdir(exist_ok=True)
    shutil.copy(path, copy)
    command = [program, copy.name, f"inputshape=[1,{shape}]", "fp16=0"]
    done = subprocess.run(command, cwd=copy.parent, capture_output=True, text=True, check=False)
    made = copy.with_name("model.ncnn.param")
    if not made.exists():
        raise RuntimeError(f"pnnx: {(done.stderr or done.stdout).strip().splitlines()[-1]}")
    net = runtime.Net()
    net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = False
    if net.load_param(str(made)) or net.load_model(str(made.with_suffix(".bin"))):
        raise RuntimeError("ncnn does not read what pnnx wrote")

    def ask(images: np.ndarray) -> np.ndarray:
        extractor = net.create_extractor()
        extractor.input("in0", runtime.Mat(np.ascontiguousarray(images[0])).clone())
        status, scores = extractor.extract("out0")
        if status:
            raise RuntimeError(f"ncnn answers with the status {status}")
        return np.array(scores)[None]

    return ask


READERS: dict[str, Callable[[Path], Ask]] = {
    "onnxruntime": onnxruntime, "OpenCV's dnn": opencv, "OpenVINO": openvino, "ncnn": ncnn,
}  # fmt: skip


def compared(images: np.ndarray, scores: np.ndarray, ask: Ask) -> dict[str, Any]:
    got = np.concatenate([ask(images[i : i + 1]).reshape(1, -1) for i in range(len(images))])
    worst = float(np.abs(got - scores).max() / np.abs(scores).max())
    return {"worst": worst, "same": int((got.argmax(1) == scores.argmax(1)).sum())}


if __name__ == "__main__":
    folder = Path(sys.argv[2])
    name = sys.argv[1]
    version = importlib.import_module(MODULES[name]).__version__.partition("-")[0]
    print(json.dumps({"version": version}), flush=True)  # what follows may be the end of this process
    images, scores = (np.load(folder / f"{array}.npy") for array in ("images", "scores"))
    print(json.dumps(compared(images, scores, READERS[name](folder / "model.onnx"))))
