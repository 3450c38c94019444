"""distributed.method=auto: the way to send gradients that fits the network between the workers.

The two ways that send a gradient's elements are computed from the link's latency and rate and from when in a backward
pass each part of the gradient is ready; the two that compress it, and send nothing before all of it is, are timed as
they are, on a gradient of the network's own size. The choice is made once, at the start of a run.
"""

import copy
import math
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
FIRST_BUCKET_BYTES, BUCKET_BYTES = 2**20, 25 * 2**20  # DistributedDataParallel's

# (seconds before the end of the backward pass at which it is ready, bytes) of each part of a gradient that is sent
Buckets = Sequence[tuple[float, int]]


class Link(NamedTuple):
    """A network between hosts: what one message waits, and bytes per second of one host.

    `processor_seconds`: of one host, for a byte of what is summed: they are taken from the training.
    """

    latency_seconds: float
    bytes_per_second: float
    processor_seconds: float = 0.0

    def ring_seconds(self, sent_bytes: float, workers: int) -> float:
        """Of an all-reduce: each worker sends 2 (N - 1) messages, each a part of the whole."""
        return 2 * (workers - 1) * (self.latency_seconds + sent_bytes / workers / self.bytes_per_second)


def measure_link(workers: Workers, dtype: torch.dtype = torch.float32) -> Link:
    """By the least of several times: what else a host does makes them longer, nothing makes them shorter."""
    sums = [torch.zeros(size // dtype.itemsize, dtype=dtype) for size in (SMALL_BYTES, LARGE_BYTES)]
    spent = []
    for each in sums:
        began = time.process_time()
        seconds = seconds_of(partial(dist.all_reduce, each), workers, LINK_REPEATS, min)
        spent.append((seconds, (time.process_time() - began) / LINK_REPEATS))
    (small, _), (large, processor) = spent
    messages = 2 * (workers.size - 1)
    rate = messages * LARGE_BYTES / workers.size / max(large - small, large / 10)
    return Link(small / messages, rate, processor / LARGE_BYTES)


def added_seconds(buckets: Buckets, send: Callable[[float], float], processor: Callable[[float], float]) -> float:
    """What sending adds to a step: `send` of the bytes of each bucket, behind the one before it.

    Meanwhile the backward pass goes on, later by the `processor` time that sending takes from it.
    """
    end, taken = -math.inf, 0.0
    for before, size in buckets:
        end = max(end, taken - before) + send(size)
        taken += processor(size)
    return max(end, taken)


def measure_buckets(network: nn.Module, images_NCHW: torch.Tensor) -> Buckets:
    """When which part of the gradient is ready, in the last of a few backward passes."""
    ready: list[tuple[float, int]] = []
    parameters = [p for p in network.parameters() if p.requires_grad]
    hooks = [
        p.register_post_accumulate_grad_hook(lambda p: ready.append((time.perf_counter(), p.nbytes)))
        for p in parameters
    ]
    for _ in range(REPEATS):
        ready.clear()
        network(images_NCHW).sum().backward()
    end, found, size = time.perf_counter(), list[tuple[float, int]](), 0
    for hook in hooks:
        hook.remove()
    for number, (at, each) in enumerate(ready):
        size += each
        if size >= (BUCKET_BYTES if found else FIRST_BUCKET_BYTES) or number == len(ready) - 1:
            found.append((end - at, size))
            size = 0
    return found


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
    """A way to send a gradient, how long that takes, and by how much a step with it is longer."""

    method: Method
    bits: int
    name: str
    seconds: float
    added_seconds: float


def ways(network: nn.Module, link: Link, buckets: Buckets, workers: Workers, power_rank: int) -> list[Way]:
    """Those that train as a single process does or nearly so, the closest first."""
    parameters = [p for p in network.parameters() if p.requires_grad]
    sent_bytes = sum(p.nbytes for p in parameters)
    power, one_bit = PowerSgdSum(parameters, workers, power_rank), QuantizedSum(parameters, workers, 1)
    whole = torch.randn(sent_bytes // 4, device=parameters[0].device)
    bucket = cast(GradBucket, Bucket(whole, parameters))
    short = measure_link(workers, torch.float16)  # gloo adds fp16 more slowly
    casting = seconds_of(lambda: whole.copy_(whole.half()), workers) / sent_bytes

    def short_seconds(size: float) -> float:
        return short.ring_seconds(size / 2, workers.size) + casting * size

    def full_seconds(size: float) -> float:
        return link.ring_seconds(size, workers.size)

    in_full = added_seconds(buckets, full_seconds, lambda size: link.processor_seconds * size)
    in_short = added_seconds(buckets, short_seconds, lambda size: (short.processor_seconds / 2 + casting) * size)
    by_power = seconds_of(partial(power, whole), workers, FULL_STEPS + REPEATS)
    by_bit = seconds_of(lambda: one_bit(bucket), workers)
    return [
        Way("gradients", 32, "in full", full_seconds(sent_bytes), in_full),
        Way("gradients", 16, "in fp16", short_seconds(sent_bytes), in_short),
        Way("power_sgd", 32, "by PowerSGD", by_power, by_power),
        Way("gradients", 1, "in one bit", by_bit, by_bit),
    ]


def _choose(network: nn.Module, loader: Loader, workers: Workers, power_rank: int) -> tuple[Method, int, str]:
    """(the method, the bits of an element, what to say of it)"""
    link = measure_link(workers)
    images_NCHW, _ = next(loader.epoch(0, 0, loader.order(0), workers.rows))
    tried, images_NCHW = copy.deepcopy(network), images_NCHW.to(next(network.parameters()).device)
    step = seconds_of(lambda: tried(images_NCHW).sum().backward(), workers)
    known = ways(network, link, measure_buckets(tried, images_NCHW), workers, power_rank)
    fastest = min(way.added_seconds for way in known)
    chosen = next(way for way in known if step + way.added_seconds <= MARGIN * (step + fastest))
    times = ", ".join(f"{way.name} {1e3 * way.seconds:.1f} ms" for way in known)
    found = f"{8e-6 * link.bytes_per_second:,.0f} Mbit/s, {1e3 * link.latency_seconds:.2f} ms a message"
    said = f"gradients are sent {chosen.name} ({found}; a step takes {1e3 * step:.1f} ms, sending {times})"
    return chosen.method, chosen.bits, said


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
