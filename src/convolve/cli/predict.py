"""convolve predict"""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from convolve.cli.options import AnyModel, AsJson, CsvFile, Overrides, with_overrides
from convolve.errors import DataError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from convolve.cli.answers import Output
    from convolve.data.damaged import Unreadable
    from convolve.formats.archive import Location
    from convolve.model import Model


@with_overrides
def predict(
    model: AnyModel,
    paths: Annotated[list[Path], typer.Argument(help="Images, folders of images, zips of images.", metavar="PATH...")],
    top: Annotated[int, typer.Option(min=1, help="Number of classes to show per image.")] = 5,
    as_json: AsJson = False,
    csv_file: CsvFile = None,
    output: Annotated[
        str | None,
        typer.Option(metavar="NODE", help="Print the features of this layer instead of class probabilities."),
    ] = None,
    npz_file: Annotated[
        Path | None, typer.Option("--npz", metavar="FILE", help="With --output: write the features to this NumPy file.")
    ] = None,
    sort_into: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Also copy each image into a folder in DIR, named after its class.")
    ] = None,
    fail_fast: Annotated[
        bool, typer.Option("--fail-fast", help="Stop at the first image that cannot be read.")
    ] = False,
    *,
    overrides: Overrides,
) -> None:
    """Classify images, with probabilities.

    Images of any size and color mode are preprocessed as the model expects. Answers are written as they come; if it is
    interrupted, the same command with --csv goes on where it was. Images that cannot be read get their error in place
    of an answer, and the exit code is 3.

    Example: convolve predict runs/mnist digit.png more_digits/ --top 3
    """
    if npz_file and not output:
        raise UsageError("--npz holds the features of a layer; name it with --output")
    if sort_into and output:
        raise UsageError("--sort-into goes by classes, and --output gives features in their place; choose one")
    if sum(map(bool, (as_json, csv_file, npz_file))) > 1:
        raise UsageError("--json, --csv and --npz exclude each other; choose one")

    from convolve.data.damaged import Unreadable
    from convolve.data.image_files import list_images
    from convolve.model import load

    opened, images, unreadable = load(model, overrides, output), list_images(paths), Unreadable()
    opened.require_images()
    sorter = None
    if sort_into:
        from convolve.cli.sort_into import Sorter

        sorter = Sorter(sort_into, opened.class_names, paths)
    options = {"--top": top, "--output": output, "--sort-into": sort_into and str(sort_into)}
    with _output(opened, images, as_json, csv_file, npz_file, options, unreadable) as out:
        ...
