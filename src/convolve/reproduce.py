"""A recipe trained with several seeds: the runs, and their summary.

The runs are ordinary run folders: one that `convolve train --seed` has started or finished is reused.
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convolve.data.sources.source import Source
from convolve.data.splits import Splits
from convolve.errors import ResumeRefusedError, UsageError
from convolve.loading import load
from convolve.recipe import Recipe, to_mapping, with_values
from convolve.recipe_values import differences, leaf_paths
from convolve.records.reading import to_json
from convolve.training.run_folder import RunFolder

# How a run is computed, not what: this may differ between seeds, and each result records it.
_HOW = ("run.threads", "run.device", "run.precision", "run.checkpoint_seconds")


@dataclass(frozen=True)
class SeedRun:
    """The recipe with its seed, and the folder of its run, which may not exist yet."""

    recipe: Recipe
    folder: RunFolder


def seed_runs(recipe: Recipe, seeds: int, place: Path) -> list[SeedRun]:
    """The runs of the seeds 0, 1, ... in the folders `place`/<recipe>-<seed>; those that have started keep their
    device, precision and threads. Raises `ResumeRefusedError` if one has another recipe."""
    if recipe.data.target != "class":
        raise UsageError(f"data.target={recipe.data.target} has no error to reproduce; train each seed separately")
    return [
        _as_begun(with_values(recipe, {"run.seed": seed}), RunFolder(place / f"{recipe.name}-{seed}"))
        for seed in range(seeds)
    ]


def _as_begun(planned: Recipe, folder: RunFolder) -> SeedRun:
    if not folder.started:
        return SeedRun(planned, folder)
    recorded = folder.recipe()
    leaves = leaf_paths(recorded)
    changes = differences(recorded, with_values(planned, {path: leaves[path] for path in _HOW}))
    if changes:
        raise ResumeRefusedError(
            f"{folder.path} holds a run of another recipe: {'; '.join(changes)}; choose another --runs"
        )
    return SeedRun(recorded, folder)


def require_same_data(runs: Sequence[SeedRun], splits: Splits | None) -> None:
    """Raise `ResumeRefusedError` unless all runs that have started saw the same data: `splits`, if given."""
    seen = {"the data": splits.fingerprint()} if splits else {}
    begun = [run.folder for run in runs if run.folder.started]
    seen |= {str(folder.path): folder.start().data_fingerprint for folder in begun}
    for where, fingerprint in seen.items():
        first = next(iter(seen))
        if fingerprint != seen[first]:
            raise ResumeRefusedError(
                f"{where} was trained on other data than {'this' if splits else first}; "
                "give the --data of that run, or choose another --runs"
            )


def errors_over_views(runs: Sequence[SeedRun], test: Source, views: int) -> dict[str, Any]:
    """The test error of each finished run with test-time augmentation over this many views."""
    models = [load(run.folder.path) for run in runs]
    errors = [model.evaluate(model.dataset(test, views), views).figures["error"] for model in models]
    return {"views": views, "test_error": _spread(errors), "errors": errors}


def summarize(recipe: Recipe, runs: Sequence[SeedRun], command: str, views: dict[str, Any] | None) -> dict[str, Any]:
    """The figures of finished runs beside the published error, with the conditions of each.

    Errors are fractions; `train_seconds` excludes evaluation and checkpoints, and includes all processes of a resumed
    run. `over_views` holds the `errors_over_views`, if given, `runs` each result.json unchanged, `curves` each run's
    errors by epoch.
    """
    results = [run.folder.result() for run in runs]
    errors = [result.test_error for result in results if result.test_error is not None]
    return {
        "recipe": recipe.name,
        "command": command,
        "n": len(results),
        "published_error": recipe.published_error,
        "test_error": _spread(errors),
        "train_seconds": _spread([result.train_seconds for result in results]),
        "over_views": views,
        "runs": [to_json(result) for result in results],
        "curves": [_curve(run.folder) for run in runs],
        "resolved_recipe": to_mapping(recipe),
    }


def _curve(folder: RunFolder) -> dict[str, list[float | None]]:
    epochs = folder.epochs() if (folder.path / "metrics.jsonl").exists() else []
    return {name: [getattr(epoch, name) for epoch in epochs] for name in ("train_error", "test_error", "seconds")}


def _spread(values: Sequence[float]) -> dict[str, float | None]:
    """Mean, sample standard deviation (n - 1; None for one value), minimum and maximum."""
    return {
        "mean": statistics.fmean(values),
        "standard_deviation": statistics.stdev(values) if len(values) > 1 else None,
        "least": min(values),
        "most": max(values),
    }
