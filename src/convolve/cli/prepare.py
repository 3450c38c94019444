"""convolve prepare"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from convolve.cli.options import AsJson, Options, choices, with_data_options
from convolve.errors import ConvolveError, UsageError, look_up

if TYPE_CHECKING:
    from convolve.data.team import Team
    from convolve.prepare.output import Report


@with_data_options
def prepare(
    dataset: Annotated[
        str,
        typer.Argument(
            **choices("mnist|cifar10|ilsvrc2012|folder|shards"), help="A data set, or your own images (folder, shards)."
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="The folder to write to.")],
    source: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="The folder with the official files, packed or unpacked, or with your own images. [default: "
            "$CONVOLVE_DATA/DATASET, or else a download]",
        ),
    ] = None,
    order_from: Annotated[
        Path | None,
        typer.Option(
            help="For ilsvrc2012: number the classes as this classmappings.txt does, instead of by WordNet ID.",
            metavar="FILE",
        ),
    ] = None,
    shard_size: Annotated[
        int | None,
        typer.Option(min=1, help="For shards: the size of each, in about MB megabytes. [default: 100]", metavar="MB"),
    ] = None,
    as_json: AsJson = False,
    *,
    options: Options,
) -> None:
    """Write the files that CNTK's examples read, or shards.

    Converts a data set's official files, or your own images, to CTF files, images, map files, labels and, for CIFAR-10,
    the mean image. For ilsvrc2012 and folder, the map files refer to the images where they are. shards writes any
    labeled images as WebDataset's tar files.

    Example: convolve prepare mnist --source downloads/ --out data/mnist
    """
    from convolve.cli.progress import check_lines, download_lines, stderr_console
    from convolve.distributed.parts import open_team
    from convolve.prepare.cifar10 import prepare_cifar10
    from convolve.prepare.folder import prepare_folder
    from convolve.prepare.ilsvrc2012 import prepare_ilsvrc2012
    from convolve.prepare.mnist import prepare_mnist
    from convolve.prepare.shards import SHARD_MB, prepare_shards

    preparations: dict[str, Callable[[Path | None, Path, Any, Team], Iterator[Report]]] = {
        "mnist": prepare_mnist,
        "cifar10": prepare_cifar10,
        "ilsvrc2012": partial(prepare_ilsvrc2012, order_from=order_from),
        "folder": partial(prepare_folder, options=options),
        "shards": lambda place, folder, _, team: prepare_shards(place, folder, options, shard_size or SHARD_MB, team),
    }
    prepared = look_up(preparations, dataset, "data set")
    if order_from and dataset != "ilsvrc2012":
        raise UsageError(f"--order-from is for ilsvrc2012; leave it out for {dataset}")
    if shard_size and dataset != "shards":
        raise UsageError(f"--shard-size is for shards; leave it out for {dataset}")
    with _as_source(), open_team(check_lines("{what}: {done:,} of {count:,}")) as team:
        reports = []
        for report in prepared(source, out, download_lines(stderr_console()), team):
            reports.append({"path": str(report.path), "what": report.what, **report.counts})
            if not as_json:
                print(report)
        if as_json:
            print(json.dumps({"dataset": dataset, "out": str(out), "files": reports}, indent=2, ensure_ascii=False))


@contextmanager
def _as_source() -> Iterator[None]:
    """Errors within name the flag that has the images here: --source, where other commands have --data."""
    try:
        yield
    except ConvolveError as error:
        error.args = (str(error).replace("--data", "--source"),)
        raise
