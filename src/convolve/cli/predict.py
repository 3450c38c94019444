"""convolve predict"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from convolve.cli.formatting import write_csv
from convolve.cli.options import AnyModel, AsJson, CsvFile, MaxMegapixels, Overrides, with_overrides
from convolve.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

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
    max_megapixels: MaxMegapixels = None,
    *,
    overrides: Overrides,
) -> None:
    """Classify images, with probabilities.

    Images of any size and color mode are preprocessed as the model expects.

    Example: convolve predict runs/mnist digit.png more_digits/ --top 3
    """
    if npz_file and not output:
        raise UsageError("--npz holds the features of a layer; name it with --output")
    if sum(map(bool, (as_json, csv_file, npz_file))) > 1:
        raise UsageError("--json, --csv and --npz exclude each other; choose one")

    from convolve.formats.decode import pixel_limit
    from convolve.model import load

    opened = load(model, overrides, output)
    opened.max_pixels = pixel_limit(max_megapixels)
    if output:
        names, features = opened.features(paths)
        if as_json:
            images = [{"path": name, "features": row.tolist()} for name, row in zip(names, features, strict=True)]
            head = {"model": str(model), "output": output, "shape": list(features.shape[1:])}
            print(json.dumps(head | {"images": images}, ensure_ascii=False))
        else:
            _write_features(names, features, csv_file, npz_file)
    else:
        _print_predictions(opened.predict(paths, top), model, as_json, csv_file)
    if opened.preprocess_warning:
        print(f"note: {opened.preprocess_warning}", file=sys.stderr)


def _print_predictions(predictions: list[Prediction], model: Path, as_json: bool, csv_file: Path | None) -> None:
    if csv_file:
        write_csv(csv_file, _rows(predictions))
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
        _print_lines(predictions)


def _rows(predictions: list[Prediction]) -> Iterator[list[str]]:
    ranks = range(1, len(predictions[0].classes) + 1)
    yield ["path", *(title for rank in ranks for title in (f"class_{rank}", f"probability_{rank}"))]
    for prediction in predictions:
        yield [prediction.path, *(value for name, p in prediction.classes for value in (name, f"{p:.6f}"))]


def _print_lines(predictions: list[Prediction]) -> None:
    width = max(len(prediction.path) for prediction in predictions)
    for prediction in predictions:
        print(f"{prediction.path:<{width}}  " + "  ".join(f"{name} {value:.1%}" for name, value in prediction.classes))
    fitted = [prediction for prediction in predictions if prediction.fitted]
    if fitted:
        print(f"note: {len(fitted)} of {len(predictions)} images were brought to the model's size and colors "
              f"({fitted[0].path}: {fitted[0].fitted})", file=sys.stderr)  # fmt: skip


def _write_features(names: list[str], features: NDArray[Any], csv_file: Path | None, npz_file: Path | None) -> None:
    """As arrays `paths` and `features` (N, ...), or as a table: path, then the numbers, the last axis fastest."""
    if npz_file:
        import numpy as np

        from convolve.atomic import replacing

        with replacing(npz_file) as temporary, temporary.open("wb") as file:
            np.savez(file, paths=np.array(names), features=features)
    else:
        flat = features.reshape(len(features), -1)
        rows = ([name, *(f"{value:.8g}" for value in row)] for name, row in zip(names, flat, strict=True))
        write_csv(csv_file, [["path", *(f"feature_{k}" for k in range(flat.shape[1]))], *rows])
    if csv_file or npz_file:
        print(f"features {features.shape[1:]} of {len(names)} images in {csv_file or npz_file}", file=sys.stderr)
