"""Programs for CNTK 2.7: how fast they train here, in plain PyTorch, and by CNTK itself.

    python benchmarks/cntk_api.py [--cntk PYTHON] [--rounds 5] [--threads 1] [--clock wall]

cntk_api_program.py (ConvNet_MNIST and ConvNet_CIFAR10, batch 64, CTF text, loss and error of each minibatch) runs under
`convolve run`, in fp32 and with `--precision auto`, and under CNTK where `--cntk` names a Python that has it (or a
script that sets its environment and starts it). The other peer is the same network hand-written in plain PyTorch: fp32,
torch.optim.SGD, batches out of an array in memory, no metric. All compute with `--threads`; 0 leaves each to its own
choice. Each side runs in a process of its own, the sides in turn, round after round, on 2,048 images of noise.
`--clock processor` counts seconds of the processor, for a machine that others use too; it needs `--threads 1`. Results
go to benchmarks/results/PROCESSOR/cntk_api.json.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

from cifar10_peers import tutorial_network
from convolve.atomic import write_json
from mnist import TutorialNet
from rounds import conditions, in_turn, medians, ratio, results_of

EXAMPLES = {"ConvNet_MNIST": (1, 28, 28), "ConvNet_CIFAR10": (3, 32, 32)}
STEPS, WARM_UP_STEPS, BATCH, IMAGES = 40, 10, 64, 2048
PROGRAM = str(Path(__file__).parent / "cntk_api_program.py")
RESULTS = results_of("cntk_api")
CONVOLVE = [sys.executable, "-W", "ignore", "-m", "convolve", "run"]
SIDES = {
    "convolve fp32": [*CONVOLVE, PROGRAM],
    "convolve --precision auto": [*CONVOLVE, "--precision", "auto", PROGRAM],
    "plain PyTorch fp32": [sys.executable, __file__, "--plain"],
}


def write_noise(path: Path, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    with path.open("w", encoding="utf-8") as file:
        for label in rng.integers(10, size=IMAGES):
            pixels = " ".join(map(str, rng.integers(0, 256, np.prod(shape)).tolist()))
            file.write(f"|labels {' '.join(map(str, np.eye(10, dtype=int)[label]))} |features {pixels}\n")


def plain(example: str) -> dict[str, float]:
    """Samples a second by both clocks, in this process."""
    images_NCHW = torch.randint(0, 256, (IMAGES, *EXAMPLES[example])).float()
    labels_N, loss_function = torch.randint(0, 10, (IMAGES,)), nn.CrossEntropyLoss()
    model = TutorialNet() if example == "ConvNet_MNIST" else tutorial_network(lrn=False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.0005)
    for step in range(WARM_UP_STEPS + STEPS):
        if step == WARM_UP_STEPS:
            start = time.perf_counter(), time.process_time()
        chosen = torch.randint(0, IMAGES, (BATCH,))
        optimizer.zero_grad()
        loss = loss_function(model(images_NCHW[chosen] / 256), labels_N[chosen])
        loss.backward()
        optimizer.step()
        loss.item()
    seconds = {"wall": time.perf_counter() - start[0], "processor": time.process_time() - start[1]}
    return {clock: BATCH * STEPS / each for clock, each in seconds.items()}


def measure(command: list[str], threads: int, clock: str) -> float:
    environment = os.environ | ({"OMP_NUM_THREADS": str(threads)} if threads else {})
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    return float(json.loads(done.stdout.splitlines()[-1])[clock])


def compare(example: str, data: str, arguments: argparse.Namespace) -> dict[str, object]:
    """The figures of one network; `data` is its CTF text."""
    sides = SIDES | ({"CNTK 2.7": [arguments.cntk, PROGRAM]} if arguments.cntk else {})
    commands = {side: [*command, example, data, str(STEPS)] for side, command in sides.items()}
    rates = in_turn(
        commands, arguments.rounds, lambda side: measure(commands[side], arguments.threads, arguments.clock)
    )
    peers = [side for side in commands if not side.startswith("convolve")]
    ours = [side for side in commands if side.startswith("convolve")]
    return {
        "samples_per_second": medians(rates),
        "ratio": {f"{one} to {peer}": ratio(rates, one, peer) for one in ours for peer in peers},
        "all_rounds": rates,
    }


def table(results: dict[str, dict[str, object]]) -> str:
    sides = list(results[next(iter(results))]["samples_per_second"])  # type: ignore[call-overload]
    lines = ["| samples a second | " + " | ".join(results) + " |", "| --- |" + " --- |" * len(results)]
    for side in sides:
        rates = [found["samples_per_second"][side] for found in results.values()]  # type: ignore[index]
        lines.append(f"| {side} | " + " | ".join(f"{rate:,.0f}" for rate in rates) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cntk", help="a Python 3.6 that has CNTK 2.7")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--clock", choices=("wall", "processor"), default="wall")
    parser.add_argument("--plain", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("rest", nargs="*", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.plain:
        print(json.dumps(plain(arguments.rest[0])))
        return
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        for example, shape in EXAMPLES.items():
            data = Path(folder) / f"{example}.ctf"
            write_noise(data, shape)
            results[example] = compare(example, str(data), arguments)
    settings = {"threads": arguments.threads, "clock": arguments.clock}
    write_json(RESULTS, {"conditions": conditions(arguments.rounds, STEPS) | settings} | results)
    print(table(results))
    for example, found in results.items():
        print(example, json.dumps(found["ratio"], indent=2))


if __name__ == "__main__":
    main()
