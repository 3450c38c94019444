"""CIFAR-10 as the files that CNTK's CIFAR-10 script writes.

Train_cntk_text.txt, Test_cntk_text.txt     CTF, one line per image: planes of red, green and blue
train/NNNNN.png, test/NNNNN.png             training pictures padded to 40x40 with 128, test pictures 32x32
train_map.txt, test_map.txt                 absolute path, TAB, class; in the order of the samples
CIFAR-10_mean.xml                           mean of the training images without padding, planes of red, green, blue
train_regrLabels.txt, test_regrLabels.txt   CTF: mean red, green and blue of each picture, padding included; 1 is white
labels.txt                                  the names of class 0, 1, ..., one per line
prepared.json                               which data these files were made from
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from convolve.data.cifar10 import (
    CTF_TEST,
    CTF_TRAIN,
    MAP_TEST,
    MAP_TRAIN,
    PADDING,
    PADDING_VALUE,
    load_cifar10,
)
from convolve.data.download import Progress
from convolve.data.sources.cifar import CLASS_NAMES
from convolve.data.sources.source import ArraySource
from convolve.data.team import ALONE, Team
from convolve.formats.mean_xml import write_mean_xml
from convolve.prepare.output import Output, Report, claimed, data_argument, origin_of

# Legend: N samples, C channels (R, G, B), H rows, W columns.

MEAN = "CIFAR-10_mean.xml"
FILES = (CTF_TRAIN, CTF_TEST, "train", "test", MAP_TRAIN, MAP_TEST, MEAN, "train_regrLabels.txt", "test_regrLabels.txt")


def prepare_cifar10(
    source: Path | None, out: Path, progress: Progress | None = None, team: Team = ALONE
) -> Iterator[Report]:
    """Write CIFAR-10 from `source` (anything that `load_cifar10` reads) into `out`; see `prepare_mnist`."""
    data = load_cifar10(data_argument(source), progress)
    train, test = data.arrays
    with claimed(out, origin_of("cifar10", data), FILES, team) as output:
        yield output.labels(CLASS_NAMES)
        yield output.once(MEAN, lambda path: _write_mean(path, train))
        yield from _part(output, "train", CTF_TRAIN, train, PADDING)
        yield from _part(output, "test", CTF_TEST, test, 0)


def _write_mean(path: Path, table: ArraySource) -> None:
    """CNTK's reader takes files of this kind as interleaved BGR; its own script, followed here, writes planes."""
    mean_CHW = table.images_NCHW.numpy().mean(axis=0)
    write_mean_xml(path, mean_CHW[::-1].transpose(1, 2, 0), "planar_rgb")


def _part(output: Output, part: str, ctf_name: str, table: ArraySource, padding: int) -> Iterator[Report]:
    yield output.ctf(ctf_name, table, len(CLASS_NAMES))
    border = (padding, padding)
    padded_NCHW = np.pad(table.images_NCHW.numpy(), ((0, 0), (0, 0), border, border), constant_values=PADDING_VALUE)
    means_NC = padded_NCHW.mean(axis=(2, 3)) / 255
    lines = (f"|regrLabels\t{red:f}\t{green:f}\t{blue:f}\n" for red, green, blue in means_NC.tolist())
    yield output.text(f"{part}_regrLabels.txt", "".join(lines))
    names = [f"{number:05d}.png" for number in range(len(table))]
    yield from output.pictures(part, names, padded_NCHW[:, ::-1].transpose(0, 2, 3, 1), table.labels_N.tolist())
