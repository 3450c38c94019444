"""Writes the tables and plots of results into README.md and the pages beside this file.

    python docs/tables.py

A table stands between `<!-- results, means: mnist mnist-fast -->` and `<!-- end of results -->`. What stands for
`means` is a row of `TABLES`: `seeds` has the error of each seed, and the commands. Numbers come from results/NAME.json,
which

    convolve reproduce RECIPE --seeds N --out docs/results/NAME.json

writes, and for `cntk/NAME` benchmarks/cifar10_official.py; what has no file yet has a row that says so.
"""

from __future__ import annotations

import json
import re
import statistics
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from convolve.models import build_model
from convolve.models.summary import summarize
from convolve.recipe import from_mapping
from convolve.recipes import load_recipe

sys.path.insert(0, str(Path(__file__).parent))
from attacks import attacks
from plots import Labels, Line, svg

DOCS = Path(__file__).parent
PLACE = re.compile(r"(<!-- results, (\w+): ([\w/ -]+?) -->\n).*?(<!-- end of results -->)", re.DOTALL)
MISSING = "not yet measured"
CNTK_EPOCHS = {"cntk/cifar10": 30, "cntk/cifar10-aug": 10}
FEWER_EPOCHS = {"cifar10-fast-4": 4, "cifar10-fast-6": 6}  # of the narrow network
RESULTS_BY_PROCESSOR = DOCS.parent / "benchmarks" / "results"
PICTURES = DOCS / "explanation"  # beside the pages that show them
CURVES = PICTURES / "cifar10-curves.svg"
DRAWN = (
    "cifar10", "cntk/cifar10", "cifar10-aug", "cntk/cifar10-aug", "cifar10-aug-lrn", "cifar10-fast",
    "cifar10-resnet20-short", "cifar10-resnet20",
)  # fmt: skip
Summary = dict[str, Any]


def pages() -> list[Path]:
    """The pages that have tables."""
    return [path for path in (DOCS.parent / "README.md", *sorted(DOCS.rglob("*.md"))) if PLACE.search(_text(path))]


def rewritten(text: str) -> str:
    """A page with every table made anew."""

    def table(place: re.Match[str]) -> str:
        opening, form, recipes, end = place.groups()
        return "\n".join((opening, *TABLES[form](recipes.split()), "", end))

    return PLACE.sub(table, text)


def summary_of(name: str) -> Summary:
    """What is known of the training `name`: without a file, its recipe and its published error."""
    recipe = load_recipe(name.removeprefix("cntk/").removesuffix("-4").removesuffix("-6"))
    epochs = CNTK_EPOCHS.get(name) or FEWER_EPOCHS.get(name) or recipe.run.epochs
    narrow = ", narrow" if name in FEWER_EPOCHS else ""
    by = "CNTK 2.7 itself, " if name in CNTK_EPOCHS else ""
    known = {
        "title": f"{by}`{recipe.name}`{narrow}, {epochs} epochs",
        "published_error": None if name == "cntk/cifar10-aug" else recipe.published_error,
        "n": 0,
        "runs": [],
    }
    file = DOCS / "results" / f"{name}.json"
    found = json.loads(_text(file)) if file.exists() else {}
    return known | (_as_summary(found) if name in CNTK_EPOCHS and found else found)


def _as_summary(cntk: Summary) -> Summary:
    """A training by CNTK, which has one seed, in the form of ours."""
    curve, error = cntk["curve"], cntk["curve"][-1]["test_error"]
    seconds = sum(epoch["train_seconds"] for epoch in curve)
    said = {"device": "cpu", "precision": "fp32", "threads": cntk["threads"], "hardware": cntk["hardware"]}
    said["data_note"] = cntk.get("data_note", "")
    run = said | {"test_error": error, "epochs": len(curve), "versions": {}}
    return {
        "n": 1, "runs": [run], "published_error": None, "test_error": {"mean": error, "standard_deviation": None},
        "train_seconds": {"least": seconds, "most": seconds},
        "curves": [{"test_error": [epoch["test_error"] for epoch in curve]}],
    }  # fmt: skip


