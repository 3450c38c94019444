"""convolve evaluate"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from convolve.cli import certainty
from convolve.cli.formatting import counted, interval_text, write_csv
from convolve.cli.options import (
    Accept,
    AnyModel,
    AsJson,
    Coverage,
    CsvFile,
    CsvSafe,
    Options,
    Overrides,
    SkipUnreadable,
    choices,
    with_data_options,
    with_overrides,
)
from convolve.errors import UsageError

if TYPE_CHECKING:
    from convolve.data.sources.source import Source
    from convolve.data.team import Team
    from convolve.model import Model
    from convolve.training.evaluate import Evaluation


_NAMED = 5  # classes that one of two models knows


@with_overrides
@with_data_options
def evaluate(
    model: AnyModel,
    other: Annotated[
        Path | None,
        typer.Argument(
            help="Another model of the same classes: print the difference of the two errors on the same images, with "
            "its interval. The options below describe MODEL, not this one.",
            metavar="OTHER",
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="Test images: a data set's folder, a folder for each class, a map file, a CSV table, or `sample`.",
            metavar="DIR|FILE|sample",
        ),
    ] = None,
    views: Annotated[
        int,
        typer.Option(
            help="Test-time augmentation: also average the answers to several views of each image. 2: the image and "
            "its mirror image. 6: both, in place and shifted by 1/32 of the size. 10: corners and center, and their "
            "mirror images.",
            **choices("1|2|6|10"),
        ),
    ] = 1,
    skip_unreadable: SkipUnreadable = False,
    as_json: AsJson = False,
    csv: CsvFile = None,
    csv_safe: CsvSafe = False,
    accept: Accept = None,
    coverage: Coverage = None,
    drift: Annotated[
        bool,
        typer.Option(
            "--drift",
            help="Also say whether the images look like the training images. A plain folder of images is enough: they "
            "need no classes.",
        ),
    ] = False,
    *,
    overrides: Overrides,
    options: Options,
) -> None:
    """Test a model on a data set.

    Prints top-1 and top-5 errors with their 95 % intervals, the loss, and a table of classes. Every test image counts.
    Images of any size are preprocessed as the model expects. The table of classes is for a single view.

    Example: convolve evaluate runs/mnist --data sample
    """
    from convolve.cli.progress import check_lines
    from convolve.distributed.parts import open_team
    from convolve.export.onnx import note_of
    from convolve.loading import load
    from convolve.training.memory import keep_freed_memory

    keep_freed_memory()  # decodes images in a tenth less time
    with open_team(check_lines("{what}: {done:,} of {count:,}")) as team:
        opened = load(model, overrides)
        opened.require_classes()
        certainty.ask(opened, accept, coverage, drift)
        second = load(other) if other else None
        if drift and data and not (other or csv or views > 1) and certainty.is_unlabeled(Path(data)):
            print(certainty.of_unlabeled(opened, Path(data), as_json, team))
            return
        options = replace(options, target=opened.target.kind.value)
        opened, second, source, where = _find(opened, second, data, options)
        figures = _measured((opened, second), source, views, skip_unreadable, drift=drift, team=team)
        if csv and team.rank == 0:
            _write_rows(csv, csv_safe, figures.get("classes") or figures["numbers"])
        for note in filter(None, (opened.preprocess_warning, note_of(opened.module))):
            print(f"note: {note}", file=sys.stderr)
        print(json.dumps(figures, indent=2) if as_json else _table(figures, where))


def _measured(
    models: tuple[Model, Model | None], source: Source, views: int, skip: bool, *, drift: bool, team: Team
) -> dict[str, Any]:
    """All figures of the first model, and by how much the second one's error differs."""
    from convolve.importers.presets import presets
    from convolve.transforms.tta import require_views

    opened, second = models
    require_views(opened.preprocess, views)
    team.begin(
        lambda: {
            "model": opened.digest(),
            "other model": second.digest() if second else "",
            "images": source.digest().hex(),
            "--views": str(views),
            "--skip-unreadable": str(skip),
        }
    )
    evaluation, readable = _evaluate(opened, source, skip, team=team)
    figures = _figures(evaluation, opened.class_names) | {"test_unreadable": len(source) - len(readable)}
    figures |= certainty.figures_of(opened, evaluation, drift)
    is_class = opened.target.kind == "class"
    if views > 1:
        averaged, _ = _evaluate(opened, readable, False, views, team=team)
        counts = _counts(averaged, "views_", "views_") if is_class else _plain_figures(averaged, "views_")
        figures |= {"views": views} | counts
    if second:
        figures |= _compared(second, readable, evaluation, opened.class_names, team)
    if published := presets().get(opened.training_info.preset or ""):
        figures |= {f"published_{error}": getattr(published, f"published_{error}") for error in ("error", "error_top5")}
    return figures


