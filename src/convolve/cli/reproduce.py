"""convolve reproduce"""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from convolve.cli.options import (
    AsJson,
    Device,
    Options,
    Set,
    Threads,
    TrainingData,
    assignment,
    choices,
    recipe_names,
    with_data_options,
)
from convolve.distributed.launcher import rank_info
from convolve.errors import UsageError

if TYPE_CHECKING:
    from convolve.data.splits import Splits
    from convolve.reproduce import SeedRun


@with_data_options
def reproduce(
    recipe: Annotated[
        str,
        typer.Argument(
            metavar="RECIPE", autocompletion=recipe_names, help="A recipe's name, or a recipe file (.json, .yaml)."
        ),
    ],
    seeds: Annotated[int, typer.Option(min=1, metavar="N", help="Train with the seeds 0 to N-1.")] = 3,
    data: TrainingData = None,
    runs: Annotated[
        Path,
        typer.Option(help="The folder for the runs, DIR/RECIPE-SEED. Finished runs are kept.", metavar="DIR"),
    ] = Path("runs"),
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The JSON file for the summary. [default: RECIPE.json in the DIR of --runs]"),
    ] = None,
    views: Annotated[
        int,
        typer.Option(
            **choices("1|2|6|10"), help="Also test each run over several views of each image, as evaluate --views does."
        ),
    ] = 1,
    device: Device = None,
    threads: Threads = None,
    set_: Set = None,
    as_json: AsJson = False,
    *,
    options: Options,
) -> None:
    """Train a recipe with several seeds.

    Prints the mean and standard deviation of the test error and of the training time, and the published error. If it
    is interrupted, the same command resumes it.

    Example: convolve reproduce mnist-fast --seeds 5
    """
    flags = {f"run.{name}": value for name, value in (("device", device), ("threads", threads)) if value is not None}

    from convolve.atomic import write_json
    from convolve.recipe import with_values
    from convolve.recipes import resolve
    from convolve.reproduce import errors_over_views, seed_runs, summarize
    from convolve.transforms.tta import require_count

    require_count(views)
    if rank_info(os.environ).size > 1:
        raise UsageError(
            "convolve reproduce trains in one process; with many workers, use `convolve train --seed N` for each seed"
        )
    named = resolve(recipe, dict(map(assignment, set_ or [])))
    seed_by_seed = seed_runs(with_values(named, flags), seeds, runs)
    splits = _train_missing(seed_by_seed, data, options, views > 1)
    over_views = errors_over_views(seed_by_seed, splits.test, views) if splits and views > 1 else None
    asked = [recipe, *(word for text in set_ or [] for word in ("--set", text))]
    asked += [*(["--views", str(views)] if views > 1 else []), "--seeds", str(seeds)]
    summary = summarize(named, seed_by_seed, f"convolve reproduce {shlex.join(asked)}", over_views)
    path = out or runs / f"{named.name}.json"
    write_json(path, summary)
    if as_json:
        print(json.dumps(summary, indent=2))
        return
    print(*_table(summary), sep="\n")
    print(f"data       {seed_by_seed[0].folder.start().data}\nsummary    {path}")


def _train_missing(seed_by_seed: list[SeedRun], data: str | None, options: Options, needs_data: bool) -> Splits | None:
    """Train the runs that are missing. Returns the data, if it had to be opened."""
    from convolve import run
    from convolve.cli.progress import Display, download_lines, stderr_console
    from convolve.data.open import open_data
    from convolve.report import write_report
    from convolve.reproduce import require_same_data
    from convolve.training.run_folder import State

    missing = [one for one in seed_by_seed if not one.folder.finished]
    spec, splits = seed_by_seed[0].recipe.data, None
    if missing or data or needs_data:
        file_order = spec.order != "shuffled"
        progress = download_lines(stderr_console())
        splits = open_data(data, spec.name, file_order=file_order, progress=progress, options=options)
    require_same_data(seed_by_seed, splits)
    for one in seed_by_seed:
        if one.folder.state is State.FINISHED:  # the run was killed before its report
            write_report(one.folder.path)
    for one in missing:
        with Display(one.recipe) as display:
            display.console.print(f"seed {one.recipe.run.seed} in {one.folder.path}")
            run.train(one.recipe, data=splits, out=one.folder.path, progress=display, report=write_report)
    return splits


def _table(summary: dict[str, Any]) -> Iterator[str]:
    yield "seed  test error      95% interval  training  images/s  precision  threads"
    for result in summary["runs"]:
        yield (
            f"{result['seed']:>4}{result['test_error']:>12.2%}{_interval(result):>18}{result['train_seconds']:>8.0f} s"
            f"{result['images_per_second']:>10.0f}{result['precision']:>11}{result['threads']:>9}"
        )
    error, seconds, over_views = summary["test_error"], summary["train_seconds"], summary["over_views"]
    yield f"mean{error['mean']:>12.2%}{'':18}{seconds['mean']:>8.0f} s"
    if error["standard_deviation"] is not None:
        yield f"std {error['standard_deviation']:>12.2%}{'':18}{seconds['standard_deviation']:>8.0f} s"
    if over_views:
        yield f"{over_views['views']} views{over_views['test_error']['mean']:>9.2%}"
    if summary["published_error"] is not None:
        yield f"published {summary['published_error']:>6.2%}"


def _interval(result: dict[str, Any]) -> str:
    return "-".join(f"{end:.2%}" for end in result["test_error_interval"])
