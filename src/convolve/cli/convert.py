"""convolve convert"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from convolve.cli import asked as options
from convolve.errors import UsageError, unknown_name

# Form -> the ending of its file; a convolve model is a folder of any name.
TARGETS = {"convolve": "", "onnx": ".onnx", "exported-program": ".pt2"}


def convert(
    model: Annotated[
        Path, typer.Argument(help="A CNTK model, net.prototxt+net.caffemodel, a model folder or a run folder.")
    ],
    to: Annotated[str, typer.Option(help="The form to write: convolve, onnx or exported-program.", metavar="FORM")],
    out: Annotated[Path, typer.Option(help="Where to write it: a folder, a file.onnx or a file.pt2.")],
    with_preprocessing: Annotated[
        bool,
        typer.Option(
            "--with-preprocessing",
            help="Let the exported file take uint8 images (N, H, W, C), grey or RGB, and subtract and scale by itself.",
        ),
    ] = False,
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

    An exported file is run and compared with the model; one that answers otherwise is not written.

    Example: convolve convert runs/mnist --to onnx --out mnist.onnx
    """
    _check(to, out, with_preprocessing)

    from convolve.model import load

    opened = load(model, options.asked(preset, mean, channel_order, scale, labels, image_shape, output))
    compared = ""
    if to == "convolve":
        opened.save(out)
    else:
        compared = str(opened.export(out, with_preprocessing=with_preprocessing))
    parameters = sum(p.numel() for p in opened.module.parameters())
    print(f"{out}: {parameters:,} parameters, {len(opened.class_names)} classes")
    print(f"the network sees {opened.preprocess}{', inside the file' if with_preprocessing else ''}")
    if compared:
        print(compared)


def _check(to: str, out: Path, with_preprocessing: bool) -> None:
    """What can be refused before the model is read."""
    if to not in TARGETS:
        raise UsageError(f"--to: {unknown_name('form', to, TARGETS)}")
    if to != "convolve" and out.suffix != TARGETS[to]:
        raise UsageError(f"--to {to} writes a file whose name ends in {TARGETS[to]}, got --out {out}")
    if to == "convolve" and with_preprocessing:
        raise UsageError("--with-preprocessing is for onnx and exported-program; a convolve model has it beside it")
    if out.exists() and (to != "convolve" or not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out} exists already; choose another --out")