def _write_rows(csv: Path, safe: bool, rows: list[dict[str, Any]]) -> None:
    write_csv(csv, [["number", *rows[0]], *([k, *row.values()] for k, row in enumerate(rows))], safe)


def _find(
    opened: Model, second: Model | None, data: str | None, options: Options
) -> tuple[Model, Model | None, Source, str]:
    """(model, second model, test images, where they lie); the models are adapted to images of a fixed size.

    The models may have different test parts of the same set: only images that neither was trained on are used.
    """
    import numpy as np

    from convolve.data.open import open_test
    from convolve.data.sources.source import ArraySource

    if second and {second.target.kind, opened.target.kind} != {"class"}:
        raise UsageError("only models that give each image one class can be compared; evaluate each by itself")
    if second and (other := set(second.class_names) ^ set(opened.class_names)):
        names = ", ".join(sorted(other)[:_NAMED])
        raise UsageError(f"the two models do not know the same classes ({names}): their errors cannot be compared")
    ask = partial(open_test, data, opened.data_name, opened.class_names, options=options)
    known = [(each.preprocess.shape_CHW, each.learned) for each in (opened, second) if each]
    found = [ask(shape_CHW=shape_CHW, learned=learned) for shape_CHW, learned in known]
    (source, where), (others, _) = found[0], found[-1]
    in_both = {others.location(number) for number in range(len(others))}
    numbers = [number for number in range(len(source)) if source.location(number) in in_both]
    if not numbers:
        raise UsageError(
            f"{where}: one or the other model was trained on each of these images; give other images with --data"
        )
    source = source if len(numbers) == len(source) else source.take(np.array(numbers))
    if isinstance(source, ArraySource):
        shape_CHW = source.shape_CHW
        return opened.for_arrays(shape_CHW), second and second.for_arrays(shape_CHW), source, where
    opened.require_images()  # image files can have any size
    return opened, second, source, where


def _evaluate(model: Model, source: Source, skip: bool, views: int = 1, *, team: Team) -> tuple[Evaluation, Source]:
    """(the evaluation, the images it covers): all of `source`, or those that can be read."""
    import numpy as np

    from convolve.cli.in_blocks import evaluate as evaluate_in_blocks
    from convolve.cli.progress import with_progress
    from convolve.data.damaged import skipping

    unreadable = skipping(skip, lambda message: print(f"warning: {message}", file=sys.stderr))
    what = f"evaluated in {views} views" if views > 1 else "evaluated"
    progress = partial(with_progress, count=len(source), what=what, images=lambda batch: len(batch[1]))
    watch = progress if team.size == 1 else iter
    evaluation = evaluate_in_blocks(model, model.dataset(source, views, unreadable), views, watch, team)
    if unreadable:
        source = source.take(np.setdiff1d(np.arange(len(source)), [*unreadable.numbers]))
    return evaluation, source


def _compared(
    second: Model, source: Source, first: Evaluation, class_names: tuple[str, ...], team: Team
) -> dict[str, Any]:
    """The second model's figures on the same images, whose labels index `class_names`."""
    import torch

    from convolve.training.calibration import paired_difference, wilson_interval

    evaluation, _ = _evaluate(second, source, skip=False, team=team)
    first_number_K = torch.tensor([class_names.index(name) for name in second.class_names])
    wrong_N = first_number_K[evaluation.probabilities_NK.argmax(1)] != first.labels_N
    found = paired_difference(first.wrong_N.numpy(), wrong_N.numpy())
    errors = int(wrong_N.sum())
    return {
        "other_errors": errors, "other_error": errors / len(wrong_N),
        "other_error_interval": wilson_interval(errors / len(wrong_N), len(wrong_N)),
        "difference": found.error, "difference_interval": found.interval,
        "wrong_in_model_only": found.only_first, "wrong_in_other_only": found.only_second,
    }  # fmt: skip


