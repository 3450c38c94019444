"""The names of CNTK's Python API that programs for images were seen to use: each is here with its keywords."""

from __future__ import annotations

import inspect
import runpy
from pathlib import Path
from typing import Any

import pytest

import convolve.cntk as C

NAMES = Path(__file__).parents[1] / "golden/cntk_api_names.tsv"
ROWS = [line.split("\t") for line in NAMES.read_text(encoding="utf-8").splitlines()]
OPERATORS = {"+": "__add__", "-": "__sub__", "*": "__mul__", "/": "__truediv__", "unary -": "__neg__",
             "[]": "__getitem__"}  # fmt: skip
LEFT_OUT = {"**", "compare"}  # what CNTK's variables do not have either
GONE = {"epoch_size"}  # a keyword of MinibatchSource before CNTK 2.7, which refuses it
PLACES = [C, C.io, C.logging, C.train, C.train.distributed, C.learners]


def found(name: str) -> Any:
    """What a program gets by this name; AttributeError where nothing is there."""
    first, *rest = name.replace("Function/Variable", "Function").split(".")
    what = C.cntk_py if first == "_cntk_py" else next((vars(p)[first] for p in PLACES if first in vars(p)), None)
    if what is None:
        raise AttributeError(f"cntk.{name}")
    for part in rest:
        if isinstance(what, type) and not hasattr(what, part):
            source = "".join(inspect.getsource(each) for each in what.__mro__[:-1])
            if f"self.{part}" not in source and f" {part}:" not in source:
                raise AttributeError(f"cntk.{name}")
            return None
        what = getattr(what, part)
    return what


@pytest.mark.parametrize("name", [name for name, _ in ROWS if not name.startswith("operator")])
def test_the_name_is_there(name: str) -> None:
    assert not C.refused.is_stand_in(found(name)), name


@pytest.mark.parametrize(("name", "keywords"), [row for row in ROWS if row[1] and row[0] != "Function.outputs"])
def test_it_takes_the_keywords(name: str, keywords: str) -> None:
    parameters = inspect.signature(found(name)).parameters
    is_learner = name.startswith("learners.")
    if any(each.kind is each.VAR_KEYWORD for each in parameters.values()) and not is_learner:
        return
    taken = set(parameters) | (set(C.learners.OPTIONS) if is_learner else set())
    assert set(keywords.split()) - (GONE if name == "io.MinibatchSource" else set()) <= taken


@pytest.mark.parametrize("name", [name.removeprefix("operator ") for name, _ in ROWS if name.startswith("operator")])
def test_operators_are_cntks(name: str) -> None:
    x = C.input_variable(2)
    if name in LEFT_OUT:
        with pytest.raises(TypeError):
            x**2 if name == "**" else x > 1
    else:
        assert hasattr(x, OPERATORS[name])


def test_the_page_is_current() -> None:
    docs = Path(__file__).parents[2] / "docs"
    made = runpy.run_path(str(docs / "cntk_names.py"))
    page = (docs / "reference" / "cntk-python.md").read_text(encoding="utf-8")
    assert made["rewritten"](page) == page, "python docs/cntk_names.py makes it anew"


def test_the_page_names_what_is_there_and_what_is_not() -> None:
    page = (Path(__file__).parents[2] / "docs/reference/cntk-python.md").read_text(encoding="utf-8")
    for name in ("Convolution2D(", "training_session(", "ImageDeserializer(", "LSTM", "`nce_loss`"):
        assert name in page
