"""convolve predict"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from convolve.cli import answers
from convolve.cli.answers import NONE_OF_THESE
from convolve.cli.options import (
    Accept,
    AnyModel,
    AsJson,
    Coverage,
    CsvFile,
    CsvSafe,
    MaxMegapixels,
    Overrides,
    with_overrides,
)
from convolve.errors import DataError, UsageError

if TYPE_CHECKING:
    from convolve.cli.answers import Output
    from convolve.data.damaged import Unreadable
    from convolve.data.team import Team
    from convolve.formats.archive import Location
    from convolve.model import Model
    from convolve.prediction import Prediction


@with_overrides
def predict(
    model: AnyModel,
    paths: Annotated[list[Path], typer.Argument(help="Images, folders of images, zips of images.", metavar="PATH")],
    top: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Number of classes for each image. [default: 5; all of them if an image can have several]",
        ),
    ] = None,
    as_json: AsJson = False,
    csv_file: CsvFile = None,
    csv_safe: CsvSafe = False,
    output: Annotated[
        str | None,
        typer.Option(metavar="NODE", help="Print the features of this layer instead of classes."),
    ] = None,
    npz_file: Annotated[
        Path | None, typer.Option("--npz", metavar="FILE", help="With --output: write the features to this NumPy file.")
    ] = None,
    max_megapixels: MaxMegapixels = None,
    sort_into: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Also copy each image into a folder of DIR with the name of its class."),
    ] = None,
    fail_fast: Annotated[
        bool, typer.Option("--fail-fast", help="Stop at the first image that cannot be read.")
    ] = False,
    accept: Accept = None,
    coverage: Coverage = None,
    *,
    overrides: Overrides,
) -> None:
    """Classify images, with probabilities.

    Images of any size and color mode are preprocessed as the model expects. For an image that cannot be read, the error
    takes the place of the answer, and the exit code is 3. Answers are written as they arrive: with --csv, repeating an
    interrupted command resumes it.

    Example: convolve predict runs/mnist digit.png more_digits/ --top 3
    """
    _require_one_form(as_json, csv_file, npz_file, output, sort_into)

    from convolve.cli.progress import check_lines
    from convolve.distributed.parts import open_team
    from convolve.training.memory import keep_freed_memory

    keep_freed_memory()  # as in `evaluate`
    options = {
        "--top": top,
        "--output": output,
        "--sort-into": sort_into and str(sort_into),
        "--max-megapixels": max_megapixels,
        "--csv-safe": csv_safe,
    }
    with open_team(check_lines("{what}: {done:,} of {count:,}")) as team:
        opened = _opened(model, overrides, options, (accept, coverage), team.threads)
        unreadable, images = _predict(
            opened, paths, (as_json, csv_file, npz_file), options, fail_fast, team=team, path=model
        )
    if unreadable:
        raise unreadable.error(len(images))


def _opened(
    path: Path, overrides: Overrides, options: dict[str, Any], limits: tuple[float | None, float | None], threads: int
) -> Model:
    """The model, set up for prediction."""
    import torch

    from convolve.formats.decode import pixel_limit
    from convolve.several_heads import load_heads

    if threads:
        torch.set_num_threads(threads)
    opened = load_heads(path, overrides, options["--output"])
    opened.require_images()
    opened.ask(*limits)
    opened.max_pixels = pixel_limit(options["--max-megapixels"])
    return opened


def _predict(
    opened: Model,
    paths: Sequence[Path],
    forms: tuple[bool, Path | None, Path | None],
    options: dict[str, Any],
    fail_fast: bool,
    *,
    team: Team,
    path: Path,
) -> tuple[Unreadable, Sequence[Location]]:
    """Write the answers in one of the `forms` JSON, CSV and arrays. Returns (what cannot be read, all images)."""
    from convolve.cli.in_blocks import predictions
    from convolve.data.damaged import Unreadable
    from convolve.data.image_files import find_images
    from convolve.data.walk import PassedOver
    from convolve.export.onnx import note_of

    passed, unreadable, sort_into = PassedOver(), Unreadable(way_out=""), options["--sort-into"]
    images = list(find_images(paths, passed))
    question = {"model": opened.digest(), "images": answers.digest_of(images)} | options
    team.begin(lambda: {name: str(value) for name, value in question.items()}, forms[1])
    if team.rank:  # this worker computes its part; the first one writes
        list(predictions(opened, images, options["--top"], iter, team, for_all=False))
        return unreadable, images
    copy = _copier(sort_into, opened, paths)
    with _open_output(path, opened, images, forms, question, unreadable=unreadable) as out:
        done = out.start
        watch = _timed(len(images), done, any(forms)) if team.size == 1 else iter
        for batch in predictions(opened, images, options["--top"], watch, team, start=done):
            for number, one in enumerate(batch, done):
                if not one.error:
                    copy(images[number], one)
                elif fail_fast:
                    raise DataError(f"{one.path}: {one.error}")
                else:
                    unreadable.note(number, one.path, f"{one.path}: {one.error}")
            out.add(batch)
            done += len(batch)
    for note in filter(None, (str(passed), opened.preprocess_warning, note_of(opened.module))):
        print(f"note: {note}", file=sys.stderr)
    return unreadable, images


def _require_one_form(
    as_json: bool, csv_file: Path | None, npz_file: Path | None, output: str | None, sort_into: Path | None
) -> None:
    if npz_file and not output:
        raise UsageError("--npz holds the features of a layer; name the layer with --output")
    if sort_into and output:
        raise UsageError("--sort-into needs classes, and --output gives features instead; choose one")
    if sum(map(bool, (as_json, csv_file, npz_file))) > 1:
        raise UsageError("--json, --csv and --npz exclude each other; choose one")


def _open_output(
    path: Path,
    model: Model,
    images: Sequence[Location],
    forms: tuple[bool, Path | None, Path | None],
    question: dict[str, Any],
    *,
    unreadable: Unreadable,
) -> AbstractContextManager[Output]:
    """The Output for one of the `forms` JSON, CSV and arrays."""
    as_json, csv_file, npz_file = forms
    if question["--top"] and model.target.kind == "number":
        raise UsageError("--top is for classes, and this model gives numbers; leave it out")
    if csv_file:
        return answers.csv_file(csv_file, model, images, question, unreadable)
    if npz_file:
        return answers.arrays(npz_file)
    if as_json:
        features = {"output": model.node, "shape": list(model.feature_shape)} if model.node else {}
        return answers.json_object({"model": str(path), **features})
    return answers.csv_text(model, question["--csv-safe"]) if model.node else answers.lines(images)


def _timed(count: int, done: int, is_quiet: bool) -> Callable[[Iterator[Any]], Iterator[Any]]:
    """A wrapper of the batches that shows progress on stderr, unless the answers themselves show it."""
    if not is_quiet and sys.stdout.isatty():
        return iter
    from convolve.cli.progress import with_progress

    return partial(with_progress, count=count, what="predicted", images=len, done=done)


def _copier(folder: str | None, model: Model, paths: Sequence[Path]) -> Callable[[Location, Prediction], None]:
    """A function that copies an image into the folder of its class; without a `folder`, it does nothing."""
    if folder is None:
        return lambda location, one: None
    if model.target.kind != "class" or getattr(model, "heads", None):
        raise UsageError("--sort-into needs one class per image, which this model does not give; leave it out")
    from convolve.cli.sort_into import Sorter

    sorter = Sorter(Path(folder), (*model.class_names, NONE_OF_THESE) if model.confidence else model.class_names, paths)
    return lambda location, one: sorter.take(location, NONE_OF_THESE if one.none_of_these else one.classes[0][0])
