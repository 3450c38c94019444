"""The cost model's arithmetic, on figures whose answer is known."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="module")
def cost_model() -> ModuleType:
    path = Path(__file__).parents[1] / "benchmarks" / "cost_model.py"
    spec = importlib.util.spec_from_file_location("cost_model", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_speedups(cost_model: ModuleType) -> None:
    # Steps of 32 and 64 samples take 50 and 90 ms: 10 ms and 1.25 ms a sample.
    network = cost_model.line_through("x", 64, 3.0, {32: 32 / 0.050, 64: 64 / 0.090})
    assert network.step_seconds(0) == pytest.approx(0.010)
    assert network.step_seconds(16) == pytest.approx(0.030)
    line = cost_model.Line("1 ms, 100 MB/s", 1e-3, 1e8)
    assert cost_model.ring_seconds(3e6, 3, line) == pytest.approx(4e-3 + 2 * 2 / 3 * 0.030)
    full, half, one_bit, blocks = cost_model.speedups(network, 4, line, 1, 1e9)
    assert full == pytest.approx(90 / (30 + 6 + 45))
    assert half == pytest.approx(90 / (30 + 6 + 22.5))
    assert one_bit == pytest.approx(90 / (30 + 3 + 6 + 1.5))
    assert blocks == pytest.approx(4 * 90 / (90 + 51 / 50))


def test_a_table_of_all_networks(cost_model: ModuleType) -> None:
    sides = {"mnist": (9000, 8000), "cifar10-aug": (900, 800)}
    medians = {f"{n}, two strangers": whole for n, (whole, _) in sides.items()}
    medians |= {f"{n}, two strangers with shares": share for n, (_, share) in sides.items()}
    medians |= {"alexnet, batches of 16": 30.0, "alexnet, batches of 32": 40.0, "one-bit coding": 300.0}
    lines = list(cost_model.table(medians, 8))
    assert len(lines) == 2 + 3 * 4 * 2 + 2
    assert all(line.count("**") == 2 for line in lines[2:-2])


def test_resnet_50(cost_model: ModuleType) -> None:
    """25,557,032 parameters, as He et al. and torchvision have it; PowerSGD's numbers as torch's hook counts them."""
    network = cost_model.ResNet50()
    assert network.sent_bytes() == 4 * 25_557_032
    hook = pytest.importorskip("torch.distributed.algorithms.ddp_comm_hooks.powerSGD_hook")
    sent = [hook._should_compress(rows, length, min(rows, length, 2), 2) for rows, length in network.matrices]
    assert network.sent_bytes(2) == 4 * (
        network.vectors + sum(thin if is_thin else whole for is_thin, whole, thin in sent)
    )
    assert len(list(cost_model.far_table())) == 2 + 8 + 2
