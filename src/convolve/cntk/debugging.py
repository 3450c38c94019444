"""What programs switch on to look into CNTK: there is nothing behind it here, and nothing breaks."""

from __future__ import annotations

import sys
from typing import Any


def set_checked_mode(enable: bool) -> None: ...


def set_computation_network_trace_level(level: int) -> None: ...


def set_computation_network_track_gap_nans(enable: bool) -> None: ...


def set_node_timing(enable: bool) -> None: ...


def start_profiler(dir: Any = None, sync_gpu: bool = True, reserve_mem: int = 0) -> None: ...


def stop_profiler() -> None: ...


def enable_profiler() -> None: ...


def disable_profiler() -> None: ...


def enable_cpueval_optimization() -> None: ...


def disable_cpueval_optimization() -> None: ...


debug = profiler = sys.modules[__name__]  # CNTK's own modules of these names hold the same functions
