"""Values show themselves in a notebook, whatever stands in them, and examples/tour.ipynb runs from top to bottom."""

from __future__ import annotations

import ast
import json
import sys
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import convolve
from convolve.explanation import Explanation, explain
from convolve.notebook import TrainingCell, curves, figures, is_notebook
from convolve.prediction import Prediction, Predictions
from convolve.training.events import in_sight, silent

TOUR = Path(__file__).parents[1] / "examples" / "tour.ipynb"
HOSTILE = '<script>alert("x")</script>'
TAGS = {
    "table", "caption", "tr", "th", "td", "img", "meter", "progress", "div", "span", "svg", "polyline", "br",
}  # fmt: skip


class Tags(HTMLParser):
    """The tags of a text; what is opened is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found, self.open = list[str](), list[str]()
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.found.append(tag)
        if tag not in ("img", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        self.found.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def shown(value: Any) -> str:
    """What a notebook shows: small, and of harmless tags alone."""
    text: str = value._repr_html_()
    assert {*Tags(text).found} <= TAGS, text
    assert len(text) < 200_000
    return text


def test_names_of_files_and_classes_are_text() -> None:
    one = Prediction(HOSTILE, ((HOSTILE, 0.5),), possible=(HOSTILE,), none_of_these=True)
    for value in (one, Prediction(HOSTILE, (), error=HOSTILE), Prediction(HOSTILE, (), numbers=((HOSTILE, 1.5),))):
        assert "&lt;script&gt;" in shown(value)
    heads = Prediction("x", (), heads=(("kind", one), ("size", one)))
    assert shown(heads).count("none of these") == 2
    assert "3 x 4" in shown(Prediction("x", (), features=np.zeros((3, 4), np.float32)))
    found = Explanation(HOSTILE, HOSTILE, np.zeros((1, 8, 8), np.uint8), np.ones((2, 2)))
    assert shown(found).count("<img") == 2


def test_many_predictions_show_the_first_of_them() -> None:
    text = shown(Predictions(Prediction(f"{n}.png", (("cat", 0.9),)) for n in range(1000)))
    assert "19.png" in text and "20.png" not in text and "and 980 more" in text


def test_figures_are_named_and_written_as_people_read_them() -> None:
    found = dict(figures({"test_error": 0.0123, "test_loss": 1.5, "seed": 12345, "epochs": 4000, "note": "", "x": [1]}))
    assert found == {"test error": "1.23\u202f%", "test loss": "1.5", "seed": "12345", "epochs": "4,000"}
    assert curves("error", {"train": [None], "test": [0.5]}) == ""  # no line
    assert "test" in curves("error", {"train": [None, None], "test": [0.5, 0.1]})


def test_the_map_is_orange_where_a_part_speaks_for_the_class() -> None:
    change_RS = np.array([[4.0, 0.0], [0.0, -4.0]])
    picture_HWC = Explanation("x", "cat", np.full((3, 8, 8), 128, np.uint8), change_RS).picture().astype(int)
    assert picture_HWC[0, 0, 0] > 128 > picture_HWC[0, 0, 2]  # more red, less blue
    assert picture_HWC[-1, -1, 2] > 128 > picture_HWC[-1, -1, 0]


def test_the_map_finds_the_part_that_decides(model: Path, tmp_path: Path) -> None:
    """A class whose score is the brightness of the upper left quarter."""
    import cv2
    import torch
    from torch import nn

    class Corner(nn.Module):
        def forward(self, images_NCHW: torch.Tensor) -> torch.Tensor:
            bright_N = images_NCHW[:, 0, :14, :14].mean((1, 2))
            return torch.stack([bright_N, torch.zeros_like(bright_N)], 1)

    opened = convolve.load(model)
    opened.module, opened.class_names, opened.architecture = Corner(), ("corner", "else"), None
    picture_HW = np.zeros((28, 28), np.uint8)
    picture_HW[:14, :14] = 255
    cv2.imwrite(str(tmp_path / "x.png"), picture_HW)
    found = explain(opened, tmp_path / "x.png", cells=4)
    assert found.class_name == "corner"
    assert found.change_RS[0, 0] > 0.1 and abs(found.change_RS[3, 3]) < 1e-6
    assert explain(opened, tmp_path / "x.png", "else", cells=4).change_RS == pytest.approx(-found.change_RS)
    with pytest.raises(convolve.ConvolveError, match="did you mean 'corner'"):
        explain(opened, tmp_path / "x.png", "cornet")


# -- the bar of a training ---------------------------------------------------------------------------------------------


class Cell:
    """What IPython.display.display gives back; it remembers what was shown."""

    def __init__(self) -> None:
        self.shown: list[str] = []

    def display(self, html: str, display_id: bool) -> Cell:
        assert display_id
        self.shown.append(html)
        return self

    def update(self, html: str) -> None:
        self.shown.append(html)


@pytest.fixture
def cell(monkeypatch: pytest.MonkeyPatch) -> Cell:
    """This process as the kernel of a notebook."""
    cell = Cell()
    display = SimpleNamespace(HTML=str, display=cell.display)
    ipython = SimpleNamespace(get_ipython=lambda: SimpleNamespace(kernel=1), display=display)
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    return cell


def test_a_bar_is_there_in_notebooks_alone(cell: Cell, monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(in_sight(), TrainingCell)
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: None))
    assert not is_notebook() and in_sight() is silent
    monkeypatch.delitem(sys.modules, "IPython")
    assert in_sight() is silent


def test_a_training_in_a_notebook_shows_where_it_is(
    cell: Cell, tiny_mnist: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from convolve.recipe import with_values
    from convolve.recipes import load_recipe

    monkeypatch.chdir(tmp_path)
    recipe = with_values(load_recipe("mnist"), {"model.variant": "tiny", "run.epochs": 2, "run.threads": 1})
    run = convolve.train(recipe, data=str(tiny_mnist))
    assert any('<progress value="0.' in html for html in cell.shown)
    assert "epoch 2" in cell.shown[-1] and "<progress" not in cell.shown[-1]
    for html in cell.shown:
        Tags(html)
    text = shown(run)
    assert "Result of mnist" in text and text.count("<img") == 12 and "polyline" in text
    assert "Result of mnist" in shown(run.folder.result())
    assert "0, 1, 2, 3" in shown(run.model)


# -- examples/tour.ipynb -----------------------------------------------------------------------------------------------


def test_the_tour_runs_and_every_cell_shows_something(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    cells = [cell for cell in json.loads(TOUR.read_text("utf-8"))["cells"] if cell["cell_type"] == "code"]
    names: dict[str, Any] = {"__name__": "__main__"}
    for number, cell in enumerate(cells):
        *body, last = ast.parse("".join(cell["source"])).body
        assert isinstance(last, ast.Expr), f"cell {number} ends without a value to look at"
        exec(compile(ast.Module(body, []), f"cell {number}", "exec"), names)
        value = eval(compile(ast.Expression(last.value), f"cell {number}", "eval"), names)
        assert shown(value) if hasattr(value, "_repr_html_") else repr(value)
    assert Path("digits.onnx").is_file()
