"""Recipe -> data, model, optimizer -> loop: the one place where the parts meet."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from convolve.assemble import Assembly, assemble
from convolve.data.known import DATASETS, fake_data
from convolve.data.open import open_data
from convolve.data.splits import Splits
from convolve.distributed.lost import naming_lost_workers
from convolve.distributed.process_group import all_workers
from convolve.errors import ConvolveError, InterruptedTraining
from convolve.model import Model, load
from convolve.recipe import Recipe, with_values
from convolve.recipes import load_recipe
from convolve.records import EndEvent, to_json
from convolve.training.evaluate import Evaluation
from convolve.training.events import Callback, silent
from convolve.training.run_folder import RunFolder
from convolve.training.workers import Workers


@dataclass(frozen=True)
class Run:
    """A finished training: `folder.path` holds everything, `result` the figures of result.json, `model` the network.

    `rank`: of several workers that trained, the one that this process is; the first one prints and writes.
    """

    folder: RunFolder
    rank: int = 0

    @property
    def result(self) -> dict[str, Any]:
        result: dict[str, Any] = to_json(self.folder.result())
        return result

    @cached_property
    def model(self) -> Model:
        return load(self.folder.path)


def train(
    recipe: str | Recipe,
    *,
    data: str | Splits | None = None,
    out: str | Path | None = None,
    restart: bool = False,
    from_model: str | Path | None = None,
    use_fake_data: bool = False,
    progress: Callback = silent,
    workers: Workers | None = None,
    each_epoch: Callable[[Model, int], None] | None = None,
    report: Callable[[Path], object] | None = None,
    **overrides: Any,
) -> Run:
    """Train `recipe` (a name, a file or a value) and return the finished run.

    `data` is a folder, a file, "sample" or the images themselves; None looks in the usual places. `out` is the run
    folder, by default runs/<recipe>: an unfinished run there goes on to the same bits, a finished one is refused unless
    `restart`.
    `from_model` supplies the initial weights; an imported network, such as a CNTK file, is trained itself.
    `workers` are those that a launcher such as mpiexec has started; the first alone writes and hears of `progress`.
    `each_epoch` is given the model after each epoch, and its number, from 1; `report`, such as `write_report`, the
    folder at the end, before another process may have it. A finished run that was killed before gets it then.
    `overrides` are fields of `RunSpec`: epochs=5, seed=1, precision="fp32".
    Afterwards torch keeps the run's number of threads, convolves without TF32 and takes vanishing numbers for 0
    (`torch.set_flush_denormal`): the model then answers to the bit as in its evaluation.
    """
    began = time.perf_counter()
    recipe = resolve(recipe, {f"run.{name}": value for name, value in overrides.items()})
    workers = workers or all_workers()
    is_first, path = not workers.rank, Path(out or f"runs/{recipe.name}")
    claimed = RunFolder.claim(path, restart, bool(report)) if is_first else nullcontext(RunFolder(path, restart))
    with naming_lost_workers(), claimed as folder:
        if not is_first:
            progress = silent
        is_finished = workers.broadcast(folder.resumes and folder.finished)
        splits = fake_data(recipe.data.name) if use_fake_data else _open(recipe, data, progress, workers)
        info, in_memory = DATASETS.get(recipe.data.name), splits.array_shape_CHW is not None
        if info is None or not (splits.is_official(info) or (in_memory and splits.name == info.name)):
            recipe = replace(recipe, published_error=None)  # of other images
        parts = assemble(recipe, splits, folder, from_model, progress, workers)
        if each_epoch and is_first:
            parts.trainer.each_epoch = partial(each_epoch, parts.model)
        if not in_memory:
            progress("note", {"message": parts.data.description})
        if not is_finished:
            evaluation = _train(parts, restart, progress)
            if is_first:
                parts.save(evaluation)
                folder.log(EndEvent(test_error=evaluation.error))
                folder.finish(parts.result(evaluation, time.perf_counter() - began))
        if is_first and report:
            report(path)
            folder.reported()
        workers.barrier()
    return Run(folder, workers.rank)


def _train(parts: Assembly, restart: bool, progress: Callback) -> Evaluation:
    try:
        parts.begin(progress)
        parts.trainer.fit()
        return parts.model.evaluate(parts.data.test, workers=parts.trainer.workers)
    except KeyboardInterrupt:
        again = "the same command again" + (", but without --restart" if restart else "")
        path = parts.trainer.folder.path
        raise InterruptedTraining(f"interrupted; {path} can be resumed: give {again}") from None


def _open(recipe: Recipe, where: str | Splits | None, progress: Callback, workers: Workers) -> Splits:
    """The data. One worker on each host comes first, since it may have to download it."""
    if isinstance(where, Splits):
        return where

    def downloading(file: str, done_bytes: int, size_bytes: int) -> None:
        progress("download", {"file": file, "done_bytes": done_bytes, "size_bytes": size_bytes})

    found: Splits | ConvolveError | None = None
    file_order = recipe.data.order != "shuffled"
    for comes_first in (True, False):
        if comes_first == (workers.local_rank == 0):
            try:
                found = open_data(where, recipe.data.name, file_order=file_order, progress=downloading)
            except ConvolveError as error:
                found = error
        workers.barrier()
    if isinstance(found, ConvolveError):
        raise found
    assert found is not None  # each had its turn
    return found


def resolve(recipe: str | Recipe, settings: dict[str, Any]) -> Recipe:
    """`recipe` with each dotted path in `settings` set."""
    return with_values(load_recipe(recipe) if isinstance(recipe, str) else recipe, settings)
