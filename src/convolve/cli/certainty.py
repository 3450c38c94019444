"""What `evaluate` prints about a model that knows its own confidence."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convolve.cli.formatting import counted
from convolve.errors import DataError, UsageError

if TYPE_CHECKING:
    from convolve.data.team import Team
    from convolve.model import Model
    from convolve.training.evaluate import Evaluation


def ask(model: Model, accept: float | None, coverage: float | None, drift: bool) -> None:
    """As `Model.ask`. Raises UsageError if the model has no statistics of its training images."""
    model.ask(accept, coverage)
    if drift and model.confidence is None:
        raise UsageError(
            "--drift: this model has no statistics of its training images; train one that has them with `convolve "
            "train "
            "RECIPE --accept 0.95`, and add --from MODEL to start from this one's weights"
        )


def is_unlabeled(folder: Path) -> bool:
    """Whether the folder holds images, but no subfolders that could be classes and no table."""
    from convolve.data.walk import PassedOver, walk
    from convolve.formats.table import ENDINGS

    inside = [each for each in folder.glob("*") if not each.name.startswith(".")]
    told = any(each.is_dir() or each.suffix.lower() in ENDINGS for each in inside)
    return not told and folder.is_dir() and next(iter(walk(folder, PassedOver())), None) is not None


def of_unlabeled(model: Model, folder: Path, as_json: bool, team: Team) -> str:
    """The results for images without labels, as JSON or as text: the fraction answered with "none of these", and the
    drift from the training images."""
    import torch

    from convolve.cli.answers import digest_of
    from convolve.cli.in_blocks import predictions
    from convolve.cli.progress import with_progress
    from convolve.data.image_files import find_images
    from convolve.training.confidence import drift

    assert model.confidence is not None  # `ask` has checked this
    images = list(find_images([folder]))
    team.begin(lambda: {"model": model.digest(), "images": digest_of(images)})
    watch = partial(with_progress, count=len(images), what="looked at", images=len) if team.size == 1 else iter
    answers = [one for batch in predictions(model, images, None, watch, team) for one in batch]
    distances = [one.distance for one in answers if one.distance is not None]
    faults = [f"{one.path}: {one.error}" for one in answers if one.error]
    if not distances:
        raise DataError(f"none of the {len(images):,} images in {folder} can be read; {faults[0]}")
    for fault in faults:
        print(f"warning: {fault}; it is skipped", file=sys.stderr)
    found = drift(model.confidence, torch.tensor(distances))
    accepted = sum(not one.none_of_these for one in answers if one.distance is not None) / len(distances)
    figures = {
        "samples": len(distances), "test_unreadable": len(faults), "accepted": accepted,
        "accept": model.confidence.record.accept, "drift": {**asdict(found), "is_there": found.is_there},
    }  # fmt: skip
    words = [f"{counted(len(distances), 'image')} without classes from {folder}", *lines_of(figures)]
    return json.dumps(figures, indent=2) if as_json else "\n".join(words)


def figures_of(model: Model, evaluation: Evaluation, with_drift: bool) -> dict[str, Any]:
    """The figures under their JSON names; empty if the model does not know its confidence."""
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
    """The same figures as lines of text."""
    if "accepted" in figures and figures["accept"] < 1:
        error = figures.get("accepted_error")
        among = f"; error among the answered images {error:.2%}" if error is not None else ""
        asked = f"{1 - figures['accept']:.2%}"
        yield f"rejected as none of these: {1 - figures['accepted']:.2%} (asked for {asked}){among}"
    if "calibration_error" in figures:
        yield f"calibration error {figures['calibration_error']:.4f}"
    if "covered" in figures:
        yield (
            f"sets of classes contain the true class {figures['covered']:.2%} of the time (asked for "
            f"{figures['coverage']:.2%}), with {figures['mean_set_size']:.2f} classes on average"
        )
    if "within" in figures:
        held = ", ".join(f"{part:.2%}" for part in figures["within"])
        yield f"intervals contain the true number {held} of the time (asked for {figures['coverage']:.2%})"
    if "drift" in figures:
        yield _drift_in_words(figures["drift"])


def _drift_in_words(found: dict[str, Any]) -> str:
    verdict = "do not look" if found["is_there"] else "look"
    return (
        f"drift: these images {verdict} like those of the training: {found['beyond']:.1%} are farther from them than "
        f"95 % of held-out images were, the distances are shifted by {found['shift']:.2f} (probability by chance "
        f"{found['probability']:.2g})"
    )
