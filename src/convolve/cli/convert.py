"""convolve convert"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from convolve.cli import asked as options
from convolve.errors import UsageError, unknown_name

TARGETS = ("convolve",)


def convert(
    model: Annotated[Path, typer.Argument(help="A CNTK model, a model folder or a run folder.")],
    to: Annotated[str, typer.Option(help="The form to write: convolve.", metavar="FORM")],
    out: Annotated[Path, typer.Option(help="Where to write it.")],
    output: Annotated[
        str | None, typer.Option(metavar="NODE", help="The class scores, where the file has several outputs.")
    ] = None,
    preset: options.Preset = None,
    mean: options.Mean = None,
    channel_order: options.Order = None,
    scale: options.Scale = None,
    labels: options.Labels = None,
    image_shape: options.ImageShape = None,
) -> None:
    """Write a model in another form, with its preprocessing and class names.

    Example: convolve convert AlexNet_ImageNet_CNTK.model --to convolve --out alexnet
    """
    if to not in TARGETS:
        raise UsageError(f"--to: {unknown_name('form', to, TARGETS)}")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out} exists already; choose another --out")

    from convolve.model import load

    opened = load(model, options.asked(preset, mean, channel_order, scale, labels, image_shape, output))
    opened.save(out)
    print(
        f"{out}: {sum(p.numel() for p in opened.module.parameters()):,} parameters, {len(opened.class_names)} classes"
    )
    print(f"the network sees {opened.preprocess}")
