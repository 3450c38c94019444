"""Things tried in a process of their own, by the thousand: forked from one that has imported everything.

A trial has limits of processor time and of memory, so that what it tries can neither hang nor take the machine along.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import io
import json
import os
import pickle
import resource
import select
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from convolve.errors import ConvolveError

MOST_SECONDS = 10.0  # of processor time
WAITING_SECONDS = 300.0  # by the clock, on a machine that is busy with something else
ADDRESS_BYTES = 6 << 30  # beyond what the process has mapped: a net below the bound that is measured
MADV_HUGEPAGE, MADV_COLLAPSE = 14, 25
ANSWERED, REFUSED, FAULT = "answered", "refused", "fault"


@dataclass(frozen=True)
class Trial:
    """What became of one: the `kind`, the value that came or the message; what it took, beyond what was there."""

    kind: str
    answer: Any
    seconds: float
    extra_bytes: int


@dataclass
class Row:
    """What became of many trials of one kind: the `outcomes`, the most that one of them took, what was wrong."""

    what: str
    n: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    extra_bytes: int = 0
    failures: list[str] = field(default_factory=list)


def report(rows: Iterable[Row], path: Path | None = None) -> int:
    """Print each as it comes, and write all to `path`. Returns 1 if anything was wrong."""
    found = list[Row]()
    for row in rows:
        found.append(row)
        told = ", ".join(f"{count} {outcome}" for outcome, count in row.outcomes.most_common())
        print(f"{row.what}: {row.n}: {told}; at most {row.seconds:.1f} s, {row.extra_bytes >> 20} MiB", flush=True)
        for failure in row.failures:
            print(f"    {failure}", flush=True)
        if path:  # what takes hours may be ended
            path.write_text(json.dumps([vars(row) for row in found], indent=1) + "\n", encoding="utf-8")
    return int(any(row.failures for row in found))


def trial(do: Callable[[], Any]) -> Trial:
    """`do` in a process of its own. A ConvolveError is a refusal; anything else raised, and a signal, is a fault."""
    reader, writer = os.pipe()
    before = resident_bytes()
    number = os.fork()
    if not number:
        _child(do, writer)
    os.close(writer)
    content = _all_of(reader, number)
    _, status, usage = os.wait4(number, 0)
    code = os.waitstatus_to_exitcode(status)
    kind, answer = pickle.loads(content) if content and not code else (FAULT, _death(code))  # noqa: S301  our own child
    return Trial(kind, answer, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024 - before)


def warm(do: Callable[[], Any]) -> Trial:
    """`do` in a process of its own; what it imports is imported here, once for all that follow."""

    def tried() -> tuple[Any, list[str]]:
        before = {*sys.modules}
        answer = do()
        return answer, [name for name in sys.modules if name not in before]

    first = trial(tried)
    if first.kind != ANSWERED:
        return first
    answer, modules = first.answer
    for name in modules:
        with contextlib.suppress(Exception):
            importlib.import_module(name)
    gc.collect()
    gc.freeze()  # the collector of a child would touch, and so copy, every page
    return Trial(ANSWERED, answer, first.seconds, first.extra_bytes)


def in_large_pages() -> None:
    """Have what this process holds in pages of 2 MiB, where the system can: a fork copies a table of all pages."""
    library, largest = ctypes.CDLL(None), 1 << 21
    for line in Path("/proc/self/maps").read_text(encoding="utf-8").splitlines():
        span, rights, _, _, file, *name = line.split()
        if rights == "rw-p" and file == "0" and name in ([], ["[heap]"]):
            start, end = (int(each, 16) for each in span.split("-"))
            first, size = -(-start // largest) * largest, end // largest * largest - -(-start // largest) * largest
            for advice in (MADV_HUGEPAGE, MADV_COLLAPSE) if size > 0 else ():
                library.madvise(ctypes.c_void_p(first), ctypes.c_size_t(size), advice)


def command(words: Iterable[object]) -> str:
    """What `convolve` prints for these words; its errors are raised, and a fault of ours as one."""
    from convolve.cli import main

    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([*map(str, words)])
    said = err.getvalue()
    assert "a fault of convolve" not in said and "Traceback" not in said, said
    if code:
        raise ConvolveError(said.strip().splitlines()[-1])
    return out.getvalue()


def _child(do: Callable[[], Any], writer: int) -> NoReturn:
    code = 1
    try:
        _limit()
        try:
            found = ANSWERED, do()
        except ConvolveError as error:
            found = REFUSED, str(error)
        except BaseException as error:
            found = FAULT, _told(error)
        with os.fdopen(writer, "wb") as file:
            pickle.dump(found, file)
        code = 0
    finally:
        os._exit(code)


def _limit() -> None:
    silent = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(silent, number)
    mapped = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + ADDRESS_BYTES,) * 2)
    resource.setrlimit(resource.RLIMIT_CPU, (int(2 * MOST_SECONDS), int(2 * MOST_SECONDS) + 1))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _told(error: BaseException) -> str:
    """The error, and the last place of ours that it went through."""
    places, at = [], error.__traceback__
    while at:
        file = at.tb_frame.f_code.co_filename
        if "convolve" in file and "tests" not in file:
            places.append(f"{file.rpartition('convolve/')[2]}:{at.tb_lineno}")
        at = at.tb_next
    return f"{type(error).__name__} at {places[-1] if places else '?'}: {str(error)[:500]}"


def _all_of(reader: int, number: int) -> bytes:
    content = b""
    with os.fdopen(reader, "rb", buffering=0) as file:
        while True:
            if not select.select([file], [], [], WAITING_SECONDS)[0]:
                os.kill(number, signal.SIGKILL)
            part = file.read(1 << 16)
            if not part:
                return content
            content += part


def _death(code: int) -> str:
    return f"ended by {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1]) * resource.getpagesize()
