"""MNIST as the files that CNTK's MNIST script writes, and as PNG files.

Train-28x28_cntk_text.txt, Test-28x28_cntk_text.txt   CTF, one line per digit
train/<digit>/NNNNN.png, test/<digit>/NNNNN.png       28x28 gray; NNNNN is the number of the sample, from 00000
train_map.txt, test_map.txt                           absolute path, TAB, digit; in the order of the samples
labels.txt                                            the names of class 0, 1, ..., one per line
prepared.json                                         which data these files were made from
"""

from collections.abc import Iterator
from pathlib import Path

from convolve.data.download import Progress
from convolve.data.mnist import CLASS_NAMES, CTF_TEST, CTF_TRAIN, load_mnist
from convolve.data.sources.source import ArraySource
from convolve.data.team import ALONE, Team
from convolve.prepare.output import Output, Report, claimed, data_argument, origin_of

FILES = (CTF_TRAIN, CTF_TEST, "train", "test", "train_map.txt", "test_map.txt")


def prepare_mnist(
    source: Path | None, out: Path, progress: Progress | None = None, team: Team = ALONE
) -> Iterator[Report]:
    """Write MNIST from the folder `source` (anything that `load_mnist` reads) into `out`, with one report line per
    part.

    The work is done as the lines are taken. Files that are already there are kept, so an interrupted run is continued,
    and a finished one only checks. Raises `UsageError` if `out` contains something else, `ConvolveError` if it cannot
    be written to; even then, each file is complete or absent.
    """
    data = load_mnist(data_argument(source), progress)
    train, test = data.arrays
    with claimed(out, origin_of("mnist", data), FILES, team) as output:
        yield output.labels(CLASS_NAMES)
        yield from _part(output, "train", CTF_TRAIN, train)
        yield from _part(output, "test", CTF_TEST, test)


def _part(output: Output, part: str, ctf_name: str, table: ArraySource) -> Iterator[Report]:
    labels_N = table.labels_N.tolist()
    yield output.ctf(ctf_name, table, len(CLASS_NAMES))
    names = [f"{label}/{number:05d}.png" for number, label in enumerate(labels_N)]
    yield from output.pictures(part, names, table.images_NCHW.permute(0, 2, 3, 1).numpy(), labels_N)