def learning_curves() -> str:
    """The plot of test errors after each epoch, means of the seeds; empty where there is none yet."""
    lines = []
    for name in DRAWN:
        found = [curve["test_error"] for curve in summary_of(name).get("curves", [])]
        means = [statistics.fmean(errors) for errors in zip(*found, strict=False) if None not in errors]
        if means:
            lines.append(Line(name.replace("cntk/", "CNTK 2.7, "), [*enumerate(means, 1)], name in CNTK_EPOCHS))
    return svg(lines, Labels("epochs", "test error", "{:.0%}".format)) if lines else ""


def curves(_: list[str]) -> Iterator[str]:
    """The plot, or that there is none yet."""
    found = learning_curves()
    yield f"![Test errors after each epoch]({CURVES.name})" if found else f"Learning curves: {MISSING}."


def ratios(names: list[str]) -> Iterator[str]:
    """Benchmarks beside their peers, on each processor that they ran on."""
    yield _row(["training step", "beside PyTorch as a tutorial writes it", "images/s", "on"])
    yield _row(["---"] * 4)
    for name in names:
        for file, found in _measured(name):
            made = found["conditions"]
            on = f"{made['hardware']['cpu']} (`{file.parent.name}`), {made['rounds']} rounds"
            for side, ratio, rate in _beside_peers(found):
                yield _row([f"`{name}`, {side}", f"**{ratio:.1f} times**", f"{rate:,.0f}", on])


def _beside_peers(found: Summary) -> Iterator[tuple[str, float, float]]:
    """(side, ratio, images a second) of each of ours."""
    for side, ratio in (found.get("ratio_to_peer") or {}).items():
        yield side.removeprefix("ours "), ratio, found["medians"][side]
    for both, ratio in (found.get("ratio") or {}).items():
        side, _, peer = both.partition(" to ")
        if peer.startswith("peer"):
            yield side.removeprefix("ours ").partition(",")[0], ratio, found["images_per_second"][side]


def side_by_side(names: list[str]) -> Iterator[str]:
    """As `ratios`, in a row for each benchmark and processor."""
    sides = ("bf16", "fp32", "bf16 with LRN", "fp32 with LRN")
    yield _row(["training step", *sides, "on"])
    yield _row(["---"] * (2 + len(sides)))
    for name in names:
        for file, found in _measured(name):
            known = {side: f"**{ratio:.1f} times**" for side, ratio, _ in _beside_peers(found)}
            if known:
                on = f"{found['conditions']['hardware']['cpu']} (`{file.parent.name}`)"
                yield _row([f"`{name}`", *(known.get(side, "") for side in sides), on])


def steps(names: list[str]) -> Iterator[str]:
    """Training steps alone, of ours and of the peer, on each processor."""
    yield _row(["", "images/s", "beside the peer", "of the matrix multiply", "most memory", "on"])
    yield _row(["---"] * 6)
    for file, found in (each for name in names for each in _measured(name)):
        for side, rate in found["medians"].items():
            if side.startswith("matrix multiply"):
                continue
            part = found["part_of_matrix_multiply"].get(side.removeprefix("ours "))
            memory = (found.get("memory_mib") or {}).get(side)
            cells = [
                f"{rate:,.0f}",
                _times(found["ratio_to_peer"].get(side)),
                f"{part:.0%}".replace("%", " %") if part else "",
            ]
            yield _row(
                [side.removeprefix("ours "), *cells, f"{memory:,.0f} MiB" if memory else "", f"`{file.parent.name}`"]
            )


