"""What the model confuses: the confusion matrix or the most confused pairs, each class, and the errors as pictures."""

from typing import Any

from convolve.pictures import Picture, picture
from convolve.report.contents import Evaluation
from convolve.training.error_analysis import EACH_PAIR, MOST_CONFIDENT, PAIRS

MOST_CLASSES = 30  # a matrix or table of more cannot be read at a glance; then its worst rows are shown
PAIRS_IN_SIGHT = 9  # pictures of the other pairs are behind a click
MOST_SIDE_BY_SIDE = 12  # a matrix of more takes the whole width of the page


def class_rows(evaluation: Evaluation) -> list[dict[str, Any]]:
    """Images, errors, precision, recall and F1 of each class, or of those with the most errors."""
    classes = evaluation.classes
    errors = classes.images_K - classes.hits_K
    shown = list(range(evaluation.class_count))
    if evaluation.class_count > MOST_CLASSES:
        shown = (-errors).argsort(kind="stable")[:MOST_CLASSES].tolist()
    most_errors = max(int(errors.max()), 1)
    return [
        {
            "name": evaluation.class_names[k],
            "images": classes.images_K[k],
            "errors": errors[k],
            "part": 100 * errors[k] / most_errors,
            **classes.rates(k),
        }
        for k in shown
    ]


def pair_rows(evaluation: Evaluation) -> list[dict[str, Any]]:
    """The most frequently confused pairs of classes, with the pictures stored for them."""
    of_class = evaluation.classes.images_K
    names, rows = evaluation.class_names, []
    for truth, said, images in evaluation.confused_pairs[: max(MOST_CLASSES, PAIRS)]:
        is_pair_N = (evaluation.labels_N == truth) & (evaluation.predicted_N == said)
        indices = [index for index in evaluation.pictures if is_pair_N[index]]
        row = {"truth": names[truth], "said": names[said], "images": images, "of_class": int(of_class[truth])}
        rows.append(row | {"errors": [_error(evaluation, index) for index in indices[:EACH_PAIR]]})
    return rows


def most_confident_errors(evaluation: Evaluation) -> list[dict[str, Any]]:
    """The errors with the highest confidence."""
    return [_error(evaluation, index) for index in [*evaluation.pictures][:MOST_CONFIDENT]]


def _error(evaluation: Evaluation, index: int) -> dict[str, Any]:
    predicted = int(evaluation.predicted_N[index])
    shown: Picture = picture(evaluation.pictures[index])
    return {
        "index": index,
        "said": evaluation.class_names[predicted],
        "truth": evaluation.class_names[evaluation.labels_N[index]],
        "confidence": float(evaluation.probabilities_NK[index, predicted]),
        "picture": shown,
    }
