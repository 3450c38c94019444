"""Sums through memory, against numpy; what becomes of them when a worker ends, stops or never had the memory."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.distributed import TCPStore

from convolve.distributed import shared_memory
from convolve.distributed.shared_memory import CHUNK_BYTES, SharedMemory, open_shared
from convolve.errors import TrainingError
from convolve.training.workers import Workers
from worker_processes import run_together

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere there is none")
LENGTHS = (1, 2, 7, CHUNK_BYTES // 8, 3 * CHUNK_BYTES // 8 + 5)
DTYPES = ("float16", "float32", "float64")


def values(rank: int, dtype: str, length: int) -> np.ndarray:
    return np.random.default_rng([rank, length]).normal(size=length).astype(dtype)


def _sums(workers: Workers) -> Any:
    """Every sum is made twice: what is left of the first must not get into the second."""
    assert workers.shares_memory
    left = []
    for dtype in DTYPES:
        for length in LENGTHS:
            for _ in range(2):
                tensor = torch.from_numpy(values(workers.rank, dtype, length))
                workers.sum(tensor.view(1, -1))
            left.append(tensor.numpy())
    return left


@pytest.mark.skipif(not shared_memory.is_supported(), reason="not on this processor")
@pytest.mark.parametrize("size", [2, 3])
def test_sums_in_the_order_of_ranks(size: int) -> None:
    results = run_together(size, _sums)
    cases = [(dtype, length) for dtype in DTYPES for length in LENGTHS]
    for number, (dtype, length) in enumerate(cases):
        expected = values(0, dtype, length)
        for rank in range(1, size):
            expected = expected + values(rank, dtype, length)  # bit by bit: each addition is rounded
        for result in results:
            np.testing.assert_array_equal(result[number], expected)


OTHER = """
import sys, time
from pathlib import Path
from convolve.distributed.shared_memory import SharedMemory
memory = SharedMemory(Path(sys.argv[1]), 1, 2)
print("there", flush=True)
time.sleep(300)
"""


@pytest.fixture
def other(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Worker 1 of 2, which has opened the memory and does not come to a sum."""
    (tmp_path / "memory").write_bytes(bytes(shared_memory.bytes_of(2)))
    command = [sys.executable, "-c", OTHER, str(tmp_path / "memory")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "there\n"
        yield process
        process.kill()


def test_a_worker_that_stops_and_one_that_ends(other: subprocess.Popen[str], tmp_path: Path) -> None:
    memory = SharedMemory(tmp_path / "memory", 0, 2, patience_seconds=0.3)
    other.send_signal(signal.SIGSTOP)
    with pytest.raises(TrainingError, match=r"worker 1 has not answered for 0.3 s.*The same command without --restart"):
        memory.sum(torch.ones(3))
    other.kill()
    other.wait()
    with pytest.raises(TrainingError, match="worker 1 has ended; see its message"):
        SharedMemory(tmp_path / "memory", 0, 2).sum(torch.ones(3))


@pytest.fixture
def store() -> TCPStore:
    return TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)


def files() -> set[Path]:
    return set(shared_memory.FOLDER.glob("convolve-*"))


@pytest.mark.skipif(not shared_memory.is_supported(), reason="not on this processor")
@pytest.mark.parametrize(("answer", "is_there"), [("yes", True), ("no", False)])
def test_all_have_it_or_none(answer: str, is_there: bool, store: TCPStore) -> None:
    before = files()
    store.set("memory/1", answer)
    assert (open_shared(store, 0, 2) is not None) == is_there
    assert files() <= before
    assert store.get("memory/0") == b"yes"


def test_no_room(store: TCPStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(file: int, offset: int, length: int) -> None:
        raise OSError(28, "No space left on device")

    before = files()
    store.set("memory/1", "no")
    monkeypatch.setattr("os.posix_fallocate", full)
    assert open_shared(store, 0, 2) is None
    assert files() <= before


def test_a_system_without_it(store: TCPStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """As Windows, which has no fcntl either."""
    monkeypatch.setattr(shared_memory, "is_supported", lambda: False)
    monkeypatch.setitem(sys.modules, "fcntl", None)
    assert open_shared(store, 0, 1) is None and open_shared(store, 1, 2) is None


def test_another_machine_of_that_name(store: TCPStore) -> None:
    store.set("memory", "/dev/shm/convolve-of-another-machine")
    store.set("memory/0", "yes")
    assert open_shared(store, 1, 2) is None
