"""convolve predict"""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TextIO

import typer

from convolve.cli.features import write_features
from convolve.cli.options import AnyModel, AsJson, CsvFile, Overrides, with_overrides
from convolve.errors import UsageError

if TYPE_CHECKING:
    from convolve.model import Prediction


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
    *,
    overrides: Overrides,
) -> None:
    """Classify images, with probabilities.

    Images of any size and color mode are preprocessed as the model expects.

    Example: convolve predict runs/mnist digit.png more_digits/ --top 3
    """
    if npz_file and not output:
        raise UsageError("--npz holds the features of a layer; name it with --output")

    from convolve.model import load

    opened = load(model, overrides, output)
    if output:
        names, features = opened.features(paths)
        write_features(names, features, str(model), output, as_json=as_json, csv_file=csv_file, npz_file=npz_file)
    else:
        _say(opened.predict(paths, top), model, as_json, csv_file)
    if opened.preprocess_warning:
        print(f"note: {opened.preprocess_warning}", file=sys.stderr)


def _say(predictions: list[Prediction], model: Path, as_json: bool, csv_file: Path | None) -> None:
    if csv_file:
        from convolve.atomic import replacing

        with replacing(csv_file) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            _write_csv(predictions, file)
        print(f"{len(predictions)} predictions in {csv_file}", file=sys.stderr)
    elif as_json:
        images = [
            {
                "path": p.path,
                "classes": [{"class": name, "probability": value} for name, value in p.classes],
                "fitted": p.fitted,
            }
            for p in predictions
        ]
        print(json.dumps({"model": str(model), "images": images}, indent=2, ensure_ascii=False))
    else:
        _print(predictions)


def _write_csv(predictions: list[Prediction], file: TextIO) -> None:
    writer = csv.writer(file)
    places = range(1, len(predictions[0].classes) + 1)
    writer.writerow(["path", *(title for place in places for title in (f"class_{place}", f"probability_{place}"))])
    for prediction in predictions:
        writer.writerow([prediction.path, *(value for name, p in prediction.classes for value in (name, f"{p:.6f}"))])


def _print(predictions: list[Prediction]) -> None:
    width = max(len(prediction.path) for prediction in predictions)
    for prediction in predictions:
        print(f"{prediction.path:<{width}}  " + "  ".join(f"{name} {value:.1%}" for name, value in prediction.classes))
    fitted = [prediction for prediction in predictions if prediction.fitted]
    if fitted:
        print(f"note: {len(fitted)} of {len(predictions)} images were brought to the model's size and colours "
              f"({fitted[0].path}: {fitted[0].fitted})", file=sys.stderr)  # fmt: skip
