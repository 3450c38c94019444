"""Tools for debugging programs."""

from convolve.cntk.debugging import debug, profiler
from convolve.cntk.debugging.debug import (
    debug_model,
    dump_function,
    dump_signature,
    force_deterministic,
    save_as_legacy_model,
    set_checked_mode,
    set_computation_network_trace_level,
    set_computation_network_track_gap_nans,
    set_node_timing,
)
from convolve.cntk.debugging.profiler import disable_profiler, enable_profiler, start_profiler, stop_profiler

__all__ = [
    "debug", "debug_model", "disable_cpueval_optimization", "disable_profiler", "dump_function", "dump_signature",
    "enable_cpueval_optimization", "enable_profiler", "force_deterministic", "profiler", "save_as_legacy_model",
    "set_checked_mode", "set_computation_network_trace_level", "set_computation_network_track_gap_nans",
    "set_node_timing", "start_profiler", "stop_profiler",
]  # fmt: skip


def enable_cpueval_optimization() -> None: ...


def disable_cpueval_optimization() -> None: ...
