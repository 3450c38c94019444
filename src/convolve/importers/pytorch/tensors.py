"""The tensors of a checkpoint by name, in any of three formats: .safetensors, or PyTorch's two."""

import json
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open

from convolve.atomic import open_ordinary
from convolve.errors import FormatError, MissingDataError
from convolve.formats.torch_checkpoint import StoredTensor, is_checkpoint, read_checkpoint
from convolve.graph.shapes import Shape

_LENGTH = struct.Struct("<Q")
_FLOATS = ("float16", "float32", "float64", "bfloat16")


@dataclass(frozen=True)
class Tensors:
    """`shapes` by tensor name, in the order of the file. `read` returns one tensor; floating-point types become
    float32."""

    shapes: Mapping[str, Shape]
    read: Callable[[str], torch.Tensor]
    is_ordered: bool  # in the order of the network's definition; .safetensors sorts them by name


def is_safetensors(path: Path) -> bool:
    """Whether the file begins like .safetensors: with the length of a JSON header, then that header."""
    with open_ordinary(path) as file:
        head = file.read(_LENGTH.size + 1)
    return len(head) == 9 and head[8:] == b"{" and _LENGTH.unpack(head[:8])[0] <= path.stat().st_size


def is_pytorch(path: Path) -> bool:
    if not path.is_file():
        return False
    try:
        return is_safetensors(path) or is_checkpoint(path)
    except OSError as error:
        raise MissingDataError(f"cannot read {path}: {error.strerror}; give a model file") from None


def open_tensors(path: Path) -> Tensors:
    """Open a checkpoint of any of the three formats. Raises FormatError for a damaged file."""
    if not is_safetensors(path):
        stored = read_checkpoint(path)
        shapes = {name: tensor.values.shape for name, tensor in stored.items()}
        return Tensors(shapes, lambda name: _float32(_tensor_of(stored[name])), is_ordered=True)
    try:
        file: Any = safe_open(path, framework="pt")  # a part of it carries no types
        shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, json.JSONDecodeError) as error:
        raise FormatError(path, "", f"a damaged .safetensors file ({error}); copy or download it again") from None
    return Tensors(shapes, partial(_read, file, path), is_ordered=False)


def _read(file: Any, path: Path, name: str) -> torch.Tensor:
    try:
        return _float32(file.get_tensor(name))
    except (SafetensorError, RuntimeError, ValueError) as error:
        raise FormatError(path, name[:200], f"damaged ({error}); copy or download the file again") from None


def _tensor_of(stored: StoredTensor) -> torch.Tensor:
    values = np.array(stored.values, stored.values.dtype.newbyteorder("="), order="C")
    tensor = torch.from_numpy(values)
    return tensor if str(tensor.dtype) == f"torch.{stored.dtype}" else tensor.view(getattr(torch, stored.dtype))


def _float32(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.float() if tensor.is_floating_point() else tensor
