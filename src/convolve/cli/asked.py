"""The options that say of a model what it does not say itself, shared by the commands that open one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from convolve.errors import UsageError

if TYPE_CHECKING:
    from convolve.importers.loader import PreprocessOverrides

Preset = Annotated[
    str | None, typer.Option(help="A published model whose preprocessing is known; by default that of the file's name.")
]
Mean = Annotated[
    str | None,
    typer.Option(
        help="What is subtracted: a number, one a channel, a mean image (.xml or .binaryproto).",
        metavar="NUMBER|B,G,R|FILE",
    ),
]
Order = Annotated[
    str | None, typer.Option("--channel-order", help="In which the network takes colours: rgb, bgr or grey.")
]
Scale = Annotated[float | None, typer.Option(help="By which (pixel - mean) is multiplied.")]
Labels = Annotated[Path | None, typer.Option(help="The names of the classes, one a line.", metavar="FILE")]
ImageShape = Annotated[
    str | None,
    typer.Option(
        "--image-shape",
        help="The image that a network of plain numbers takes, or a prototxt leaves open.",
        metavar="CxHxW",
    ),
]


def asked(
    preset: str | None,
    mean: str | None,
    channel_order: str | None,
    scale: float | None,
    labels: Path | None,
    image_shape: str | None,
    output: str | None = None,
) -> PreprocessOverrides:
    """What the options say, checked as far as it can be without the model."""
    from convolve.importers.loader import PreprocessOverrides

    return PreprocessOverrides(
        preset=preset, mean=mean, channel_order=channel_order, scale=scale, labels=labels,
        image_shape_CHW=_shape(image_shape), output=output,
    )  # fmt: skip


def _shape(text: str | None) -> tuple[int, int, int] | None:
    if text is None:
        return None
    sizes = text.lower().split("x")
    if len(sizes) != 3 or not all(size.isascii() and size.isdigit() and 0 < int(size) < 10**5 for size in sizes):
        raise UsageError(f"--image-shape wants channels, rows and columns, for example 1x28x28, got {text!r}")
    channels, height, width = map(int, sizes)
    return channels, height, width
