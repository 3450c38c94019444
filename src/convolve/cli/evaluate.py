"""convolve evaluate"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from convolve.cli import asked as options
from convolve.errors import DataError, MissingDataError, UsageError

if TYPE_CHECKING:
    from convolve.model import Model
    from convolve.training.evaluate import Evaluation


def evaluate(
    model: Annotated[Path, typer.Argument(help="A model folder, a run folder, or a CNTK model.")],
    data: Annotated[
        str | None,
        typer.Option(
            help="Where the data is: a folder, a map file of images, a folder of classes, or `sample`.",
            metavar="DIR|FILE|sample",
        ),
    ] = None,
    output: Annotated[
        str | None, typer.Option(metavar="NODE", help="The class scores, where a file has several outputs.")
    ] = None,
    preset: options.Preset = None,
    mean: options.Mean = None,
    channel_order: options.Order = None,
    scale: options.Scale = None,
    labels: options.Labels = None,
    image_shape: options.ImageShape = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Test a model on a data set: errors, loss, a table of classes.

    Top-1 and top-5 are exact over the whole test set. Images of a map file or of class folders are read as they are
    needed, prepared as the model wants them.

    Example: convolve evaluate runs/mnist --data sample
    """
    from convolve.importers.presets import PRESETS
    from convolve.model import load

    opened = load(model, options.asked(preset, mean, channel_order, scale, labels, image_shape, output))
    evaluation, source = _evaluate_on_images(opened, data) or _evaluate_on_data_set(opened, data)
    if opened.doubt:
        print(f"note: {opened.doubt}", file=sys.stderr)
    figures = _figures(evaluation, opened.class_names)
    published = PRESETS.get(str(opened.trained.get("preset")))
    if published:
        figures["published_error"] = published.published_error
        figures["published_error_top5"] = published.published_error_top5
    print(json.dumps(figures, indent=2) if as_json else _table(figures, source))


def _evaluate_on_images(opened: Model, data: str | None) -> tuple[Evaluation, str] | None:
    """The evaluation on images that stay on disk, if `data` is a map file or a folder of classes."""
    from convolve.data.labelled_images import has_class_folders, read_class_folders, stream
    from convolve.formats.image_map import read_image_map
    from convolve.transforms.preprocess import fit_image

    place = Path(data or "")
    if data and place.is_file():
        images: Any = read_image_map(place, classes=len(opened.class_names))
    elif data and has_class_folders(place):
        images = read_class_folders(place, opened.class_names)
    else:
        return None
    opened.require_images()
    want = opened.preprocess
    batches = stream(images, lambda image: fit_image(image, want)[0], opened.batch_size, grey=want.channels == 1)
    return opened.evaluate_stream(batches), str(place)


def _evaluate_on_data_set(opened: Model, data: str | None) -> tuple[Evaluation, str]:
    from convolve.data.locate import SAMPLE
    from convolve.data.sources import fitting, open_data

    if not opened.data_name and data not in (None, SAMPLE) and not Path(str(data)).exists():
        raise MissingDataError(f"{data} does not exist; give a folder, a map file of images, or --data sample")
    name = opened.data_name or fitting(opened.preprocess.shape_CHW, len(opened.class_names))
    if name is None or (data is None and not opened.data_name):
        raise UsageError("say with --data on what: a map file (path TAB class number) or a folder of class folders")
    dataset = open_data(name, data)
    if dataset.class_names != opened.class_names:
        theirs, ours = ", ".join(dataset.class_names), ", ".join(opened.class_names)
        raise DataError(f"{dataset.source} has the classes {theirs}; the model knows {ours}")
    return opened.for_images(dataset.test.shape_CHW).evaluate(dataset.test), dataset.source


def _figures(evaluation: Evaluation, class_names: tuple[str, ...]) -> dict[str, Any]:
    predicted_N = evaluation.probabilities_NK.argmax(1)
    classes = []
    for k, name in enumerate(class_names):
        is_k, said_k = evaluation.labels_N == k, predicted_N == k
        hits = int((is_k & said_k).sum())
        classes.append(
            {
                "class": name,
                "samples": int(is_k.sum()),
                "errors": int(is_k.sum()) - hits,
                "false_alarms": int(said_k.sum()) - hits,
            }
        )
    return {
        "samples": len(evaluation.labels_N), "errors": int(evaluation.wrong_N.sum()), "test_error": evaluation.error,
        "test_error_top5": evaluation.error_top5, "test_loss": evaluation.loss, "classes": classes,
    }  # fmt: skip


def _table(figures: dict[str, Any], source: str) -> str:
    top5 = "" if figures["test_error_top5"] is None else f", top-5 error {figures['test_error_top5']:.2%}"
    lines = [
        f"{figures['samples']:,} test images from {source}",
        f"error {figures['test_error']:.2%} ({figures['errors']} images){top5}, loss {figures['test_loss']:.4f}",
        *_published(figures),
        "",
        f"{'class':<16}{'images':>8}{'errors':>8}{'error':>9}{'false alarms':>14}",
    ]
    for row in figures["classes"]:
        if row["samples"] or row["false_alarms"]:  # of a thousand classes, many may not occur
            error = row["errors"] / row["samples"] if row["samples"] else 0.0
            counts = f"{row['samples']:>8}{row['errors']:>8}{error:>9.2%}{row['false_alarms']:>14}"
            lines.append(f"{row['class'][:15]:<16}{counts}")
    return "\n".join(lines)


def _published(figures: dict[str, Any]) -> list[str]:
    """The line with the errors that the model's publishers measured, on all of ImageNet's validation images."""
    found = [("error", figures.get("published_error")), ("top-5 error", figures.get("published_error_top5"))]
    said = ", ".join(f"{name} {value:.3%}" for name, value in found if value is not None)
    return [f"published: {said}"] if said else []
