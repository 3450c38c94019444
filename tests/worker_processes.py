"""Real processes that train together, started for a test."""

from __future__ import annotations

import multiprocessing
import secrets
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

PATIENCE_SECONDS = 120
PRELOAD = ["pytest", "convolve.distributed.block_momentum", "convolve.training.optimizer"]


class Failed(str):
    """Why a process did not return."""


def run_together(size: int, function: Callable[..., Any], *arguments: Any) -> list[Any]:
    """`function(workers, *arguments)` in `size` processes. Returns what each of them returned, by rank."""
    context: Any = multiprocessing.get_context("spawn" if sys.platform == "win32" else "forkserver")
    context.set_forkserver_preload(PRELOAD)
    job = secrets.token_hex(8)
    ends, processes = [], []
    for rank in range(size):
        place = {"RANK": f"{rank}", "WORLD_SIZE": f"{size}", "TORCHELASTIC_RUN_ID": job}
        ours, theirs = context.Pipe()
        process = context.Process(target=_child, args=(theirs, place, function, arguments), daemon=True)
        process.start()
        theirs.close()
        ends.append(ours)
        processes.append(process)
    results = [end.recv() if end.poll(PATIENCE_SECONDS) else Failed("no answer") for end in ends]
    for process in processes:
        process.join(PATIENCE_SECONDS)
        process.kill()
    assert not any(isinstance(result, Failed) for result in results), results
    return results


def _child(end: Connection, environ: dict[str, str], function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    import torch

    from convolve.distributed.process import find_place
    from convolve.distributed.workers import join

    torch.set_num_threads(1)
    try:
        workers = join(find_place(environ), environ, patience_seconds=PATIENCE_SECONDS)
        end.send(function(workers, *arguments))
        workers.leave()
    except Exception as error:
        end.send(Failed(f"{type(error).__name__}: {error}"))
