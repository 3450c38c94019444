"""Which of several processes this one is, according to their launcher. Does not import torch."""

import os
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from convolve.errors import UsageError

TORCH_PORT = "29500"  # torch's own default where MASTER_ADDR comes without MASTER_PORT
LOOPBACK = ("127.0.0.1", "::1", "localhost")
OF_A_JOB = ("MASTER_PORT", "TORCHELASTIC_RESTART_COUNT")  # torchrun starts its workers anew after a failure


class Launcher(NamedTuple):
    """The environment variables of one launcher.

    `on_this_host` is the number of processes on this host. `job` identifies the job among others on the host; where a
    launcher has no such variable, its processes have the same parent.
    """

    name: str
    rank: str
    size: str
    on_this_host: str
    job: tuple[str, ...]


SLURM = Launcher(
    # The step's variables: those of the job (SLURM_NTASKS) are also there for a plain `convolve` inside a batch script.
    "Slurm", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_STEP_TASKS_PER_NODE", ("SLURM_JOB_ID", "SLURM_STEP_ID")
)  # fmt: skip
LAUNCHERS = (
    Launcher(
        "torchrun, PyTorchJob or Ray", "RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", ("TORCHELASTIC_RUN_ID", "RAY_JOB_ID")
    ),
    Launcher(
        "Open MPI", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_SIZE", ("PMIX_NAMESPACE",)
    ),
    Launcher("MPICH, Intel MPI or MS-MPI", "PMI_RANK", "PMI_SIZE", "MPI_LOCALNRANKS", ("PMI_KVS",)),
    SLURM,
)


@dataclass(frozen=True)
class RankInfo:
    """Process `rank` (from 0) of `size`. `job` identifies this job among others on the host."""

    rank: int = 0
    size: int = 1
    launcher: str = ""
    is_one_host: bool = True
    job: str = ""


def rank_info(environ: Mapping[str, str]) -> RankInfo:
    """The rank and world size that a launcher gave this process; rank 0 of 1 without a launcher.

    Slurm often starts another launcher, once on each host; its own variables count only if no other launcher's are set.
    Raises `UsageError` if two launchers disagree, or a variable is not valid.
    """
    present = [row for row in LAUNCHERS if row.rank in environ and row.size in environ]
    inner = [row for row in present if row is not SLURM] or present
    told = [_read(row, environ) for row in inner]
    if not told:
        return RankInfo()
    for row, own in zip(inner, told, strict=True):
        if (own.rank, own.size) != (told[0].rank, told[0].size):
            raise UsageError(
                f"{told[0].launcher} says that this is worker {told[0].rank} of {told[0].size}, {own.launcher} "
                f"worker {own.rank} of {own.size}; start the workers with one of the two, or unset "
                f"{row.rank} and {row.size}, or {inner[0].rank} and {inner[0].size}"
            )
    return told[0]


def _read(row: Launcher, environ: Mapping[str, str]) -> RankInfo:
    rank, size = _number(row.rank, environ), _number(row.size, environ)
    if rank >= size:
        raise UsageError(f"{row.rank}={rank} and {row.size}={size}: ranks count from 0 and are below the size")
    here, address = environ.get(row.on_this_host), environ.get("MASTER_ADDR")
    # Older PyTorchJobs give the first pod "localhost" for its own name. A pod is a host, and has one of the workers.
    is_pod = "KUBERNETES_SERVICE_HOST" in environ and bool(address)
    is_one_host = here == str(size) if here else not is_pod and (not address or address in LOOPBACK)
    job = [environ[name] for name in (*row.job, *OF_A_JOB) if name in environ] or [f"child of {os.getppid()}"]
    return RankInfo(rank, size, row.name, is_one_host, " ".join(job))


def _number(name: str, environ: Mapping[str, str]) -> int:
    if not re.fullmatch(r"[0-9]{1,6}", environ[name]):
        raise UsageError(f"{name}={environ[name]!r} is not a number of workers; start them with torchrun or mpiexec")
    return int(environ[name])


def master_address(own: RankInfo, environ: Mapping[str, str]) -> tuple[str, int] | None:
    """(host, port) of worker 0's store; None on one host, where the store is a file.

    Raises `UsageError` on several hosts if neither MASTER_ADDR nor Slurm says which of them is the first.
    """
    if own.is_one_host:
        return None
    if environ.get("MASTER_ADDR"):
        port = environ.get("MASTER_PORT", TORCH_PORT)
        if not re.fullmatch(r"[0-9]{1,5}", port) or not 0 < int(port) < 2**16:
            raise UsageError(f"MASTER_PORT={port!r} is not a port; give a number from 1 to 65535")
        return environ["MASTER_ADDR"], int(port)
    hosts = environ.get("SLURM_STEP_NODELIST") if own.launcher == SLURM.name else None
    if hosts is None:
        raise UsageError(
            f"{own.size} workers on several hosts need a common address; give all of them MASTER_ADDR, the name "
            "or address of worker 0's host, and MASTER_PORT, a free port there (Open MPI: -x MASTER_ADDR=HOST)"
        )
    # Two jobs may share the first host, so the port follows from the job.
    return first_host(hosts), 20_000 + zlib.crc32(own.job.encode()) % 10_000


def first_host(hosts: str) -> str:
    """The first name in one of Slurm's lists of hosts: "gpu[03-07,12],login" -> "gpu03"."""
    match = re.fullmatch(r"([^\[,]+)(?:\[(\w+)[^\]]*\](\S*?))?(?:,.*)?", hosts)
    if not match:
        raise UsageError(f"SLURM_STEP_NODELIST={hosts!r} is not understood; set MASTER_ADDR to worker 0's host")
    before, number, after = match.groups(default="")
    return f"{before}{number}{after}"
