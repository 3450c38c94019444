"""Cross-validation: each image is predicted by a network that was not trained on it, and one network is trained on all
images.

The folds are ordinary runs beside the run folder, OUT-fold1 and so on, so that an interrupted command can be resumed.
"""

import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load

from convolve.atomic import read_whole
from convolve.data.hold_out import Membership
from convolve.data.options import AS_FOUND, DataOptions
from convolve.data.relations import MOST_READ, relate
from convolve.data.sources.files import FileSource
from convolve.data.sources.source import Source
from convolve.data.splits import OutOfFold, Splits
from convolve.errors import DataError, ResumeRefusedError, UsageError
from convolve.inputs import open_inputs
from convolve.outcome import Run
from convolve.recipe import Recipe
from convolve.recipe_values import differences
from convolve.run import train
from convolve.training.events import Callback, silent
from convolve.training.folds import fold_numbers
from convolve.training.run_folder import RunFolder, State
from convolve.training.workers import SINGLE_PROCESS

# Legend: N images, K classes.


@dataclass(frozen=True, eq=False)
class CrossValidation:
    """`errors`: of each fold; `source`: the images; `answers_NK`: predictions of networks that were not trained on the
    image's fold `fold_N`."""

    run: Run
    errors: tuple[float, ...]
    source: Source
    class_names: tuple[str, ...]
    answers_NK: NDArray[np.float32]
    fold_N: NDArray[np.int64]

    @property
    def error(self) -> float:
        """The error over all images."""
        return float((self.answers_NK.argmax(1) != self.source.labels_N.numpy()).mean())

    @property
    def deviation(self) -> float:
        """The sample standard deviation of the folds' errors."""
        return statistics.stdev(self.errors)

    def rows(self) -> Iterator[list[object]]:
        """A table: the header, and the prediction for each image."""
        yield ["image", "label", "predicted", "probability", "of the label", "fold"]
        for index, label in enumerate(self.source.labels_N.tolist()):
            answers_K = self.answers_NK[index]
            said = int(answers_K.argmax())
            names = [self.class_names[each] for each in (label, said)]
            parts = [f"{answers_K[each]:.6f}" for each in (said, label)]
            yield [self.source.location(index), *names, *parts, int(self.fold_N[index]) + 1]


def cross_validate(
    recipe: Recipe,
    folds: int,
    out: Path,
    data: str | Splits | None = None,
    *,
    restart: bool = False,
    progress: Callback = silent,
    report: Callable[[Path], object] | None = None,
    options: DataOptions = AS_FOUND,
) -> CrossValidation:
    """Train `recipe` without each of the `folds`, then on all images, in the folder `out`.

    If the set has its own test part, the folds split the training part, and the last training is an ordinary one.
    Otherwise they split all images, and their predictions give the error of the last training.
    """
    _require_plain(recipe, folds)
    recipe, splits = open_inputs(recipe, data, options, progress, SINGLE_PROCESS)
    whole, groups_N, membership = _whole(splits)
    fold_N = fold_numbers(whole.labels_N.numpy(), groups_N, folds, recipe.run.seed)
    _require_every_class(whole, groups_N, splits.class_names, folds)
    where = splits.description.partition("; ")[0]  # what was held out stands after it
    found, errors = dict[str, torch.Tensor](), list[float]()
    for fold in range(folds):
        parts = _without(splits, whole, fold_N == fold, f"{where}, without fold {fold + 1} of {folds}")
        path = out.with_name(f"{out.name}-fold{fold + 1}")
        progress("note", {"message": f"fold {fold + 1} of {folds} in {path}"})
        folder = _trained(recipe, parts, path, restart=restart, progress=progress, report=report)
        for name, given in _said(Run(folder)).items():
            found.setdefault(name, given.new_zeros(len(whole), *given.shape[1:]))[fold_N == fold] = given
        errors.append(folder.result().test_error or 0.0)
    splits = replace(splits, out_of_fold=OutOfFold(whole.labels_N, **found, folds=folds, is_test=bool(membership)))
    if membership:
        splits = replace(splits, train=whole, test=whole, membership=membership, description=where)
    progress("note", {"message": f"the last training, on all images, in {out}"})
    folder = _trained(recipe, splits, out, restart=restart, progress=progress, report=report)
    answers_NK = found["answers_NK"].numpy()
    return CrossValidation(Run(folder), tuple(errors), whole, splits.class_names, answers_NK=answers_NK, fold_N=fold_N)


