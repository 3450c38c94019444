"""How the time was spent: computing, waiting for data, evaluating; and the throughput of each epoch."""

from convolve.report.contents import Contents
from convolve.report.curves import FEW_EPOCHS, each_epoch, last_epoch, within_epochs
from convolve.report.plot import Curve, Plot, plot
from convolve.templates import count, percent_text


def speed_plots(contents: Contents) -> list[Plot | None]:
    """Throughput, and the fraction of the time spent waiting for data."""
    few = len(contents.epochs) < FEW_EPOCHS
    rates = (few and within_epochs(contents, "images_per_second")) or each_epoch(contents, "images_per_second")
    waits, last = each_epoch(contents, "data_wait_fraction"), last_epoch(contents)
    return [
        plot("Images per second", [Curve("last", "test", rates)], last, count),
        plot("Waiting for data", [Curve("last", "test", waits)], last, percent_text),
    ]


def conditions(contents: Contents) -> str:
    """The hardware and settings of the run, as a sentence; empty if unknown."""
    start = contents.start
    if not start:
        return ""
    on_gpu = start.device.startswith("cuda")
    number = 0 if on_gpu else start.threads
    threads = f" with {number} thread{'s' if number > 1 else ''}" if number else ""
    return f"On {start.hardware.gpu if on_gpu else start.hardware.cpu}{threads} in {start.precision}."


def times(contents: Contents) -> list[tuple[str, str, float, float]]:
    """(activity, CSS class, seconds, fraction of the whole) over all epochs."""
    seconds = sum(event.seconds for event in contents.epochs)
    waiting = sum(event.seconds * event.data_wait_fraction for event in contents.epochs)
    evaluation = sum(event.evaluation_seconds for event in contents.epochs)
    total = seconds + evaluation
    parts = [("computing", "test", seconds - waiting), ("waiting for data", "published", waiting),
             ("evaluating", "train", evaluation)]  # fmt: skip
    return [(name, style, part, part / total) for name, style, part in parts if part > 0]
