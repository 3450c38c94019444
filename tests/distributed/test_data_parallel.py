"""Any number of workers takes the steps of one: the same losses and the same weights."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from convolve.distributed.data_parallel import DataParallel
from convolve.distributed.process_group import ProcessGroup
from convolve.errors import UsageError
from convolve.specs.optimizer import OptimizerSpec
from convolve.specs.schedule import ScheduleSpec
from convolve.training.optimizers import build_optimizer, gradients_of, take_step
from convolve.training.schedule import step_size
from convolve.training.workers import SINGLE_PROCESS, GradientSync, Workers
from worker_processes import run_together

SAMPLES, BATCH, EPOCHS = 50, 16, 25  # four steps an epoch; the last batch of two leaves workers without a sample
MOMENTUM = OptimizerSpec(name="momentum_sgd", momentum=(0.9,), l2=0.001)
RATE = ScheduleSpec(learning_rates=(0.01,), reference_batch_size=1)


def small_network(dtype: torch.dtype) -> nn.Module:
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 5, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(45, 4)
    return nn.Sequential(*layers).to(dtype).to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def images_and_labels(dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(1)
    images_NCHW = torch.from_numpy(rng.normal(size=(SAMPLES, 3, 8, 8))).to(dtype)
    return images_NCHW, torch.from_numpy(rng.integers(0, 4, SAMPLES))


def train(workers: Workers, sync: GradientSync, network: nn.Module, pieces: int = 1) -> list[float]:
    """The loss of each step, summed over the whole batch; every worker is given all batches and takes its share."""
    parameters = list(network.parameters())
    optimizer, losses, seen = build_optimizer(MOMENTUM, parameters), [], 0
    images_NCHW, labels_N = images_and_labels(parameters[0].dtype)
    for epoch in range(EPOCHS):
        order_N = torch.from_numpy(np.random.default_rng(epoch).permutation(SAMPLES))
        for batch_N in order_N.split(BATCH):
            sync.begin_step(seen)
            mine, weight = workers.shard(len(batch_N))
            loss_sum = torch.zeros(1, dtype=torch.float64)
            chunks = batch_N[mine].split(-(-len(batch_N[mine]) // pieces))
            for number, chunk_N in enumerate(chunks, 1):
                with sync.micro_batch(number == len(chunks)):
                    loss = weight * F.cross_entropy(
                        sync.module(images_NCHW[chunk_N]), labels_N[chunk_N], reduction="sum"
                    )
                    (loss / len(batch_N)).backward()
                loss_sum += loss.detach()
            workers.sum(loss_sum)
            take_step(optimizer, step_size(MOMENTUM, RATE, seen, len(batch_N), SAMPLES, SAMPLES * EPOCHS), len(batch_N))
            optimizer.zero_grad()
            sync.end_step(len(batch_N))
            seen += len(batch_N)
            losses.append(float(loss_sum))
    sync.sync()
    return losses


def _trained(workers: Workers, dtype: torch.dtype, bits: int, pieces: int, after: int = 0) -> Any:
    network = small_network(dtype)
    sync = DataParallel(network, workers, bits, after)
    losses = train(workers, sync, network, pieces)
    weights = torch.cat([p.detach().reshape(-1) for p in network.parameters()])
    return np.array(losses), weights.numpy(), sync.bytes_sent


def _both_precisions(workers: ProcessGroup) -> Any:
    """Through memory, then over the network."""
    cases = ((torch.float64, 2), (torch.float32, 1))
    in_memory = [_trained(workers, dtype, 32, pieces) for dtype, pieces in cases]
    workers._memory = None
    return in_memory + [_trained(workers, dtype, 32, pieces) for dtype, pieces in cases]


class NoSync:
    """One process: there is nothing to synchronize."""

    takes_local_steps = False

    def __init__(self, network: nn.Module) -> None:
        self.module = network

    def begin_step(self, samples_seen: int) -> None:
        pass

    def micro_batch(self, is_last: bool) -> AbstractContextManager[None]:
        return nullcontext()

    def end_step(self, samples: int) -> None:
        pass

    def sync(self) -> None:
        pass


def alone(dtype: torch.dtype) -> tuple[np.ndarray, np.ndarray]:
    network = small_network(dtype)
    losses = train(SINGLE_PROCESS, NoSync(network), network)
    return np.array(losses), torch.cat([p.detach().reshape(-1) for p in network.parameters()]).numpy()


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_same_answer(size: int) -> None:
    results = run_together(size, _both_precisions)
    for number, (dtype, tolerance) in enumerate(2 * ((torch.float64, 1e-9), (torch.float32, 1e-3))):
        losses, weights = alone(dtype)
        assert len(losses) == 100
        assert losses[-4:].sum() < losses[:4].sum() / 2  # it does learn
        parameters = len(weights)
        for their_losses, their_weights, sent in (result[number] for result in results):
            np.testing.assert_allclose(their_losses, losses, rtol=tolerance)
            np.testing.assert_allclose(their_weights, weights, rtol=tolerance, atol=tolerance / 100)
            np.testing.assert_array_equal(their_weights, results[0][number][1])
            bytes_each = parameters * dtype.itemsize
            assert sent == pytest.approx(100 * 2 * bytes_each * (size - 1) / size, rel=1e-3)


def _compressed(workers: ProcessGroup) -> Any:
    trained = [_trained(workers, torch.float32, *case) for case in ((16, 1), (1, 1), (4, 2), (1, 1, SAMPLES))]
    workers._memory = None
    return [*trained, _trained(workers, torch.float32, 16, 1)]


def test_fewer_bits_learn_the_same() -> None:
    losses, weights = alone(torch.float32)
    results = run_together(2, _compressed)
    first = [their for their, _, _ in results[0]]
    for (_, ours, sent), (_, theirs, _) in zip(*results, strict=True):
        np.testing.assert_array_equal(ours, theirs)
        assert 0 < sent < 100 * weights.nbytes
    half, one_bit, four_bits, warm, half_over_network = first
    np.testing.assert_allclose(half, losses, rtol=0.02)  # the sums keep 11 bits
    np.testing.assert_array_equal(half, half_over_network)
    assert results[0][0][2] == results[0][-1][2] == 100 * weights.nbytes // 2
    np.testing.assert_allclose(four_bits, losses, rtol=0.5, atol=0.5)
    for curve in (one_bit, four_bits, warm):
        assert curve[-4:].sum() < losses[:4].sum() / 2
    np.testing.assert_allclose(warm[:5], losses[:5], rtol=1e-5)  # in full for an epoch, whose end is seen in step 5
    assert np.abs(one_bit[:5] / losses[:5] - 1).max() > 1e-3


def _statistics(workers: Workers) -> list[float]:
    network = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2))
    sync = DataParallel(network, workers)
    with sync.micro_batch(True):
        sync.module(torch.full((2, 1, 2, 2), float(workers.rank))).sum().backward()
    before = network[1].running_mean.tolist()
    sync.sync()
    return [before, network[1].running_mean.tolist()]


def test_running_statistics_are_averaged() -> None:
    (one, mean), (other, same) = run_together(2, _statistics)
    assert one != other
    assert mean == same == pytest.approx([(a + b) / 2 for a, b in zip(one, other, strict=True)])


def _lacks_a_gradient(workers: Workers) -> Any:
    used, unused = nn.Linear(2, 2), nn.Linear(2, 2)
    sync = DataParallel(nn.ModuleList([used, unused]), workers)
    with sync.micro_batch(True):
        used(torch.ones(1, 2)).sum().backward()
    try:
        gradients_of(build_optimizer(MOMENTUM, [*used.parameters(), *unused.parameters()]))
    except UsageError as error:
        return str(error)


def test_a_parameter_without_a_gradient() -> None:
    for message in run_together(2, _lacks_a_gradient):
        assert "a parameter of shape (2, 2) has no gradient" in message


def _connections(workers: ProcessGroup) -> list[str]:
    """The threads that talk to others, after a training over connections that is over, and the workers' parting."""
    _trained(workers, torch.float32, 1, 1)
    workers.close()
    workers.leave = lambda: None  # type: ignore[method-assign]
    return [name for path in Path("/proc/self/task").glob("*/comm") if "gloo" in (name := path.read_text())]


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere threads have no names")
def test_nothing_goes_on_after_the_end() -> None:
    """A thread of gloo's that outlives the interpreter can end the process with SIGABRT."""
    assert run_together(2, _connections) == [[], []]


def test_unknown_bits() -> None:
    with pytest.raises(UsageError, match="sent in 1, 2, 4, 8, 16, 32 bits, got 3"):
        DataParallel(nn.Linear(2, 2), SINGLE_PROCESS, bits=3)
