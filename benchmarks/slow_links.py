"""Two and four hosts over links of 100 Mbit/s, 1 Gbit/s and no limit: which way to send gradients when.

    python benchmarks/slow_links.py sums  [--hosts 2 4]     sending alone: measured, and as the cost model has it
    python benchmarks/slow_links.py steps [--hosts 2 4]     seconds of a step with each method and link, from 100 steps
    python benchmarks/slow_links.py epochs --data CIFAR     epochs of cifar10-aug to a test error of 25 %, no limit
    python benchmarks/slow_links.py table                   the product, into docs/how-to/slow-networks.md

Hosts are network namespaces of this machine on a bridge (as root), with `tc tbf` at each; they share its cores, a
thread each. Steps are of `cifar10-aug` on noise, beside what the cost model says: the step of N processes that send
nothing, measured in the same run, and what `distributed/auto.py` finds that sending adds. Each measurement
is written to benchmarks/results/slow_links.json when it is done, and not repeated: a run that is cut short goes on.
Trainings resume from their run folders, in the folder given with --out.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from convolve.atomic import write_json
from convolve.data.sources.source import ArraySource
from convolve.data.splits import Splits
from convolve.distributed import auto
from convolve.distributed.process_group import all_workers
from convolve.models import build_model
from convolve.recipes import resolve
from convolve.records import ProgressEvent
from convolve.run import train
from convolve.training.workers import SINGLE_PROCESS, Workers
from rounds import conditions, results_of

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "tests"))
from hosts import Host, some_hosts  # noqa: E402  the tests' network namespaces

RESULTS, PAGE = results_of("slow_links"), ROOT / "docs" / "how-to" / "slow-networks.md"
RECIPE, SHAPE, BATCH, TARGET = "cifar10-aug", (3, 32, 32), 64, 0.25
FIRST_STEPS, STEPS, SUMS = 10, 100, 7
BLOCK_STEPS, EPOCH_SAMPLES, MOST_EPOCHS = 50, 50_000, 40
LINKS = {"100 Mbit/s": "rate 100mbit burst 128kb", "1 Gbit/s": "rate 1gbit burst 512kb", "no limit": ""}
METHODS: dict[str, dict[str, Any]] = {
    "in full": {},
    "in fp16": {"quantization_bits": 16},
    "by PowerSGD": {"method": "power_sgd"},
    "in one bit": {"quantization_bits": 1},
    "block momentum": {"method": "block_momentum"},
    "model averaging": {"method": "model_averaging"},
    "auto": {"method": "auto"},
}
IN_BLOCKS = ("block momentum", "model averaging")


def settings_of(method: str, hosts: int) -> dict[str, Any]:
    own = dict(METHODS[method]) | ({"block_samples": BLOCK_STEPS * BATCH * hosts} if method in IN_BLOCKS else {})
    return {f"distributed.{name}": value for name, value in own.items()} | {"run.threads": 1, "run.precision": "fp32"}


# -- on a host --------------------------------------------------------------------------------------------------------


def measure_sums() -> dict[str, Any]:
    """As one of the workers: seconds of sending a gradient, measured, and in full and in fp16 by the cost model."""
    torch.set_num_threads(1)
    workers = all_workers()
    network = build_model(resolve(RECIPE, {}).model.network(), SHAPE, 10, 0)
    link, images_NCHW = auto.measure_link(workers), torch.randn(BATCH // workers.size, *SHAPE)
    ways = auto.ways(network, link, auto.measure_buckets(network, images_NCHW), workers, 2)
    sending, added = ({way.name: way[at] for way in ways} for at in (-2, -1))
    whole = torch.randn(sum(p.numel() for p in network.parameters()))
    sums = {name: auto.seconds_of(partial(dist.all_reduce, whole.to(dtype)), workers, SUMS)
            for name, dtype in (("in full", torch.float32), ("in fp16", torch.float16))}  # fmt: skip
    found = {"link": link._asdict(), "model": sending, "added": added, "measured": sending | sums}
    return found | {"gradient_bytes": whole.nbytes}


def measure_steps_here() -> dict[str, Any]:
    """As one of the workers: seconds for a global batch, by method, measured and by the cost model."""
    found, workers = measure_sums(), all_workers()
    link, flat = auto.Link(**found["link"]), found["gradient_bytes"]
    found["steps"] = {}
    for shares, name in ((workers.size, "shard alone"), (1, "batch alone")):
        workers.barrier()
        found[name] = _seconds(SINGLE_PROCESS, {}, BATCH // shares)
    for method in METHODS:
        workers.barrier()
        found["steps"][method] = _seconds(workers, settings_of(method, workers.size), BATCH)
    blocks = found["batch alone"] / workers.size + link.ring_seconds(flat, workers.size) / BLOCK_STEPS / workers.size
    model = {name: found["shard alone"] + seconds for name, seconds in found["added"].items()}
    found["model"] = model | dict.fromkeys(IN_BLOCKS, blocks)
    return found


def _seconds(workers: Workers, settings: dict[str, Any], batch: int) -> float:
    """Of a global batch, in `STEPS` after the first few."""
    counts = {"run.global_batch_size": batch, "run.epochs": 1, "run.report_batches": FIRST_STEPS}
    recipe = resolve(RECIPE, settings | counts | {"run.threads": 1, "run.precision": "fp32"})
    count = (FIRST_STEPS + STEPS) * batch * (workers.size if recipe.takes_local_steps else 1)
    images_NCHW = torch.randint(0, 256, (count, *SHAPE), dtype=torch.uint8, generator=torch.Generator())
    table = ArraySource(images_NCHW, torch.arange(count) % 10)
    noise = Splits(table, ArraySource(images_NCHW[:64], table.labels_N[:64]), tuple("0123456789"), "noise")
    with tempfile.TemporaryDirectory() as folder:
        finished = train(recipe, data=noise, out=Path(folder) / "run", workers=workers)
        if finished.rank:
            return 0.0
        shown = [event for event in finished.folder.metrics() if isinstance(event, ProgressEvent)]
        (first, began), (last, ended) = (
            (event.samples_seen, event.samples_seen / event.images_per_second) for event in (shown[0], shown[-1])
        )
        return (ended - began) * batch / (last - first)


# -- over all hosts ---------------------------------------------------------------------------------------------------


def results() -> dict[str, Any]:
    empty: dict[str, Any] = {"sums": {}, "steps": {}, "epochs": {}}
    return dict(json.loads(RESULTS.read_text(encoding="utf-8"))) if RESULTS.exists() else empty


def keep(kind: str, name: str, value: Any) -> None:
    write_json(RESULTS, (known := results()) | {kind: known[kind] | {name: value}})


def on_each(hosts: list[Host], folder: Path, *command: object) -> str:
    """What the worker on the first host prints."""
    job = {"WORLD_SIZE": f"{len(hosts)}", "LOCAL_WORLD_SIZE": "1", "MASTER_ADDR": hosts[0].address}
    started = [
        host.start(sys.executable, *command, log=folder / f"{rank}.log", environ=job | {"RANK": f"{rank}"})
        for rank, host in enumerate(hosts)
    ]
    codes = [each.wait() for each in started]
    said = (folder / "0.log").read_text(encoding="utf-8")
    if any(codes):
        raise SystemExit(f"exit codes {codes}: {said[-2000:]}")
    return said


def measure(kind: str, counts: list[int]) -> None:
    """`kind` is "sums" or "steps"."""
    for count in counts:
        missing = [name for name in LINKS if f"{count} hosts, {name}" not in results()[kind]]
        with some_hosts(count) as hosts:
            for name in missing:
                for host in hosts:
                    host.limit(LINKS[name])
                with tempfile.TemporaryDirectory() as folder:
                    said = on_each(hosts, Path(folder), Path(__file__).resolve(), f"{kind}-here")
                found = json.loads(next(line for line in reversed(said.splitlines()) if line.startswith("{")))
                keep(kind, f"{count} hosts, {name}", found | {"conditions": conditions(1, STEPS)})
                print(count, name, found, file=sys.stderr)


def measure_epochs(counts: list[int], data: str, out: Path, minutes: float) -> None:
    """The first epoch whose test error is 25 % or less. What is not done in time goes on with the next call."""
    end = time.monotonic() + 60 * minutes
    for name, count, method in ((f"{n} hosts, {m}", n, m) for n in counts for m in METHODS if m != "auto"):
        if name in results()["epochs"] or time.monotonic() > end:
            continue
        place = out / name.replace(", ", "-").replace(" ", "-")
        flags = [f"--set={path}={value}" for path, value in settings_of(method, count).items()]
        words = ["-m", "convolve", "train", RECIPE, "--data", data, "--out", place, *flags]
        with some_hosts(count) as hosts:
            (out / "log").mkdir(parents=True, exist_ok=True)
            job = {"WORLD_SIZE": f"{count}", "LOCAL_WORLD_SIZE": "1", "MASTER_ADDR": hosts[0].address}
            started = [
                host.start(sys.executable, *words, log=out / "log" / f"{rank}", environ=job | {"RANK": f"{rank}"})
                for rank, host in enumerate(hosts)
            ]
            while time.monotonic() < end and not _reached(place) and all(each.poll() is None for each in started):
                time.sleep(1)
            for host in hosts:
                host.signal(signal.SIGTERM)  # a checkpoint, and exit code 75
            for each in started:
                each.wait()
        if _reached(place):
            keep("epochs", name, {"epochs": len(_errors(place)), "test_errors": _errors(place)})


def _errors(place: Path) -> list[float]:
    path = place / "metrics.jsonl"
    lines = path.read_text(encoding="utf-8").split("\n")[:-1] if path.exists() else []
    return [event["test_error"] for event in map(json.loads, lines) if event["event"] == "epoch"]


def _reached(place: Path) -> bool:
    errors = _errors(place)
    return bool(errors) and (errors[-1] <= TARGET or len(errors) >= MOST_EPOCHS)


# -- what follows -----------------------------------------------------------------------------------------------------


def table() -> Iterator[str]:
    known = results()
    yield "| sending a gradient, ms | in full | in fp16 | by PowerSGD | in one bit | cost model: in full, fp16 |"
    yield "|---|---|---|---|---|---|"
    for name, found in known["sums"].items():
        ms = {how: [f"{1e3 * seconds:.0f}" for seconds in found[how].values()] for how in ("measured", "model")}
        yield f"| {name} | {' | '.join([*ms['measured'], ', '.join(ms['model'][:2])])} |"
    yield ""
    if known["steps"]:
        yield from _steps_table(known["steps"])
    if known["epochs"]:
        yield ""
        yield "| | epochs to a test error of 25 % | test error then |"
        yield "|---|---|---|"
        for name, found in known["epochs"].items():
            yield f"| {name} | {found['epochs']} | {100 * found['test_errors'][-1]:.2f} % |"


def _steps_table(steps: dict[str, Any]) -> Iterator[str]:
    yield f"| seconds an epoch of `{RECIPE}` | {' | '.join(METHODS)} | within the model's |"
    yield "|---" * (len(METHODS) + 2) + "|"
    for name, found in steps.items():
        seconds = {method: EPOCH_SAMPLES / BATCH * step for method, step in found["steps"].items()}
        fastest = min(seconds[method] for method in METHODS if method not in IN_BLOCKS)
        cells = [f"**{s:,.0f}**" if s == fastest else f"{s:,.0f}" for s in seconds.values()]
        off = max(abs(found["model"][m] / step - 1) for m, step in found["steps"].items() if m in found["model"])
        yield f"| {name} | {' | '.join(cells)} | {100 * off:.0f} % |"


def write_table() -> None:
    before, _, rest = PAGE.read_text(encoding="utf-8").partition("<!-- slow links -->\n")
    _, mark, after = rest.partition("<!-- end of slow links -->")
    PAGE.write_text(f"{before}<!-- slow links -->\n" + "\n".join(table()) + f"\n{mark}{after}", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("sums", "steps", "epochs", "table", "sums-here", "steps-here"))
    parser.add_argument("--hosts", type=int, nargs="+", default=[2, 4])
    parser.add_argument("--data", default="sample")
    parser.add_argument("--out", type=Path, default=Path("runs/slow-links"))
    parser.add_argument("--minutes", type=float, default=60)
    given = parser.parse_args()
    if given.what.endswith("-here"):
        found = measure_sums() if given.what == "sums-here" else measure_steps_here()
        print(json.dumps(found))
    elif given.what in ("sums", "steps"):
        measure(given.what, given.hosts)
    elif given.what == "epochs":
        measure_epochs(given.hosts, given.data, given.out.resolve(), given.minutes)
    else:
        write_table()


if __name__ == "__main__":
    main()
