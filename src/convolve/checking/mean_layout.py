"""Mean images whose channels or planes are not in the layout that CNTK's reader expects."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from convolve.checking.finding import Findings
from convolve.checking.part import Part
from convolve.data.sources.source import UNLABELED
from convolve.errors import DataError
from convolve.formats.decode import Decoding
from convolve.formats.mean_xml import read_mean_xml
from convolve.transforms.preprocess import Preprocess, fit_size

# Legend: C channels, H rows, W columns.

_MOST_IMAGES = 2000  # with pixels that deviate by 64, their mean is known to 1.4
_CLEARLY = 0.5  # of the distance as CNTK reads it: another layout fits if it comes so much closer

# Layout in the file -> what to do about it.
_MENDS = {
    "planes of red, green and blue": "data.mean_image_layout=planar_rgb (the default) reads it correctly; for CNTK, "
    "write it again, interleaved",
    "planes of blue, green and red": "write it again, row by row, with blue, green and red of each pixel",
    "red, green and blue of each pixel": "write it again with the channels in reverse order",
}


def mean_files(folder: Path) -> list[Path]:
    """The XML files in `folder` whose names suggest a mean image."""
    return sorted(file for file in folder.glob("*.xml") if "mean" in file.name.lower())


def check_mean(path: Path, part: Part, findings: Findings) -> None:
    """Compare the mean image in `path`, in each layout that it may have, with the mean of images of `part`."""
    try:
        as_cntk_HWC = read_mean_xml(path)
    except DataError as error:
        findings.add("unreadable", str(path), str(error).removeprefix(f"{path}: "), "write it again")
        return
    if as_cntk_HWC.shape[2] != 3:
        return  # one channel has only one layout
    true_HWC = _mean_of(part, *as_cntk_HWC.shape[:2])
    if true_HWC is None:
        return
    planar_HWC = read_mean_xml(path, "planar_rgb")
    layouts = (planar_HWC, planar_HWC[:, :, ::-1], as_cntk_HWC[:, :, ::-1])
    distances = {name: _distance(true_HWC, mean_HWC) for name, mean_HWC in zip(_MENDS, layouts, strict=True)}
    nearest = min(distances, key=distances.__getitem__)
    if distances[nearest] < _CLEARLY * (as_read := _distance(true_HWC, as_cntk_HWC)):
        what = (
            f"holds {nearest}, but CNTK reads blue, green and red of each pixel (read so, it is {as_read:.1f} gray "
            f"levels away from the mean of the images, else {distances[nearest]:.1f})"
        )
        findings.add("mean layout", str(path), what, _MENDS[nearest])


def _mean_of(part: Part, height: int, width: int) -> NDArray[np.float64] | None:
    """The mean (H, W, C) of images spread over `part`, at that size; None if none can be read."""
    total_HWC, count = np.zeros((height, width, 3)), 0
    preprocess = Preprocess(3, height, width)
    readable: Sequence[int] = np.flatnonzero(part.labels_N != UNLABELED).tolist()
    for index in readable[:: max(1, len(readable) // _MOST_IMAGES)]:
        try:
            image_HWC = part.decode(index, part.source.read(index), Decoding(min_size=(height, width)))
            total_HWC += fit_size(image_HWC, preprocess)
        except DataError:  # already a finding of its own
            continue
        count += 1
    return total_HWC / count if count else None


def _distance(one_HWC: NDArray[np.floating], other_HWC: NDArray[np.floating]) -> float:
    return float(np.sqrt(np.mean((one_HWC - other_HWC) ** 2)))
