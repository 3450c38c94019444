"""convolve prepare"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from convolve.errors import UsageError, unknown_name


def prepare(
    dataset: Annotated[str, typer.Argument(help="mnist or cifar10")],
    out: Annotated[Path, typer.Option(help="Where to write CTF text, images, map files and labels.")],
    source: Annotated[
        Path | None,
        typer.Option(
            help="The folder with the official files, packed or unpacked. [default: $CONVOLVE_DATA/DATASET, else the "
            "cache folder, filled by download]"
        ),
    ] = None,
) -> None:
    """Turn official files into what CNTK's examples read.

    That is CTF text, images, map files, labels and, for CIFAR-10, the mean image.

    Example: convolve prepare mnist --source downloads/ --out data/mnist
    """
    from convolve.cli.progress import DownloadLines, stderr_console
    from convolve.prepare.cifar10 import prepare_cifar10
    from convolve.prepare.mnist import prepare_mnist

    preparations = {"mnist": prepare_mnist, "cifar10": prepare_cifar10}
    if dataset not in preparations:
        raise UsageError(unknown_name("data set", dataset, preparations))
    for line in preparations[dataset](source, out, DownloadLines(stderr_console())):
        print(line)
