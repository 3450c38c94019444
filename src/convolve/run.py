"""Recipe -> data, model, optimizer -> loop: the one place where the parts meet."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from convolve.assemble import assemble
from convolve.data.own import OwnSet
from convolve.data.sources import fake_data, open_data
from convolve.data.table import DataSet
from convolve.errors import InterruptedTraining
from convolve.feed import took
from convolve.model import Model, load
from convolve.recipe import Recipe, with_values
from convolve.recipes import load_recipe
from convolve.training.run_folder import RunFolder

# Hears of every event of metrics.jsonl, of each step in between ("step"), and of what a user should read ("note",
# "warning").
Progress = Callable[[str, dict[str, Any]], None]


@dataclass(frozen=True)
class Run:
    """A finished training: `folder.path` holds everything, `result` the figures of result.json, `model` the network."""

    folder: RunFolder

    @property
    def result(self) -> dict[str, Any]:
        result: dict[str, Any] = self.folder.read("result.json")
        return result

    @cached_property
    def model(self) -> Model:
        return load(self.folder.path)


def train(
    recipe: str | Recipe,
    *,
    data: str | DataSet | OwnSet | None = None,
    out: str | Path | None = None,
    restart: bool = False,
    from_model: str | Path | None = None,
    use_fake_data: bool = False,
    progress: Progress = lambda event, values: None,
    **overrides: Any,
) -> Run:
    """Train `recipe` (a name, a file or a value) and return the finished run.

    `data` is a folder, a file, "sample" or the samples themselves; None looks in the usual places. `out` is the run
    folder, by default runs/<recipe>: an unfinished run there goes on to the same bits, a finished one is refused unless
    `restart`.
    `from_model` supplies the initial weights; an imported network, such as a CNTK file, is trained itself.
    `overrides` are fields of `RunSpec`: epochs=5, seed=1, precision="fp32".
    """
    began = time.perf_counter()
    recipe = resolve(recipe, {f"run.{name}": value for name, value in overrides.items()})
    folder = RunFolder.claim(Path(out or f"runs/{recipe.name}"), restart)
    dataset = fake_data(recipe.data.name) if use_fake_data else _open(recipe.data.name, data, progress)
    if isinstance(dataset, OwnSet):
        recipe = replace(recipe, published_error=None)  # of other images
    parts = assemble(recipe, dataset, folder, from_model, progress)
    if isinstance(dataset, OwnSet):
        progress("note", {"message": took(parts.feed, dataset)})
    try:
        parts.begin(progress)
        parts.loop.train()
        evaluation = parts.model.evaluate(parts.feed.test)
        parts.save(evaluation)
    except KeyboardInterrupt:
        again = "the same command again" + (", but without --restart" if restart else "")
        raise InterruptedTraining(f"interrupted; {folder.path} can be resumed: give {again}") from None
    folder.log("end", test_error=evaluation.error)
    folder.write("result.json", parts.result(evaluation, time.perf_counter() - began))
    return Run(folder)


def _open(name: str, where: str | DataSet | OwnSet | None, progress: Progress) -> DataSet | OwnSet:
    if isinstance(where, DataSet | OwnSet):
        return where

    def downloading(file: str, done_bytes: int, size_bytes: int) -> None:
        progress("download", {"file": file, "done_bytes": done_bytes, "size_bytes": size_bytes})

    return open_data(name, where, downloading)


def resolve(recipe: str | Recipe, settings: dict[str, Any]) -> Recipe:
    """`recipe` with each dotted path in `settings` set."""
    return with_values(load_recipe(recipe) if isinstance(recipe, str) else recipe, settings)
