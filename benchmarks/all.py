"""Every benchmark, one after another: `make benchmarks` (hours) and `make benchmarks-short` (under 15 minutes).

    python benchmarks/all.py [--short] [--data DIR] [--cntk PYTHON] [--only NAME ...]

DIR may hold mnist/ (else the packaged sample is taken), CIFAR-10, ilsvrc2012-tiny.tar and imagenet-sample.tar. Figures
go to benchmarks/results/PROCESSOR, those of a short run to PROCESSOR-short, which the tables show where there are no
others. What lacks its data or its peer is left out, and said so. `make tables` then writes README.md and docs.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Benchmark:
    """A script and its arguments, {..} being what `found` has; `short` is empty where there is no short form."""

    name: str
    full: str = ""
    short: str = ""

    def words(self, is_short: bool, found: dict[str, str]) -> list[str] | None:
        """The command; None where it is not for a short run. KeyError for what is missing."""
        text = self.short if is_short else self.full
        return None if is_short and not text else [word.format_map(found) for word in text.split()]


BENCHMARKS = (
    Benchmark("mnist", "--data {mnist} --rounds 3", "--data {mnist} --rounds 1"),
    Benchmark("cifar10", "--data {cifar10} --rounds 3", "--rounds 1"),
    Benchmark("alexnet", "--rounds 3", "--rounds 1 --batch-size 16"),
    Benchmark("images", "--data {archives} --rounds 3"),
    Benchmark("packed_cache", "--data {archives} --rounds 3"),
    Benchmark("decoding", "{model} --data {archives} --rounds 3"),
    Benchmark("distributed", "--rounds 3", "--rounds 1 --steps 20"),
    Benchmark("serve", "{model} --rounds 3", "{model} --rounds 1 --seconds 2 --clients 50"),
    Benchmark("serve_beside", "{model}", "{model} --rounds 1 --seconds 2"),
    Benchmark("predict", "", "--images 2000 --kills 1"),
    Benchmark("check_data", "", "--images 5000"),
    Benchmark("ilsvrc2012", "", "--train 20000 --val 1000"),
    Benchmark("cntk_api", "--cntk {cntk}", ""),
    Benchmark("scaling", "", "--short"),
)


def lying_at(data: Path | None, cntk: str | None, scratch: Path) -> dict[str, str]:
    """What the benchmarks can be given."""
    found = {"mnist": "sample", "model": str(scratch / "model")}
    if data and (data / "mnist").is_dir():
        found["mnist"] = str(data / "mnist")
    if data and any(data.glob("cifar-10-*")):
        found["cifar10"] = str(data)
    if data and any(data.glob("*.tar")):
        found["archives"] = str(data)
    return found | ({"cntk": cntk} if cntk else {})


def run(each: Benchmark, is_short: bool, found: dict[str, str]) -> str:
    """Run one; what became of it, in words."""
    try:
        words = each.words(is_short, found)
    except KeyError as missing:
        return f"left out: no {missing.args[0]} (--data, --cntk)"
    if words is None:
        return "left out: it has no short form"
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, str(HERE / f"{each.name}.py"), *words], check=False, stdout=subprocess.DEVNULL
    )
    return f"{'done' if done.returncode == 0 else 'FAILED'} after {time.perf_counter() - began:.0f} s"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--data", type=Path, help="the folder with data sets and archives")
    parser.add_argument("--cntk", help="a Python 3.6 that has CNTK 2.7")
    parser.add_argument("--only", nargs="+", choices=[each.name for each in BENCHMARKS])
    arguments = parser.parse_args()
    os.environ["BENCHMARKS_SHORT"] = "1" if arguments.short else ""
    said = {}
    with tempfile.TemporaryDirectory() as scratch:
        found = lying_at(arguments.data, arguments.cntk, Path(scratch))
        train = ["train", "mnist", "--data", "sample", "--epochs", "1", "--out", f"{scratch}/model"]
        subprocess.run([sys.executable, "-m", "convolve", *train], check=True, stdout=subprocess.DEVNULL)
        for each in BENCHMARKS:
            if arguments.only is None or each.name in arguments.only:
                said[each.name] = run(each, arguments.short, found)
                print(f"{each.name:<16}{said[each.name]}", flush=True)
    if any(outcome.startswith("FAILED") for outcome in said.values()):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
