"""The short runs of CNTK's CI, on our BrainScript examples: do we land where CNTK landed?

    python benchmarks/short_runs.py --mnist data/MNIST --cifar10 data/CIFAR-10 [--seeds 10] [--only ConvNet_MNIST]
                                    [--note "CIFAR-10 from JPEG files of quality 75"]

CNTK's CI trained each example for three epochs of a few thousand samples (May 2017, GPU, one seed) and tested it. Here
`convolve run` does the same for several seeds; a figure agrees if CNTK's is within three standard deviations of their
mean. The folders are what `convolve prepare` writes. results/PROCESSOR keeps each seed as it is done:
the same command again goes on, and prints the table once more.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from convolve.atomic import write_json
from convolve.environment import hardware, versions
from rounds import results_of

EXAMPLES = Path(__file__).parents[1] / "examples" / "BrainScript"
RESULTS = results_of("short_runs")
DEVIATIONS = 3

# example -> samples of an epoch, and CNTK's figures: training loss and error of each epoch, then those of the test.
# Errors are fractions. Source: the logs of CNTK's CI, as CNTK printed them.
CNTK: dict[str, tuple[int, dict[str, float]]] = {
    "ConvNet_MNIST": (2048, {
        "ce 1": 2.25995, "errs 1": 0.80566, "ce 2": 1.92770, "errs 2": 0.63086, "ce 3": 1.18071, "errs 3": 0.38770,
        "test errs": 0.14310, "test ce": 0.56751,
    }),
    "ConvNet_CIFAR10": (2048, {
        "ce 1": 2.28891, "errs 1": 0.85254, "ce 2": 2.17822, "errs 2": 0.79736, "ce 3": 2.09082, "errs 3": 0.77637,
        "test errs": 0.69490, "test top5Errs": 0.19600,
    }),
    "ConvNet_CIFAR10_DataAug": (4096, {
        "ce 1": 2.28371, "errs 1": 0.87061, "ce 2": 2.17621, "errs 2": 0.81714, "ce 3": 2.11368, "errs 3": 0.79102,
        "test errs": 0.71390, "test top5Errs": 0.20220,
    }),
    "ConvNetLRN_CIFAR10_DataAug": (4096, {
        "ce 1": 2.28460, "errs 1": 0.87085, "ce 2": 2.17288, "errs 2": 0.82593, "ce 3": 2.10340, "errs 3": 0.78174,
        "test errs": 0.72970, "test top5Errs": 0.19840,
    }),
}  # fmt: skip
_FINISHED = re.compile(r"Finished Epoch\[ (\d) of 3\]: \[Training\] ce = (\S+) \* \d+; errs = (\S+)% \* \d+")


def short_run(example: str, data: Path, seed: int) -> dict[str, float]:
    """The figures of three epochs and the test, by the names that `CNTK` has."""
    samples, figures = CNTK[example]
    nodes = ":".join(name.removeprefix("test ") for name in figures if name.startswith("test "))
    with tempfile.TemporaryDirectory() as out:
        done = subprocess.run(
            [
                sys.executable, "-m", "convolve", "run", str(EXAMPLES / f"{example}.cntk"), "--json",
                f"dataDir={data}", f"outputDir={out}", f"randomSeedOffset={seed}",
                f"TrainNetwork=[SGD=[epochSize={samples};maxEpochs=3]]", f"TestNetwork=[evalNodeNames={nodes}]",
            ],
            check=True, capture_output=True, text=True,
        )  # fmt: skip
    found: dict[str, float] = {}
    for epoch, loss, error_percent in _FINISHED.findall(done.stderr):
        found |= {f"ce {epoch}": float(loss), f"errs {epoch}": float(error_percent) / 100}
    (test,) = json.loads(done.stdout)["tests"]
    return found | {name: test[name.removeprefix("test ")] for name in figures if name.startswith("test ")}


def table(example: str, runs: dict[str, dict[str, float]]) -> list[str]:
    lines = [f"{example}, {len(runs)} seeds", f"{'':16}{'CNTK':>10}{'mean':>10}{'deviation':>11}{'apart by':>10}"]
    for name, cntk in CNTK[example][1].items():
        values = [run[name] for run in runs.values()]
        mean, deviation = statistics.mean(values), statistics.stdev(values)
        apart = (cntk - mean) / deviation if deviation else float("inf")
        verdict = "" if abs(apart) <= DEVIATIONS else "  <- more than three deviations"
        lines.append(f"{name:16}{cntk:>10.5f}{mean:>10.5f}{deviation:>11.5f}{apart:>+10.1f}{verdict}")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mnist", type=Path, help="folder with the CTF files of MNIST")
    parser.add_argument("--cifar10", type=Path, help="folder with the CTF files, maps and mean of CIFAR-10")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--only", choices=CNTK)
    parser.add_argument("--note", default="", help="what is to be said of the data")
    arguments = parser.parse_args()
    kept: dict[str, Any] = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {"runs": {}}
    for example in CNTK:
        data: Path | None = arguments.mnist if example == "ConvNet_MNIST" else arguments.cifar10
        if data is None or arguments.only not in (None, example):
            continue
        runs = kept["runs"].setdefault(example, {})
        for seed in range(arguments.seeds):
            if str(seed) not in runs:
                runs[str(seed)] = short_run(example, data, seed)
                kept |= {"hardware": hardware(), "versions": versions(), "note": arguments.note or kept.get("note", "")}
                write_json(RESULTS, kept)
        if len(runs) > 1:
            print("\n".join(table(example, runs)))


if __name__ == "__main__":
    main()