def trainings(names: list[str]) -> Iterator[str]:
    """Whole trainings of CIFAR-10 from files to updates, the quickest first."""
    yield _row(["", "images/s", "30 epochs", "80 epochs", "on"])
    yield _row(["---"] * 5)
    for file, found in (each for name in names for each in _measured(name) if "whole_training" in each[1]):
        whole = found["whole_training"]
        for side, rate in sorted(whole["medians"].items(), key=lambda item: -float(item[1])):
            minutes = [f"{seconds / 60:.0f} min" for seconds in whole["seconds_of_a_training"][side].values()]
            yield _row(
                [side.replace("ours, whole training", "convolve"), f"{rate:,.0f}", *minutes, f"`{file.parent.name}`"]
            )


def rates(names: list[str]) -> Iterator[str]:
    """MNIST from data to update, ours beside both peers."""
    yield _row(["", "images/s", "beside the peer", "beside the lean peer", "on"])
    yield _row(["---"] * 5)
    for file, found in (each for name in names for each in _measured(name)):
        for side, rate in found["images_per_second"].items():
            beside = {both.removeprefix(f"{side} to "): value for both, value in found["ratio"].items()}
            of = {both.partition(",")[0]: value for both, value in beside.items()}
            cells = [f"{rate:,.0f}", _times(of.get("peer")), _times(of.get("lean peer"))]
            yield _row([side.removeprefix("ours "), *cells, f"`{file.parent.name}`"])


def _times(ratio: float | None) -> str:
    return f"{ratio:.1f} times" if ratio else ""


def _measured(name: str) -> Iterator[tuple[Path, Summary]]:
    """The figures of a benchmark on each processor; a short run only where there is no whole one."""
    files = sorted(RESULTS_BY_PROCESSOR.glob(f"*/{name}.json"))
    whole = {file.parent.name for file in files if not file.parent.name.endswith("-short")}
    for file in files:
        if file.parent.name in whole or file.parent.name.removesuffix("-short") not in whole:
            yield file, json.loads(_text(file))


# data set, error, views, and who counts so
MARKS = (
    ("cifar10", 0.10, 1), ("cifar10", 0.06, 6), ("cifar10", 0.05, 6), ("mnist", 0.005, 1), ("mnist", 0.003, 1),
)  # fmt: skip


def records(_: list[str]) -> Iterator[str]:
    """Of each mark the quickest result whose mean error is no higher; a mark that no result reaches says so."""
    yield _row(["", "recipe", "seeds", "one view", "6 views", "seconds", "with all else", "operations", "on"])
    yield _row(["---"] * 9)
    found = [summary_of(file.stem) for file in sorted((DOCS / "results").glob("*.json"))]
    for name, error, views in MARKS:
        mark = (
            f"{'CIFAR-10' if name == 'cifar10' else 'MNIST'} {100 * (1 - error):g} %{', 6 views' if views > 1 else ''}"
        )
        of_set = [s for s in found if s["resolved_recipe"]["data"]["name"] == name and _is_official(s)]
        meets = [summary for summary in of_set if _error(summary, views) <= error]
        if not meets:
            yield _row([mark, MISSING, *[""] * 7])
            continue
        best = min(meets, key=lambda summary: float(summary["train_seconds"]["mean"]))
        errors = [_percent(value) if (value := _error(best, each)) < 1 else "" for each in (1, 6)]
        total = statistics.fmean(run["total_seconds"] for run in best["runs"])
        cells = [_recipe(best), str(best["n"]), *errors, _seconds(best), f"{total:.0f} s", _operations(best), _on(best)]
        yield _row([mark, *cells])


def _is_official(summary: Summary) -> bool:
    return not any(run.get("data_note") for run in summary["runs"])


def _error(summary: Summary, views: int) -> float:
    """The mean of the seeds; 1 where it was not measured."""
    if views == 1:
        return float(summary["test_error"]["mean"])
    over = summary.get("over_views") or {}
    return float(over["test_error"]["mean"]) if over.get("views") == views else 1.0


