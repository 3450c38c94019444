"""Real processes that train together, started for a test."""

from __future__ import annotations

import multiprocessing
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

import convolve

PATIENCE_SECONDS = 600  # for machines that are busy with something else
PRELOAD = ["pytest", "convolve.run"]


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

    from convolve.distributed.launcher import rank_info
    from convolve.distributed.process_group import join

    torch.set_num_threads(1)
    try:
        workers = join(rank_info(environ), environ, patience_seconds=PATIENCE_SECONDS)
        end.send(function(workers, *arguments))
        workers.close()
    except Exception as error:
        end.send(Failed(f"{type(error).__name__}: {error}"))


def mpiexec(size: int) -> list[str]:
    """The beginning of a command; skips the test where there is no Open MPI."""
    beside = Path(sys.executable).parent / "mpiexec"
    path = str(beside) if beside.exists() else shutil.which("mpiexec")
    if not path:
        pytest.skip("needs mpiexec: pip install '.[mpi]'")
    version = subprocess.run([path, "--version"], capture_output=True, text=True, check=False).stdout
    if "Open MPI" not in version:
        pytest.skip(f"the options are Open MPI's, this is {version[:40]!r}")
    return [path, "--oversubscribe", "-n", f"{size}"]


def torchrun(size: int) -> list[str]:
    return [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", f"{size}", "--standalone"]


def launch(*command: object, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run a launcher's command. The tests may themselves run under a launcher, or as root in a container."""
    environ = {name: value for name, value in os.environ.items() if name not in ("RANK", "WORLD_SIZE", "MASTER_ADDR")}
    environ |= {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    environ |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(convolve.__file__).parents[1])}
    words = [str(word) for word in command]
    return subprocess.run(
        words, env=environ, cwd=folder, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False
    )
