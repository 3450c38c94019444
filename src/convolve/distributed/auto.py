"""distributed.method=auto: the way to send gradients that fits the network between the workers.

The two ways that send a gradient's elements are computed from the link's latency and rate, the two that compress it are
timed as they are, on a gradient of the network's own size. The choice is made once, at the start of a run.
"""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple, cast

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed import GradBucket  # type: ignore[attr-defined]  # public, but not for mypy

from convolve.distributed.power_sgd import FULL_STEPS, Bucket, PowerSgdSum
from convolve.distributed.quantized import QuantizedSum
from convolve.recipe import Recipe
from convolve.specs.distributed import Method
from convolve.training.events import Callback
from convolve.training.plan import Loader
from convolve.training.run_folder import RunFolder
from convolve.training.workers import Workers

MARGIN = 1.05  # a way that is closer to the gradient may take so much longer
SMALL_BYTES, LARGE_BYTES = 2**10, 2**22  # what the link is measured with; the second is more than switches buffer
REPEATS, LINK_REPEATS = 3, 5


class Link(NamedTuple):
    """A network between hosts: what one message waits, and bytes per second of one host."""

    latency_seconds: float
    bytes_per_second: float

    def ring_seconds(self, sent_bytes: float, workers: int) -> float:
        """Of an all-reduce: each worker sends 2 (N - 1) messages, each a part of the whole."""
        return 2 * (workers - 1) * (self.latency_seconds + sent_bytes / workers / self.bytes_per_second)


def measure_link(workers: Workers) -> Link:
    """By the least of several times: what else a host does makes them longer, nothing makes them shorter."""
    small, large = (
        seconds_of(partial(dist.all_reduce, torch.zeros(size // 4)), workers, LINK_REPEATS, min)
        for size in (SMALL_BYTES, LARGE_BYTES)
    )
    messages = 2 * (workers.size - 1)
    return Link(small / messages, messages * LARGE_BYTES / workers.size / max(large - small, large / 10))


def with_method(
    recipe: Recipe, network: nn.Module, loader: Loader, workers: Workers, folder: RunFolder, callback: Callback
) -> Recipe:
    """`recipe` with a method in place of "auto": the one with which the unfinished run in `folder` began."""
    if not recipe.distributed or recipe.distributed.method != "auto":
        return recipe
    kept = None if workers.rank else folder.kept_recipe()
    known = (kept.distributed.method, kept.distributed.quantization_bits, "") if kept and kept.distributed else None
    known = workers.broadcast(known)
    if not known and (workers.size == 1 or workers.shares_memory):
        known = "gradients", 32, ""
    rank = recipe.distributed.power_sgd_rank
    method, bits, said = workers.broadcast(known or _choose(network, loader, workers, rank))
    if said:
        callback("note", {"message": f"distributed.method=auto: {said}"})
    chosen = replace(recipe.distributed, method=method, quantization_bits=bits)
    return replace(recipe, distributed=chosen)


class Way(NamedTuple):
    """A way to send a gradient, and how long that takes."""

    method: Method
    bits: int
    name: str
    seconds: float


def ways(network: nn.Module, link: Link, workers: Workers, power_rank: int) -> list[Way]:
    """Those that train as a single process does or nearly so, the closest first."""
    parameters = [p for p in network.parameters() if p.requires_grad]
    sent_bytes = sum(p.numel() * p.element_size() for p in parameters)
    power, one_bit = PowerSgdSum(parameters, workers, power_rank), QuantizedSum(parameters, workers, 1)
    whole = torch.randn(sent_bytes // 4, device=parameters[0].device)
    bucket = cast(GradBucket, Bucket(whole, parameters))
    return [
        Way("gradients", 32, "in full", link.ring_seconds(sent_bytes, workers.size)),
        Way("gradients", 16, "in fp16", link.ring_seconds(sent_bytes / 2, workers.size)),
        Way("power_sgd", 32, "by PowerSGD", seconds_of(partial(power, whole), workers, FULL_STEPS + REPEATS)),
        Way("gradients", 1, "in one bit", seconds_of(lambda: one_bit(bucket), workers)),
    ]


def _choose(network: nn.Module, loader: Loader, workers: Workers, power_rank: int) -> tuple[Method, int, str]:
    """(the method, the bits of an element, what to say of it)"""
    link = measure_link(workers)
    images_NCHW, _ = next(loader.epoch(0, 0, loader.order(0), workers.rows))
    step = seconds_of(_step(copy.deepcopy(network), images_NCHW), workers)
    known = ways(network, link, workers, power_rank)
    fastest = min(way.seconds for way in known)
    chosen = next(way for way in known if step + way.seconds <= MARGIN * (step + fastest))
    times = ", ".join(f"{way.name} {1e3 * way.seconds:.1f} ms" for way in known)
    found = f"{8e-6 * link.bytes_per_second:,.0f} Mbit/s, {1e3 * link.latency_seconds:.2f} ms a message"
    said = f"gradients are sent {chosen.name} ({found}; a step takes {1e3 * step:.1f} ms, sending {times})"
    return chosen.method, chosen.bits, said


def _step(network: nn.Module, images_NCHW: torch.Tensor) -> Callable[[], object]:
    device = next(network.parameters()).device
    return lambda: network(images_NCHW.to(device)).sum().backward()


def seconds_of(
    work: Callable[[], object],
    workers: Workers,
    repeats: int = REPEATS,
    middle: Callable[[Sequence[float]], float] = statistics.median,
) -> float:
    """The median of the last few times, of the slowest worker each."""
    times = torch.zeros(repeats)
    for i in range(repeats):
        workers.barrier()
        start = time.perf_counter()
        work()
        times[i] = time.perf_counter() - start
    of_each = workers.gather(times[None, -max(REPEATS, repeats - FULL_STEPS) :])
    return middle(cast(Sequence[float], of_each.max(0).values.tolist()))
