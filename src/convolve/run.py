"""Recipe -> data, model, session -> trainer: the one place where the parts meet."""

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from convolve.data.build import build_data
from convolve.data.options import AS_FOUND, DataOptions
from convolve.data.splits import Splits
from convolve.distillation import teacher_of
from convolve.distributed.auto import with_method
from convolve.distributed.gradient_sync import gradient_sync_for
from convolve.distributed.lost import naming_lost_workers
from convolve.distributed.process_group import all_workers
from convolve.fitted_head import fit_head
from convolve.initial import initial_model
from convolve.inputs import describe, network_of, open_inputs, trained_on
from convolve.model import Model
from convolve.outcome import Run, Training, write_outcome
from convolve.recipe import Recipe
from convolve.recipes import resolve
from convolve.training.events import Callback, in_sight, silent
from convolve.training.run_folder import RunFolder
from convolve.training.session import begin_session, choose_device, choose_threads
from convolve.training.snapshot import resume
from convolve.training.stopping import stoppable
from convolve.training.trainer import Trainer
from convolve.training.workers import SINGLE_PROCESS, Workers


@stoppable()
@naming_lost_workers()
def train(
    recipe: str | Recipe,
    *,
    data: str | Splits | None = None,
    out: str | Path | None = None,
    restart: bool = False,
    from_model: str | Path | None = None,
    progress: Callback | None = None,
    workers: Workers | None = None,
    each_epoch: Callable[[Model, int], None] | None = None,
    report: Callable[[Path], object] | None = None,
    options: DataOptions = AS_FOUND,
    **overrides: Any,
) -> Run:
    """Train `recipe` (a name, a file or a value) and return the finished run.

    `data` is a folder, a file, "sample" or the images themselves; None looks in the usual places. `options` say how a
    list of images is read. `out` is the run folder, by default runs/<recipe>: an unfinished run there is resumed, with
    the same result bit for bit; a finished one is refused unless `restart`. `from_model` sets the recipe's model.start.
    `workers` are those that a launcher has started; only the first writes and calls `progress` (default: a bar in
    notebooks). `each_epoch` is called after each epoch with the model and the epoch's number, from 1; `report`, such as
    `write_report`, is called at the end with the folder, while it is still locked. `overrides` are fields of `RunSpec`:
    epochs=5, seed=1, precision="fp32". Afterwards torch keeps the run's number of threads, has TF32 off and flushes
    denormal numbers (`torch.set_flush_denormal`), so that the model answers bit for bit as evaluated.
    """
    began = time.perf_counter()
    settings = {f"run.{name}": value for name, value in overrides.items()}
    recipe = resolve(recipe, settings | ({"model.start": str(from_model)} if from_model else {}))
    workers = workers or all_workers(recipe.distributed)
    path, is_first = Path(out or f"runs/{recipe.name}"), not workers.rank
    with RunFolder.claim(path, restart, bool(report), workers) as folder:
        callback = (progress or in_sight()) if is_first else silent
        recipe, splits = open_inputs(recipe, data, options, callback, workers, kept=folder.kept_recipe())
        training = build_training(recipe, splits, folder, callback, workers=workers)
        if each_epoch and is_first:
            training.trainer.each_epoch = partial(each_epoch, training.model)
        _run(training, report, began)
    return Run(folder, workers.rank)


def _run(training: Training, report: Callable[[Path], object] | None, began: float) -> None:
    """Train, evaluate and write the results; for a run that lacks only its report, write that."""
    folder, workers = training.trainer.folder, training.trainer.workers
    if not workers.broadcast(folder.finished):
        resume(training.trainer)
        training.trainer.fit()
        write_outcome(training, began)
    if report and not workers.rank:
        report(folder.path)
        folder.reported()
    workers.barrier()


def build_training(
    recipe: Recipe, splits: Splits, folder: RunFolder, callback: Callback, workers: Workers = SINGLE_PROCESS
) -> Training:
    """Build every part as the recipe says; decide what it leaves open, or reuse the decisions of the unfinished run."""
    threads = choose_threads(recipe.run, workers, folder)
    initial = initial_model(recipe, splits, folder)
    data = build_data(
        recipe, splits, threads, start=initial.model.preprocess if initial else None,
        batches_at_once=workers.size if recipe.takes_local_steps else 1,
        warn=lambda message: callback("warning", {"message": message}),
    )  # fmt: skip
    model = network_of(recipe, splits, data, initial, choose_device(recipe.run.device, workers))
    recipe = with_method(recipe, model.module, data.loader, workers, folder, callback=callback)
    teacher = teacher_of(recipe, model, folder)
    session = begin_session(
        recipe, folder, workers, network=model.module, threads=threads, trained_on=trained_on(splits, data),
        first_images=lambda: next(data.loader.epoch(0, shard_of=workers.rows))[0],
    )  # fmt: skip
    describe(recipe, initial, splits, data, callback)
    start = folder.path / "from"
    fitted = fit_head(recipe.data, initial, model, data, session, start=start, workers=workers, callback=callback)
    trainer = Trainer(
        recipe=recipe, session=session, network=model.module, loader=data.loader, target=model.target,
        validation=lambda: model.batches(data.validation, workers=workers), validation_name=data.validation_name,
        folder=folder, workers=workers, callback=callback, sets_dropout=not (initial and initial.has_dropout_rates),
    )  # fmt: skip
    trainer.distill = teacher.kept_in(folder.path, is_first=not workers.rank) if teacher else None
    trainer.gradient_sync = gradient_sync_for(trainer)
    return Training(trainer, replace(model, module=trainer.evaluated), data, fitted)
