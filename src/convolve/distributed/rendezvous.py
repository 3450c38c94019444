"""How the processes of one job find each other: in a store that rank 0 serves, where each leaves its info."""

from __future__ import annotations

import getpass
import hashlib
import json
import os
import socket
import struct
import tempfile
import time
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

from torch.distributed import PrefixStore, Store, TCPStore  # type: ignore[attr-defined]  # public, but not for mypy

from convolve.atomic import write_json
from convolve.distributed.launcher import RankInfo, master_address
from convolve.errors import TrainingError, UsageError

_SIOCGIFADDR = 0x8915  # Linux: the IPv4 address of an interface
PATIENCE_SECONDS = 120.0  # torch alone takes many seconds to load where all workers read it from one network disk


class WorkerInfo(NamedTuple):
    """What a worker tells the others of itself: the size of its world, its host, the cores that it may use."""

    size: int
    host: str
    cores: list[int]


def rendezvous(own: RankInfo, environ: Mapping[str, str], patience_seconds: float) -> tuple[Store, list[WorkerInfo]]:
    """The store that all workers share, and the infos of all, by rank.

    Raises `TrainingError` if the port is in use, rank 0 is not to be found, or workers are missing or there twice.
    """
    point, notice = master_address(own, environ), _notice(own)
    # torchrun serves the store itself; its workers are started anew after a failure and then need fresh keys.
    serves = own.rank == 0 and environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
    attempt = environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    try:
        if point is None and serves:
            notice.unlink(missing_ok=True)
            store = _store("127.0.0.1", 0, own, serves, patience_seconds)
            write_json(notice, {"port": store.port})
        else:
            host, port = point or ("127.0.0.1", _announced_port(notice, own, patience_seconds))
            store = _store(host, port, own, serves, patience_seconds)
        shared = PrefixStore(f"convolve/{attempt}", store)
        return shared, _infos(shared, own, patience_seconds)
    finally:
        if serves:
            notice.unlink(missing_ok=True)


def interface_to(host: str, port: int) -> str | None:
    """The name of the network interface that leads to `host`; None where this system does not tell.

    Gloo would listen at the address of its own host's name, which many hosts file under 127.0.0.1.
    """
    try:
        import fcntl
    except ImportError:
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


def _notice(own: RankInfo) -> Path:
    """Where rank 0 tells the others on its host the port that it took."""
    job = f"{getpass.getuser()} {own.launcher} {own.job}"
    return Path(tempfile.gettempdir()) / f"convolve-{hashlib.sha256(job.encode()).hexdigest()[:16]}.json"


def _announced_port(notice: Path, own: RankInfo, patience_seconds: float) -> int:
    limit = time.monotonic() + patience_seconds
    while time.monotonic() < limit:
        try:
            port = int(json.loads(notice.read_text(encoding="utf-8"))["port"])
            socket.create_connection(("127.0.0.1", port), timeout=1).close()  # a killed job may have left its notice
            return port
        except OSError:
            time.sleep(0.02)
    raise TrainingError(
        f"worker {own.rank} of {own.size} found no rank 0 on this host within {patience_seconds:g} s; where every "
        "worker has a parent process of its own, or a host, give all of them MASTER_ADDR and MASTER_PORT"
    )


def _store(host: str, port: int, own: RankInfo, serves: bool, patience_seconds: float) -> TCPStore:
    try:
        return TCPStore(host, port, own.size, serves, timedelta(seconds=patience_seconds), wait_for_workers=False)
    except RuntimeError as error:
        if serves:
            raise TrainingError(
                f"rank 0 cannot listen on port {port} ({_first_line(error)}); set MASTER_PORT to a free one"
            ) from None
        raise TrainingError(
            f"worker {own.rank} of {own.size} found no rank 0 at {host}:{port} within {patience_seconds:g} s; "
            "see whether it runs, and whether MASTER_ADDR and MASTER_PORT are the same for all"
        ) from None


def _infos(store: Store, own: RankInfo, patience_seconds: float) -> list[WorkerInfo]:
    """Leave this worker's info and take everybody's."""
    if store.add(f"claim/{own.rank}", 1) > 1:
        raise TrainingError(
            f"two workers call themselves rank {own.rank} of {own.size}; is another job using the same MASTER_PORT?"
        )
    store.set(f"info/{own.rank}", json.dumps(WorkerInfo(own.size, socket.gethostname(), _cores())))
    keys = [f"info/{rank}" for rank in range(own.size)]
    try:
        store.wait(keys, timedelta(seconds=patience_seconds))
        infos = [WorkerInfo(*json.loads(store.get(key))) for key in keys]
    except RuntimeError:
        missing = _missing(store, keys)
        raise TrainingError(
            f"of {own.size} workers {missing or 'some'} did not come within {patience_seconds:g} s; see their output"
        ) from None
    for rank, info in enumerate(infos):
        if info.size != own.size:
            raise UsageError(
                f"worker {own.rank} was told of {own.size} workers, worker {rank} of {info.size}; "
                "start all of them with one command, or the same WORLD_SIZE"
            )
    return infos


def _missing(store: Store, keys: list[str]) -> str:
    try:
        return ", ".join(key.removeprefix("info/") for key in keys if not store.check([key]))
    except RuntimeError:  # rank 0, which serves the store, has given up before
        return ""


def _cores() -> list[int]:
    """The cores that this process may run on."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0][:200]
