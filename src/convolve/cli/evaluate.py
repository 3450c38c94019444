"""convolve evaluate"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from convolve.errors import DataError

if TYPE_CHECKING:
    from convolve.training.evaluate import Evaluation


def evaluate(
    model: Annotated[Path, typer.Argument(help="A model folder or a run folder.")],
    data: Annotated[
        str | None, typer.Option(help="Where the data is: a folder, a file, or `sample`.", metavar="DIR|FILE|sample")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Test a model on a data set: errors, loss, a table of classes.

    Top-1 and top-5 are exact over the whole test set.

    Example: convolve evaluate runs/mnist --data sample
    """
    from convolve.data.sources import open_data
    from convolve.model import load

    opened = load(model)
    dataset = open_data(opened.data_name, data)
    if dataset.class_names != opened.class_names:
        theirs, ours = ", ".join(dataset.class_names), ", ".join(opened.class_names)
        raise DataError(f"{dataset.source} has the classes {theirs}; the model knows {ours}")
    evaluation = opened.evaluate(dataset.test)
    figures = _figures(evaluation, opened.class_names)
    print(json.dumps(figures, indent=2) if as_json else _table(figures, dataset.source))


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
        "",
        f"{'class':<16}{'images':>8}{'errors':>8}{'error':>9}{'false alarms':>14}",
    ]
    for row in figures["classes"]:
        error = row["errors"] / row["samples"] if row["samples"] else 0.0
        lines.append(f"{row['class']:<16}{row['samples']:>8}{row['errors']:>8}{error:>9.2%}{row['false_alarms']:>14}")
    return "\n".join(lines)
