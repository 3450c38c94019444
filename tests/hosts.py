"""Hosts for a test: network namespaces on a bridge, each with an address and a name of its own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import convolve

HUB, HUB_ADDRESS = f"convolve-{os.getpid()}-hub", "10.213.77.254"


class NoHostsError(Exception):
    """This machine, or this user, makes no network namespaces."""


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


class Host:
    """One of them; `name` is that of its namespace and of the host, `number` counts from 1."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.name, self.address, self.port = (
            f"convolve-{os.getpid()}-{number}",
            f"10.213.77.{number}",
            f"cv-hub{number}",
        )
        ip("netns", "add", self.name)
        ip("link", "add", f"cv-{number}", "netns", self.name, "type", "veth", "peer", self.port, "netns", HUB)
        for namespace, link in ((self.name, f"cv-{number}"), (HUB, self.port)):
            ip("-n", namespace, "link", "set", link, "up")
        ip("-n", self.name, "addr", "add", f"{self.address}/24", "dev", f"cv-{number}")
        ip("-n", self.name, "link", "set", "lo", "up")
        ip("-n", HUB, "link", "set", self.port, "master", "bridge")

    def start(self, *command: object, log: Path, environ: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
        """Run a command there; what it prints is added to `log`."""
        words = ["ip", "netns", "exec", self.name, "unshare", "--uts", "sh", "-c", f'hostname {self.name}; exec "$@"']
        paths = os.pathsep.join(str(path) for path in (Path(convolve.__file__).parents[1], Path(__file__).parent))
        ours = {"OMP_NUM_THREADS": "1", "PYTHONPATH": paths}
        with log.open("ab") as file:
            return subprocess.Popen(
                [*words, "sh", *map(str, command)], env=os.environ | ours | (environ or {}), stdout=file, stderr=file
            )

    def signal(self, number: signal.Signals) -> None:
        """All processes of the host at once."""
        found = subprocess.run(["ip", "netns", "pids", self.name], check=False, capture_output=True, text=True)
        for pid in map(int, found.stdout.split()):
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def connect(self, is_connected: bool) -> None:
        """The cable of a host that is cut off looks whole to it; nothing arrives."""
        ip("-n", HUB, "link", "set", self.port, "type", "bridge_slave", "state", "3" if is_connected else "0")

    def limit(self, rate: str) -> None:
        """What leaves the host, by tbf: "rate 100mbit burst 128kb"; "": no limit. Raises `NoHostsError` without tc."""
        device = ("dev", f"cv-{self.number}", "root")
        if not shutil.which("tc"):
            raise NoHostsError("needs tc, to limit what a network carries")
        subprocess.run(["tc", "-n", self.name, "qdisc", "del", *device], check=False, capture_output=True)
        if rate:
            words = ["tc", "-n", self.name, "qdisc", "add", *device, "tbf", *rate.split(), "latency", "100ms"]
            subprocess.run(words, check=True, capture_output=True)


@contextmanager
def some_hosts(count: int) -> Iterator[list[Host]]:
    if sys.platform != "linux" or not shutil.which("ip") or not shutil.which("unshare"):
        raise NoHostsError("needs ip and unshare, to make network namespaces")
    made: list[Host] = []
    try:
        ip("netns", "add", HUB)
    except subprocess.CalledProcessError as error:
        raise NoHostsError(f"needs to make network namespaces: {error.stderr.decode().strip()}") from error
    try:
        ip("-n", HUB, "link", "add", "bridge", "type", "bridge")
        ip("-n", HUB, "addr", "add", f"{HUB_ADDRESS}/24", "dev", "bridge")
        for link in ("bridge", "lo"):
            ip("-n", HUB, "link", "set", link, "up")
        for number in range(1, count + 1):
            made.append(Host(number))
        yield made
    finally:
        for host in made:
            for number in (signal.SIGKILL, signal.SIGCONT):
                host.signal(number)
            subprocess.run(["ip", "netns", "del", host.name], check=False, capture_output=True)
        subprocess.run(["ip", "netns", "del", HUB], check=False, capture_output=True)


@contextmanager
def hosts_or_skip(count: int) -> Iterator[list[Host]]:
    import pytest  # a benchmark needs none

    try:
        with some_hosts(count) as hosts:
            yield hosts
    except NoHostsError as error:
        pytest.skip(str(error))
