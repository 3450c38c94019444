"""How workers find each other: on one host in a folder that only their user can enter, on several at an address."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest
from torch.distributed import TCPStore

import convolve
from convolve.atomic import locked
from convolve.distributed.launcher import RankInfo, rank_info
from convolve.distributed.process_group import ProcessGroup
from convolve.distributed.rendezvous import _find, _infos, _made, rendezvous
from convolve.errors import ConvolveError
from worker_processes import run_together

PREFIX = "convolve-0123456789abcdef-"
OWN = RankInfo(1, 2)
OTHER_VERSION = -1
linux = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere /proc does not tell")


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    ("own", "there", "message"),
    [
        (RankInfo(0, 3), {1: 3}, "of 3 workers 2 did not come"),
        (RankInfo(1, 2), {0: 2, 1: 2}, "two workers call themselves rank 1 of 2"),
        (RankInfo(0, 2), {1: 3}, "worker 0 was told of 2 workers, worker 1 of 3"),
        (RankInfo(0, 2), {1: OTHER_VERSION}, f"worker 0 has convolve {version('convolve')}, worker 1 has 0.0.9;"),
    ],
)
def test_who_is_missing_too_many_or_of_another_version(own: RankInfo, there: dict[int, int], message: str) -> None:
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    for rank, size in there.items():
        store.add(f"claim/{rank}", 1)
        told = [version("convolve"), size, "host", [0]] if size != OTHER_VERSION else ["0.0.9", {"what": "it says"}]
        store.set(f"info/{rank}", json.dumps(told))
    with pytest.raises(ConvolveError, match=message):
        _infos(store, own, patience_seconds=0.2)


def meet(**environ: str) -> None:
    with rendezvous(rank_info(environ), environ, patience_seconds=1):
        pass


def test_port_in_use() -> None:
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        with pytest.raises(ConvolveError, match=f"worker 0 cannot listen on port {port}.*MASTER_PORT to a free one"):
            meet(RANK="0", WORLD_SIZE="2", MASTER_ADDR="127.0.0.2", MASTER_PORT=port)


def test_nobody_there() -> None:
    with pytest.raises(ConvolveError, match="worker 1 of 2 found no worker 0 on this host within 1 s"):
        meet(RANK="1", WORLD_SIZE="2", TORCHELASTIC_RUN_ID="nobody")


# -- the folder of one host -------------------------------------------------------------------------------------------


def finds(prefix: str = PREFIX) -> Path | None:
    try:
        return _find(prefix, OWN, patience_seconds=0.1)
    except ConvolveError as error:
        assert "worker 1 of 2 found no worker 0 on this host" in str(error)
        return None


def test_the_folder_is_private_and_goes(temporary: Path) -> None:
    assert finds() is None
    with _made(PREFIX, RankInfo(0, 2)) as folder:
        assert folder.stat().st_mode & 0o777 == 0o700
        assert finds() == folder
        assert finds("convolve-another-job-") is None
    assert finds() is None
    assert not list(temporary.iterdir())


def test_two_of_rank_0() -> None:
    message = "two workers call themselves rank 0 of 2"
    with _made(PREFIX, OWN), pytest.raises(ConvolveError, match=message), _made(PREFIX, RankInfo(0, 2)):
        pass


@pytest.fixture(params=["a killed job's", "open to others", "a link", "another user's"])
def trap(request: pytest.FixtureRequest, temporary: Path) -> Iterator[Path]:
    """A folder under the name that a worker looks for, where it must not say or read anything."""
    trap = temporary / f"{PREFIX}trap"
    place = temporary / "elsewhere" if request.param == "a link" else trap
    place.mkdir(0o700)
    if place != trap:
        trap.symlink_to(place)
    if request.param == "open to others":
        place.chmod(0o770)
    if request.param == "another user's":
        if os.geteuid():
            pytest.skip("needs the right to give a folder away")
        os.chown(place, 23456, 23456)
    if request.param == "a killed job's":
        yield trap
        return
    with locked(place, wait=False):
        yield trap


@pytest.mark.skipif(sys.platform == "win32", reason="a temporary folder there belongs to one user")
def test_traps(trap: Path) -> None:
    assert finds() is None
    with _made(PREFIX, RankInfo(0, 2)) as folder:
        assert finds() == folder
    assert not trap.exists() or not list(trap.iterdir())


@pytest.mark.skipif(sys.platform == "win32", reason="a temporary folder there belongs to one user")
def test_what_a_killed_job_left_is_removed(temporary: Path) -> None:
    (temporary / f"{PREFIX}left").mkdir(0o700)
    (temporary / f"{PREFIX}open").mkdir()
    with _made(PREFIX, RankInfo(0, 2)) as folder:
        assert set(temporary.iterdir()) == {folder, temporary / f"{PREFIX}open"}


def test_no_temporary_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/no/such/folder")
    with pytest.raises(ConvolveError, match="cannot write /no/such/folder: No such file"), _made(PREFIX, OWN):
        pass


# -- who can reach it -------------------------------------------------------------------------------------------------


def _listening(workers: ProcessGroup) -> list[str]:
    """The addresses, as /proc/net/tcp writes them, at which this process waits for connections."""
    own = {str(path.readlink()) for path in Path("/proc/self/fd").iterdir() if path.is_symlink()}
    tables = [Path(f"/proc/net/{name}").read_text(encoding="utf-8").splitlines()[1:] for name in ("tcp", "tcp6")]
    workers.barrier()
    sockets = [line.split() for table in tables for line in table]
    return [local for _, local, _, state, *rest in sockets if state == "0A" and f"socket:[{rest[5]}]" in own]


@linux
def test_nothing_listens_to_other_hosts() -> None:
    for addresses in run_together(2, _listening):
        assert addresses and all(address.startswith("0100007F:") for address in addresses)  # gloo's, on 127.0.0.1


@linux
def test_a_user_without_a_name(temporary: Path) -> None:
    """As `docker run -u 12345` has it: no entry in the password file, no HOME."""
    nameless = ["unshare", "--user", "--map-user=12345", sys.executable]
    if not shutil.which("unshare") or subprocess.run([*nameless, "-c", ""], check=False).returncode:
        pytest.skip("needs unshare, and the right to make user namespaces")
    environ = {
        "PATH": os.environ["PATH"], "PYTHONPATH": str(Path(convolve.__file__).parents[1]), "OMP_NUM_THREADS": "1",
        "WORLD_SIZE": "2", "TMPDIR": str(temporary),
    }  # fmt: skip
    words = ["train", "mnist", "--data=sample", "--out=run", "--epochs=1", "--precision=fp32", "--threads=1"]
    workers = [
        subprocess.Popen(
            [*nameless, "-m", "convolve", *words, "--set=model.variant=tiny"], cwd=temporary,
            env=environ | {"RANK": f"{rank}"}, stderr=subprocess.PIPE, text=True,
        )
        for rank in range(2)
    ]  # fmt: skip
    said = [worker.communicate(timeout=600)[1] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], said
    assert json.loads((temporary / "run" / "result.json").read_text())["world_size"] == 2
    assert {path.name for path in temporary.iterdir()} == {"run"}
