"""Quantized gradients against the formulas of Seide et al. (2014) and CNTK's quantizer, computed in numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from convolve.distributed.data_parallel import DataParallel
from convolve.distributed.quantized import BITS, QuantizedSum, bytes_per_row, decode, encode
from convolve.errors import ModelError
from convolve.models import build_model
from convolve.specs.model import ModelSpec
from convolve.training.workers import SINGLE_PROCESS, Workers, part
from worker_processes import run_together

STEPS = 12


def quantized(values_RL: np.ndarray, bits: int) -> np.ndarray:
    """What arrives, element by element as in the paper and CNTK's ValueQuantizer."""
    arrived = np.zeros_like(values_RL)
    for r, row in enumerate(values_RL):
        if bits == 1:
            for side in (row >= 0, row < 0):
                if side.any():
                    arrived[r, side] = row[side].mean()
        else:
            edge = 4 * np.sqrt(np.mean(row**2))
            intervals = 2**bits - 1
            for i, value in enumerate(row):
                if edge == 0 or value <= -edge:
                    code = 0
                elif value >= edge:
                    code = 2**bits - 1
                else:
                    code = int((value + edge) * intervals / (2 * edge))
                arrived[r, i] = (code + 0.5) * 2 * edge / intervals - edge
    return arrived


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("length", [1, 7, 8, 27, 300])
def test_quantizer(bits: int, length: int) -> None:
    values_RL = np.random.default_rng(length).normal(0.1, 1, (6, length)).astype(np.float32)
    values_RL[1] = 0
    values_RL[2] = np.abs(values_RL[2])
    values_RL[3, 0] = 1000  # beyond four standard deviations, in a row of 300
    values_RL[4] *= 1e-12
    coded_RB = encode(torch.from_numpy(values_RL), bits)
    assert coded_RB.dtype == torch.uint8
    assert coded_RB.shape == (6, bytes_per_row(length, bits))
    errors_RL = decode(coded_RB, length, bits).double().numpy() - quantized(values_RL.astype(np.float64), bits)
    assert (np.abs(errors_RL).max(1) <= 1e-6 * np.abs(values_RL).max(1)).all()


def test_more_bits_are_closer() -> None:
    """But for two, which CNTK spreads over eight standard deviations in steps of 2.7."""
    values_RL = torch.randn(4, 1000, generator=torch.Generator().manual_seed(0))
    errors = [float((decode(encode(values_RL, bits), 1000, bits) - values_RL).square().mean()) for bits in BITS]
    assert errors[1] > errors[0] > errors[2] > errors[3]
    assert errors[0] == pytest.approx(1 - 2 / np.pi, abs=0.03)  # of two values for a normal distribution
    assert errors[-1] < 1e-3


def test_bytes_of_a_whole_network() -> None:
    """One bit: at least 25 times fewer bytes than fp32 for CNTK's CIFAR-10 network."""
    module = build_model(ModelSpec(name="convnet-cifar10"), (3, 32, 32), 10, seed=0)
    shapes = [p.shape if p.dim() > 1 else torch.Size([1, len(p)]) for p in module.parameters()]
    full = sum(4 * p.numel() for p in module.parameters())
    coded = sum(shape[0] * bytes_per_row(int(np.prod(shape[1:])), 1) for shape in shapes)
    assert full / coded > 25


def gradient(rank: int, step: int) -> list[np.ndarray]:
    rng = np.random.default_rng(100 * rank + step)
    return [rng.normal(size=(5, 3, 2, 2)), rng.normal(size=5), rng.normal(size=(1, 40))]


class _Given(nn.Module):
    """Parameters whose gradients are what the forward pass is given."""

    def __init__(self) -> None:
        super().__init__()
        convolution = torch.zeros(5, 3, 2, 2, dtype=torch.float64).contiguous(memory_format=torch.channels_last)
        self.a, self.b = nn.Parameter(convolution), nn.Parameter(torch.zeros(5, dtype=torch.float64))
        self.c = nn.Parameter(torch.zeros(1, 40, dtype=torch.float64))

    def forward(self, gradients: list[torch.Tensor]) -> torch.Tensor:
        return sum((p * g).sum() for p, g in zip(self.parameters(), gradients, strict=True))  # type: ignore[return-value]