def _said(run: Run) -> dict[str, torch.Tensor]:
    """What a run predicted for its fold, as `OutOfFold` returns it."""
    kept = load(read_whole(run.folder.path / "evaluation.safetensors", DataError))
    known = run.model.confidence
    said = {"answers_NK": kept["probabilities_NK"]}
    if known and "distances_N" in kept:
        log_NK = said["answers_NK"].double().clamp(min=1e-37).log()
        said |= {"raw_NK": (log_NK * known.record.temperature).softmax(1).float(), "distances_N": kept["distances_N"]}
    return said


def _require_plain(recipe: Recipe, folds: int) -> None:
    if folds < 2:
        raise UsageError(f"--folds {folds}: give 2 or more; 5 is usual")
    if recipe.data.target != "class":
        raise UsageError(f"--folds is for one class per image; leave it out with data.target={recipe.data.target}")
    if recipe.data.skip_unreadable:
        raise UsageError(
            "--folds needs all images, so leave --skip-unreadable out: `convolve check-data DATA --write-table TABLE` "
            "writes a list without the damaged ones"
        )
    if recipe.plateau and recipe.plateau.monitor.startswith("validation") and not recipe.data.validation_fraction:
        raise UsageError("--folds leaves no images for plateau.monitor=validation; set data.validation_fraction")


def _whole(splits: Splits) -> tuple[Source, NDArray[np.int64], Membership | None]:
    """(all images, or the training part if the set has its own test part; their groups; what the cache knows of all
    images)."""
    whole = splits.train
    if not isinstance(whole, FileSource):
        return whole, np.arange(len(whole)), None
    if splits.membership and isinstance(splits.test, FileSource):
        whole = replace(whole, index_N=np.sort(np.concatenate([whole.index_N, splits.test.index_N])))
    relations = relate(whole)
    keys, known = np.unique(relations.key_N)[:MOST_READ], splits.membership
    membership = known and replace(known, trained=keys, tested=keys[:0], by_name=relations.by_name)
    return whole.with_units(relations.unit_N), relations.unit_N, membership


def _without(splits: Splits, whole: Source, is_mine_N: NDArray[np.bool_], where: str) -> Splits:
    """A split whose test part is a fold, and whose training part is the others."""
    train, test = (whole.take(np.flatnonzero(each)) for each in (~is_mine_N, is_mine_N))
    return replace(splits, train=train, test=test, membership=None, description=where)


def _require_every_class(whole: Source, groups_N: NDArray[np.int64], class_names: tuple[str, ...], folds: int) -> None:
    """Raise `DataError` for a class with too few images for every fold to have one."""
    labels_N = whole.labels_N.numpy()
    for label, name in enumerate(class_names):
        groups = len(np.unique(groups_N[labels_N == label]))
        if groups < folds:
            images = int((labels_N == label).sum())
            together = f" in {groups} groups that stay together" if groups < images else ""
            least = f"use --folds {groups}, " if groups > 1 else ""
            raise DataError(
                f"--folds {folds}: class {name} has {images} images{together}, too few for every fold; {least}"
                f"add more images of it, or leave the class out"
            )


def _trained(
    recipe: Recipe,
    splits: Splits,
    path: Path,
    *,
    restart: bool,
    progress: Callback,
    report: Callable[[Path], object] | None,
) -> RunFolder:
    """The finished run in `path`; one with the same settings is reused."""
    folder = RunFolder(path)
    if restart or not (folder.state is State.REPORTED or (folder.finished and not report)):
        return train(recipe, data=splits, out=path, restart=restart, progress=progress, report=report).folder
    kept = replace(folder.recipe(), published_error=recipe.published_error)
    changes = differences(kept, recipe)
    if folder.start().data_fingerprint != splits.fingerprint():
        changes.append("the data (its fingerprint differs)")
    if changes:
        raise ResumeRefusedError(
            f"{path} holds a run with other settings: {'; '.join(changes)}; give the same settings to resume it, "
            f"another --out, or --restart"
        )
    return folder
