"""Writes the tables of results into README.md and the pages beside this file.

    python docs/tables.py

A table stands between `<!-- results, means: mnist mnist-fast -->` (`seeds` in place of `means`: with the error of each
seed, and the commands) and `<!-- end of results -->`. Its numbers come from results/RECIPE.json, which

    convolve reproduce RECIPE --seeds N --out docs/results/RECIPE.json

writes; a recipe without that file has no row yet.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent
PLACE = re.compile(r"(<!-- results, (means|seeds): ([\w -]+?) -->\n).*?(<!-- end of results -->)", re.DOTALL)
Summary = dict[str, Any]


def pages() -> list[Path]:
    """The pages that have tables."""
    return [path for path in (DOCS.parent / "README.md", *sorted(DOCS.glob("*.md"))) if PLACE.search(_text(path))]


def rewritten(text: str) -> str:
    """A page with every table made anew."""

    def table(place: re.Match[str]) -> str:
        opening, form, recipes, end = place.groups()
        files = [DOCS / "results" / f"{name}.json" for name in recipes.split()]
        summaries = [json.loads(_text(file)) for file in files if file.exists()]
        return "\n".join((opening, *TABLES[form](summaries), "", end))

    return PLACE.sub(table, text)


def means(summaries: list[Summary]) -> Iterator[str]:
    """A row for each recipe."""
    yield _row(["recipe", "published", "test error, mean ± standard deviation", "seeds", "training", "on"])
    yield _row(["---"] * 6)
    for summary in summaries:
        mean, deviation = (_percent(summary["test_error"][name]) for name in ("mean", "standard_deviation"))
        error = f"{mean} ± {deviation}" if deviation else mean
        yield _row([_recipe(summary), _published(summary), error, str(summary["n"]), _seconds(summary), _on(summary)])


def seeds(summaries: list[Summary]) -> Iterator[str]:
    """A row for each recipe with the error of each seed; versions; the commands."""
    most = max((summary["n"] for summary in summaries), default=0)
    header = ["recipe", "published", *(f"seed {seed}" for seed in range(most)), "mean", "std", "training", "on"]
    yield _row(header)
    yield _row(["---"] * len(header))
    for summary in summaries:
        errors = [_percent(result["test_error"]) for result in summary["runs"]]
        error = [_percent(summary["test_error"][name]) for name in ("mean", "standard_deviation")]
        cells = [*errors, *[""] * (most - len(errors)), *error, _seconds(summary), _on(summary)]
        yield _row([_recipe(summary), _published(summary), *cells])
    versions = [result["versions"] for summary in summaries for result in summary["runs"]]
    said = [f"{name} {_either(version[name.lower()] for version in versions)}" for name in ("Python", "torch")]
    yield from ("", f"{', '.join(said)}; all figures and conditions are in [results](results).", "")
    yield from ("```", *(summary["command"] for summary in summaries), "```")


# form of a table -> its lines
TABLES: dict[str, Callable[[list[Summary]], Iterable[str]]] = {"means": means, "seeds": seeds}


def _recipe(summary: Summary) -> str:
    return f"`{summary['recipe']}`, {_either(result['epochs'] for result in summary['runs'])} epochs"


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
    for page in pages():
        page.write_text(rewritten(_text(page)), encoding="utf-8")