def _operations(summary: Summary) -> str:
    """Multiplications and additions of forward and backward pass, by the network and the sizes of its images."""
    recipe, run = from_mapping(summary["resolved_recipe"]), summary["runs"][0]
    side, channels = int(recipe.data.image_size), recipe.data.channels
    sides = [round(part * side) if part <= 1 else int(part) for part in recipe.data.progressive_sizes] or [side]
    shapes = [(channels, each, each) for each in sides]
    spec = recipe.model.network()
    flops = statistics.fmean(
        summarize(build_model(spec, shape, 10), shape).training_flops_per_image for shape in shapes
    )
    return f"{flops * run['samples_seen'] / 1e15:.2g} PFLOP"


DRAWN_COSTS = ("images", "side", "classes")  # what grows, of which a plot is drawn


def _costs() -> tuple[str, list[Summary]]:
    """(the processor, the rows) of benchmarks/scaling.py, on the first processor that has them; a whole run first."""
    files = RESULTS_BY_PROCESSOR.glob("*/scaling.json")
    first = min(files, key=lambda file: (file.parent.name.endswith("-short"), file), default=None)
    return (first.parent.name, json.loads(_text(first))["rows"]) if first else ("", [])


def cost_plot(grows: str) -> str:
    """Costs beside those of the smallest, both axes logarithmic: what is linear has the slope of the dashed line."""
    rows = [row for row in _costs()[1] if row["grows"] == grows]
    if len(rows) < 2:
        return ""
    costs: dict[str, Callable[[Summary], float]] = {
        "core-seconds an image": lambda row: 1 / row["images_per_core_second"],
        "to the first batch": lambda row: row["first_batch_core_seconds"],
        "memory, data included": lambda row: row["memory_mib"] + row["data_mib"],
        "the pixels" if grows == "side" else "the number": lambda row: row[grows] ** (2 if grows == "side" else 1),
    }
    lines = [
        Line(name, [(row[grows], cost(row) / cost(rows[0])) for row in rows], name.startswith("the "))
        for name, cost in costs.items()
    ]
    y = f"times that of {rows[0][grows]:,}"
    return svg(lines, Labels(grows, y, "{:g}".format, "{:,.0f}".format, logarithmic=True))


def scaling(_: list[str]) -> Iterator[str]:
    """The rows, and the plots of what grows."""
    on, rows = _costs()
    if not rows:
        yield f"How cost grows: {MISSING}."
        return
    names = ("images", "classes", "side", "threads", "workers")
    figures = ("core-s to the first batch", "images a core-s", "images/s", "MiB of data", "MiB beside")
    yield _row(["grows", *names, *figures])
    yield _row(["---"] * 11)
    for row in rows:
        cells = [row["grows"], *(f"{row[name]:,}" for name in names), f"{row['first_batch_core_seconds']:.2f}"]
        rates = [f"{row[name]:,.1f}" for name in ("images_per_core_second", "images_per_second")]
        yield _row([*cells, *rates, f"{row['data_mib']:,.0f}", f"{row['memory_mib']:,.0f}"])
    yield from ("", f"On `{on}`.", "")
    yield from (f"![Costs by {grows}](performance-{grows}.svg)" for grows in DRAWN_COSTS if cost_plot(grows))


def drawings() -> dict[Path, str]:
    """What `make tables` draws: file -> SVG."""
    costs = {PICTURES / f"performance-{name}.svg": cost_plot(name) for name in DRAWN_COSTS}
    found = {CURVES: learning_curves()} | costs
    return {file: drawing for file, drawing in found.items() if drawing}


