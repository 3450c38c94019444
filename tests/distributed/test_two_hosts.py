"""Two network namespaces with an address, a name and a folder each: what two hosts are to the workers."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import convolve
from convolve.distributed.rendezvous import interface_to

ADDRESSES = {"convolve-a": "10.213.77.1", "convolve-b": "10.213.77.2"}


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@pytest.fixture
def hosts() -> Iterator[list[str]]:
    if not shutil.which("ip") or not shutil.which("unshare"):
        pytest.skip("needs ip and unshare, to make network namespaces")
    try:
        for name in ADDRESSES:
            ip("netns", "add", name)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"needs the right to make network namespaces: {error.stderr.decode().strip()}")
    try:
        ip("link", "add", "cv-a", "netns", "convolve-a", "type", "veth", "peer", "cv-b", "netns", "convolve-b")
        for (name, address), link in zip(ADDRESSES.items(), ("cv-a", "cv-b"), strict=True):
            ip("-n", name, "addr", "add", f"{address}/24", "dev", link)
            ip("-n", name, "link", "set", link, "up")
            ip("-n", name, "link", "set", "lo", "up")
        yield list(ADDRESSES)
    finally:
        for name in ADDRESSES:
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


def test_two_hosts_without_a_common_folder(hosts: list[str], tmp_path: Path) -> None:
    """As torchrun starts one worker on each; gloo has to leave 127.0.0.1, which both names may stand for."""
    environ = os.environ | {
        "MASTER_ADDR": ADDRESSES[hosts[0]], "MASTER_PORT": "29417", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "1",
        "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(convolve.__file__).parents[1]),
    }  # fmt: skip
    settings = ["model.variant=tiny", "run.epochs=1", "run.threads=1", "run.precision=fp32"]
    workers = [
        subprocess.Popen(
            ["ip", "netns", "exec", host, "unshare", "--uts", "sh", "-c", f'hostname {host}; exec "$@"', "sh",
             sys.executable, "-m", "convolve", "train", "mnist", "--data", "sample", "--out", str(tmp_path / host),
             *(f"--set={setting}" for setting in settings)],
            env=environ | {"RANK": f"{rank}"}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for rank, host in enumerate(hosts)
    ]  # fmt: skip
    said = [worker.communicate(timeout=600) for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], said
    result = json.loads((tmp_path / hosts[0] / "result.json").read_text())
    assert (result["world_size"], result["samples_seen"]) == (2, 4000)
    assert result["bytes_sent"] > 0
    assert not (tmp_path / hosts[1]).exists()
    assert said[1][0] == "" and "convolve" not in said[1][1]  # torch may wonder about names


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not tell")
def test_the_interface_that_leads_there() -> None:
    names = {name for _, name in socket.if_nameindex()}
    assert interface_to("127.0.0.1", 1) in names
    assert interface_to("no.such.host.invalid", 1) is None
