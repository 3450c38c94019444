"""What `evaluate` says of a model that knows its own certainty."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from convolve.errors import UsageError

if TYPE_CHECKING:
    from convolve.model import Model
    from convolve.training.evaluate import Evaluation


def ask(model: Model, accept: float | None, coverage: float | None, drift: bool) -> None:
    """As `Model.ask`. Raises UsageError where nothing is known of the images that the model was trained on."""
    model.ask(accept, coverage)
    if drift and model.confidence is None:
        raise UsageError(
            "--drift: this model has not learned what its images look like; train one that does with `convolve train "
            "RECIPE --accept 0.95`, to which --from MODEL gives the weights of this one"
        )


def figures_of(model: Model, evaluation: Evaluation, with_drift: bool) -> dict[str, Any]:
    """The figures, by their names in the JSON; nothing where the model has not learned how sure it is."""
    known, distances_N = model.confidence, evaluation.distances_N
    if known is None or distances_N is None:
        return {}
    from convolve.training.calibration import confidence_figures
    from convolve.training.confidence import drift

    answers_NK, labels = evaluation.answers_NK.numpy(), evaluation.labels_N.numpy()
    figures = confidence_figures(known.record, answers_NK, labels, distances_N.numpy())
    if with_drift:
        found = drift(known, distances_N)
        figures["drift"] = {**asdict(found), "is_there": found.is_there}
    return figures


def lines_of(figures: dict[str, Any]) -> Iterator[str]:
    """The same in words."""
    if "accepted" in figures and figures["accept"] < 1:
        error = figures.get("accepted_error")
        among = f"; error among them {error:.2%}" if error is not None else ""
        asked = f"{1 - figures['accept']:.2%} of one's own"
        yield f"none of these: {1 - figures['accepted']:.2%} (asked for {asked}){among}"
    if "calibration_error" in figures:
        yield f"calibration error {figures['calibration_error']:.4f}"
    if "covered" in figures:
        yield (
            f"sets of classes hold an image's own {figures['covered']:.2%} of the time (asked for "
            f"{figures['coverage']:.2%}), with {figures['mean_set_size']:.2f} classes on average"
        )
    if "drift" in figures:
        yield _drift_in_words(figures["drift"])


def _drift_in_words(found: dict[str, Any]) -> str:
    verdict = "do not look" if found["is_there"] else "look"
    return (
        f"drift: these images {verdict} like those of the training: {found['beyond']:.1%} are farther from them than "
        f"95 % of one's own, the distances are shifted by {found['shift']:.2f} (probability by chance "
        f"{found['probability']:.2g})"
    )
