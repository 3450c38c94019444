"""Meeting, sharing and adding, among real processes."""

from __future__ import annotations

import re
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.distributed import FileStore, TCPStore

from convolve.distributed.data_parallel import DataParallel
from convolve.distributed.launcher import RankInfo
from convolve.distributed.process_group import ProcessGroup, threads_of
from convolve.distributed.rendezvous import WorkerInfo
from convolve.errors import ConvolveError
from convolve.training.workers import SINGLE_PROCESS, Workers, part
from worker_processes import launch, mpiexec, run_together, torchrun

SCRIPT = """
import os
from convolve.distributed.launcher import rank_info
from convolve.distributed.process_group import join
import torch
own = rank_info(os.environ)
workers = join(own, os.environ)
total = torch.tensor([workers.rank + 1.0])
workers.sum(total)
print(f"[{own.launcher} {workers.rank}/{workers.size} local {workers.local_rank} sum {int(total)}]", flush=True)
workers.close()
"""


@pytest.mark.parametrize("size", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("count", [1, 2, 3, 16, 50])
def test_parts_are_disjoint_and_complete(count: int, size: int) -> None:
    parts = [range(count)[part(count, rank, size)] for rank in range(size)]
    assert [index for each in parts for index in each] == list(range(count))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize(
    ("cores", "threads"),
    [
        ([[0, 1, 2, 3]] * 2, [2, 2]),  # nobody is bound
        ([[0], [1]], [1, 1]),  # Open MPI binds each to a core
        ([[0, 1, 2, 3], [4, 5, 6, 7]], [4, 4]),  # ... or to a part of the host
        ([[0, 1]] * 3, [1, 1, 1]),  # more workers than cores
        ([list(range(16))] * 3, [5, 5, 5]),
    ],
)
def test_threads(cores: list[list[int]], threads: list[int]) -> None:
    assert [threads_of(rank, cores) for rank in range(len(cores))] == threads


def _talk(workers: ProcessGroup) -> Any:
    shard = workers.shard(2)
    total = torch.full((3,), 10.0**workers.rank)
    workers.sum(total)
    lengths = workers.gather(torch.full((workers.rank + 1, 2), workers.rank))
    workers.barrier()
    workers.require_same({"the recipe": "aa"})
    try:
        workers.require_same({"the recipe": "aa", "the data": "bb" if workers.rank < 2 else "cc"})
        message = ""
    except Exception as error:
        message = str(error)
    return shard, total.tolist(), lengths.tolist(), message, (workers.rank, workers.local_rank, workers.threads)


def test_they_talk() -> None:
    results = run_together(3, _talk)
    assert [shard for shard, *_ in results] == [(slice(0, 1), 1.0), (slice(1, 2), 1.0), (slice(0, 1), 0.0)]
    for rank, (_, total, gathered, message, place) in enumerate(results):
        assert total == [111.0] * 3
        assert gathered == [[0, 0], [1, 1], [1, 1], [2, 2], [2, 2], [2, 2]]
        assert message == "the data is bb for worker 0 and cc for worker 2; all need the same"
        assert place[:2] == (rank, rank)
        assert place[2] >= 1


def _without_pickles(workers: ProcessGroup) -> Any:
    """What worker 0 broadcasts, in a process in which torch can neither pickle nor unpickle for another one."""

    def refuses(*arguments: object) -> None:
        raise AssertionError("torch pickles what goes to another worker")

    for name in ("_tensor_to_object", "_object_to_tensor"):
        assert hasattr(torch.distributed.distributed_c10d, name)
        setattr(torch.distributed.distributed_c10d, name, refuses)
    network = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2)).to(torch.float64)
    network[0].weight.data.fill_(0.1 + workers.rank)
    DataParallel(network, workers)
    value = workers.broadcast({"rank": workers.rank, "third": 1 / 3, "none": None})
    tensors = {"a": torch.arange(6).view(2, 3).T, "b": torch.tensor(1 / 3, dtype=torch.bfloat16), "c": torch.ones(0)}
    same = workers.broadcast_tensors(tensors if workers.rank == 0 else {})
    equal = all(
        torch.equal(same[name], tensor) and same[name].dtype == tensor.dtype for name, tensor in tensors.items()
    )
    return value, equal, network[0].weight.tolist()


