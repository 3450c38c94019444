"""What programs switch on to look into CNTK: there is nothing behind it here, and nothing breaks."""

from __future__ import annotations

import sys

from convolve.cntk.debugging import debug, profiler
from convolve.cntk.debugging.debug import (
    set_checked_mode,
    set_computation_network_trace_level,
    set_computation_network_track_gap_nans,
    set_node_timing,
)
from convolve.cntk.debugging.profiler import disable_profiler, enable_profiler, start_profiler, stop_profiler

__all__ = [
    "debug", "disable_cpueval_optimization", "disable_profiler", "enable_cpueval_optimization", "enable_profiler",
    "profiler", "set_checked_mode", "set_computation_network_trace_level", "set_computation_network_track_gap_nans",
    "set_node_timing", "start_profiler", "stop_profiler",
]  # fmt: skip


def enable_cpueval_optimization() -> None: ...


def disable_cpueval_optimization() -> None: ...
