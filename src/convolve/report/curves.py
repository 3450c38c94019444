"""How the training went: curves over the epochs, and every epoch's numbers."""

from __future__ import annotations

from typing import Any

from convolve.report.contents import Contents
from convolve.report.markup import NARROW_SPACE, Html, Writer, count, number, percent, tag
from convolve.report.plot import Curve, plot

Points = list[tuple[float, float]]
FEW_EPOCHS = 3  # with fewer, the training curves are the running means within the epochs


def learning(contents: Contents) -> Html:
    """Loss and error, learning rate, throughput and waiting, as small multiples on one epoch axis."""
    if not contents.epochs and not contents.progress:
        return Html("")
    last_epoch = contents.epochs_done if contents.result else contents.recipe.run.epochs
    by_factors = contents.recipe.schedule.kind == "steps"  # a cycle ends near zero, where a logarithm has no room
    rates, speeds = _learning_rates(contents), _each_epoch(contents, "images_per_second")
    waits = _each_epoch(contents, "data_wait_fraction")
    large = [
        plot("Loss", _pair(contents, "loss"), last_epoch, number, log=True),
        plot("Error", _pair(contents, "error") + _published(contents, last_epoch), last_epoch, _percent, log=True),
    ]
    small = [
        plot("Learning rate", [Curve("last", "held-out", rates)], last_epoch, number, log=by_factors),
        plot("Images per second", [Curve("last", "held-out", speeds)], last_epoch, number),
        plot("Waiting for data", [Curve("last", "held-out", waits)], last_epoch, _percent),
    ]
    return tag(
        "section",
        tag("h2", "Learning"),
        tag("div", *large, class_="plots large"),
        tag("div", *small, class_="plots"),
        _epoch_table(contents),
    )


def _pair(contents: Contents, what: str) -> list[Curve]:
    few = len(contents.epochs) < FEW_EPOCHS
    train = (few and _within_epochs(contents, what)) or _each_epoch(contents, f"train_{what}")
    held_out = contents.held_out
    return [Curve("train", "train", train), Curve(held_out, "held-out", _each_epoch(contents, f"{held_out}_{what}"))]


def _published(contents: Contents, last_epoch: float) -> list[Curve]:
    error = contents.recipe.published_error
    return [] if error is None else [Curve("published", "published", [(0, error), (last_epoch, error)])]


def _each_epoch(contents: Contents, key: str) -> Points:
    return [(event["epoch"], event[key]) for event in contents.epochs if event.get(key) is not None]


def _within_epochs(contents: Contents, key: str) -> Points:
    """The value as it moved within the epochs, where the run noted it."""
    samples = _samples_per_epoch(contents)
    noted = [event for event in contents.progress if event.get(key) is not None]
    return [(event["samples_seen"] / samples, event[key]) for event in noted]


def _learning_rates(contents: Contents) -> Points:
    """Without the last batch of each epoch: it may be ragged, and a rate per sample shrinks with it."""
    points = _within_epochs(contents, "learning_rate")
    return [(epoch, rate) for epoch, rate in points if epoch % 1] or _each_epoch(contents, "learning_rate")


def _samples_per_epoch(contents: Contents) -> float:
    if contents.epochs:
        return float(contents.epochs[-1]["samples_seen"] / contents.epochs_done)
    return float(contents.start.get("train_samples") or contents.progress[-1]["samples_seen"])


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.3g}{NARROW_SPACE}%"


def _epoch_table(contents: Contents) -> Html:
    if not contents.epochs:
        return Html("")
    held_out = contents.held_out
    columns: dict[str, tuple[str, Writer]] = {
        "epoch": ("epoch", count),
        "train loss": ("train_loss", _loss),
        "train error": ("train_error", percent),
        f"{held_out} loss": (f"{held_out}_loss", _loss),
        f"{held_out} error": (f"{held_out}_error", percent),
        "learning rate": ("learning_rate", number),
        "seconds": ("seconds", _tenths),
        "evaluation": ("evaluation_seconds", _tenths),
        "images/s": ("images_per_second", count),
        "waiting": ("data_wait_fraction", _percent),
    }
    columns = {name: column for name, column in columns.items() if _each_epoch(contents, column[0])}
    head = tag("tr", *(tag("th", name, scope="col") for name in columns))
    rows = [tag("tr", *(_cell(event, key, write) for key, write in columns.values())) for event in contents.epochs]
    table = tag("table", tag("thead", head), tag("tbody", *rows), class_="numbers")
    box = tag("div", table, class_="scroll", tabindex="0", role="region", aria_label="Every epoch in numbers")
    return tag("details", tag("summary", "Every epoch in numbers"), box)


def _cell(event: dict[str, Any], key: str, write: Writer) -> Html:
    value = event.get(key)
    return tag("td", "–" if value is None else write(value))


def _loss(value: float) -> str:
    return f"{value:.4f}"


def _tenths(seconds: float) -> str:
    return f"{seconds:.1f}"
