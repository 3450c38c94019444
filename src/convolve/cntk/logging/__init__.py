"""What programs print and write for TensorBoard."""

from enum import Enum, IntEnum
from typing import Any

from convolve.cntk.logging import graph
from convolve.cntk.logging.graph import (
    depth_first_search,
    find_all_with_name,
    find_by_name,
    find_by_uid,
    get_node_outputs,
    plot,
)
from convolve.cntk.logging.progress_print import (
    ProgressPrinter,
    TrainingSummaryProgressCallback,
    log_number_of_parameters,
)
from convolve.cntk.logging.tensorboard import TensorBoardProgressWriter

__all__ = [
    "ProgressPrinter", "TensorBoardProgressWriter", "TraceLevel", "TrainingSummaryProgressCallback",
    "depth_first_search", "find_all_with_name", "find_by_name", "find_by_uid", "get_node_outputs", "get_trace_level",
    "graph", "log_number_of_parameters", "plot", "set_trace_level",
]  # fmt: skip


class TraceLevel(IntEnum):
    Error = 0
    Warning = 1
    Info = 2

    __str__ = Enum.__str__


_level = {"now": TraceLevel.Warning}


def set_trace_level(value: Any) -> None:
    _level["now"] = TraceLevel(getattr(value, "value", value))


def get_trace_level() -> TraceLevel:
    return _level["now"]