def test_nothing_is_pickled() -> None:
    expected = ({"rank": 0, "third": 1 / 3, "none": None}, True, [[0.1, 0.1]] * 2)
    assert run_together(2, _without_pickles) == [expected] * 2


def _with_another_clock(workers: ProcessGroup) -> Any:
    real = time.time
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "time", lambda: real() + (-3600 if workers.rank else 0))
        workers.hosts = ("first", "second")
        workers.compare_clocks()
    return workers.warnings


def test_a_host_with_another_clock_is_named() -> None:
    for (said,) in run_together(2, _with_another_clock):
        assert re.match(r"the clock of host second is 3,(5|6)\d\d s behind that of worker 0", said)


def _evaluate(workers: Workers, batches: int, size: int) -> tuple[list[float], list[int]]:
    """What an evaluation does: whole batches to each worker, then everything in the order of one process."""
    losses_N = torch.from_numpy(np.random.default_rng(0).gamma(1.0, size=batches * size - 3))
    mine = losses_N.split(size)[part(batches, workers.rank, workers.size)]
    sums = workers.gather(
        torch.stack([losses.sum() for losses in mine]) if mine else torch.zeros(0, dtype=torch.float64)
    )
    seen = workers.gather(torch.cat(mine) if mine else losses_N[:0])
    return [float(sum(sums.tolist()))], (seen == losses_N).int().tolist()


def test_sharded_evaluation_is_exact() -> None:
    alone = _evaluate(SINGLE_PROCESS, 7, 8)
    assert all(alone[1])
    assert run_together(3, _evaluate, 7, 8) == [alone] * 3
    assert run_together(3, _evaluate, 2, 8) == [_evaluate(SINGLE_PROCESS, 2, 8)] * 3  # a worker with nothing to do


def test_met_and_out_of_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(*arguments: object, **options: object) -> None:
        raise RuntimeError("Gloo connectFullMesh failed")

    monkeypatch.setattr("torch.distributed.init_process_group", refuses)
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    with pytest.raises(ConvolveError, match=r"worker 0 of 2 .* connectFullMesh failed; set GLOO_SOCKET_IFNAME"):
        ProcessGroup(store, [WorkerInfo(2, "host", [0])] * 2, RankInfo(0, 2))


def test_worker_0_ends_before_all_are_connected() -> None:
    kept_by_worker_0 = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    store = TCPStore("127.0.0.1", kept_by_worker_0.port, is_master=False)
    del kept_by_worker_0
    with pytest.raises(ConvolveError, match="another worker has ended; see its message"):
        ProcessGroup(store, [WorkerInfo(2, "host", [0])] * 2, RankInfo(1, 2))


@pytest.mark.parametrize("said", ["Wait timeout", "Gloo connectFullMesh failed with Connect timeout"])
def test_a_worker_ends_before_all_are_connected(said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What torch says of one that was killed after it had said who it is, on one host."""

    def waits(*arguments: object, **options: object) -> None:
        raise RuntimeError(said)

    monkeypatch.setattr("torch.distributed.init_process_group", waits)
    with pytest.raises(ConvolveError, match="another worker has not answered for 300 s"):
        ProcessGroup(FileStore(str(tmp_path / "store")), [WorkerInfo(2, "host", [0])] * 2, RankInfo(0, 2))


def _launch(tmp_path: Path, *launcher: str) -> list[str]:
    """What the workers of a real launcher say of themselves."""
    script = tmp_path / "who.py"
    script.write_text(SCRIPT)
    done = launch(*launcher, script)
    assert done.returncode == 0, done.stderr
    return sorted(re.findall(r"\[[^]]*\]", done.stdout))  # the workers' lines may run into each other


def test_mpiexec(tmp_path: Path) -> None:
    said = _launch(tmp_path, *mpiexec(3), sys.executable)
    assert said == [f"[Open MPI {rank}/3 local {rank} sum 6]" for rank in range(3)]


def test_torchrun(tmp_path: Path) -> None:
    said = _launch(tmp_path, *torchrun(2))
    assert said == [f"[torchrun, PyTorchJob or Ray {rank}/2 local {rank} sum 3]" for rank in range(2)]
