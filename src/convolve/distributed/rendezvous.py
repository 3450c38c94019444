"""How the processes of one job find each other, in a store where each says who it is.

On one host the store is a file in a folder that only its user can enter; worker 0 makes it, the others look for it. On
several hosts worker 0 serves the store at MASTER_ADDR; whoever reaches that port can read and change what is in it.
"""

import hashlib
import json
import os
import socket
import stat
import struct
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from torch.distributed import FileStore, PrefixStore, Store, TCPStore  # type: ignore[attr-defined]  # public

from convolve.atomic import is_private, scratch
from convolve.distributed.launcher import RankInfo, master_address
from convolve.errors import TrainingError, UsageError
from convolve.locks import is_locked

if sys.platform != "win32":
    import fcntl

# The IPv4 address of an interface: linux/sockios.h; sys/sockio.h of macOS, _IOWR('i', 33, struct ifreq).
_SIOCGIFADDR = 0xC0206921 if sys.platform == "darwin" else 0x8915
PATIENCE_SECONDS = 120.0  # torch alone takes many seconds to load where all workers read it from one network disk
_PAUSE_SECONDS = 0.02


class WorkerInfo(NamedTuple):
    """What a worker tells the others of itself: the size of its world, its host, the cores that it may use.

    The version of convolve stands first in what is sent, so that those of any version understand that much.
    """

    size: int
    host: str
    cores: list[int]


@contextmanager
def rendezvous(
    own: RankInfo, environ: Mapping[str, str], patience_seconds: float = PATIENCE_SECONDS
) -> Iterator[tuple[Store, list[WorkerInfo]]]:
    """The store that all workers share, and what each says of itself, by rank. A store on disk is removed at the end.

    Raises `TrainingError` if the port is in use, worker 0 is not found, or workers are missing or there twice.
    """
    address = master_address(own, environ)
    if address:
        is_torchruns = environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"  # it outlives its workers
        # Hosts that have joined later count their restarts from then on: a store of their own has no need of a number.
        attempt = environ.get("TORCHELASTIC_RESTART_COUNT", "0") if is_torchruns else "0"
        serves = own.rank == 0 and not is_torchruns
        served = PrefixStore(f"convolve/{attempt}", _tcp_store(*address, own, serves, patience_seconds))
        yield served, _infos(served, own, patience_seconds)
        return
    prefix = f"convolve-{hashlib.sha256(f'{own.launcher} {own.job}'.encode()).hexdigest()[:16]}-"
    with _made(prefix, own) if own.rank == 0 else nullcontext(_find(prefix, own, patience_seconds)) as folder:
        store = FileStore(str(folder / "store"))
        store.set_timeout(timedelta(seconds=patience_seconds))
        yield store, _infos(store, own, patience_seconds)


@contextmanager
def _made(prefix: str, own: RankInfo) -> Iterator[Path]:
    """A new folder of mode 0700 for the workers of this host. Worker 0 holds its lock, and removes it at the end."""
    with scratch(prefix) as folder:
        if any(map(_is_taken, set(folder.parent.glob(f"{prefix}*")) - {folder})):
            raise _twice(own)
        yield folder


def _find(prefix: str, own: RankInfo, patience_seconds: float) -> Path:
    """The folder that worker 0 has made."""
    limit = time.monotonic() + patience_seconds
    while time.monotonic() < limit:
        for folder in Path(tempfile.gettempdir()).glob(f"{prefix}*"):
            if _is_taken(folder):
                return folder
        time.sleep(_PAUSE_SECONDS)
    raise TrainingError(
        f"worker {own.rank} of {own.size} found no worker 0 on this host within {patience_seconds:g} s; where every "
        "worker has a parent process of its own, or a host, give all of them MASTER_ADDR and MASTER_PORT; where each "
        "has a temporary folder of its own, set TMPDIR to one that all of them see"
    )


def _is_taken(folder: Path) -> bool | None:
    """Whether a living worker 0 has locked `folder`; False: a killed job left it; None: it is not this user's alone."""
    try:
        # Nobody else can put another in the place of a private one.
        return is_locked(folder) if is_private(folder) and stat.S_ISDIR(folder.lstat().st_mode) else None
    except OSError:
        return None


def interface_to(host: str, port: int) -> str | None:
    """The name of the network interface that leads to `host`; None where this system does not tell.

    Gloo would listen at the address of its own host's name, which many hosts file under 127.0.0.1.
    """
    if sys.platform == "win32":
        return None
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((host, port))  # sends nothing
        except OSError:
            return None
        address = probe.getsockname()[0]
        for _, name in socket.if_nameindex():
            try:
                found = fcntl.ioctl(probe.fileno(), _SIOCGIFADDR, struct.pack("256s", name.encode()))
            except OSError:  # it has no IPv4 address
                continue
            if socket.inet_ntoa(found[20:24]) == address:
                return name
    return None


def _tcp_store(host: str, port: int, own: RankInfo, serves: bool, patience_seconds: float) -> TCPStore:
    try:
        return TCPStore(
            host, port, own.size, serves, timedelta(seconds=patience_seconds), wait_for_workers=False,
            use_libuv=sys.platform != "win32",  # PyTorch's builds for Windows came without libuv
        )  # fmt: skip
    except RuntimeError as error:
        if serves:
            reason = str(error).splitlines()[0][:200]
            raise TrainingError(
                f"worker 0 cannot listen on port {port} ({reason}); set MASTER_PORT to a free one"
            ) from None
        raise TrainingError(
            f"worker {own.rank} of {own.size} found no worker 0 at {host}:{port} within {patience_seconds:g} s; "
            "see whether it runs, and whether MASTER_ADDR and MASTER_PORT are the same for all"
        ) from None


def _infos(store: Store, own: RankInfo, patience_seconds: float) -> list[WorkerInfo]:
    """Tell the others of this worker, and wait for what they tell."""
    if store.add(f"claim/{own.rank}", 1) > 1:
        raise _twice(own)
    info = WorkerInfo(own.size, socket.gethostname(), _cores())
    store.set(f"info/{own.rank}", json.dumps([version("convolve"), *info]))
    keys = [f"info/{rank}" for rank in range(own.size)]
    try:
        store.wait(keys, timedelta(seconds=patience_seconds))
        told = [json.loads(store.get(key)) for key in keys]
    except RuntimeError:
        missing: list[str] = []
        with suppress(RuntimeError):  # worker 0, which serves the store, has given up before
            missing = [str(rank) for rank, key in enumerate(keys) if not store.check([key])]
        raise TrainingError(
            f"of {own.size} workers {', '.join(missing) or 'some'} did not come within {patience_seconds:g} s; "
            "see their output"
        ) from None
    for rank, (theirs, *_) in enumerate(told):
        if theirs != version("convolve"):
            raise TrainingError(
                f"worker {own.rank} has convolve {version('convolve')}, worker {rank} has {theirs}; install the same "
                "version on every host"
            )
    infos = [WorkerInfo(*rest) for _, *rest in told]
    for rank, info in enumerate(infos):
        if info.size != own.size:
            raise UsageError(
                f"worker {own.rank} was told of {own.size} workers, worker {rank} of {info.size}; "
                "start all of them with one command, or the same WORLD_SIZE"
            )
    return infos


def _twice(own: RankInfo) -> TrainingError:
    return TrainingError(
        f"two workers call themselves rank {own.rank} of {own.size}; is another job using the same MASTER_PORT?"
    )


def _cores() -> list[int]:
    """The cores that this process may run on."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))
