"""convolve prepare"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from convolve.errors import UsageError, unknown_name


def prepare(
    dataset: Annotated[str, typer.Argument(help="mnist")],
    source: Annotated[Path, typer.Option(help="The folder with the official files, packed or unpacked.")],
    out: Annotated[Path, typer.Option(help="Where to write CTF text, images, map files and labels.")],
) -> None:
    """Turn official files into what CNTK's examples read.

    That is CTF text, images, map files and labels.

    Example: convolve prepare mnist --source downloads/ --out data/mnist
    """
    from convolve.prepare.mnist import prepare_mnist

    preparations = {"mnist": prepare_mnist}
    if dataset not in preparations:
        raise UsageError(unknown_name("data set", dataset, preparations))
    for line in preparations[dataset](source, out):
        print(line)
