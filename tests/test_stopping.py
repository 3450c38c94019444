"""A scheduler takes the machine away: a checkpoint, exit code 75, and the same command goes on to the same bits."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from convolve.errors import StoppedTraining
from convolve.training.stopping import stoppable
from processes import PATIENCE_SECONDS, Command, start
from test_many_workers import command, outcomes, start_two, steps, weights

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGUSR1")
BLOCKS = ("distributed.method=block_momentum", "distributed.block_samples=64", "run.global_batch_size=4")
LONG = ("run.epochs=8", "run.checkpoint_seconds=0")


def curve(folder: Path) -> list[tuple[str, float]]:
    """All losses and errors of the log, in order."""
    events = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [(name, value) for event in events for name, value in event.items() if name.endswith(("loss", "error"))]


def saved_step(folder: Path) -> int:
    return max(int(path.stem.removeprefix("step-")) for path in (folder / "checkpoints").glob("*.json"))


def same(folder: Path, other: Path) -> None:
    assert torch.equal(weights(folder), weights(other))
    assert curve(folder) == curve(other)


def until(begun: list[Command], folder: Path, step: int) -> None:
    begun[0].wait_until(lambda: steps(folder) > step)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_one_process(number: signal.Signals, tiny_mnist: Path, tmp_path: Path) -> None:
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    assert start(tmp_path / "a", *command(tiny_mnist, whole, *LONG)).outcome().code == 0
    begun = start(tmp_path / "b", *command(tiny_mnist, stopped, *LONG))
    until([begun], stopped, 30)
    begun.send(number)
    ended = begun.outcome()
    assert ended.code == 75, ended.err
    step = saved_step(stopped)
    assert step < 600
    assert f"stopped by {number.name} after step {step}, which is saved" in ended.err.splitlines()[-1]
    assert start(tmp_path / "c", *command(tiny_mnist, stopped, *LONG)).outcome().code == 0
    same(stopped, whole)


def test_where_nothing_is_to_be_saved_it_ends_at_once() -> None:
    """As while the data is read; afterwards signals are what they were."""
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(StoppedTraining, match="stopped by SIGTERM; the same command "), stoppable():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(PATIENCE_SECONDS)
    assert signal.getsignal(signal.SIGTERM) is before


def test_in_a_thread_signals_are_the_programs_own() -> None:
    """As where Ray calls us."""
    with ThreadPoolExecutor() as pool:
        pool.submit(stoppable()(lambda: None)).result()
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


@pytest.mark.parametrize("more", [(), BLOCKS], ids=["gradients", "blocks"])
def test_all_workers_stop_at_the_same_step(more: tuple[str, ...], tiny_mnist: Path, tmp_path: Path) -> None:
    """One of them gets the signal, as where one host of a job is a spot machine."""
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    ours = command(tiny_mnist, stopped, *LONG, *more)
    assert [each.code for each in outcomes(start_two(tmp_path / "a", command(tiny_mnist, whole, *LONG, *more)))] == [
        0,
        0,
    ]
    for victim in (1, 0):
        first = steps(stopped)
        begun = start_two(tmp_path / f"b{victim}", ours)
        until(begun, stopped, first + 30)
        begun[victim].send(signal.SIGUSR1)
        ended = outcomes(begun)
        assert [each.code for each in ended] == [75, 75], ended
        said = f"after step {saved_step(stopped)}, which is saved"
        assert f"stopped by SIGUSR1 {said}" in ended[victim].err
        assert f"stopped by a signal that another worker got {said}" in ended[1 - victim].err
    assert [each.code for each in outcomes(start_two(tmp_path / "c", ours))] == [0, 0]
    same(stopped, whole)