def _run(workers: Workers, bits: int, steps: range, state: Any) -> Any:
    """(the sum that came of each step, state, bytes sent)"""
    module = _Given()
    sync = DataParallel(module, workers, bits)
    if state:
        sync.load_state({name: torch.from_numpy(values) for name, values in state.items()})
    sums = []
    for step in steps:
        with sync.micro_batch(True):
            sync.module([torch.from_numpy(g) for g in gradient(workers.rank, step)]).backward()
        sums.append([p.grad.numpy().copy() for p in module.parameters() if p.grad is not None])
        module.zero_grad()
    return sums, {name: tensor.numpy() for name, tensor in sync.state().items()}, sync.bytes_sent


def simulated(bits: int, size: int) -> list[list[np.ndarray]]:
    """The whole exchange of the paper's section 3.3 for `size` workers, in numpy."""
    shapes = [(5, 12), (1, 5), (1, 40)]
    unsent = [[np.zeros(shape) for shape in shapes] for _ in range(size)]
    unsent_sums = [np.zeros(shape) for shape in shapes]
    steps = []
    for step in range(STEPS):
        totals = [np.zeros(shape) for shape in shapes]
        for rank in range(size):
            for i, g in enumerate(gradient(rank, step)):
                wanted = g.reshape(shapes[i]) + unsent[rank][i]
                arrived = quantized(wanted, bits)
                unsent[rank][i] = wanted - arrived
                totals[i] += arrived
        result = []
        for i, total in enumerate(totals):
            arrived = quantized(total + unsent_sums[i], bits)
            unsent_sums[i] += total - arrived
            result.append(arrived)
        steps.append(result)
    return steps


@pytest.mark.parametrize(("size", "bits"), [(1, 1), (2, 1), (3, 1), (3, 4)])
def test_the_exchange_and_what_it_keeps_back(size: int, bits: int) -> None:
    results = run_together(size, _run, bits, range(STEPS), None)
    sums, state, _ = results[0]
    for step, expected in zip(sums, simulated(bits, size), strict=True):
        for ours, theirs in zip(step, expected, strict=True):
            np.testing.assert_allclose(ours.reshape(theirs.shape), theirs, rtol=1e-3, atol=1e-4)
    for other, *_ in results[1:]:
        for step, same in zip(sums, other, strict=True):
            for ours, theirs in zip(step, same, strict=True):
                np.testing.assert_array_equal(ours, theirs)
    for i in range(3):  # nothing is lost: what came and what is still kept back are all the gradients there were
        came = sum(in_memory(step[i]) for step in sums)
        kept = (state[f"own.{i}"].sum(0) + state[f"sums.{i}"]).ravel()
        given = sum(in_memory(gradient(rank, step)[i]) for rank in range(size) for step in range(STEPS))
        assert np.abs(kept).max() > 0.01
        np.testing.assert_allclose(came + kept, given, rtol=1e-12, atol=1e-12)


def in_memory(values: np.ndarray) -> np.ndarray:
    """The elements as the parameter, which is held channels last, has them one after the other."""
    return np.moveaxis(values, 1, -1).ravel() if values.ndim == 4 else values.ravel()


def test_bytes_on_the_wire() -> None:
    rows = [(5, 12), (1, 5), (1, 40)]
    for rank, (_, _, sent) in enumerate(run_together(2, _run, 1, range(STEPS), None)):
        mine = sum(len(range(r)[part(r, rank, 2)]) * bytes_per_row(length, 1) for r, length in rows)
        others = sum(len(range(r)[part(r, 1 - rank, 2)]) * bytes_per_row(length, 1) for r, length in rows)
        assert sent == STEPS * (mine + others)  # its rows of the other's stripe, and the sums of its own stripe


def test_going_on() -> None:
    """From a checkpoint with as many workers to the same bits; with others nothing that was kept back is lost."""
    whole = run_together(2, _run, 1, range(STEPS), None)[0]
    half = run_together(2, _run, 1, range(STEPS // 2), None)[0]
    rest = run_together(2, _run, 1, range(STEPS // 2, STEPS), half[1])[0]
    for ours, theirs in zip(half[0] + rest[0], whole[0], strict=True):
        for one, other in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(one, other)
    for rank, (_, state, _) in enumerate(run_together(3, _run, 1, range(0), half[1])):
        for i in range(3):
            np.testing.assert_allclose(state[f"own.{i}"].sum(0), half[1][f"own.{i}"].sum(0), rtol=1e-12)
            np.testing.assert_array_equal(state[f"sums.{i}"], half[1][f"sums.{i}"])
        assert rank < 3


def test_foreign_state() -> None:
    sums = QuantizedSum(list(_Given().parameters()), SINGLE_PROCESS, 1)
    with pytest.raises(ModelError, match="do not fit parameter 0"):
        sums.load_state({"own.0": torch.zeros(1, 2, 3), "sums.0": torch.zeros(2, 3)})
