"""What many workers would reach over other networks, computed from what was measured on one host.

    python benchmarks/cost_model.py [--workers 8]

Reads benchmarks/results/distributed.json and writes two tables, of what it holds and of what follows from it, between
`<!-- cost model -->` and `<!-- end of cost model -->` in docs/explanation/workers.md. A worker's step on n samples
takes F + n t seconds: the line through the rates of whole and half batches. The all-reduce is added to that, as the
backward pass is short beside a slow network. In a ring each of N workers sends 2 (N - 1) messages, each a part of the
gradient, in 2 (N - 1) (latency + bytes / (N bandwidth)) seconds. One bit sends 1/30 of the bytes, as measured with
cifar10-aug, and codes the gradient at the measured rate. With block momentum each worker has whole batches, and the
weights are sent after `BLOCK_STEPS` of them. A third table has what sending alone takes of ResNet-50's gradient, for 8
to 1,000 workers; benchmarks/slow_links.py holds the same arithmetic against measured steps.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[1]
RESULTS = next(iter(sorted((ROOT / "benchmarks" / "results").glob("*/distributed.json"))))
PAGE = ROOT / "docs" / "explanation" / "workers.md"
PLACE = re.compile(r"(<!-- cost model -->\n).*?(<!-- end of cost model -->)", re.DOTALL)
BLOCK_STEPS = 50
ONE_BIT_SMALLER, POWER_RANK = 30.0, 2
CORES = (1, 50)  # of a worker, each as fast as the measured one: one core, and about as much as 50 of them


class Line(NamedTuple):
    """A network between hosts: what one message waits, and bytes per second of one host."""

    name: str
    latency_seconds: float
    bytes_per_second: float


# Round figures of a TCP connection between two hosts, not measured.
LINES = (
    Line("100 Mbit/s, 200 µs", 2e-4, 1.25e7),
    Line("1 Gbit/s, 100 µs", 1e-4, 1.25e8),
    Line("10 Gbit/s, 50 µs", 5e-5, 1.25e9),
    Line("100 Gbit/s, 10 µs", 1e-5, 1.25e10),
)


class ResNet50:
    """Its matrices, as PowerSGD sends them, and the numbers of its vectors."""

    STAGES = ((3, 64), (4, 128), (6, 256), (3, 512))  # blocks and width

    def __init__(self) -> None:
        convolutions, channels = [(64, 3 * 49)], 64
        for blocks, width in self.STAGES:
            for block in range(blocks):
                convolutions += [(width, channels), (width, 9 * width), (4 * width, width)]
                convolutions += [(4 * width, channels)] if not block else []
                channels = 4 * width
        self.matrices = [*convolutions, (1000, channels)]
        self.vectors = 1000 + 2 * sum(rows for rows, _ in convolutions)

    def sent_bytes(self, rank: int = 0) -> float:
        """In full, or as products of matrices of a rank; small ones stay as they are, as in torch's hook."""
        numbers = [(rows * length, min(rank, rows, length) * (rows + length)) for rows, length in self.matrices]
        return 4 * (self.vectors + sum(thin if 0 < 2 * thin < whole else whole for whole, thin in numbers))


class Network(NamedTuple):
    """A network in training: its whole batch, its gradient, and a worker's step, F + n t."""

    name: str
    batch: int
    gradient_bytes: float
    fixed_seconds: float
    seconds_per_sample: float

    def step_seconds(self, samples: float) -> float:
        return self.fixed_seconds + samples * self.seconds_per_sample


def line_through(name: str, batch: int, gradient_mb: float, rates: dict[int, float]) -> Network:
    """`rates`: samples per second of one core, by the samples of a step."""
    (few, slow), (many, fast) = sorted(rates.items())
    per_sample = (many / fast - few / slow) / (many - few)
    return Network(name, batch, gradient_mb * 1e6, max(0.0, few / slow - few * per_sample), per_sample)


