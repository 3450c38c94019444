"""CNTK's profiler measures its own engine; here, these functions do nothing. Use py-spy or torch.profiler."""

from typing import Any


def start_profiler(dir: Any = None, sync_gpu: bool = True, reserve_mem: int = 0) -> None: ...


def stop_profiler() -> None: ...


def enable_profiler() -> None: ...


def disable_profiler() -> None: ...
