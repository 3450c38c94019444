"""What programs print, and write for TensorBoard."""

from __future__ import annotations

from enum import IntEnum
from math import prod
from typing import Any

from convolve.cntk.logging import graph
from convolve.cntk.logging.graph import depth_first_search, find_all_with_name, find_by_name, find_by_uid, plot
from convolve.cntk.logging.progress_print import ProgressPrinter
from convolve.cntk.logging.tensorboard import TensorBoardProgressWriter

__all__ = [
    "ProgressPrinter", "TensorBoardProgressWriter", "TraceLevel", "depth_first_search", "find_all_with_name",
    "find_by_name", "find_by_uid", "get_trace_level", "graph", "log_number_of_parameters", "plot", "set_trace_level",
]  # fmt: skip


class TraceLevel(IntEnum):
    Error = 0
    Warning = 1
    Info = 2


_level = {"now": TraceLevel.Warning}


def set_trace_level(value: Any) -> None:
    _level["now"] = TraceLevel(getattr(value, "value", value))


def get_trace_level() -> TraceLevel:
    return _level["now"]


def log_number_of_parameters(model: Any, trace_level: int = 0) -> None:
    parameters = model.parameters
    total = sum(prod(parameter.shape) for parameter in parameters)
    print(f"Training {total} parameters in {len(parameters)} parameter tensors.")
    if trace_level > 0:
        print()
        for parameter in parameters:
            print(f"\t{parameter.shape}")
