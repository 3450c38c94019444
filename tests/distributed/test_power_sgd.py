"""PowerSGD: what is sent and what is kept adds up to the gradients, and a resumed run goes on to the same bits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_elastic import START
from torch import nn

from convolve.distributed import auto
from convolve.distributed.auto import Link, added_seconds, measure_buckets, measure_link, ways
from convolve.distributed.power_sgd import PowerSgdSum
from convolve.recipes import resolve
from convolve.training.run_folder import RunFolder
from convolve.training.workers import Workers
from worker_processes import run_together

SHAPES = ((24, 8, 3, 3), (24,), (10, 30))
STEPS = 6


def parameters() -> list[nn.Parameter]:
    made = [nn.Parameter(torch.zeros(shape)) for shape in SHAPES]
    made[0].data = made[0].data.to(memory_format=torch.channels_last)
    return made


def gradient(step: int, rank: int) -> torch.Tensor:
    size = sum(p.numel() for p in parameters())
    return torch.randn(size, generator=torch.Generator().manual_seed(10 * step + rank))


def _sums(workers: Workers) -> Any:
    """The sums of all steps; the same with a stop in between; all residuals at the end; the bytes of the last step."""
    whole, stopped = (PowerSgdSum(parameters(), workers, 2) for _ in range(2))
    found, again, sent = [], [], 0
    for step in range(STEPS):
        for each, sums in ((whole, found), (stopped, again)):
            sums.append(gradient(step, workers.rank))
            sent = each(sums[-1])
        if step == 3:
            state = {name: tensor.clone() for name, tensor in stopped.state().items()}
            stopped = PowerSgdSum(parameters(), workers, 2)
            stopped.load_state(state)
    kept = whole.state()["power.own"].sum(0)
    return [each.numpy() for each in found], [each.numpy() for each in again], kept.numpy(), sent


def test_what_is_sent_and_what_is_kept_is_all() -> None:
    (sums, again, kept, sent), (theirs, *_) = run_together(2, _sums)
    for mine, their, resumed in zip(sums, theirs, again, strict=True):
        assert np.array_equal(mine, their) and np.array_equal(mine, resumed)
    true = np.stack([(gradient(step, 0) + gradient(step, 1)).numpy() for step in range(STEPS)])
    np.testing.assert_allclose(sums[0], true[0], rtol=1e-6)  # torch sends the first two in full
    assert np.abs(sums[-1] - true[-1]).max() > 0.1
    np.testing.assert_allclose(np.stack(sums).sum(0) + kept, true.sum(0), rtol=1e-4, atol=1e-4)
    # Rank 2 of 24 x 72 and of 10 x 30, and the vector in full; of two workers each sends half of it twice.
    assert sent == 4 * (2 * (24 + 72) + 2 * (10 + 30) + 24)


def _of_low_rank(workers: Workers) -> float:
    sums = PowerSgdSum([nn.Parameter(torch.zeros(40, 50))], workers, 2)
    generator = torch.Generator().manual_seed(0)
    whole = (torch.randn(40, 2, generator=generator) @ torch.randn(2, 50, generator=generator)).flatten()
    for _ in range(STEPS):
        found = whole * (workers.rank + 1)
        sums(found)
    return float((found - 3 * whole).abs().max())


def test_a_gradient_of_that_rank_is_exact() -> None:
    for off in run_together(2, _of_low_rank):
        assert off < 1e-3


# -- distributed.method=auto ------------------------------------------------------------------------------------------


def _choices(workers: Workers) -> Any:
    network = nn.Sequential(nn.Flatten(), nn.Linear(300, 300))

    class OneBatch:
        def order(self, epoch: int) -> None:
            return None

        def epoch(self, *_: object) -> Any:
            yield torch.zeros(4, 300), torch.zeros(4)

    measured, chosen = measure_link(workers), []
    for link in (Link(0.0, 1e15), Link(0.0, 1e3)):
        auto.measure_link = lambda *_, link=link: link  # type: ignore[misc]
        chosen.append(auto._choose(network, OneBatch(), workers, 2))  # type: ignore[arg-type]
    return measured, [way.name for way in ways(network, measured, [(0.0, 361_200)], workers, 2)], chosen


def test_the_choice_follows_the_link() -> None:
    (link, names, (fast, slow)), (_, _, same) = run_together(2, _choices)
    assert link.latency_seconds > 0 and link.bytes_per_second > 1e5
    assert names == ["in full", "in fp16", "by PowerSGD", "in one bit"]
    assert fast[:2] == ("gradients", 32)
    assert slow[0] == "power_sgd" or slow[1] == 1
    assert same[1][:2] == slow[:2]


def test_what_is_sent_while_the_backward_pass_goes_on() -> None:
    """4 bytes are ready 3 s before its end, 2 at the end; a byte takes a second, of which a quarter is computed."""
    buckets = [(3.0, 4), (0.0, 2)]
    assert added_seconds(buckets, lambda size: size, lambda size: 0.0) == 3.0
    assert added_seconds(buckets, lambda size: size / 4, lambda size: size / 4) == 1.5  # the pass ends a second later
    assert added_seconds(buckets, lambda size: 1e-9 * size, lambda size: 0.0) == pytest.approx(2e-9)


def test_the_parts_of_a_gradient_are_ready_one_after_the_other() -> None:
    """As DistributedDataParallel fills its buckets: the first one is sent when it has a mebibyte."""
    network = nn.Sequential(nn.Linear(8, 600), nn.Linear(600, 400), nn.Linear(400, 700), nn.Linear(700, 5))
    buckets = measure_buckets(network, torch.randn(4, 8))
    assert [2**20 <= size < 1.2e6 for _, size in buckets] == [True, False]
    assert sum(size for _, size in buckets) == sum(p.nbytes for p in network.parameters())
    assert buckets[0][0] > buckets[1][0] >= 0
    assert all(not p._post_accumulate_grad_hooks for p in network.parameters())


def test_a_run_that_goes_on_keeps_the_choice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is measured again, and nothing said of it; a run that is started over chooses anew."""
    workers, said = Workers(), list[object]()
    workers.size = 2
    monkeypatch.setattr(auto, "_choose", lambda *_: ("gradients", 16, "by fp16"))

    def chosen(restart: bool) -> tuple[str, int]:
        with RunFolder.claim(tmp_path / "run", restart=restart, reports=False) as folder:
            recipe = resolve("mnist", {"distributed.method": "auto"})
            found = auto.with_method(
                recipe,
                nn.Linear(1, 1),
                None,
                workers,
                folder,
                callback=lambda _, told: said.append(told),  # type: ignore[arg-type]
            )
            if folder.kept_recipe() is None:
                folder.begin(found, START)
        assert found.distributed
        return found.distributed.method, found.distributed.quantization_bits

    with RunFolder.claim(tmp_path / "run", restart=False, reports=False) as folder:
        folder.begin(resolve("mnist", {"distributed.method": "power_sgd"}), START)
    assert chosen(restart=False) == ("power_sgd", 32) and not said
    assert chosen(restart=True) == ("gradients", 16) and len(said) == 1
    assert chosen(restart=False) == ("gradients", 16) and len(said) == 1
