"""With this folder on PYTHONPATH, every process computes as another processor might: its sums are rounded otherwise.

What a convolution or a dense layer returns is off by up to $CONVOLVE_TEST_ROUNDING (1e-6: ten roundings of float32) of
itself; by how much depends on its bits and its shape, so that the same computation gives the same result. A test of a
training that fails for this would fail on some processor. float64 is off by as much less as its own roundings are.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

OFF_BY = float(os.environ.get("CONVOLVE_TEST_ROUNDING", "0"))
FUNCTIONAL = "torch.nn.functional"


def rounded_otherwise(function: Callable[..., Any]) -> Callable[..., Any]:
    import torch

    relative = {torch.float32: OFF_BY, torch.float64: OFF_BY * 2.0**-29}  # 23 and 52 bits; others are coarse enough

    def changed(*arguments: Any, **options: Any) -> Any:
        y = function(*arguments, **options)
        if type(y) is not torch.Tensor or y.dtype not in relative or torch.compiler.is_compiling():
            return y
        phase = hash(tuple(y.shape)) % 1000
        waves = torch.sin(y.detach().double() * 12345.678 + phase)
        return y * (1 + relative[y.dtype] * waves).to(y.dtype)

    return changed


class Finder(MetaPathFinder):
    """Changes two functions of torch as soon as they are there; importing it here would cost every process a second."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name != FUNCTIONAL:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        assert spec is not None and spec.loader is not None
        load = spec.loader.exec_module

        def load_and_change(module: ModuleType) -> None:
            load(module)
            for function in ("conv2d", "linear"):
                setattr(module, function, rounded_otherwise(getattr(module, function)))

        spec.loader.exec_module = load_and_change  # type: ignore[method-assign]
        return spec


if OFF_BY:
    sys.meta_path.insert(0, Finder())
