"""convolve run"""

from __future__ import annotations

import json
import os
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from convolve.distributed.process import find_place


def run(
    config: Annotated[
        list[str],
        typer.Argument(
            help="A BrainScript file, or several joined by `+`; then settings such as maxEpochs=3 or "
            "Train=[SGD=[maxEpochs=3]], of which the last one holds.",
            metavar="CONFIG.cntk [KEY=VALUE]...",
        ),
    ],
    data: Annotated[
        str | None,
        typer.Option(help="In place of the reader's CTF files: a folder, or `sample`.", metavar="DIR|sample"),
    ] = None,
    translate: Annotated[
        Path | None,
        typer.Option(help="Train nothing; write the training as a recipe, and the network beside it.", metavar="FILE"),
    ] = None,
    from_model: Annotated[
        Path | None,
        typer.Option("--from", help="Begin with the numbers of a model that CNTK trained from the same text."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the results of the tests as one JSON object.")] = False,
) -> None:
    """Run a CNTK configuration: train and test what its BrainScript says.

    Example: convolve run ConvNet_MNIST.cntk dataDir=data/MNIST
    """
    from convolve.cli.cntk_log import CntkLog
    from convolve.importers.brainscript.job import read_job
    from convolve.run_config import run_job

    job = read_job(config)
    is_first = not find_place(os.environ).rank
    for warning in job.warnings if is_first else ():
        print(f"warning: {warning}", file=sys.stderr)
    if translate is not None:
        from convolve.cli.translation import write_translation

        write_translation(job, translate)
        return
    with ExitStack() as open_files:
        if job.log and is_first:
            job.log.parent.mkdir(parents=True, exist_ok=True)
        log = open_files.enter_context(job.log.open("a", encoding="utf-8")) if job.log and is_first else None

        def write(line: str) -> None:
            print(line, file=sys.stderr, flush=True)
            if log:
                print(line, file=log, flush=True)

        results = run_job(job, CntkLog(write), data, from_model)
    if not is_first:
        return
    if as_json:
        print(json.dumps({"tests": results}, indent=2))
        return
    for result in results:
        of_model = f" of {result['model']}" if "model" in result else ""  # cv has a result for each model
        named = {name: value for name, value in result.items() if name not in ("test", "model", "samples")}
        figures = ", ".join(f"{name} {value:.6g}" for name, value in named.items())
        print(f"{result['test']}{of_model}: {figures} on {result['samples']:,} samples")
