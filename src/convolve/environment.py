"""The environment of a run: versions and hardware."""

import math
import os
import platform
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

IDLE_WINDOW_SECONDS = 0.25
PACKAGES = ("torch", "numpy", "opencv-python-headless", "safetensors")


def versions() -> dict[str, str]:
    """Versions of convolve, Python and the packages that affect results."""
    found = {name: version(name) for name in ("convolve", *PACKAGES)}
    # torch with its build ("2.13.0+cu130"), which the installed package's metadata may omit.
    return found | {"python": platform.python_version(), "torch": str(torch.__version__)}


def hardware() -> dict[str, Any]:
    """Processor, cores this process may use, memory in GiB, GPU, and the widest instruction set."""
    return {
        "cpu": _cpu_name(),
        "cores": usable_cores(),
        "memory_gib": _memory_gib(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "instructions": _instructions(),
    }


def matmul_gflops(dtype: torch.dtype, size: int = 2048) -> float:
    """GFLOP/s of a square matrix multiplication, the fastest of ten: what this processor can do."""
    a, b = torch.randn(2, size, size).to(dtype)
    seconds = []
    for _ in range(10):
        start = time.perf_counter()
        torch.mm(a, b)
        seconds.append(time.perf_counter() - start)
    return 2 * size**3 / min(seconds) / 1e9


def usable_cores() -> int:
    """The number of cores that this process may use: fewer than the machine's under a launcher or in a container."""
    return max(1, min(len(_allowed_cores()), math.floor(min(_cgroup_limit(), 1e6))))


def idle_cores() -> int:
    """How many of the usable cores other processes leave idle, and at least 1; all if the system does not say.

    Reads the counters of /proc/stat twice. They count hundredths of a second; a core that is busy for less than a fifth
    of the time counts as idle.
    """
    before, own_before, start = _busy_ticks(), time.process_time(), time.perf_counter()
    time.sleep(IDLE_WINDOW_SECONDS)
    after, own_after, end = _busy_ticks(), time.process_time(), time.perf_counter()
    busy = 0.0
    for core in before.keys() & after.keys():
        (busy_before, all_before), (busy_after, all_after) = before[core], after[core]
        fraction = (busy_after - busy_before) / max(all_after - all_before, 1)
        busy += fraction if fraction > 0.2 else 0.0
    busy -= (own_after - own_before) / (end - start)
    return max(1, min(usable_cores(), round(len(_allowed_cores()) - max(busy, 0.0))))


def _allowed_cores() -> set[int]:
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))


def _busy_ticks() -> dict[int, tuple[int, int]]:
    """core -> (busy, total) ticks since the machine started, for the cores that this process may use."""
    found = {}
    for line in _lines("/proc/stat"):
        name, *words = line.split()
        if name.startswith("cpu") and name != "cpu" and int(name[3:]) in _allowed_cores():
            ticks = list(map(int, words[:8]))  # user, nice, system, idle, iowait, irq, softirq, steal
            found[int(name[3:])] = (sum(ticks) - ticks[3] - ticks[4], sum(ticks))
    return found


def _cgroup_limit() -> float:
    """The processor time that this process's control groups allow, in cores; infinity without a limit."""
    limits = [math.inf]
    for line in _lines("/proc/self/cgroup"):
        number, controllers, path = line.split(":", 2)
        names: tuple[str, ...] = ()
        if number == "0":
            folder, names = Path("/sys/fs/cgroup", path.strip("/")), ("cpu.max",)
        elif "cpu" in controllers.split(","):
            folder, names = Path("/sys/fs/cgroup/cpu", path.strip("/")), ("cpu.cfs_quota_us", "cpu.cfs_period_us")
        else:
            continue
        for place in (folder, *folder.parents):
            words = " ".join(line for name in names for line in _lines(place / name)).split()
            if len(words) == 2 and words[0].isdecimal():  # neither "max" nor -1
                limits.append(int(words[0]) / int(words[1]))
    return min(limits)


def _cpu_name() -> str:
    for line in _lines("/proc/cpuinfo"):
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _instructions() -> str:
    """The instruction set that oneDNN may use: the configured limit, or by the processor's flags."""
    if limit := os.environ.get("ONEDNN_MAX_CPU_ISA"):
        return limit.lower().replace("_", "-")
    flags = {flag for line in _lines("/proc/cpuinfo") if line.startswith("flags") for flag in line.split()}
    known = {"amx_bf16": "amx", "avx512_bf16": "avx512-bf16", "avx512f": "avx512", "avx2": "avx2"}
    return next((name for flag, name in known.items() if flag in flags), "")


def _memory_gib() -> float | None:
    if sys.platform == "win32":
        return None
    return round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1)


def _lines(path: str | Path) -> list[str]:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
