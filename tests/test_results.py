"""The tables of results in README.md and docs agree with docs/results, and those with today's recipes."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from convolve.recipe import from_mapping, with_values
from convolve.recipe_values import differences
from convolve.recipes import RECIPES, load_recipe

DOCS = Path(__file__).parents[1] / "docs"
RESULTS = sorted((DOCS / "results").glob("*.json"))


@pytest.fixture(scope="module")
def tables() -> ModuleType:
    spec = importlib.util.spec_from_file_location("tables", DOCS / "tables.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_pages_show_the_results_as_they_are(tables: ModuleType) -> None:
    pages = {path.name: path.read_text(encoding="utf-8") for path in tables.pages()}
    assert {"README.md", "mnist.md"} <= set(pages)
    for name, text in pages.items():
        assert text == tables.rewritten(text), f"{name} differs from docs/results: run `make tables`"
    named = {
        name
        for text in pages.values()
        for _, form, names, _ in tables.PLACE.findall(text)
        for name in names.split()
        if form in ("means", "seeds")
    }
    assert named <= {*RECIPES, *tables.CNTK_EPOCHS, *tables.FEWER_EPOCHS} | {path.stem for path in RESULTS}
    assert {path.stem for path in RESULTS} <= named, "a result that no page shows"
    for file, drawing in tables.drawings().items():
        assert file.read_text(encoding="utf-8") == drawing, f"{file.name} is not of the figures: run `make tables`"


@pytest.fixture
def summary(tables: ModuleType) -> dict[str, Any]:
    """That of mnist-fast, as if it were of CIFAR-10 with six views."""
    found: dict[str, Any] = tables.summary_of("mnist-fast")
    recipe = found["resolved_recipe"] | {"data": found["resolved_recipe"]["data"] | {"name": "cifar10"}}
    views = {"views": 6, "test_error": {"mean": 0.055}, "errors": [0.055]}
    mean = found["test_error"] | {"mean": 0.065}
    return found | {"resolved_recipe": recipe, "over_views": views, "test_error": mean}


def test_what_was_not_measured_has_a_row_that_says_so(
    tables: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tables, "DOCS", tmp_path)
    rows = [*tables.seeds(["cifar10", "cifar10-fast-4", "cntk/cifar10"])]
    assert rows[2].startswith("| `cifar10`, 30 epochs | 18 % | not yet measured |")
    assert rows[3].startswith("| `cifar10-fast`, narrow, 4 epochs |  | not yet measured |")
    assert rows[4].startswith("| CNTK 2.7 itself, `cifar10`, 30 epochs | 18 % | not yet measured |")
    assert [*tables.curves([])] == ["Learning curves: not yet measured."]
    assert all("not yet measured" in row for row in [*tables.records([])][2:])


def test_the_ledger_takes_the_quickest_that_reaches_the_mark(
    tables: ModuleType, summary: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """On the official files, over the views that the mark asks for."""
    monkeypatch.setattr(tables, "DOCS", tmp_path)
    (tmp_path / "results").mkdir()

    def rows(**seconds_and_notes: tuple[float, str]) -> list[str]:
        for name, (seconds, note) in seconds_and_notes.items():
            runs = [run | {"data_note": note} for run in summary["runs"]]
            spread = {"mean": seconds, "least": seconds, "most": seconds}
            known = summary | {"title": f"`{name}`", "train_seconds": spread, "runs": runs}
            (tmp_path / "results" / f"{name}.json").write_text(json.dumps(known))
        monkeypatch.setattr(
            tables, "summary_of", lambda name: json.loads((tmp_path / "results" / f"{name}.json").read_text())
        )
        return [*tables.records([])][2:5]

    first, second, third = rows(slow=(90.0, ""), quick=(60.0, ""), copied=(10.0, "not the official files"))
    assert first.startswith("| CIFAR-10 90 % | `quick` | 5 | 6.50 % | 5.50 % | 60 s |")
    assert second.startswith("| CIFAR-10 94 %, 6 views | `quick` |")
    assert third.startswith("| CIFAR-10 95 %, 6 views | not yet measured |")


def test_learning_curves_are_drawn_of_ours_and_of_cntks(
    tables: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tables, "DOCS", tmp_path)
    (tmp_path / "results" / "cntk").mkdir(parents=True)
    epochs = [{"test_error": error, "train_seconds": 5.0} for error in (0.5, 0.25)]
    said = {"threads": 1, "hardware": {"cpu": "Imaginary 9000"}, "curve": epochs}
    (tmp_path / "results" / "cntk" / "cifar10.json").write_text(json.dumps(said))
    drawing = tables.learning_curves()
    assert "CNTK 2.7, cifar10" in drawing and drawing.count("stroke-dasharray") == 1
    assert len(re.findall(r"M[0-9. ]+L[0-9. ]+\"", drawing)) == 1  # of two points
    row = [*tables.seeds(["cntk/cifar10"])][2]
    assert "| 25.00 % |" in row and "| 10 s |" in row and "Imaginary 9000" in row


def test_the_check_sees_a_changed_number(tables: ModuleType) -> None:
    for path in tables.pages():
        text = path.read_text(encoding="utf-8")
        place = tables.PLACE.search(text)
        opening, *_ = place.groups()
        digit = re.search(r"\d", text[text.index(opening) + len(opening) : place.end()])
        if digit is None:
            assert tables.MISSING in place.group()
            continue
        at = text.index(opening) + len(opening) + digit.start()
        changed = text[:at] + str((int(text[at]) + 1) % 10) + text[at + 1 :]
        assert changed != tables.rewritten(changed) == text


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_results_are_of_the_recipe_as_it_is(path: Path) -> None:
    """A recipe that was changed has to be measured anew: convolve reproduce NAME --out docs/results/NAME.json.

    A file of the name RECIPE-WORD is of the recipe with other settings, which its command says.
    """
    summary: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    words = shlex.split(summary["command"])
    settings = dict(text.split("=", 1) for option, text in pairwise(words) if option == "--set")
    name = summary["recipe"]
    assert words[:3] == ["convolve", "reproduce", name]
    assert words[-2:] == ["--seeds", str(summary["n"])]
    assert path.stem == name if not settings else path.stem.startswith(f"{name}-")
    assert differences(from_mapping(summary["resolved_recipe"]), with_values(load_recipe(name), settings)) == []
    assert [run["seed"] for run in summary["runs"]] == list(range(summary["n"]))
    assert len({run["data_fingerprint"] for run in summary["runs"]}) == 1
    for name in ("test_error", "train_seconds"):
        values = [run[name] for run in summary["runs"]]
        figures = [summary[name]["mean"], summary[name]["least"], summary[name]["most"]]
        assert figures == pytest.approx([np.mean(values), np.min(values), np.max(values)])
        if len(values) > 1:
            assert summary[name]["standard_deviation"] == pytest.approx(np.std(values, ddof=1))
