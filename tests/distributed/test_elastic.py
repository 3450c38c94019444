"""Hosts that vanish and return while torchrun's elastic workers train: the job goes on with those that are there."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from convolve.errors import TrainingError, UsageError
from convolve.recipes import resolve
from convolve.records import Hardware, ResumeEvent, Start
from convolve.training.run_folder import RunFolder
from convolve.training.workers import Workers
from hosts import HUB, HUB_ADDRESS, Host, hosts_or_skip
from test_many_workers import COMMON, STEADY, WEIGHT_TOLERANCE, float64, train_alone, weights

PATIENCE_SECONDS = 900
STORE = """
import datetime, time
from torch.distributed import TCPStore
store = TCPStore("{address}", 29400, is_master=True, wait_for_workers=False)
while True:
    time.sleep(60)
"""
# As convolve.__main__, in float64, so that the order of additions does not hide a sample that is lost or seen twice.
WORKER = """
import sys, time
from pathlib import Path
from test_many_workers import float64
from convolve.cli import main
from convolve.training.trainer import Trainer
step = Trainer.train_step
def slow_step(self, *arguments):
    if Path("{slow}").exists():  # until all hosts have been lost, so that there is something left to do
        time.sleep(0.25)
    step(self, *arguments)
Trainer.train_step = slow_step
with float64():
    code = main(sys.argv[1:])
