"""The page of the learning-rate finder: the loss by learning rate, and the suggested rate."""

from pathlib import Path

from convolve.atomic import write_text
from convolve.find_lr import RateCurve
from convolve.report.plot import Axis, Curve, plot
from convolve.templates import number, render


def write_rate_page(found: RateCurve, recipe: str, path: Path) -> None:
    """Write the self-contained page `path`."""
    points = list(zip(found.rates, found.losses, strict=True))
    chosen = min(points, key=lambda point: abs(point[0] - found.suggested))
    figure = plot(
        "Loss by learning rate",
        [Curve("smoothed loss", "train", points), Curve(f"at {number(found.suggested)}", "test", [chosen])],
        last_epoch=0,
        write=number,
        log=True,
        rates=Axis(found.rates[0], found.rates[-1], logarithmic=True, write=number),
    )
    write_text(path, render("report/rate_page.html", found=found, recipe=recipe, figure=figure))
