"""convolve evaluate"""

from __future__ import annotations

import json
import sys
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from convolve.cli.formatting import write_csv
from convolve.cli.options import AnyModel, AsJson, CsvFile, Options, Overrides, with_data_options, with_overrides

if TYPE_CHECKING:
    from torch import Tensor

    from convolve.data.sources.source import Source
    from convolve.model import Model
    from convolve.training.evaluate import Evaluation


@with_overrides
@with_data_options
def evaluate(
    model: AnyModel,
    data: Annotated[
        str | None,
        typer.Option(
            help="The test images: a data set's folder, class folders, a map file, a CSV table, or `sample`.",
            metavar="DIR|FILE|sample",
        ),
    ] = None,
    views: Annotated[
        int,
        typer.Option(
            help="Test-time augmentation: also average the predictions for 2 views (the image and its mirror image), "
            "6 (both, in place and shifted by 1/32 of the size), or 10 (corners and center, and their mirror images)."
        ),
    ] = 1,
    as_json: AsJson = False,
    csv: CsvFile = None,
    *,
    overrides: Overrides,
    options: Options,
) -> None:
    """Test a model on a data set: errors, loss, a table of classes.

    The top-1 and top-5 errors count every test image. Images of any size are preprocessed as the model expects. The
    table of classes is for the single view.

    Example: convolve evaluate runs/mnist --data sample
    """
    from convolve.cli.progress import with_progress
    from convolve.importers.presets import presets
    from convolve.model import load
    from convolve.training.memory import keep_freed_memory
    from convolve.transforms.tta import require_views

    keep_freed_memory()  # images are decoded in a tenth less time
    opened = load(model, overrides)
    opened, source, where = _find(opened, data, options)
    require_views(opened.preprocess, views)
    watch = partial(with_progress, count=len(source), what="evaluated")
    figures = _figures(opened.evaluate(opened.dataset(source), watch=watch), opened.class_names)
    if csv:
        classes = figures["classes"]
        write_csv(csv, [["number", *classes[0]], *([k, *row.values()] for k, row in enumerate(classes))])
    if views > 1:
        watch = partial(with_progress, count=len(source), what=f"evaluated in {views} views")
        averaged = opened.evaluate(opened.dataset(source, views), views, watch=watch)
        figures |= {
            "views": views, "views_errors": int(averaged.wrong_N.sum()), "views_error": averaged.error,
            "views_errors_top5": _count(averaged.wrong_top5_N), "views_error_top5": averaged.error_top5,
            "views_loss": averaged.loss,
        }  # fmt: skip
    if opened.preprocess_warning:
        print(f"note: {opened.preprocess_warning}", file=sys.stderr)
    published = presets().get(opened.training_info.preset or "")
    if published:
        figures["published_error"] = published.published_error
        figures["published_error_top5"] = published.published_error_top5
    print(json.dumps(figures, indent=2) if as_json else _table(figures, where))


def _find(opened: Model, data: str | None, options: Options) -> tuple[Model, Source, str]:
    """(the model, made ready for the images; the images; where they lie)."""
    from convolve.data.open import open_test
    from convolve.data.sources.source import ArraySource

    shape_CHW, fingerprint = opened.preprocess.shape_CHW, opened.training_info.data_fingerprint
    source, where = open_test(data, opened.data_name, opened.class_names, shape_CHW, fingerprint, options=options)
    if isinstance(source, ArraySource):
        return opened.for_images(source.shape_CHW), source, where
    opened.require_images()  # files can be of any size
    return opened, source, where


def _figures(evaluation: Evaluation, class_names: tuple[str, ...]) -> dict[str, Any]:
    labels_N, predicted_N = evaluation.labels_N, evaluation.probabilities_NK.argmax(1)
    wrong_top5_N, classes = evaluation.wrong_top5_N, []
    for k, name in enumerate(class_names):
        is_k, said_k = labels_N == k, predicted_N == k
        hits = int((is_k & said_k).sum())
        mistakes_K = predicted_N[is_k & ~said_k].bincount(minlength=len(class_names))
        row = {
            "class": name, "samples": int(is_k.sum()), "errors": int(is_k.sum()) - hits,
            "false_alarms": int(said_k.sum()) - hits,
            "most_taken_for": class_names[int(mistakes_K.argmax())] if mistakes_K.any() else None,
        }  # fmt: skip
        if wrong_top5_N is not None:
            row["errors_top5"] = int(wrong_top5_N[is_k].sum())
        classes.append(row)
    return {
        "samples": len(labels_N), "errors": int(evaluation.wrong_N.sum()), "test_error": evaluation.error,
        "errors_top5": _count(wrong_top5_N), "test_error_top5": evaluation.error_top5,
        "test_loss": evaluation.loss, "classes": classes,
    }  # fmt: skip


def _count(wrong_N: Tensor | None) -> int | None:
    return None if wrong_N is None else int(wrong_N.sum())


def _table(figures: dict[str, Any], source: str) -> str:
    width = min(40, max(16, *(len(row["class"]) + 1 for row in figures["classes"])))
    lines = [
        f"{figures['samples']:,} test images from {source}",
        _errors(figures, "", "test_"),
        *([f"over {figures['views']} views: {_errors(figures, 'views_', 'views_')}"] if "views" in figures else []),
        *_published(figures),
        "",
        f"{'class':<{width}}{'images':>8}{'errors':>8}{'error':>9}{'false alarms':>14}",
    ]
    for row in figures["classes"]:
        if row["samples"] or row["false_alarms"]:  # of a thousand classes, many may not occur
            error = row["errors"] / row["samples"] if row["samples"] else 0.0
            counts = f"{row['samples']:>8}{row['errors']:>8}{error:>9.2%}{row['false_alarms']:>14}"
            lines.append(f"{row['class'][: width - 1]:<{width}}{counts}")
    return "\n".join(lines)


def _errors(figures: dict[str, Any], counts: str, parts: str) -> str:
    """Errors and loss in words; `counts` and `parts` is how the names of these figures begin."""
    said = []
    for name, which in (("error", ""), ("top-5 error", "_top5")):
        if (error := figures[f"{parts}error{which}"]) is not None:
            said.append(f"{name} {error:.2%} ({figures[f'{counts}errors{which}']} images)")
    return ", ".join([*said, f"loss {figures[f'{parts}loss']:.4f}"])


def _published(figures: dict[str, Any]) -> list[str]:
    """The line with the errors that the model's publishers measured, on all of ImageNet's validation images."""
    found = [("error", figures.get("published_error")), ("top-5 error", figures.get("published_error_top5"))]
    said = ", ".join(f"{name} {value:.3%}" for name, value in found if value is not None)
    return [f"published: {said}"] if said else []