def _figures(evaluation: Evaluation, class_names: tuple[str, ...]) -> dict[str, Any]:
    if evaluation.target.kind != "class":
        figures = _plain_figures(evaluation, "test_") | _rows(evaluation, class_names)
        return {"samples": len(evaluation.labels_N)} | figures
    labels_N, predicted_N = evaluation.labels_N, evaluation.probabilities_NK.argmax(1)
    wrong_top5_N, classes, found = evaluation.wrong_top5_N, [], evaluation.classes
    for k, name in enumerate(class_names):
        is_k, hits = labels_N == k, int(found.hits_K[k])
        mistakes_K = predicted_N[is_k & (predicted_N != k)].bincount(minlength=len(class_names))
        row = {
            "class": name, "samples": int(found.images_K[k]), "errors": int(found.images_K[k]) - hits,
            "false_alarms": int(found.said_K[k]) - hits,
            "most_taken_for": class_names[int(mistakes_K.argmax())] if mistakes_K.any() else None,
        }  # fmt: skip
        if wrong_top5_N is not None:
            row["errors_top5"] = int(wrong_top5_N[is_k].sum())
        classes.append(row | found.rates(k))
    macro = {f"test_{name}": value for name, value in found.macro.items()}
    return {"samples": len(labels_N)} | _counts(evaluation, "", "test_") | macro | {"classes": classes}


def _plain_figures(evaluation: Evaluation, begins: str) -> dict[str, Any]:
    """The figures of targets other than one class; their names start with `begins`."""
    return {f"{begins}{name}": value for name, value in evaluation.figures.items()} | {f"{begins}loss": evaluation.loss}


def _rows(evaluation: Evaluation, names: tuple[str, ...]) -> dict[str, Any]:
    """A row for each number, or for each class of images that can have several."""
    from convolve.training.metrics import class_table, number_table

    labels_NK, answers_NK = evaluation.labels_N.numpy(), evaluation.answers_NK.numpy()
    if evaluation.target.kind == "number":
        rows = number_table(labels_NK, answers_NK)
        return {"numbers": [{"number": name} | row for name, row in zip(names, rows, strict=True)]}
    classes = class_table(labels_NK, answers_NK, evaluation.target)
    return {"classes": [{"class": name} | row for name, row in zip(names, classes, strict=True)]}


def _counts(evaluation: Evaluation, counts: str, parts: str) -> dict[str, Any]:
    """The figures over all images; their names start with `counts` and `parts`."""
    from convolve.training.calibration import wilson_interval

    figures: dict[str, Any] = {}
    for which, wrong_N in (("", evaluation.wrong_N), ("_top5", evaluation.wrong_top5_N)):
        errors, n = None if wrong_N is None else int(wrong_N.sum()), len(evaluation.labels_N)
        figures |= {
            f"{counts}errors{which}": errors, f"{parts}error{which}": None if errors is None else errors / n,
            f"{parts}error{which}_interval": None if errors is None else wilson_interval(errors / n, n),
        }  # fmt: skip
    return figures | {f"{parts}loss": evaluation.loss}


def _table(figures: dict[str, Any], source: str) -> str:
    unreadable = figures["test_unreadable"]
    of = f"{figures['samples']:,} of {figures['samples'] + unreadable:,}" if unreadable else f"{figures['samples']:,}"
    if "test_error" not in figures:
        return "\n".join([f"{of} test images from {source}", *certainty.lines_of(figures), *_plain_lines(figures)])
    return "\n".join([
        f"{of} test images from {source}",
        _errors(figures, "", "test_"),
        "balanced error {test_balanced_error:.2%}; means of the classes: precision {test_macro_precision:.2%}, "
        "recall {test_macro_recall:.2%}, F1 {test_macro_f1:.2%}".format(**figures),
        *([f"over {figures['views']} views: {_errors(figures, 'views_', 'views_')}"] if "views" in figures else []),
        *_published(figures),
        *_difference(figures),
        *certainty.lines_of(figures),
        "",
        *_class_lines(figures["classes"]),
    ])  # fmt: skip


