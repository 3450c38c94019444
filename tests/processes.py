"""Commands in processes of their own, to be killed, interrupted or starved of disk.

They are forked from a server that has imported torch already, so that one costs a fraction of a second.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from command_line import Outcome

# Threads that wait sleep instead of spinning: with more threads than cores a step takes milliseconds, not a second.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
PATIENCE_SECONDS = 600.0  # for machines that are busy with something else


@dataclass
class Command:
    """A running `convolve` command; what it prints goes to files beside `log`."""

    process: BaseProcess
    log: Path

    def wait_until(self, reached: Callable[[], bool]) -> None:
        """Until `reached()` or the end of the process."""
        limit = time.monotonic() + PATIENCE_SECONDS
        while self.process.is_alive() and not reached():
            assert time.monotonic() < limit, "never got there"
            time.sleep(0.001)

    def log_text(self) -> str:
        """What it has printed to stderr so far."""
        return self.log.with_suffix(".err").read_text(encoding="utf-8")

    def send(self, number: signal.Signals) -> None:
        """Send a signal, unless the process has ended by itself."""
        if self.process.is_alive() and self.process.pid:
            os.kill(self.process.pid, number)

    def kill(self) -> None:
        """End it at once, on any system, unless it has ended by itself: its code is negative."""
        if self.process.is_alive():
            self.process.kill()

    def outcome(self) -> Outcome:
        """Wait for the end. A process ended by signal n has the code -n."""
        self.process.join(PATIENCE_SECONDS)
        assert self.process.exitcode is not None, "still running"
        return Outcome(self.process.exitcode, self.log.with_suffix(".out").read_text(encoding="utf-8"), self.log_text())


def start(
    log: Path,
    *arguments: object,
    most_file_bytes: int | None = None,
    environ: Mapping[str, str] | None = None,
    within: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> Command:
    """Start `convolve` with `arguments`, `within` a context and with what `environ` adds.

    No file it writes grows beyond `most_file_bytes`.
    """
    context: Any = multiprocessing.get_context("spawn" if sys.platform == "win32" else "forkserver")
    context.set_forkserver_preload(["pytest", "convolve.run", "convolve.report", "convolve.cli.progress"])
    words = [str(argument) for argument in arguments]
    process = context.Process(target=_child, args=(log, words, most_file_bytes, environ or {}, within))
    log.parent.mkdir(parents=True, exist_ok=True)
    for ending in (".out", ".err"):
        log.with_suffix(ending).write_text("")
    process.start()
    return Command(process, log)


def _child(
    log: Path,
    arguments: list[str],
    most_file_bytes: int | None,
    environ: Mapping[str, str],
    within: Callable[[], AbstractContextManager[None]],
) -> None:
    # Where the tests themselves run in the background, SIGINT is ignored, and children inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.update(environ)
    from convolve.cli import main

    sys.stdout = log.with_suffix(".out").open("w", encoding="utf-8", buffering=1)
    sys.stderr = log.with_suffix(".err").open("w", encoding="utf-8", buffering=1)
    if most_file_bytes is not None:
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (most_file_bytes, most_file_bytes))
    with within():
        code = main(arguments)
    sys.exit(code)