sys.exit(code)
"""
RENDEZVOUS = "is_host=0,last_call_timeout=10,keep_alive_interval=2,keep_alive_max_attempt=5,timeout=300"


START = Start(
    recipe="mnist", from_model=None, device="cpu", precision="fp32", precision_reason="", threads=1, workers=1,
    parameters=1, versions={}, hardware=Hardware("Imaginary 9000", 2, None, None), data="digits", data_name="digits",
    data_fingerprint="f", mean_image_sha256=None, train_samples=600, test_samples=150,
)  # fmt: skip


class Job:
    """A training on `hosts`, which share the run folder `out`, with torchrun on each."""

    def __init__(self, hosts: list[Host], place: Path, *arguments: object) -> None:
        self.hosts, self.out, self._place, self._arguments = hosts, place / "run", place, arguments
        self._lost: list[Host] = []
        self._slow = place / "slow"
        self._slow.touch()
        (place / "worker.py").write_text(WORKER.replace("{slow}", str(self._slow)))
        self.agents: dict[str, subprocess.Popen[bytes]] = {}

    def begin(self, host: Host) -> None:
        agent = [
            sys.executable, "-m", "torch.distributed.run", f"--nnodes=1:{len(self.hosts)}", "--nproc-per-node=1",
            "--max-restarts=100", "--rdzv-id=job", "--rdzv-backend=c10d", f"--rdzv-endpoint={HUB_ADDRESS}:29400",
            f"--rdzv-conf={RENDEZVOUS}", f"--local-addr={host.address}",
        ]  # fmt: skip
        words = [*agent, self._place / "worker.py", "train", *self._arguments, "--out", self.out]
        log = self._place / f"{host.name}.log"
        self.agents[host.name] = host.start(*words, log=log, environ={"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"})

    def lose(self, host: Host, how: str) -> None:
        self._lost.append(host)
        if how == "kill":
            host.signal(signal.SIGKILL)
        elif how == "stop":
            host.signal(signal.SIGSTOP)
        else:
            host.connect(False)

    def bring_back(self, host: Host, how: str) -> None:
        """A host that was stopped or cut off finds that the others have gone on, and may have ended itself by then."""
        host.signal(signal.SIGCONT)
        host.connect(True)
        if how == "stop":
            time.sleep(5)  # it may yet write, and must not
        host.signal(signal.SIGKILL)
        self.agents[host.name].wait(PATIENCE_SECONDS)
        self._lost.remove(host)
        self.begin(host)

    def wait(self) -> None:
        """Until the run is finished."""
        self._slow.unlink()
        limit = time.monotonic() + PATIENCE_SECONDS
        while not self.has_ended():
            assert time.monotonic() < limit, self.logs()
            self._begin_again()
            time.sleep(1)

    def events(self) -> list[dict[str, Any]]:
        path = self.out / "metrics.jsonl"
        return [json.loads(line) for line in path.read_text().split("\n")[:-1]] if path.exists() else []

    def step(self) -> int:
        return max((event.get("step", 0) for event in self.events()), default=0)

    def has_ended(self) -> bool:
        return (self.out / "report.html").exists()

    def wait_until_step(self, step: int) -> None:
        limit = time.monotonic() + PATIENCE_SECONDS
        while self.step() < step and not self.has_ended():
            assert time.monotonic() < limit, self.logs()
            self._begin_again()
            time.sleep(0.1)

    def _begin_again(self) -> None:
        """A host whose torchrun has given up begins anew, as a scheduler would have it."""
        for host in self.hosts:
            if host not in self._lost and self.agents[host.name].poll() not in (None, 0):
                self.begin(host)

    def logs(self) -> str:
        return "\n".join(log.read_text(errors="replace")[-3000:] for log in sorted(self._place.glob("*.log")))


@contextmanager
def store_of(place: Path) -> Iterator[None]:
    """The rendezvous lies on a host that stays."""
    program = STORE.format(address=HUB_ADDRESS)
    with subprocess.Popen(["ip", "netns", "exec", HUB, sys.executable, "-c", program]) as store:
        try:
            yield
        finally:
            store.kill()


class Loss(NamedTuple):
    """A host that is lost after so many `steps` more, and returns after others have taken `without`."""

    host: int
    how: str
    steps: int
    without: int


def lose_and_bring_back(job: Job, losses: list[Loss]) -> None:
    for host in job.hosts:
        job.begin(host)
    for number, how, after, back in losses:
        job.wait_until_step(job.step() + after)
        assert not job.has_ended(), "too few steps for all losses"
        host = job.hosts[number]
        job.lose(host, how)
        time.sleep(1)
        job.wait_until_step(job.step() + back)
        job.bring_back(host, how)
    job.wait()


def settings(epochs: int) -> dict[str, Any]:
    return COMMON | STEADY | {"run.epochs": epochs, "run.global_batch_size": 8, "run.checkpoint_seconds": 0.001}


def arguments(data: Path, epochs: int) -> list[object]:
    each = settings(epochs) | {"distributed.timeout_seconds": 10}
    return ["mnist", "--data", data, *(f"--set={name}={value}" for name, value in each.items())]


def train_with_losses(count: int, losses: list[Loss], epochs: int, data: Path, place: Path) -> None:
    """On `count` hosts; then the weights are those of one process, so that every sample was seen as often as there."""
    with hosts_or_skip(count) as hosts, store_of(place):
        job = Job(hosts, place, *arguments(data, epochs))
        lose_and_bring_back(job, losses)
        result = json.loads((job.out / "result.json").read_text())
        assert result["samples_seen"] == epochs * 600, job.logs()
        told = {what: {host for event in job.events() for host in event.get(what, ())} for what in ("gone", "came")}
        # On a busy machine one that is there may be given up, too.
        assert told["gone"] >= {hosts[loss.host].name for loss in losses} and told["came"], told
        assert any("gone: convolve-" in log.read_text(errors="replace") for log in place.glob("*.log"))
    with float64():
        train_alone(data, place, {"alone": ("mnist", settings(epochs))})
    torch.testing.assert_close(weights(job.out), weights(place / "alone"), rtol=0, atol=WEIGHT_TOLERANCE)
    alone = json.loads((place / "alone" / "result.json").read_text())
    assert result["test_error"] == alone["test_error"]


def elastic(job: str) -> Workers:
    workers = Workers()
    workers.job, workers.timeout_seconds = job, 0.2
    return workers


def test_a_stopped_worker_0_is_passed_over_by_its_job_alone(tmp_path: Path) -> None:
    with RunFolder.claim(tmp_path / "run", restart=False, reports=False, workers=elastic("job")) as stopped:
        stopped.begin(resolve("mnist", {}), START)
        for other in (elastic("another"), None):
            refused = pytest.raises(UsageError, match="another process is at work")
            with refused, RunFolder.claim(tmp_path / "run", restart=False, reports=False, workers=other):
                pass
        with RunFolder.claim(tmp_path / "run", restart=False, reports=False, workers=elastic("job")) as taken:
            taken.log(ResumeEvent(step=1))
            with pytest.raises(TrainingError, match="other hosts of this job continue"):
                stopped.log(ResumeEvent(step=2))
            assert [event.step for event in taken.metrics() if isinstance(event, ResumeEvent)] == [1]
    assert not (tmp_path / "run" / "job").exists()


@pytest.mark.slow
def test_hosts_vanish_and_return(tiny_mnist: Path, tmp_path: Path) -> None:
    """Killed, stopped and cut off, each once; the first of them has worker 0, which writes the run folder."""
    losses = [Loss(0, "kill", 8, 8), Loss(1, "stop", 8, 8), Loss(0, "cut", 8, 8), Loss(0, "stop", 8, 8)]
    train_with_losses(2, losses, 20, tiny_mnist, tmp_path)


@pytest.mark.slow
def test_thirty_losses(tiny_mnist: Path, tmp_path: Path) -> None:
    """No longer than that: a training of 80 epochs was the undisturbed one for 2,000 steps, 1,400 behind the last loss,
    and then magnified the last bit of a float64 until it was seen."""
    chance = random.Random(0)
    losses = [
        Loss(chance.randrange(3), chance.choice(("kill", "stop", "cut")), chance.randrange(12), chance.randrange(12))
        for _ in range(30)
    ]
    train_with_losses(3, losses, 24, tiny_mnist, tmp_path)