def _plain_lines(figures: dict[str, Any]) -> Iterator[str]:
    """The figures and the table of targets other than one class."""
    from convolve.training.metrics import in_words

    yield f"{', '.join(in_words(figures, 'test'))}, loss {figures['test_loss']:.4f}"
    if "views" in figures:
        said = ", ".join(in_words(figures, "views"))
        yield f"over {figures['views']} views: {said}, loss {figures['views_loss']:.4f}"
    yield ""
    rows = figures.get("classes") or figures["numbers"]
    (first, *others), width = rows[0], max(16, *(len(str(next(iter(row.values())))) + 2 for row in rows))
    yield f"{first:<{width}}" + "".join(f"{name.replace('_', ' '):>{len(name) + 2}}" for name in others)
    for row in rows:
        name, *values = row.values()
        cells = ("-" if v is None else f"{v}" if isinstance(v, int) else f"{v:.4g}" for v in values)
        yield f"{name:<{width}}" + "".join(f"{c:>{len(key) + 2}}" for c, key in zip(cells, others, strict=True))


def _class_lines(classes: list[dict[str, Any]]) -> Iterator[str]:
    from convolve.training.calibration import wilson_interval

    width = min(40, max(16, *(len(row["class"]) + 1 for row in classes)))
    columns = {"images": 8, "errors": 8, "error": 9, "95% interval": 18, "false alarms": 14, "precision": 11, "F1": 9}
    yield f"{'class':<{width}}" + "".join(f"{name:>{its_width}}" for name, its_width in columns.items())
    for row in classes:
        if row["samples"] or row["false_alarms"]:  # with a thousand classes, many may not occur
            error, between = 0.0, ""
            if row["samples"]:
                error = row["errors"] / row["samples"]
                between = "-".join(f"{end:.2%}" for end in wilson_interval(error, row["samples"]))
            counts = f"{row['samples']:>8}{row['errors']:>8}{error:>9.2%}{between:>18}{row['false_alarms']:>14}"
            counts += "".join(
                f"{'' if row[n] is None else f'{row[n]:.2%}':>{w}}" for n, w in (("precision", 11), ("f1", 9))
            )
            yield f"{row['class'][: width - 1]:<{width}}{counts}"


def _errors(figures: dict[str, Any], counts: str, parts: str) -> str:
    """Errors and loss as text; see `_counts`."""
    said = []
    for name, which in (("error", ""), ("top-5 error", "_top5")):
        if (error := figures[f"{parts}error{which}"]) is not None:
            images = counted(figures[f"{counts}errors{which}"], "image")
            said.append(f"{name} {error:.2%} ({images}; {interval_text(figures[f'{parts}error{which}_interval'])})")
    return ", ".join([*said, f"loss {figures[f'{parts}loss']:.4f}"])


def _difference(figures: dict[str, Any]) -> Iterator[str]:
    """The second model's error, and the difference in percentage points."""
    if "difference" not in figures:
        return
    errors, interval = figures["other_errors"], interval_text(figures["other_error_interval"])
    yield f"the other model: error {figures['other_error']:.2%} ({counted(errors, 'image')}; {interval})"
    low, high = figures["difference_interval"]
    verdict = "the other one is worse" if low > 0 else "the other one is better" if high < 0 else "it may be chance"
    yield (
        f"difference: {100 * figures['difference']:+.2f} points (95% interval {100 * low:+.2f} to {100 * high:+.2f}; "
        f"{figures['wrong_in_model_only']} wrong in the first alone, {figures['wrong_in_other_only']} in the other): "
        f"{verdict}"
    )


def _published(figures: dict[str, Any]) -> list[str]:
    """The errors that the model's publishers measured, on all of ImageNet's validation images."""
    found = [("error", figures.get("published_error")), ("top-5 error", figures.get("published_error_top5"))]
    said = ", ".join(f"{name} {value:.3%}" for name, value in found if value is not None)
    return [f"published: {said}"] if said else []
