"""Time and memory of `convolve predict --csv` over many small JPEG files; what is left of it after kills.

    python benchmarks/predict.py [--images 100000] [--kills 5] [--before TREE] [--rounds 1]

The images are those of benchmarks/check_data.py, 64x64 pixels and all different. The model is the tiny twin of CNTK's
network for CIFAR-10, with fresh weights, so that what is around the network counts. `--before` names the folder of
another version of convolve (a git worktree), which predicts the same images in turn. Memory is what the process holds
while it writes the first and the last thousand rows. Then the command is killed `--kills` times, each time a bit
further on, and goes on to the end: the table must have the same bytes. Results go to results/PROCESSOR.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from check_data import make_images
from convolve.atomic import write_json
from rounds import conditions, results_of, settle

RESULTS = results_of("predict")
OURS = Path(__file__).parents[1]


def save_model(folder: Path) -> None:
    from convolve.model import Model
    from convolve.models import build_model
    from convolve.specs.model import ModelSpec
    from convolve.transforms.preprocess import Preprocess

    spec = ModelSpec("convnet-cifar10", "tiny")
    module = build_model(spec, (3, 32, 32), 10, 0)
    Model(module, spec, Preprocess(3, 32, 32, 128.0, 1 / 256), tuple("abcdefghij"), "cifar10").save(folder)


def start(tree: Path, model: Path, images: Path, table: Path) -> subprocess.Popen[bytes]:
    """The command, in a process that sees the convolve of `tree`."""
    command = [sys.executable, "-m", "convolve", "predict", str(model), str(images), "--csv", str(table)]
    return subprocess.Popen(command, env=environment(tree), stderr=subprocess.DEVNULL)


def environment(tree: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(tree / "src")}


def measure(process: subprocess.Popen[bytes], partial: Path) -> tuple[dict[str, float], list[tuple[int, float]]]:
    """Seconds and processor seconds of all of it; (bytes of the table, megabytes held) while it went on."""
    began, held = time.perf_counter(), list[tuple[int, float]]()
    while not (ended := os.wait4(process.pid, os.WNOHANG))[0]:
        if partial.exists():
            held.append((partial.stat().st_size, resident_megabytes(process.pid)))
        time.sleep(0.05)
    _, status, usage = ended
    if code := os.waitstatus_to_exitcode(status):
        raise RuntimeError(f"exit code {code}")
    seconds = time.perf_counter() - began
    return {
        "seconds": seconds,
        "processor_seconds": usage.ru_utime + usage.ru_stime,
        "most_megabytes": usage.ru_maxrss / 1024,
    }, held


def resident_megabytes(pid: int) -> float:
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="utf-8").split()[1])
    except OSError:  # it has just ended
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def killed(place: Path, times: int, whole_bytes: int) -> Path:
    """The table of a command that was killed so many times, further on each time."""
    table, partial = place / "killed.csv", place / "killed.csv.partial"
    for kill in range(times):
        process = start(OURS, place / "ours-model", place / "images", table)
        while process.poll() is None:
            if partial.exists() and partial.stat().st_size > whole_bytes * (kill + 0.5) / (times + 0.5):
                process.kill()
            time.sleep(0.01)
        if process.returncode == 0:
            raise RuntimeError("it came to its end before it could be killed; take more images")
    if start(OURS, place / "ours-model", place / "images", table).wait():
        raise RuntimeError("the command that went on has failed")
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--before", type=Path)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--save-model", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.save_model:
        save_model(options.save_model)
        return
    sides = {"ours": OURS} | ({"before": options.before} if options.before else {})
    results: dict[str, Any] = {"conditions": conditions(options.rounds, 0) | {"images": options.images}}
    results |= {name: [] for name in sides}
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        (place / "images").mkdir()
        make_images(place / "images", options.images)
        for name, tree in sides.items():  # each in the form that it reads
            command = [sys.executable, __file__, "--save-model", str(place / f"{name}-model")]
            subprocess.run(command, check=True, env=environment(tree))
        settle(place)
        for _ in range(options.rounds):
            for name, tree in sides.items():
                table = place / f"{name}.csv"
                process = start(tree, place / f"{name}-model", place / "images", table)
                figures, held = measure(process, table.with_name(f"{name}.csv.partial"))
                sizes = sorted({size for size, _ in held})  # one for each batch of a thousand images
                for when, which in (("first", sizes[:2]), ("last", sizes[-2:])):
                    figures |= (
                        {f"{when}_megabytes": max(memory for size, memory in held if size in which)} if held else {}
                    )
                print(f"{name:8}" + "".join(f"{value:12.1f} {what}" for what, value in figures.items()), flush=True)
                results[name].append(figures)
        whole = (place / "ours.csv").read_bytes()
        if options.kills:
            is_same = killed(place, options.kills, len(whole)).read_bytes() == whole
            print(f"killed {options.kills} times: {'the same bytes' if is_same else 'OTHER BYTES'}")
            results["killed"] = {"times": options.kills, "same_bytes": is_same}
    write_json(RESULTS, results)


if __name__ == "__main__":
    main()
