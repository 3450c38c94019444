"""convolve convert"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from convolve.atomic import staged
from convolve.cli.beside import done_beside, signed, signer
from convolve.cli.formatting import Answer
from convolve.cli.options import AsJson, Overrides, choices, with_overrides
from convolve.cli.snippet import Snippet
from convolve.errors import UsageError, look_up

if TYPE_CHECKING:
    from convolve.model import Model
    from convolve.smaller import Asked, Exported

_ONNX, _WEB, _BESIDE = "ONNX files", "Web pages", "Signatures and programs, with or without --to"


@with_overrides
def convert(
    context: typer.Context,
    model: Annotated[
        Path,
        typer.Argument(
            metavar="MODEL",
            help="A run folder, a model folder, a CNTK file, net.prototxt+net.caffemodel, an .onnx file or a PyTorch "
            "checkpoint.",
        ),
    ],
    to: Annotated[str | None, typer.Option(**choices("convolve|onnx|exported-program|web"), help="The format.")] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="What to write: file.onnx, file.pt2, or a folder for convolve and web."),
    ] = None,
    with_preprocessing: Annotated[
        bool,
        typer.Option(
            "--with-preprocessing",
            help="Include mean, scale and channel order: the file then takes uint8 images (N, H, W, C), gray or RGB.",
        ),
    ] = False,
    any_size: Annotated[
        bool,
        typer.Option(
            "--any-size",
            help="Include resizing and cropping as well: the file then takes one uint8 RGB image (H, W, 3) of any "
            "size, and gives probabilities.",
            rich_help_panel=_ONNX,
        ),
    ] = False,
    output: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NODE",
            help="The node with the class scores, if the model has several outputs. Repeatable: the file then has "
            "several.",
        ),
    ] = None,
    license_: Annotated[
        str | None,
        typer.Option(
            "--license", metavar="NAME", help="The license of the model, for its card: apache-2.0, other, ..."
        ),
    ] = None,
    quantize: Annotated[
        str | None,
        typer.Option(
            help="Write a smaller file: a quarter of the size (int8) or half (fp16). Its error on the test images, its "
            "size and its speed are printed beside those of fp32.",
            **choices("int8|fp16"),
            rich_help_panel=_ONNX,
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="The images to calibrate and test --quantize on. [default: the run's own]",
            metavar="DIR|FILE|sample",
            rich_help_panel=_ONNX,
        ),
    ] = None,
    max_error_increase: Annotated[
        float,
        typer.Option(
            metavar="P",
            help="Refuse a quantized file whose error is larger by more than P percentage points.",
            rich_help_panel=_ONNX,
        ),
    ] = 1.0,
    batch_size: Annotated[
        int | None,
        typer.Option(
            "--batch-size",
            metavar="N",
            help="Fix the number of images that the file takes at once.",
            rich_help_panel=_ONNX,
        ),
    ] = None,
    opset: Annotated[
        int | None, typer.Option(metavar="N", help="The opset of the file. [default: 18]", rich_help_panel=_ONNX)
    ] = None,
    snippet: Annotated[
        str | None,
        typer.Option(
            help="Print a short program that runs the model's ONNX file, or write it to --out.",
            **choices("python-cv2|python-pillow|javascript|cpp|csharp"),
            rich_help_panel=_BESIDE,
        ),
    ] = None,
    sign: Annotated[
        Path | None,
        typer.Option(
            metavar="KEY",
            help="Sign --out, or without --out MODEL itself, with this private key, and write a bill of materials "
            "(ML-BOM).",
            rich_help_panel=_BESIDE,
        ),
    ] = None,
    verify: Annotated[
        Path | None,
        typer.Option(
            metavar="KEY",
            help="Check that MODEL is unchanged since the owner of this public key signed it.",
            rich_help_panel=_BESIDE,
        ),
    ] = None,
    cdn: Annotated[
        bool,
        typer.Option(
            "--cdn", help="Load onnxruntime-web from jsdelivr.net instead of including it.", rich_help_panel=_WEB
        ),
    ] = False,
    web_runtime: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The package that `npm pack onnxruntime-web` wrote. [default: npm fetches it]",
            rich_help_panel=_WEB,
        ),
    ] = None,
    as_json: AsJson = False,
    *,
    overrides: Overrides,
) -> None:
    """Convert a model to another format.

    Preprocessing and class names are kept. Every exported file is run and compared with the model; if the answers
    differ, nothing is written. A network that is not a classifier, or has several heads, is converted without class
    names and preprocessing. web writes a folder with a page that runs the model in the browser.

    Example: convolve convert runs/mnist --to onnx --out mnist.onnx
    """
    given = _given(context)
    if to is None or out is None or verify or snippet:
        program = Snippet(snippet, with_preprocessing, any_size, output, overrides) if snippet else None
        done = done_beside(model, out, program, sign=sign, verify=verify, given=given, special=_SPECIAL)
        (Answer(fields={"model": str(model), "to": None, "out": out and str(out)}) + done).print(as_json)
        return
    _check(to, out, given)

    from convolve.graph.classifier import NoClassifierError, SeveralHeadsError
    from convolve.smaller import Asked

    with_key = signer(sign)
    asked = Asked(
        quantize=quantize, data=data, max_error_increase=max_error_increase, batch_size=batch_size, opset=opset,
        with_preprocessing=with_preprocessing, any_size=any_size,
    )  # fmt: skip
    names = output or []
    with staged(out) as path:
        try:
            opened = _opened(model, names, overrides)
        except (NoClassifierError, SeveralHeadsError) as error:
            done = _convert_network(model, to, path, overrides, names, reason=_of_network(to, given, error))
            data_name, info = "", None
        else:
            info = replace(opened.training_info, license=license_ or opened.training_info.license)
            opened.training_info, data_name = info, opened.data_name
            order = _Order(opened, model, path, asked, cdn=cdn, web_runtime=web_runtime)
            done = _described(opened, path, asked) + FORMS[to].write(order)
        done += signed(path, with_key, data_name, info)
    (Answer(fields={"model": str(model), "to": to, "out": str(out)}) + done.renamed(path, out)).print(as_json)


def _opened(model: Path, outputs: list[str], overrides: Overrides) -> Model:
    """The model at `path`. Raises NoClassifierError or SeveralHeadsError for what is not one classifier of images."""
    from convolve.graph.classifier import NoClassifierError, SeveralHeadsError
    from convolve.loading import load

    if len(outputs) > 1:
        raise SeveralHeadsError(f"there are several outputs, {', '.join(outputs)}")
    opened = load(model, replace(overrides, output=outputs[0] if outputs else None))
    if opened.node:
        raise NoClassifierError(f"{opened.node} has no class scores")
    return opened


@dataclass(frozen=True)
class _Order:
    """What is to be written to `path`; `run` is the folder of the model."""

    model: Model
    run: Path
    path: Path
    asked: Asked
    cdn: bool
    web_runtime: Path | None


@dataclass(frozen=True)
class Form:
    """What --to can write: a file with this ending, or a folder. `options`: those that not every form has. `write`
    returns what was measured and compared."""

    ending: str
    options: tuple[str, ...]
    write: Callable[[_Order], Answer]


def _write_folder(order: _Order) -> Answer:
    order.model.save(order.path)
    return Answer()


def _write_file(order: _Order) -> Answer:
    from convolve.smaller import export_as

    return _compared(export_as(order.model, order.path, order.asked, order.run))


def _compared(done: Exported) -> Answer:
    from convolve.records.reading import to_json

    return Answer(done.lines, to_json(done))


def _write_page(order: _Order) -> Answer:
    from convolve.web.folder import write_page
    from convolve.web.runtime import packed, referred

    runtime = referred() if order.cdn else packed(order.web_runtime)
    compared = write_page(order.model, order.run.resolve().name, order.path, runtime, asked=order.asked, run=order.run)
    where = f"from {runtime.script}: the page needs a network" if order.cdn else "in the folder"
    opened_from = f"open it from any web server: python -m http.server --directory {order.path}"
    first = Answer([f"onnxruntime-web {runtime.version} {where}"], {"runtime": runtime.version})
    return first + _compared(compared) + Answer([opened_from])


_MEASURED = ("--quantize", "--data", "--max-error-increase")
FORMS = {
    "convolve": Form("", ("--license",), _write_folder),
    "onnx": Form(
        ".onnx",
        ("--license", "--with-preprocessing", "--any-size", *_MEASURED, "--batch-size", "--opset"),
        _write_file,
    ),
    "exported-program": Form(".pt2", ("--license", "--with-preprocessing"), _write_file),
    "web": Form("", ("--license", *_MEASURED, "--cdn", "--web-runtime"), _write_page),
}
_SPECIAL = {option for form in FORMS.values() for option in form.options}
_NEEDS = {"--data": "--quantize", "--max-error-increase": "--quantize"}


def _given(context: typer.Context) -> list[str]:
    """The options on the command line, in the order of the help."""
    options = [param for param in context.command.params if param.param_type_name == "option"]
    sources = {param.opts[0]: context.get_parameter_source(str(param.name)) for param in options}
    return [option for option, source in sources.items() if source and source.name == "COMMANDLINE"]


def _check(to: str, out: Path, given: list[str]) -> None:
    """Refuse what can be refused before the model is read."""
    form = look_up(FORMS, to, "form", "--to")
    for option in given:
        if option in _SPECIAL and option not in form.options:
            known = " or ".join(name for name, other in FORMS.items() if option in other.options)
            raise UsageError(f"{option} is for --to {known}, not for --to {to}; leave it out")
        if option in _NEEDS and _NEEDS[option] not in given:
            raise UsageError(f"{option} needs {_NEEDS[option]}; add --quantize int8 or --quantize fp16")
    if {"--cdn", "--web-runtime"} <= {*given}:
        raise UsageError("--cdn refers to a runtime elsewhere, --web-runtime names one to copy; leave one of them out")
    if form.ending and out.suffix != form.ending:
        raise UsageError(f"--to {to} writes a file whose name ends in {form.ending}, but --out is {out}")
    if out.exists() and (form.ending or not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out} exists already; choose another --out")


def _described(opened: Model, path: Path, asked: Asked) -> Answer:
    parameters = sum(p.numel() for p in opened.module.parameters())
    inside = ", inside the file" if asked.inside["takes_pixels"] else ""
    lines = [
        f"{path}: {parameters:,} parameters, {len(opened.class_names)} classes",
        f"the network gets {opened.preprocess}{inside}",
    ]
    notes = [opened.preprocess_warning] if opened.preprocess_warning else []
    fields = {"parameters": parameters, "class_names": list(opened.class_names), "notes": notes}
    lines += [f"note: {note}" for note in notes]
    return Answer(lines, fields | {"preprocess": opened.preprocess.mapping()})


def _of_network(to: str, given: list[str], reason: Exception) -> Exception:
    """The reason why a network is converted without classes. Raises UsageError for options of classifiers."""
    if to == "web":
        raise UsageError(f"the page is for a classifier of images ({reason}); choose one output with --output")
    if special := [option for option in given if option in _SPECIAL]:
        raise UsageError(f"{', '.join(special)} of --to {to}: only for classifiers of images ({reason}); leave it out")
    return reason


def _convert_network(
    model: Path, to: str, path: Path, overrides: Overrides, names: list[str], *, reason: Exception
) -> Answer:
    from convolve.network import load_graph
    from convolve.records.reading import to_json

    network = load_graph(model, names, overrides)
    parameters = sum(p.numel() for p in network.module.parameters())
    ports = {"inputs": network.inputs, "outputs": network.outputs}
    sides = zip(("takes", "gives"), ports.values(), strict=True)
    lines = [
        f"{path}: {parameters:,} parameters; not a classifier ({reason})",
        *(f"{side} {', '.join(f'{name} {shape}' for name, shape in shapes.items())}" for side, shapes in sides),
    ]
    done = Answer(lines, {"parameters": parameters, "no_classifier": str(reason), **to_json(ports)})
    if to != "convolve":
        compared = network.export(path)
        return done + Answer([str(compared)], {"compared": to_json(compared)})
    network.save(path)
    return done + Answer(["it has no preprocessing and no class names: only `convert` and `show` read it"])
