"""What a run was made with: versions and hardware."""

from __future__ import annotations

import os
import platform
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

PACKAGES = ("torch", "numpy", "opencv-python-headless", "safetensors")


def versions() -> dict[str, str]:
    """Version of convolve, Python and the packages that a result depends on."""
    found = {name: version(name) for name in ("convolve", *PACKAGES)}
    # Of torch the build, too ("2.13.0+cu130"), which the name of an installed file need not tell.
    return found | {"python": platform.python_version(), "torch": str(torch.__version__)}


def hardware() -> dict[str, Any]:
    """Processor, cores this process may use, memory in GiB, and GPU."""
    return {
        "cpu": _cpu_name(),
        "cores": usable_cores(),
        "memory_gib": _memory_gib(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def matmul_gflops(dtype: torch.dtype, size: int = 2048) -> float:
    """GFLOP/s of a square matrix multiply, the fastest of ten: what this processor can do."""
    a, b = torch.randn(2, size, size).to(dtype)
    seconds = []
    for _ in range(10):
        start = time.perf_counter()
        torch.mm(a, b)
        seconds.append(time.perf_counter() - start)
    return 2 * size**3 / min(seconds) / 1e9


def usable_cores() -> int:
    """The cores that this process may run on, fewer than the machine's under a launcher or in a container."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _cpu_name() -> str:
    for line in _lines("/proc/cpuinfo"):
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _memory_gib() -> float | None:
    if sys.platform == "win32":
        return None
    return round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1)


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []
