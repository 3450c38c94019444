"""Options that several commands have."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from convolve.errors import UsageError

if TYPE_CHECKING:
    from convolve.importers.loader import PreprocessOverrides

    Overrides = PreprocessOverrides
else:
    Overrides = Any  # typer evaluates the annotations of a command, and importing one must not load torch

AnyModel = Annotated[
    Path,
    typer.Argument(
        help="A model folder, a run folder, a CNTK model, net.prototxt+net.caffemodel, an .onnx file, or a PyTorch "
        "checkpoint (.safetensors, .pth)."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
CsvFile = Annotated[Path | None, typer.Option("--csv", metavar="FILE", help="Write the results to this CSV file.")]
Device = Annotated[str | None, typer.Option(help="The device: auto, cpu, cuda or cuda:i.")]
Threads = Annotated[
    int | None,
    typer.Option(
        parser=lambda text: 0 if text == "auto" else int(text),
        metavar="INTEGER",
        help="Number of processor threads; auto or 0: as many as there are idle cores at the start.",
    ),
]
TrainingData = Annotated[
    str | None,
    typer.Option(
        help="The training images: the files of the recipe's data set, your own images (class folders, map file, CSV "
        "table), or `sample`.",
        metavar="DIR|FILE|sample",
    ),
]
Set = Annotated[
    list[str] | None, typer.Option("--set", metavar="PATH=VALUE", help="Set any field of the recipe. Repeatable.")
]


# What a user may say of a model, as `PreprocessOverrides` has it: the type of each value, and the option that takes it.
_OVERRIDES: dict[str, tuple[type, Any]] = {
    "output": (str, typer.Option(metavar="NODE", help="The node with the class scores, if the model has several.")),
    "preset": (
        str,
        typer.Option(help="Preprocess as this published model does. [default: recognized by the file's name]"),
    ),
    "mean": (
        str,
        typer.Option(
            metavar="NUMBER|B,G,R|FILE",
            help="What is subtracted from the pixels: one number, one per channel, or a mean image (.xml, "
            ".binaryproto).",
        ),
    ),
    "channel_order": (
        str,
        typer.Option(help="The order of the color channels in the model's input: rgb, bgr or gray."),
    ),
    "scale": (
        str,
        typer.Option(
            metavar="NUMBER|B,G,R", help="The factor that (pixel - mean) is multiplied by, or one per channel."
        ),
    ),
    "labels": (Path, typer.Option(metavar="FILE", help="A file of class names, one per line.")),
    "image_shape": (
        str,
        typer.Option(metavar="CxHxW", help="The shape of the model's input, where the file does not say it."),
    ),
    "arch": (
        str,
        typer.Option(
            metavar="NAME",
            help="The network of a PyTorch checkpoint: resnet18, squeezenet1_1, ..., timm:NAME or torchvision:NAME. "
            "[default: recognized by its tensors]",
        ),
    ),
}


def with_overrides(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of `_OVERRIDES` to `command`, which gets them as one value, its keyword `overrides`.

    An option that `command` has itself, under the same name, is not added.
    """
    own = inspect.signature(command, eval_str=True).parameters
    kind = inspect.Parameter.KEYWORD_ONLY
    added = {
        name: inspect.Parameter(name, kind, default=None, annotation=Annotated[value | None, option])
        for name, (value, option) in _OVERRIDES.items()
        if name not in own
    }

    @wraps(command)
    def wrapped(**values: Any) -> Any:
        given = {name: values.pop(name) for name in added}
        return command(**values, overrides=_overrides(given))

    shown = [*(parameter for name, parameter in own.items() if name != "overrides"), *added.values()]
    wrapped.__signature__ = inspect.Signature(shown)  # type: ignore[attr-defined]  # typer reads the options from it
    wrapped.__annotations__ = {parameter.name: parameter.annotation for parameter in shown}
    return wrapped


def _overrides(given: dict[str, Any]) -> Overrides:
    from convolve.importers.loader import PreprocessOverrides

    image_shape_CHW = _shape(given.pop("image_shape"))
    return PreprocessOverrides(**given, image_shape_CHW=image_shape_CHW)


def _shape(text: str | None) -> tuple[int, int, int] | None:
    if text is None:
        return None
    sizes = text.lower().split("x")
    if len(sizes) != 3 or not all(size.isascii() and size.isdigit() and 0 < int(size) < 10**5 for size in sizes):
        raise UsageError(f"--image-shape wants channels, rows and columns, for example 1x28x28, got {text!r}")
    channels, height, width = map(int, sizes)
    return channels, height, width


def assignment(text: str) -> tuple[str, str]:
    """PATH and VALUE of a `--set`."""
    path, equals, value = text.partition("=")
    if not equals or not path:
        raise UsageError(f"--set wants PATH=VALUE, for example run.epochs=3, got {text!r}")
    return path.strip(), value
