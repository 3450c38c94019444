"""convolve convert"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from convolve.cli.options import Overrides, with_overrides
from convolve.errors import UsageError, look_up

# Form -> the ending of its file; a convolve model is a folder of any name.
TARGETS = {"convolve": "", "onnx": ".onnx", "exported-program": ".pt2"}
_FOR_CLASSIFIERS = "--with-preprocessing, --quantize, --batch-size and --opset are for classifiers of images"


@with_overrides
def convert(
    model: Annotated[
        Path,
        typer.Argument(
            help="A CNTK model, net.prototxt+net.caffemodel, a PyTorch checkpoint, a model folder or a run folder."
        ),
    ],
    to: Annotated[str, typer.Option(help="The format to write: convolve, onnx or exported-program.", metavar="FORM")],
    out: Annotated[Path, typer.Option(help="The output: file.onnx, file.pt2, or a folder for convolve.")],
    with_preprocessing: Annotated[
        bool,
        typer.Option(
            "--with-preprocessing",
            help="Export the preprocessing, too: the model then takes uint8 images (N, H, W, C), gray or RGB.",
        ),
    ] = False,
    output: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NODE",
            help="The node with the class scores, if the model has several. Repeatable: a file with several outputs.",
        ),
    ] = None,
    license_: Annotated[
        str | None,
        typer.Option("--license", metavar="NAME", help="The model's license, for its card: apache-2.0, other, ..."),
    ] = None,
    quantize: Annotated[
        str | None,
        typer.Option(
            help="A smaller ONNX file: int8, a quarter of the size, or fp16, half of it. Its error on the test images, "
            "its size and its speed are printed beside those of fp32.",
            metavar="int8|fp16",
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="The images that --quantize calibrates and tests on. [default: the run's own]",
            metavar="DIR|FILE|sample",
        ),
    ] = None,
    max_error_increase: Annotated[
        float,
        typer.Option(
            metavar="P", help="Refuse a quantized file whose error is larger by more than so many percentage points."
        ),
    ] = 1.0,
    batch_size: Annotated[
        int | None,
        typer.Option("--batch-size", metavar="N", help="Fix the number of images that the ONNX file takes at once."),
    ] = None,
    opset: Annotated[int | None, typer.Option(metavar="N", help="The opset of the ONNX file. [default: 18]")] = None,
    *,
    overrides: Overrides,
) -> None:
    """Convert a model to another format.

    Preprocessing and class names are kept. Every exported file is run and its outputs are compared with the model's. If
    they differ, nothing is written. A network that is no classifier, or has several heads, is converted as it is,
    without class names and preprocessing.

    Example: convolve convert runs/mnist --to onnx --out mnist.onnx
    """
    _check(to, out, with_preprocessing)

    from convolve.export.onnx import check_packages
    from convolve.graph.classifier import NoClassifierError, SeveralHeadsError
    from convolve.loading import load
    from convolve.smaller import Asked, export_as

    asked = Asked(quantize, data, max_error_increase, batch_size, opset, with_preprocessing=with_preprocessing)
    if not asked.is_plain:
        if to != "onnx":
            raise UsageError("--quantize, --batch-size and --opset are for --to onnx")
        check_packages()
    names = output or []
    try:
        if len(names) > 1:
            raise SeveralHeadsError(f"{', '.join(names)} are several outputs")
        opened = load(model, replace(overrides, output=names[0] if names else None))
        if opened.node:
            raise NoClassifierError(f"{opened.node} is no score of classes")
    except (NoClassifierError, SeveralHeadsError) as error:
        if with_preprocessing or not asked.is_plain:
            raise UsageError(f"{_FOR_CLASSIFIERS}; convert this network without: {error}") from None
        _convert_network(model, to, out, overrides, names, reason=error)
        return
    compared: list[str] = []
    opened.training_info = replace(opened.training_info, license=license_ or opened.training_info.license)
    if to == "convolve":
        opened.save(out)
    elif asked.is_plain:
        compared = [str(opened.export(out, with_preprocessing=with_preprocessing))]
    else:
        compared = export_as(opened, out, asked, model)
    parameters = sum(p.numel() for p in opened.module.parameters())
    print(f"{out}: {parameters:,} parameters, {len(opened.class_names)} classes")
    print(f"the network sees {opened.preprocess}{', inside the file' if with_preprocessing else ''}")
    for line in compared:
        print(line)


def _convert_network(
    model: Path, to: str, out: Path, overrides: Overrides, names: list[str], *, reason: Exception
) -> None:
    from convolve.network import load_graph

    network = load_graph(model, names, overrides)
    compared = "" if to != "convolve" else "nothing is prepared and no class is named: `convert` and `show` take it"
    if to == "convolve":
        network.save(out)
    else:
        compared = network.export(out)
    parameters = sum(p.numel() for p in network.module.parameters())
    print(f"{out}: {parameters:,} parameters; no classifier ({reason})")
    for side, ports in (("takes", network.inputs), ("gives", network.outputs)):
        print(f"{side} {', '.join(f'{name} {shape}' for name, shape in ports.items())}")
    print(compared)


def _check(to: str, out: Path, with_preprocessing: bool) -> None:
    """What can be refused before the model is read."""
    ending = look_up(TARGETS, to, "form", "--to")
    if to != "convolve" and out.suffix != ending:
        raise UsageError(f"--to {to} writes a file whose name ends in {ending}, got --out {out}")
    if to == "convolve" and with_preprocessing:
        raise UsageError("--with-preprocessing is for onnx and exported-program; a convolve model has it beside it")
    if out.exists() and (to != "convolve" or not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out} exists already; choose another --out")
