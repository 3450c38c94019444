"""convolve run"""

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any

import typer

from convolve.atomic import append_to, cannot_write
from convolve.cli.options import AsJson, choices
from convolve.distributed.launcher import rank_info
from convolve.errors import UsageError


def run(
    config: Annotated[
        list[str],
        typer.Argument(
            help="A program for CNTK's Python API and its own arguments; or a BrainScript file, or several joined by "
            "`+`, then settings such as maxEpochs=3 or Train=[SGD=[maxEpochs=3]]. If a key is set more than once, the "
            "last value counts.",
            metavar="PROGRAM.py|CONFIG.cntk [ARGUMENT|KEY=VALUE]",
        ),
    ],
    data: Annotated[
        str | None,
        typer.Option(help="Read these images in place of the CTF files: a folder, or `sample`.", metavar="DIR|sample"),
    ] = None,
    translate: Annotated[
        Path | None,
        typer.Option(help="Do not train. Write a recipe file, and the network beside it.", metavar="FILE"),
    ] = None,
    from_model: Annotated[
        Path | None,
        typer.Option(
            "--from", metavar="MODEL", help="Start from a model that CNTK trained with the same configuration."
        ),
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option(
            help="The precision of a Python program's training steps. auto: the fastest whose gradients are right.",
            **choices("auto|fp32|bf16"), show_default="fp32",
        ),
    ] = None,
    allow_outside: Annotated[
        bool,
        typer.Option(
            "--allow-outside",
            help="Let the configuration write outside its folder, its rootDir and the working folder.",
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Run a CNTK configuration, or a Python program for CNTK 2.7.

    Of a configuration, the training and test commands are run. Everything after the name of a PROGRAM.py belongs to the
    program; options stand before it.

    Example: convolve run ConvNet_MNIST.cntk dataDir=data/MNIST
    """
    from convolve.cli.cntk_log import CntkLog
    from convolve.run_config import read_configuration, run_job
    from convolve.run_config.reach import reach_of

    if precision is not None:
        raise UsageError("--precision is for Python programs; a configuration says precision=float or precision=double")
    config = _in_their_folder(config)
    job, reach = read_configuration(config), reach_of(config, allow_outside)
    is_first = not rank_info(os.environ).rank
    for warning in job.warnings if is_first else ():
        print(f"warning: {warning}", file=sys.stderr)
    if translate is not None:
        from convolve.cli.translation import write_translation

        network = write_translation(job, translate)
        written = {"recipe": str(translate), "network": str(network)}
        print(json.dumps(written, indent=2) if as_json else f"recipe   {translate}\nnetwork  {network}")
        return
    reach.require_all(job)
    with _written_to(job.log if is_first else None) as write:
        results = run_job(job, CntkLog(write, job.trace_level), data, from_model, reach=reach)
    if is_first:
        for text in [json.dumps({"tests": results}, indent=2)] if as_json else map(_in_words, results):
            print(text)


def _in_their_folder(arguments: list[str]) -> list[str]:
    """The arguments after currentDirectory=DIR, as CNTK handles it: the working folder becomes DIR, and later paths are
    relative to it. Paths before it are not affected."""
    from convolve.importers.brainscript.files import files_in

    found: list[str] = []
    for argument in arguments:
        key, equals, folder = argument.partition("=")
        if not equals or key.lower() != "currentdirectory":
            found.append(argument)
            continue
        found = ["+".join(map(os.path.abspath, files)) if (files := files_in(x)) else x for x in found]
        try:
            os.chdir(folder)
        except OSError as error:
            raise UsageError(f"cannot enter currentDirectory={folder}: {error.strerror}; name a folder") from None
    return found


@contextmanager
def _written_to(path: Path | None) -> Iterator[Callable[[str], None]]:
    """A function that writes a line to stderr and appends it to the file `path`, if there is one."""
    if path is None:
        yield lambda line: print(line, file=sys.stderr, flush=True)
        return
    try:
        log = append_to(path)
    except OSError as error:
        raise cannot_write(path, error) from None

    def write(line: str) -> None:
        print(line, file=sys.stderr, flush=True)
        try:
            print(line, file=log, flush=True)
        except OSError as error:
            raise cannot_write(path, error) from None

    try:
        yield write
    finally:
        with suppress(OSError):  # already reported
            log.close()


def _in_words(result: dict[str, Any]) -> str:
    of_model = f" of {result['model']}" if "model" in result else ""  # the action cv has a result for each model
    named = {name: value for name, value in result.items() if name not in ("test", "model", "samples")}
    figures = ", ".join(f"{name} {value:.6g}" for name, value in named.items())
    return f"{result['test']}{of_model}: {figures} on {result['samples']:,} samples"
