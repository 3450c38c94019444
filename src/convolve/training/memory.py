"""Tells the C library to keep freed memory: otherwise each step maps and unmaps the same megabytes."""

import ctypes
import sys

# Parameter numbers of mallopt(3), from glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


def keep_freed_memory() -> None:
    """Let the process keep freed memory; its size then stays at the peak of one step.

    A large activation is otherwise mapped and unmapped in each step, and page faults take up to half of an fp32 step
    (docs/experiments.md). glibc only; elsewhere nothing happens.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, 1 << 30)
        mallopt(_M_TRIM_THRESHOLD, (1 << 31) - 1)
