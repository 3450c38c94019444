"""convolve prepare"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from convolve.cli.options import Options, with_data_options
from convolve.errors import UsageError, look_up

if TYPE_CHECKING:
    from convolve.data.team import Team


@with_data_options
def prepare(
    dataset: Annotated[str, typer.Argument(help="mnist, cifar10, ilsvrc2012, folder or shards (your own images).")],
    out: Annotated[Path, typer.Option(help="The folder to write CTF files, images, map files, shards and labels to.")],
    source: Annotated[
        Path | None,
        typer.Option(
            help="The folder with the official files (packed or unpacked) or your own images. [default: "
            "$CONVOLVE_DATA/DATASET, or else a download]"
        ),
    ] = None,
    order_from: Annotated[
        Path | None,
        typer.Option(
            help="For ilsvrc2012: number the classes as this classmappings.txt does, not by WordNet ID.",
            metavar="FILE",
        ),
    ] = None,
    shard_size: Annotated[
        int | None,
        typer.Option(min=1, help="For shards: about so many megabytes each. [default: 100]", metavar="MB"),
    ] = None,
    *,
    options: Options,
) -> None:
    """Write the files that CNTK's examples read, or shards.

    It converts a data set's official files, or your own images, to CTF files, images, map files, labels and, for
    CIFAR-10, the mean image. For ILSVRC2012 and your own images, the map files refer to the images where they are.
    `shards` writes any labeled images as WebDataset's tar shards.

    Example: convolve prepare mnist --source downloads/ --out data/mnist
    """
    from convolve.cli.progress import check_lines, download_lines, stderr_console
    from convolve.distributed.parts import open_team
    from convolve.prepare.cifar10 import prepare_cifar10
    from convolve.prepare.folder import prepare_folder
    from convolve.prepare.ilsvrc2012 import prepare_ilsvrc2012
    from convolve.prepare.mnist import prepare_mnist
    from convolve.prepare.shards import SHARD_MB, prepare_shards

    preparations: dict[str, Callable[[Path | None, Path, Any, Team], Iterator[str]]] = {
        "mnist": prepare_mnist,
        "cifar10": prepare_cifar10,
        "ilsvrc2012": partial(prepare_ilsvrc2012, order_from=order_from),
        "folder": partial(prepare_folder, options=options),
        "shards": lambda place, folder, _, team: prepare_shards(place, folder, options, shard_size or SHARD_MB, team),
    }
    prepared = look_up(preparations, dataset, "data set")
    if order_from and dataset != "ilsvrc2012":
        raise UsageError(f"--order-from is for ilsvrc2012; the classes of {dataset} have their numbers")
    if shard_size and dataset != "shards":
        raise UsageError(f"--shard-size is for shards; leave it out for {dataset}")
    with open_team(check_lines("{what}: {done:,} of {count:,}")) as team:
        for line in prepared(source, out, download_lines(stderr_console()), team):
            print(line)
