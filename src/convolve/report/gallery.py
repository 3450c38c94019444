"""Mistakes as pictures: of each pair of classes that is often confused, and those that the model was surest of."""

from __future__ import annotations

from convolve.report.contents import Evaluation
from convolve.report.markup import Html, count, join, percent, tag
from convolve.report.pictures import picture
from convolve.training.error_analysis import EACH_PAIR, PAIRS, SUREST

PAIRS_IN_SIGHT = 9  # the others are behind a click


def pairs(evaluation: Evaluation) -> Html:
    """A handful of pictures for each of the most confused pairs."""
    figures = [_pair(evaluation, *pair) for pair in evaluation.confused_pairs[:PAIRS]]
    figures = [figure for figure in figures if figure]
    if not figures:
        return Html("")
    total = len(evaluation.confused_pairs)
    which = "Every pair of classes" if total == len(figures) else f"The {len(figures)} of {count(total)} pairs"
    rest = figures[PAIRS_IN_SIGHT:]
    return tag(
        "section",
        tag("h2", "Confused pairs"),
        tag("p", f"{which} that the model confused most often, with the answers it was surest of."),
        tag("div", *figures[:PAIRS_IN_SIGHT], class_="galleries"),
        *([_more(rest)] if rest else []),
    )


def _more(figures: list[Html]) -> Html:
    summary = tag("summary", f"{len(figures)} more pairs")
    return tag("details", summary, tag("div", *figures, class_="galleries"))


def _pair(evaluation: Evaluation, truth: int, said: int, images: int) -> Html:
    indices = [i for i in evaluation.pictures if evaluation.labels_N[i] == truth and evaluation.predicted_N[i] == said]
    if not indices:
        return Html("")
    names, of_class = evaluation.class_names, int((evaluation.labels_N == truth).sum())
    title = join([tag("b", names[truth]), " taken for ", tag("b", names[said])])
    number = f"{count(images)} of {count(of_class)} · {percent(images / of_class, 1)}"
    return tag(
        "figure",
        tag("figcaption", tag("span", title), tag("small", number)),
        tag("div", *(_picture(evaluation, index) for index in indices[:EACH_PAIR]), class_="strip"),
        class_="confused",
    )


def surest(evaluation: Evaluation) -> Html:
    """The mistakes that the model was surest of."""
    figures = [_mistake(evaluation, index) for index in [*evaluation.pictures][:SUREST]]
    if not figures:
        return Html("")
    order = "The wrong answers that the model was surest of: "
    return tag(
        "section",
        tag("h2", "Surest mistakes"),
        tag("p", f"{order}what it said, the label, how sure it was, the image's place in the set."),
        tag("div", *figures, class_="gallery"),
    )


def _mistake(evaluation: Evaluation, index: int) -> Html:
    said, truth, sure = _words(evaluation, index)
    caption = tag("figcaption", tag("b", said), tag("span", f"is {truth}"), tag("small", f"{sure} · #{index}"))
    return tag("figure", _picture(evaluation, index), caption, class_="mistake")


def _picture(evaluation: Evaluation, index: int) -> Html:
    said, truth, sure = _words(evaluation, index)
    return picture(evaluation.pictures[index], f"Image {index}: labelled {truth}, taken for {said} ({sure})")


def _words(evaluation: Evaluation, index: int) -> tuple[str, str, str]:
    """(what the model said, the label, how sure it was)."""
    predicted = int(evaluation.predicted_N[index])
    truth = evaluation.class_names[evaluation.labels_N[index]]
    return evaluation.class_names[predicted], truth, percent(float(evaluation.probabilities_NK[index, predicted]), 1)