def means(names: list[str]) -> Iterator[str]:
    """A row for each recipe."""
    summaries = [summary_of(name) for name in names]
    yield _row(["recipe", "published", "test error, mean ± standard deviation", "seeds", "training", "on"])
    yield _row(["---"] * 6)
    for summary in summaries:
        if not summary["n"]:
            yield _row([summary["title"], _published(summary), MISSING, "", "", ""])
            continue
        mean, deviation = (_percent(summary["test_error"][name]) for name in ("mean", "standard_deviation"))
        error = f"{mean} ± {deviation}" if deviation else mean
        yield _row([_recipe(summary), _published(summary), error, str(summary["n"]), _seconds(summary), _on(summary)])


def seeds(names: list[str]) -> Iterator[str]:
    """A row for each recipe with the error of each seed; versions; the commands."""
    summaries = [summary_of(name) for name in names]
    most = max((summary["n"] for summary in summaries), default=0)
    has_views = any(summary.get("over_views") for summary in summaries)
    views = ["6 views"] if has_views else []
    header = ["recipe", "published", *(f"seed {seed}" for seed in range(most)), "mean", "std", *views, "training", "on"]
    yield _row(header)
    yield _row(["---"] * len(header))
    for summary in summaries:
        if not summary["n"]:
            cells = [*[""] * most, MISSING, "", *["" for _ in views], "", ""]
            yield _row([summary["title"], _published(summary), *cells])
            continue
        errors = [_percent(result["test_error"]) for result in summary["runs"]]
        error = [_percent(summary["test_error"][name]) for name in ("mean", "standard_deviation")]
        over = [_percent((summary.get("over_views") or {}).get("test_error", {}).get("mean"))] if has_views else []
        cells = [*errors, *[""] * (most - len(errors)), *error, *over, _seconds(summary), _on(summary)]
        yield _row([_recipe(summary), _published(summary), *cells])
    versions = [result["versions"] for summary in summaries for result in summary["runs"] if result["versions"]]
    if not versions:
        return
    said = [f"{name} {_either(version[name.lower()] for version in versions)}" for name in ("Python", "torch")]
    yield from ("", f"{', '.join(said)}; all figures and conditions are in [results](../results).", "")
    yield from ("```", *(summary["command"] for summary in summaries if "command" in summary), "```")


# form of a table -> its lines
TABLES: dict[str, Callable[[list[str]], Iterable[str]]] = {
    "means": means, "seeds": seeds, "curves": curves, "ratios": ratios, "records": records, "scaling": scaling,
    "side_by_side": side_by_side, "steps": steps, "trainings": trainings, "rates": rates,
    "attacks": attacks,
}  # fmt: skip


def _recipe(summary: Summary) -> str:
    """With what is to be said of its images."""
    notes = sorted({result["data_note"] for result in summary["runs"] if result.get("data_note")})
    return ", ".join((summary["title"], *notes))


def _published(summary: Summary) -> str:
    error = summary["published_error"]
    return "" if error is None else f"{100 * error:g} %"


def _seconds(summary: Summary) -> str:
    least, most = (f"{summary['train_seconds'][name]:.0f}" for name in ("least", "most"))
    return f"{least} s" if least == most else f"{least} to {most} s"


def _on(summary: Summary) -> str:
    results = summary["runs"]
    machine = _either(result["hardware"]["cpu" if result["device"] == "cpu" else "gpu"] for result in results)
    threads = _either(result["threads"] for result in results)
    precision = _either(result["precision"] for result in results)
    instructions = _either(result["hardware"].get("instructions") or "" for result in results)
    machine = f"{machine} ({instructions})" if instructions else machine
    return f"{machine}, {threads} {'thread' if threads == '1' else 'threads'}, {precision}"


def _either(values: Iterable[Any]) -> str:
    return " or ".join(map(str, sorted(set(values))))


def _percent(fraction: float | None) -> str:
    return "" if fraction is None else f"{fraction:.2%}".replace("%", " %")


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


if __name__ == "__main__":
    for file, drawing in drawings().items():
        file.write_text(drawing, encoding="utf-8")
    for page in pages():
        page.write_text(rewritten(_text(page)), encoding="utf-8")
