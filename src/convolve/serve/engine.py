"""onnxruntime instead of torch: a copy of the network, made once in a separate process, answers in half the time.

Run as a program, it writes that copy: `python -m convolve.serve.engine FOLDER FILE`.
"""

import asyncio
import hashlib
import os
import sys
from contextlib import suppress
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from convolve import cache
from convolve.atomic import scratch
from convolve.environment import usable_cores
from convolve.errors import ConvolveError
from convolve.export.any_graph import export_network
from convolve.export.onnx import PACKAGES, OnnxNetwork, open_session
from convolve.loading import load
from convolve.model import Model

KIND = "engines"  # in the cache
INPUT = "images"


class _Network(nn.Module):
    """normalized images_NCHW -> what the network gives that was written: scores_NK alone, or with distance_N."""

    def __init__(self, content: bytes, threads: int) -> None:
        super().__init__()
        # Threads that wait by spinning would take the cores from those that decode and talk.
        self._session = open_session(content, {"session.intra_op.allow_spinning": "0"}, threads)

    def forward(self, images_NCHW: torch.Tensor) -> Any:
        given = self._session.run(None, {INPUT: np.ascontiguousarray(images_NCHW.numpy())})
        tensors = tuple(map(torch.from_numpy, given))
        return tensors if len(tensors) > 1 else tensors[0]


class Engine:
    """The network twice: `alone` takes all cores for what it is asked, `beside` its share where `parts` are asked."""

    def __init__(self, content: bytes, parts: int) -> None:
        self.alone = _Network(content, usable_cores())
        self.beside = _Network(content, max(1, usable_cores() // parts)) if parts > 1 else self.alone


async def engine_of(model: Model, parts: int) -> Engine | None:
    """The engine of `model`, for this many parallel runs.

    None if onnxruntime lacks an operation of the model, or its outputs differ.
    """
    if isinstance(model.module, OnnxNetwork) or not all(map(find_spec, PACKAGES)):
        return None
    with suppress(ConvolveError, OSError), scratch() as folder:
        if content := await _content(model, folder):
            return await asyncio.to_thread(Engine, content, parts)
    return None


async def _content(model: Model, folder: Path) -> bytes | None:
    await asyncio.to_thread(model.save, folder)
    key = await asyncio.to_thread(_key, folder)
    if content := await asyncio.to_thread(cache.read, KIND, key):
        return content
    file = folder / "network.onnx"
    nothing = asyncio.subprocess.DEVNULL
    writing = await asyncio.create_subprocess_exec(
        sys.executable, "-m", __name__, folder, file, stdin=nothing, stdout=nothing, stderr=nothing
    )
    try:
        if await writing.wait():
            return None
    finally:
        if writing.returncode is None:
            writing.kill()
            await writing.wait()
    content = file.read_bytes()
    await asyncio.to_thread(cache.update, KIND, key, lambda _: content)
    return content


def _key(folder: Path) -> str:
    digest = hashlib.sha256(repr([version(name) for name in ("convolve", "torch", *PACKAGES)]).encode())
    for name in ("model.json", "weights.safetensors"):
        digest.update((folder / name).read_bytes())
    return digest.hexdigest()


def write(folder: Path, file: Path) -> None:
    """Write the network of a model folder. Raises ConvolveError if onnxruntime's outputs differ from torch's."""
    model = load(folder)
    outputs = {"scores": (), "distance": ()} if model.confidence else {"scores": ()}
    export_network(model.network, {INPUT: model.preprocess.shape_CHW}, outputs, file)


if __name__ == "__main__":
    if hasattr(os, "nice"):
        os.nice(10)  # those who ask meanwhile come first
    write(*map(Path, sys.argv[1:]))
