"""convolve train"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from convolve.cli.formatting import counted, interval_text
from convolve.cli.options import (
    Accept,
    Arch,
    AsJson,
    Coverage,
    Device,
    Options,
    Set,
    SkipUnreadable,
    Threads,
    TrainingData,
    assignment,
    choices,
    recipe_names,
    with_data_options,
)
from convolve.remote import shown

if TYPE_CHECKING:
    from convolve.records import Result


@with_data_options
def train(
    recipe: Annotated[
        str,
        typer.Argument(
            metavar="RECIPE",
            autocompletion=recipe_names,
            help="A recipe's name (photos, mnist, mnist-fast, mnist-best, cifar10-fast, alexnet, ...), a recipe file "
            "(.json, .yaml), or a run folder's recipe.json.",
        ),
    ],
    data: TrainingData = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="The run folder. An unfinished run in it is resumed. [default: runs/RECIPE]"),
    ] = None,
    epochs: Annotated[int | None, typer.Option(metavar="N", help="Number of epochs.")] = None,
    seed: Annotated[
        int | None, typer.Option(metavar="N", help="Seed for initial weights, sample order and augmentation.")
    ] = None,
    device: Device = None,
    minutes: Annotated[
        float | None,
        typer.Option(
            metavar="N",
            help="For the recipe photos: choose the largest plan that should take at most N minutes on one core.",
        ),
    ] = None,
    precision: Annotated[
        str | None, typer.Option(**choices("auto|fp32|bf16|fp16"), help="The precision of the training.")
    ] = None,
    threads: Threads = None,
    from_model: Annotated[
        Path | None,
        typer.Option(
            "--from", metavar="MODEL", help="Start from this trained network, whatever its format and classes."
        ),
    ] = None,
    arch: Arch = None,
    teacher: Annotated[
        Path | None,
        typer.Option(help="Learn from this network's probabilities as well as from the labels.", metavar="MODEL"),
    ] = None,
    fake_data: Annotated[bool, typer.Option("--fake-data", help="Train on noise, to measure speed.")] = False,
    accept: Accept = None,
    coverage: Coverage = None,
    folds: Annotated[
        int | None,
        typer.Option(
            metavar="K",
            help="Cross-validate: train K times, each time leaving out 1/K of the images, then once on all of them.",
        ),
    ] = None,
    find_lr: Annotated[
        bool, typer.Option("--find-lr", help="Do not train. Find a good learning rate, and write a page with its plot.")
    ] = False,
    set_: Set = None,
    skip_unreadable: SkipUnreadable = False,
    restart: Annotated[bool, typer.Option("--restart", help="Start over instead of resuming.")] = False,
    log: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Also log to tensorboard, mlflow or wandb. Repeatable."),
    ] = None,
    as_json: AsJson = False,
    *,
    options: Options,
) -> None:
    """Train a recipe, or resume an unfinished run.

    Example: convolve train mnist --data sample --set model.dropout=0.3
    """
    flags = {"epochs": epochs, "seed": seed, "device": device, "precision": precision, "threads": threads}
    asked: dict[str, Any] = {f"run.{name}": value for name, value in flags.items()}
    asked |= {"model.start": from_model and shown(from_model), "model.arch": arch, "confidence.accept": accept}
    asked |= {"confidence.coverage": coverage, "data.skip_unreadable": skip_unreadable or None}
    plan = None if minutes is None else f"auto:{minutes:g}"
    asked |= {"distillation.teacher": teacher and str(teacher), "model.plan": plan}
    settings = {path: value for path, value in asked.items() if value is not None} | dict(map(assignment, set_ or []))

    from convolve import run
    from convolve.cli.folds import train_folds
    from convolve.cli.progress import Display
    from convolve.cli.rate_finder import find_rate
    from convolve.data import known
    from convolve.recipes import resolve
    from convolve.report import write_report
    from convolve.tracking.tracker import Tracking

    resolved = resolve(recipe, settings)
    folder = out or Path("runs") / resolved.name
    images = known.fake_data(resolved.data.name) if fake_data else data
    if find_lr:
        find_rate(resolved, folder, as_json=as_json, data=images, options=options)
        return
    with Display(resolved) as display, Tracking(log or [], display, write_report) as tracking:
        asked = {"data": images, "restart": restart, "progress": tracking, "options": options}
        asked |= {"report": tracking.report}
        if folds is None:
            finished, spread, more = run.train(resolved, out=folder, **asked), "", dict[str, Any]()
        else:
            finished, spread, more = train_folds(resolved, folds, folder, **asked)
    if finished.rank:
        return
    if as_json:
        print(json.dumps(finished.result | more, indent=2))
    else:
        print(spread + _summary(finished.folder.result(), finished.folder.recipe().published_error, folder))


def _summary(result: Result, published_error: float | None, folder: Path) -> str:
    from convolve.training.metrics import in_words

    figures = [interval_text(result.test_error_interval)] if result.test_error_interval else []
    of = ", on the official files" if result.data_note else ""
    figures += [f"published{of}: {published_error:.1%}"] if published_error is not None else []
    beside = f" ({'; '.join(figures)})" if figures else ""
    error, figures = result.test_error, in_words(vars(result), "test")
    said = f"error {error:.2%}" if error is not None else ", ".join(figures)
    kept = f", the model is that of epoch {result.model_epoch}" if result.model_epoch is not None else ""
    after = f"after {counted(result.epochs, 'epoch')}{kept}, {result.train_seconds:.1f} s"
    after += f" at {result.images_per_second:.0f} images/s"
    if not result.epochs:
        after = f"of a fitted head, {result.total_seconds:.1f} s in all"
    return (
        f"test {said}{beside} {after} in {result.precision}\n"
        f"{_damage(result)}"
        f"run     {folder}\n"
        f"report  {folder / 'report.html'}\n"
        f"try     convolve predict {folder} IMAGE"
    )


def _damage(result: Result) -> str:
    """A line on damaged images, or nothing if there are none."""
    said = []
    if result.test_unreadable:
        said.append(f"{counted(result.test_unreadable, 'test image')} could not be read: the error is over the others")
    if result.train_damaged:
        said.append(f"{counted(result.train_damaged, 'training image')} could not be read: other images replaced them")
    return f"damage  {'; '.join(said)}\n" if said else ""
