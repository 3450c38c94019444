"""convolve train"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from convolve.errors import UsageError
from convolve.records import Result


def train(
    recipe: Annotated[
        str, typer.Argument(help="A recipe's name, a recipe file (.json, .yaml), or a run folder's recipe.json.")
    ],
    data: Annotated[
        str | None,
        typer.Option(
            help="Where the data is: the recipe's own, images of yours (folders, map file, CSV table), or `sample`.",
            metavar="DIR|FILE|sample",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="The run folder; an unfinished run there is resumed. [default: runs/RECIPE]")
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the data.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of initial weights, order and augmentation.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:i.")] = None,
    precision: Annotated[str | None, typer.Option(help="auto, fp32, bf16 or fp16.")] = None,
    threads: Annotated[int | None, typer.Option(help="Processor threads; 0 takes every core.")] = None,
    from_model: Annotated[
        Path | None,
        typer.Option("--from", help="Start from this model: the weights of one of ours, or a CNTK network."),
    ] = None,
    fake_data: Annotated[bool, typer.Option("--fake-data", help="Train on noise, to measure the loop.")] = False,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="PATH=VALUE", help="Set any field of the recipe; repeatable.")
    ] = None,
    restart: Annotated[bool, typer.Option("--restart", help="Start over instead of resuming.")] = False,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Write event files for TensorBoard into the run folder.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print result.json instead of a summary.")] = False,
) -> None:
    """Train a recipe, or go on with an unfinished run.

    Example: convolve train mnist --data sample --set model.dropout=0.3
    """
    flags = {"epochs": epochs, "seed": seed, "device": device, "precision": precision, "threads": threads}
    settings: dict[str, Any] = {f"run.{name}": value for name, value in flags.items() if value is not None}
    settings |= dict(assignment(text) for text in set_ or [])

    from convolve import run
    from convolve.cli.progress import Display
    from convolve.report import write_report

    resolved = run.resolve(recipe, settings)
    folder = out or Path("runs") / resolved.name
    with Display(resolved, folder / "tensorboard" if tensorboard else None) as display:
        finished = run.train(
            resolved,
            data=data,
            out=folder,
            restart=restart,
            from_model=from_model,
            use_fake_data=fake_data,
            progress=display,
            report=write_report,
        )
    if finished.rank:
        return
    if as_json:
        print(json.dumps(finished.result, indent=2))
    else:
        print(_summary(finished.folder.result(), finished.folder.recipe().published_error, folder))


def assignment(text: str) -> tuple[str, str]:
    path, equals, value = text.partition("=")
    if not equals or not path:
        raise UsageError(f"--set wants PATH=VALUE, for example run.epochs=3, got {text!r}")
    return path.strip(), value


def _summary(result: Result, published_error: float | None, folder: Path) -> str:
    published = f" (published: {published_error:.1%})" if published_error is not None else ""
    return (
        f"test error {result.test_error:.2%}{published} after {result.epochs} epochs, "
        f"{result.train_seconds:.1f} s at {result.images_per_second:.0f} images/s in {result.precision}\n"
        f"run     {folder}\n"
        f"report  {folder / 'report.html'}\n"
        f"try     convolve predict {folder} IMAGE"
    )
