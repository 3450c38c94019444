"""Options that several commands have."""

import inspect
from collections.abc import Callable
from copy import copy
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from convolve.errors import UsageError

if TYPE_CHECKING:
    from convolve.data.options import DataOptions
    from convolve.importers.loader import PreprocessOverrides

    Overrides = PreprocessOverrides
    Options = DataOptions
else:
    Overrides = Options = Any  # typer evaluates a command's annotations, and importing a command must not load torch


def choices(names: str) -> dict[str, Any]:
    """The metavar of an option that takes one of `names`: the help lists them, and shells complete them."""
    return {"metavar": names, "autocompletion": lambda: names.split("|")}


def recipe_names() -> list[str]:
    from convolve.recipes import RECIPES

    return [*RECIPES]


AnyModel = Annotated[
    Path,
    typer.Argument(
        help="A run folder, a model folder, a CNTK file, net.prototxt+net.caffemodel, an .onnx file, a PyTorch "
        "checkpoint, or timm:NAME.",
        metavar="MODEL",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the answer as one JSON object.")]
CsvFile = Annotated[Path | None, typer.Option("--csv", metavar="FILE", help="Write the results to this CSV file.")]
CsvSafe = Annotated[
    bool,
    typer.Option(
        "--csv-safe", help="Put ' before cells that begin with = + - @, which a spreadsheet would run as formulas."
    ),
]
Device = Annotated[
    str | None, typer.Option(**choices("auto|cpu|cuda"), help="The device to compute on; cuda:N is one GPU of several.")
]
Threads = Annotated[
    int | None,
    typer.Option(
        parser=lambda text: 0 if text == "auto" else int(text),
        metavar="N",
        help="Number of processor threads. auto or 0: one per core that is idle at the start.",
    ),
]
TrainingData = Annotated[
    str | None,
    typer.Option(
        help="Training images: the files of the recipe's data set, your own images (a folder for each class, a map "
        "file, a CSV table, ...), or `sample`, the small real set of the package.",
        metavar="DIR|FILE|sample",
    ),
]
MaxMegapixels = Annotated[
    int | None,
    typer.Option(
        min=1,
        max=1073,  # OpenCV's own limit
        metavar="N",
        help="Refuse images of more megapixels, but decode JPEG files at a half, a quarter or an eighth of their size. "
        "[default: 67]",
    ),
]
Resize = Annotated[
    str | None,
    typer.Option(
        help="How an image of another size is fitted. cover: scale it to cover the model's size, cut out the center. "
        "letterbox: fit the whole image in, and pad. squash: stretch it. square: cut out the central square, then "
        "scale.",
        **choices("cover|letterbox|squash|square"),
    ),
]
CropRatio = Annotated[
    float | None,
    typer.Option(
        metavar="R", help="The fraction of each side that the model sees, from the center: 0.875 for 224 of 256."
    ),
]
Accept = Annotated[
    float | None,
    typer.Option(
        metavar="P",
        help="Answer this fraction of images like the training images, such as 0.95; what is farther from them is "
        '"none of these". 1: answer every image. [default: as the model was trained]',
    ),
]
Coverage = Annotated[
    float | None,
    typer.Option(
        metavar="P",
        help="Give each image a set of classes that contains the right one with this probability, for example 0.9. "
        "[default: as the model was trained]",
    ),
]
SkipUnreadable = Annotated[
    bool,
    typer.Option("--skip-unreadable", help="Skip test images that cannot be read; the error is that of the others."),
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="PATH=VALUE", help="Set any field that `convolve show RECIPE` prints. Repeatable."),
]
Output = Annotated[
    str | None, typer.Option(metavar="NODE", help="The node with the class scores, if the model has several outputs.")
]
Preset = Annotated[
    str | None,
    typer.Option(
        metavar="NAME", help="Preprocess as this published model does. [default: recognized by the file's name]"
    ),
]
Mean = Annotated[
    str | None,
    typer.Option(
        help="What to subtract from the pixels: one number, one per channel, or a mean image (.xml, .binaryproto).",
        metavar="NUMBER|B,G,R|FILE",
    ),
]
ChannelOrder = Annotated[
    str | None,
    typer.Option(**choices("rgb|bgr|gray"), help="The order of the color channels in the model's input."),
]
Scale = Annotated[
    str | None,
    typer.Option(help="The factor for (pixel - mean): one number, or one per channel.", metavar="NUMBER|B,G,R"),
]
Labels = Annotated[Path | None, typer.Option(help="A text file of class names, one per line.", metavar="FILE")]
ImageShape = Annotated[
    str | None,
    typer.Option(help="The shape of the model's input, if the file does not say it.", metavar="CxHxW"),
]
Arch = Annotated[
    str | None,
    typer.Option(
        help="The network of a PyTorch checkpoint: resnet18, squeezenet1_1, timm:NAME, torchvision:NAME, ... "
        "[default: recognized by its tensors]",
        metavar="NAME",
    ),
]


def with_overrides(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of `_overrides` to `command`, which receives them as one value, its keyword `overrides`."""
    return _with_options(command, "overrides", _overrides, "A model from elsewhere")


def with_data_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of `_data_options` to `command`, which receives them as one value, its keyword `options`."""
    return _with_options(command, "options", _data_options, "Tables and large images")


def _with_options(
    command: Callable[..., Any], keyword: str, value_of: Callable[..., Any], section: str
) -> Callable[..., Any]:
    """Add the options of `value_of` in a section of the help, except those that `command` already has."""
    own = inspect.signature(command, eval_str=True).parameters
    shared = inspect.signature(value_of, eval_str=True).parameters
    added = {name: _added(parameter, section) for name, parameter in shared.items() if name not in own}

    @wraps(command)
    def wrapped(**values: Any) -> Any:
        given = {name: values.pop(name) for name in added}
        return command(**values, **{keyword: value_of(**given)})

    shown = [*(parameter for name, parameter in own.items() if name != keyword), *added.values()]
    wrapped.__signature__ = inspect.Signature(shown)  # type: ignore[attr-defined]  # typer reads the options from it
    wrapped.__annotations__ = {parameter.name: parameter.annotation for parameter in shown}
    return wrapped


def _added(parameter: inspect.Parameter, section: str) -> inspect.Parameter:
    kind, option = get_args(parameter.annotation)
    option = copy(option)
    option.rich_help_panel = section
    return parameter.replace(annotation=Annotated[kind, option], kind=inspect.Parameter.KEYWORD_ONLY)


def _data_options(
    columns: Annotated[
        str | None,
        typer.Option(
            help="The columns of a table: image=NAME,label=NAME,group=NAME,split=NAME, or some of them. "
            "[default: recognized by their names]",
            metavar="ROLE=NAME,...",
        ),
    ] = None,
    root: Annotated[
        Path | None,
        typer.Option(
            help="The folder that a list's paths are relative to, or where the images are now if they were moved.",
            metavar="DIR",
        ),
    ] = None,
    max_megapixels: MaxMegapixels = None,
) -> Options:
    from convolve.cli.progress import look_lines
    from convolve.data.options import DataOptions
    from convolve.formats.decode import pixel_limit
    from convolve.formats.table import Columns

    table = Columns.parse(columns) if columns is not None else Columns()
    return DataOptions(table, root, pixel_limit(max_megapixels), watch=look_lines())


def _overrides(
    output: Output = None,
    preset: Preset = None,
    mean: Mean = None,
    channel_order: ChannelOrder = None,
    scale: Scale = None,
    labels: Labels = None,
    image_shape: ImageShape = None,
    arch: Arch = None,
    resize: Resize = None,
    crop_ratio: CropRatio = None,
) -> Overrides:
    from convolve.importers.loader import PreprocessOverrides

    return PreprocessOverrides(
        preset=preset, mean=mean, channel_order=channel_order, scale=scale, labels=labels,
        image_shape_CHW=_shape(image_shape), output=output, arch=arch, resize=resize,
        crop_ratio=crop_ratio,
    )  # fmt: skip


def _shape(text: str | None) -> tuple[int, int, int] | None:
    if text is None:
        return None
    sizes = text.lower().split("x")
    if len(sizes) != 3 or not all(size.isascii() and size.isdigit() and 0 < int(size) < 10**5 for size in sizes):
        raise UsageError(f"--image-shape takes CHANNELSxROWSxCOLUMNS, for example 1x28x28; got {text!r}")
    channels, height, width = map(int, sizes)
    return channels, height, width


def assignment(text: str) -> tuple[str, str]:
    """PATH and VALUE of a `--set` option."""
    path, equals, value = text.partition("=")
    if not equals or not path:
        raise UsageError(f"--set takes PATH=VALUE, for example run.epochs=3; got {text!r}")
    return path.strip(), value
