"""Where the time went: computing, waiting for data, evaluating; and the throughput of each epoch."""

from __future__ import annotations

from convolve.report.contents import Contents
from convolve.report.curves import FEW_EPOCHS, each_epoch, last_epoch, percent_text, within_epochs
from convolve.report.markup import Html, count, duration, tag
from convolve.report.plot import Curve, plot


def speed(contents: Contents) -> Html:
    """The section; empty where no epoch is done, as then nothing is timed."""
    if not contents.epochs:
        return Html("")
    few = len(contents.epochs) < FEW_EPOCHS
    rates = (few and within_epochs(contents, "images_per_second")) or each_epoch(contents, "images_per_second")
    waits, last = each_epoch(contents, "data_wait_fraction"), last_epoch(contents)
    plots = [
        plot("Images per second", [Curve("last", "held-out", rates)], last, count),
        plot("Waiting for data", [Curve("last", "held-out", waits)], last, percent_text),
    ]
    return tag(
        "section",
        tag("h2", "Speed"),
        tag("p", f"{_conditions(contents)} Images per second count the training time: computing and waiting."),
        _times(contents),
        tag("div", *plots, class_="plots"),
    )


def _conditions(contents: Contents) -> str:
    start = contents.start
    hardware = start.get("hardware") or {}
    on_gpu = str(start.get("device", "")).startswith("cuda")
    number = 0 if on_gpu else start.get("threads") or 0
    threads = f" with {number} thread{'s' if number > 1 else ''}" if number else ""
    device = hardware.get("gpu" if on_gpu else "cpu")
    precision = f" in {start['precision']}" if start.get("precision") else ""
    return f"On {device}{threads}{precision}." if device else ""


def _times(contents: Contents) -> Html:
    """One bar for all epochs, split by what the time was spent on."""
    seconds = sum(event["seconds"] for event in contents.epochs)
    waiting = sum(event["seconds"] * (event.get("data_wait_fraction") or 0) for event in contents.epochs)
    evaluation = sum(event.get("evaluation_seconds") or 0 for event in contents.epochs)
    total = seconds + evaluation
    parts = [("computing", "held-out", seconds - waiting), ("waiting for data", "published", waiting),
             ("evaluating", "train", evaluation)]  # fmt: skip
    parts = [(name, style, part) for name, style, part in parts if part > 0]
    bars = [tag("i", class_=style, style=f"--part:{100 * part / total:.2f}%") for _, style, part in parts]
    words = [(style, name, duration(part), percent_text(part / total)) for name, style, part in parts]
    keys = [
        tag("span", tag("i"), f"{name} ", tag("b", time), f" {share}", class_=f"key {style}")
        for style, name, time, share in words
    ]
    return tag("div", tag("div", *bars, class_="bars", aria_hidden="true"), tag("p", *keys), class_="times")
