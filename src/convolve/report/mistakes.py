"""What the model confuses: the confusion matrix or the most confused pairs, and each class."""

from __future__ import annotations

from collections.abc import Sequence

from convolve.report.contents import Evaluation
from convolve.report.markup import Html, count, percent, tag

MOST_CLASSES = 30  # a matrix or table of more cannot be read at a glance; then its worst rows are shown
MOST_SIDE_BY_SIDE = 12  # a matrix of more takes the whole width of the page


def mistakes(evaluation: Evaluation) -> Html:
    classes = evaluation.class_count
    left = _confused_pairs(evaluation) if classes > MOST_CLASSES else _confusion(evaluation)
    layout = "pair wide" if MOST_SIDE_BY_SIDE < classes <= MOST_CLASSES else "pair"
    total = f"{count(evaluation.mistakes)} of {count(len(evaluation.labels_N))} images wrong in the last evaluation."
    return tag(
        "section",
        tag("h2", "Mistakes"),
        tag("p", total),
        tag("div", left, _classes(evaluation), class_=layout),
    )


def _confusion(evaluation: Evaluation) -> Html:
    confusion_KK, names = evaluation.confusion_KK(), evaluation.class_names
    most_images = max((images for _, _, images in evaluation.confused_pairs), default=1)
    turned = "turned" if max(map(len, names)) > 2 else "upright"
    head = tag("tr", tag("th", "true", scope="col"), *(tag("th", tag("span", name), scope="col") for name in names))
    rows = []
    for truth, name in enumerate(names):
        counts = confusion_KK[truth].tolist()
        cells = [_confusion_cell(images, truth == said, most_images) for said, images in enumerate(counts)]
        rows.append(tag("tr", tag("th", name, scope="row"), *cells))
    table = tag("table", tag("thead", head, class_=turned), tag("tbody", *rows), class_="confusion")
    note = "Rows: the label. Columns: what the model said. Numbers: images; empty means none."
    return _block("Confusion matrix", note, table)


def _confusion_cell(images: int, right: bool, most_images: int) -> Html:
    if right:
        return tag("td", str(images), class_="right")
    return tag("td", str(images), class_="wrong", style=f"--heat:{images / most_images:.2f}") if images else tag("td")


def _confused_pairs(evaluation: Evaluation) -> Html:
    of_class, _, _ = evaluation.class_counts()
    pairs, names = evaluation.confused_pairs, evaluation.class_names
    rows = [
        tag(
            "tr",
            tag("td", names[truth], class_="name"),
            tag("td", names[said], class_="name"),
            tag("td", count(images)),
            tag("td", percent(images / of_class[truth], 1)),
        )
        for truth, said, images in pairs[:MOST_CLASSES]
    ]
    note = f"The {len(rows)} most frequent of {count(len(pairs))} pairs."
    return _block("Most confused pairs", note, _table(["label", "the model said"], ["images", "of the class"], rows))


def _classes(evaluation: Evaluation) -> Html:
    of_class, taken_for, hits = evaluation.class_counts()
    errors = of_class - hits
    shown = list(range(evaluation.class_count))
    note = "Precision: of the images called so, how many are. Recall: of the images that are, how many are called so."
    if evaluation.class_count > MOST_CLASSES:
        shown = (-errors).argsort(kind="stable")[:MOST_CLASSES].tolist()
        note = f"The {MOST_CLASSES} of {count(evaluation.class_count)} classes with the most errors. {note}"
    most_errors = max(int(errors.max()), 1)
    rows = [
        tag(
            "tr",
            tag("th", evaluation.class_names[k], scope="row", class_="name"),
            tag("td", count(of_class[k])),
            tag("td", count(errors[k]), class_="bar", style=f"--part:{100 * errors[k] / most_errors:.0f}%"),
            tag("td", _share(hits[k], taken_for[k])),
            tag("td", _share(hits[k], of_class[k])),
        )
        for k in shown
    ]
    return _block("Each class", note, _table(["class"], ["images", "errors", "precision", "recall"], rows))


def _share(part: int, whole: int) -> str:
    return percent(part / whole) if whole else "–"


def _table(names: Sequence[str], numbers: Sequence[str], rows: Sequence[Html]) -> Html:
    heads = [tag("th", head, scope="col", class_="name") for head in names]
    heads += [tag("th", head, scope="col") for head in numbers]
    return tag("table", tag("thead", tag("tr", *heads)), tag("tbody", *rows), class_="numbers")


def _block(title: str, note: str, table: Html) -> Html:
    box = tag("div", table, class_="scroll", tabindex="0", role="region", aria_label=title)
    return tag("div", tag("h3", title), tag("p", note, class_="note"), box)