def measured(medians: dict[str, float]) -> list[Network]:
    def of_recipe(name: str, batch: int, gradient_mb: float) -> Network:
        whole, shares = (medians[f"{name}, two strangers{how}"] / 2 for how in ("", " with shares"))
        return line_through(name, batch, gradient_mb, {batch: whole, batch // 2: shares})

    alexnet = {size: medians[f"alexnet, batches of {size}"] for size in (16, 32)}
    networks = [of_recipe("mnist", 64, 0.4), of_recipe("cifar10-aug", 64, 4.8)]
    return [*networks, line_through("alexnet", 256, 248.0, alexnet)]


def ring_seconds(sent_bytes: float, workers: int, line: Line) -> float:
    return 2 * (workers - 1) * (line.latency_seconds + sent_bytes / workers / line.bytes_per_second)


def speedups(network: Network, workers: int, line: Line, cores: int, coding_bytes_per_second: float) -> list[float]:
    """Over one worker: in full, fp16, one bit, block momentum."""
    alone = network.step_seconds(network.batch) / cores
    shared = network.step_seconds(network.batch / workers) / cores
    sent = network.gradient_bytes
    coding = sent / coding_bytes_per_second / cores
    seconds = [shared + ring_seconds(part * sent, workers, line) for part in (1.0, 0.5)]
    seconds.append(shared + coding + ring_seconds(sent / ONE_BIT_SMALLER, workers, line))
    in_block = alone + ring_seconds(sent, workers, line) / BLOCK_STEPS
    return [alone / each for each in seconds] + [workers * alone / in_block]


def summary(result: dict[str, Any]) -> Iterator[str]:
    """What two workers on one host reach, as measured."""
    parts = ("one_process", "two_strangers", "two_strangers_with_shares")
    yield "| rate of two workers | of one process, both cores | of two, independent | with half batches | all-reduce |"
    yield "|---|---|---|---|---|"
    for name, part in result["all_reduce_part_of_a_step_of_two_workers"].items():
        ratios = [f"{result[f'two_workers_to_{other}'][name]:.0%}" for other in parts]
        yield f"| {name} | {' | '.join([*ratios, f'{part:.1%}'])} |".replace("%", " %")
    yield ""
    medians, conditions = result["medians"], result["conditions"]
    times = []
    for size in ("0.4", "4.8", "248"):
        both = [1e3 * float(size) / medians[f"{how} {size} MB"] for how in ("all-reduce", "gloo's all-reduce")]
        times.append("{1:.2f} ms for {0} MB (gloo: {2:.2f})".format(size, *both))
    hardware, versions = conditions["hardware"], conditions["versions"]
    yield (
        "The last column is the all-reduce's part of a step. In shared memory two gradients are summed in "
        f"{'; '.join(times)}. {hardware['cpu']}, {hardware['cores']} cores, torch "
        f"{versions['torch']}, n = {conditions['rounds']}, {conditions['steps']} steps an epoch."
    )
    yield ""


def table(medians: dict[str, float], workers: int) -> Iterator[str]:
    yield f"| computed for {workers} workers, times one | each worker | in full | fp16 | one bit | block momentum |"
    yield "|---|---|---|---|---|---|"
    coding = 1e6 * medians["one-bit coding"]
    for network in measured(medians):
        for line in LINES:
            for cores in CORES:
                *alike, blocks = speedups(network, workers, line, cores, coding)
                cells = [f"**{each:.2g}**" if each == max(alike) else f"{each:.2g}" for each in alike]
                words = f"{cores} core" if cores == 1 else f"{cores} cores"
                yield f"| {' | '.join([f'{network.name}, {line.name}', words, *cells, f'{blocks:.2g}'])} |"
    yield ""
    steps = (
        f"{n.name} {1e3 * n.fixed_seconds:.1f} ms + {1e3 * n.seconds_per_sample:.3f} ms a sample"
        for n in measured(medians)
    )
    yield f"From these measured steps of one core: {'; '.join(steps)}; one bit codes {coding / 1e6:.0f} MB/s."


def far_table() -> Iterator[str]:
    """Milliseconds of sending ResNet-50's gradient once."""
    network = ResNet50()
    yield f"| ResNet-50's {network.sent_bytes() / 1e6:.0f} MB, ms of sending | in full | fp16 | PowerSGD | one bit |"
    yield "|---|---|---|---|---|"
    for line in LINES[2:]:
        for workers in (8, 32, 128, 1000):
            full, half, bit = (network.sent_bytes() / smaller for smaller in (1, 2, ONE_BIT_SMALLER))
            seconds = [ring_seconds(sent, workers, line) for sent in (full, half, network.sent_bytes(POWER_RANK), bit)]
            seconds[2] += 2 * 2 * (workers - 1) * line.latency_seconds  # three all-reduces, one after the other
            least = min(seconds)
            cells = [f"**{1e3 * each:.3g}**" if each == least else f"{1e3 * each:.3g}" for each in seconds]
            yield f"| {workers:,} workers, {line.name} | {' | '.join(cells)} |"
    yield ""
    yield "Sending alone: coding, which grows with the gradient and not with the workers, is not in it."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=8)
    workers = parser.parse_args().workers
    result = json.loads(RESULTS.read_text(encoding="utf-8"))
    lines = "\n".join([*summary(result), *table(result["medians"], workers), "", *far_table()])
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(PLACE.sub(lambda place: f"{place[1]}{lines}\n{place[2]}", page), encoding="utf-8")


if __name__ == "__main__":
    main()
