"""The top of the page: what was trained, how well, how fast, on what."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from convolve.report.contents import Contents
from convolve.report.markup import NARROW_SPACE, Html, Writer, count, duration, number, percent, tag
from convolve.training.calibration import wilson_interval


def header(contents: Contents) -> Html:
    return tag(
        "header",
        tag("p", "convolve", *_started(contents.started_at), class_="eyebrow"),
        tag("h1", contents.recipe.name),
        _unfinished(contents),
        tag("div", *_errors(contents), class_="hero"),
        _facts(contents),
    )


def _started(started_at: str) -> list[str]:
    if not started_at:
        return []
    moment = datetime.fromisoformat(started_at)
    return [" · ", tag("time", f"{moment.day} {moment:%B %Y, %H:%M}", datetime=started_at)]


def _unfinished(contents: Contents) -> Html:
    if contents.result:
        return Html("")
    done, planned = contents.epochs_done, contents.recipe.run.epochs
    text = f"Unfinished: {done} of {planned} epochs. The same convolve train command continues it."
    return tag("p", text, class_="notice")


def _errors(contents: Contents) -> list[Html]:
    """The error in large figures, how sure it is, and the published one beside it."""
    held_out = "test" if contents.result else contents.held_out
    last = contents.result or (contents.epochs[-1] if contents.epochs else {})
    error, published = last.get(f"{held_out}_error"), contents.recipe.published_error
    parts = []
    if error is not None:
        figure = tag("strong", f"{100 * error:.2f}", tag("small", "%"))
        parts.append(tag("div", figure, tag("p", f"{held_out} error"), *_certainty(contents, held_out, error)))
    if published is not None:
        figure = tag("strong", f"{100 * published:.2f}", tag("small", "%"))
        parts.append(tag("div", figure, tag("p", "published error"), class_="beside"))
    return parts


def _certainty(contents: Contents, held_out: str, error: float) -> list[Html]:
    n = contents.start.get("test_samples")
    if held_out != "test" or not n:
        return []
    low, high = wilson_interval(error, n)
    between = f"95{NARROW_SPACE}% interval {100 * low:.2f}–{percent(high)}"
    return [tag("p", f"{count(round(error * n))} of {count(n)} wrong", class_="note"), tag("p", between, class_="note")]


def _facts(contents: Contents) -> Html:
    figures, start = contents.result or _so_far(contents), contents.start
    facts: list[tuple[str, str, Writer]] = [
        ("images per second", "images_per_second", count),
        ("training time", "train_seconds", duration),
        ("epochs", "epochs", count),
        ("parameters", "parameters", count),
        ("test loss", "test_loss", number),
        ("test error, top 5", "test_error_top5", percent),
        ("device", "device", str),
        ("precision", "precision", str),
    ]
    known = start | figures
    entries = [
        tag("div", tag("dt", label), tag("dd", write(known[key])))
        for label, key, write in facts
        if known.get(key) is not None
    ]
    return tag("dl", *entries, class_="facts") if entries else Html("")


def _so_far(contents: Contents) -> dict[str, Any]:
    if not contents.epochs:
        return {}
    seconds = sum(event["seconds"] for event in contents.epochs)
    rate = contents.epochs[-1]["samples_seen"] / seconds if seconds else None
    return {"images_per_second": rate, "train_seconds": seconds, "epochs": contents.epochs_done}
