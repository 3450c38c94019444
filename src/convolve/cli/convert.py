"""convolve convert"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from convolve.cli.options import Overrides, with_overrides
from convolve.cli.snippet import Snippet
from convolve.errors import UnsupportedError, UsageError, look_up

if TYPE_CHECKING:
    from convolve.model import Model
    from convolve.records import TrainingInfo
    from convolve.smaller import Asked

# Form -> the ending of its file; a convolve model and a web page are folders of any name.
TARGETS = {"convolve": "", "onnx": ".onnx", "exported-program": ".pt2", "web": ""}
_FOR_CLASSIFIERS = "--with-preprocessing, --quantize, --batch-size and --opset are for classifiers of images"


@with_overrides
def convert(
    model: Annotated[
        Path,
        typer.Argument(
            help="A CNTK model, net.prototxt+net.caffemodel, a PyTorch checkpoint, a model folder or a run folder."
        ),
    ],
    to: Annotated[
        str | None, typer.Option(help="The format to write: convolve, onnx, exported-program or web.", metavar="FORM")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="The output: file.onnx, file.pt2, or a folder for convolve and web.")
    ] = None,
    with_preprocessing: Annotated[
        bool,
        typer.Option(
            "--with-preprocessing",
            help="Export the preprocessing, too: the model then takes uint8 images (N, H, W, C), gray or RGB.",
        ),
    ] = False,
    any_size: Annotated[
        bool,
        typer.Option(
            "--any-size",
            help="Export the scaling and cropping, too (ONNX): the model then takes one uint8 image (H, W, 3) of any "
            "size, in RGB, and gives the probabilities.",
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
    snippet: Annotated[
        str | None,
        typer.Option(
            help="Only print a short program in that language, or write it to --out, which asks the model's ONNX file: "
            "python-cv2, python-pillow, javascript, cpp or csharp.",
            metavar="LANGUAGE",
        ),
    ] = None,
    sign: Annotated[
        Path | None,
        typer.Option(metavar="KEY", help="Sign --out, or MODEL as it is, with this private key, and write an ML-BOM."),
    ] = None,
    verify: Annotated[
        Path | None,
        typer.Option(metavar="KEY", help="Only check that MODEL is as the owner of this public key signed it."),
    ] = None,
    cdn: Annotated[
        bool, typer.Option("--cdn", help="web: refer to onnxruntime-web on jsdelivr.net; else npm brings it.")
    ] = False,
    web_runtime: Annotated[
        Path | None, typer.Option(metavar="FILE", help="web: a package that `npm pack onnxruntime-web` wrote.")
    ] = None,
    *,
    overrides: Overrides,
) -> None:
    """Convert a model to another format.

    Preprocessing and class names are kept. Every exported file is run and its outputs are compared with the model's. If
    they differ, nothing is written. A network that is no classifier, or has several heads, is converted as it is,
    without class names and preprocessing. For web, a folder is written with a page that asks the model in the browser.

    Example: convolve convert runs/mnist --to onnx --out mnist.onnx
    """
    if to is None or out is None or verify or snippet:
        program = Snippet(snippet, with_preprocessing, any_size, output, overrides) if snippet else None
        _only_beside(model, to, out, program, sign=sign, verify=verify)
        return
    with_key = _signer(sign) if sign else None
    with_preprocessing = with_preprocessing or any_size
    _check(to, out, with_preprocessing, any_size)
    _check_web(to, cdn, web_runtime)

    from convolve.graph.classifier import NoClassifierError, SeveralHeadsError
    from convolve.loading import load
    from convolve.smaller import Asked

    asked = Asked(quantize, data, max_error_increase, batch_size, opset, with_preprocessing=with_preprocessing)
    _check_form(asked, to, any_size)
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
        _sign(out, with_key)
        return
    opened.training_info = replace(opened.training_info, license=license_ or opened.training_info.license)
    page = partial(_write_page, cdn=cdn, web_runtime=web_runtime) if to == "web" else None
    _tell(out, opened, with_preprocessing, _written(opened, to, out, asked, run=model, any_size=any_size, page=page))
    _sign(out, with_key, opened.data_name, opened.training_info)


def _check_form(asked: Asked, to: str, any_size: bool) -> None:
    from convolve.export.onnx import check_packages

    if not asked.is_plain:
        if to != "onnx" or any_size:
            raise UsageError("--quantize, --batch-size and --opset are for --to onnx, without --any-size")
        check_packages()


def _written(opened: Model, to: str, out: Path, asked: Asked, *, run: Path, any_size: bool, page: Any) -> list[str]:
    """Write the file or folder. Returns what was compared, in sentences."""
    from convolve.smaller import export_as

    if page:
        return list(page(opened, run, out))
    if to == "convolve":
        opened.save(out)
        return []
    if not asked.is_plain:
        return export_as(opened, out, asked, run)
    return [str(opened.export(out, with_preprocessing=asked.with_preprocessing, any_size=any_size))]


def _tell(out: Path, opened: Model, with_preprocessing: bool, compared: list[str]) -> None:
    parameters = sum(p.numel() for p in opened.module.parameters())
    print(f"{out}: {parameters:,} parameters, {len(opened.class_names)} classes")
    print(f"the network sees {opened.preprocess}{', inside the file' if with_preprocessing else ''}")
    for line in compared:
        print(line)


def _only_beside(
    model: Path, to: str | None, out: Path | None, snippet: Snippet | None, *, sign: Path | None, verify: Path | None
) -> None:
    """Sign or check what lies there already, or print a program for it."""
    if snippet and (to or sign or verify):
        raise UsageError("--snippet only prints a program; convert and sign in another command")
    if verify and (sign or to or out):
        raise UsageError("--verify only checks a signature; convert and sign in another command")
    if snippet:
        snippet.show(model, out)
    elif sign and not (to or out):
        _sign_as_it_is(model, _signer(sign))
    elif verify:
        from convolve.signing import verify as checked

        print(f"{checked(model, verify)}: {model} is as the owner of {verify} signed it")
    else:
        raise UsageError("give --to FORM and --out PATH; --sign, --verify and --snippet also work without them")


def _signer(key: Path) -> Any:
    from convolve.signing import signer

    return signer(key)


def _sign_as_it_is(model: Path, with_key: Any) -> None:
    """What cannot be opened, or is no classifier, is signed too; there is less to say of it."""
    from convolve.graph.classifier import SeveralHeadsError
    from convolve.loading import load

    try:
        opened = load(model)
    except (UnsupportedError, SeveralHeadsError):
        _sign(model, with_key)
    else:
        _sign(model, with_key, opened.data_name, opened.training_info)


def _sign(model: Path, with_key: Any, data: str = "", info: TrainingInfo | None = None) -> None:
    """Sign what lies there, with a bill of materials, by what `signer` made of the key, if one was given."""
    from convolve.records import TrainingInfo
    from convolve.signing import sign, write_bom

    if with_key is not None:
        bom = write_bom(model, data, info or TrainingInfo())
        print(f"signed: {sign(model, with_key)}, bill of materials {bom}")


def _write_page(opened: Model, model: Path, out: Path, cdn: bool, web_runtime: Path | None) -> list[str]:
    from convolve.web.folder import write_page
    from convolve.web.runtime import packed, referred

    runtime = referred() if cdn else packed(web_runtime)
    compared = write_page(opened, model.resolve().name, out, runtime)
    where = f"from {runtime.script}: the page needs a network" if cdn else "in the folder"
    opened_from = f"open it from any web server: python -m http.server --directory {out}"
    return [f"onnxruntime-web {runtime.version} {where}", compared, opened_from]


def _convert_network(
    model: Path, to: str, out: Path, overrides: Overrides, names: list[str], *, reason: Exception
) -> None:
    from convolve.network import load_graph

    if to == "web":
        raise UsageError(f"the page is for a classifier of images ({reason}); --output names one score")
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


def _check(to: str, out: Path, with_preprocessing: bool, any_size: bool) -> None:
    """What can be refused before the model is read."""
    ending = look_up(TARGETS, to, "form", "--to")
    if any_size and to != "onnx":
        raise UsageError(f"--any-size is for --to onnx, whose files can scale images; got --to {to}")
    is_folder = not ending
    if not is_folder and out.suffix != ending:
        raise UsageError(f"--to {to} writes a file whose name ends in {ending}, got --out {out}")
    if is_folder and with_preprocessing:
        raise UsageError(f"--with-preprocessing is for onnx and exported-program; --to {to} has it beside the model")
    if out.exists() and (not is_folder or not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out} exists already; choose another --out")


def _check_web(to: str, cdn: bool, web_runtime: Path | None) -> None:
    if to != "web" and (cdn or web_runtime):
        raise UsageError(f"--cdn and --web-runtime are for --to web, not --to {to}")
    if cdn and web_runtime:
        raise UsageError("--cdn refers to a runtime elsewhere, --web-runtime names one to copy; leave one of them out")
