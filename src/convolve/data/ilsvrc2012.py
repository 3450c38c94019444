"""ILSVRC2012: 1,281,167 training and 50,000 validation photographs of 1,000 classes, of all sizes."""

from __future__ import annotations

from convolve.data.download import Progress
from convolve.data.locate import locate
from convolve.data.own import OwnSet, find_parts, open_own
from convolve.errors import MissingDataError

SHAPE_CHW = (3, 256, 256)  # of photographs whose shorter side was scaled to 256, as most recipes begin
CLASSES, TRAIN, VAL = 1000, 1_281_167, 50_000


def open_ilsvrc2012(where: str | None = None, progress: Progress | None = None) -> OwnSet:
    """The photographs that the maps in the folder `where` (--data, see `locate`) list; they stay on disk.

    They are handed out by image-net.org, to who asks for them: nothing is downloaded. Raises `MissingDataError`.
    """
    del progress
    folder = locate("ilsvrc2012", where)
    if find_parts(folder) is None:
        raise MissingDataError(
            f"no ILSVRC2012 in {folder}, which should hold train_map.txt and val_map.txt; get the images from "
            f"image-net.org, unpack them, and give `convolve prepare ilsvrc2012 --source ILSVRC2012 --out {folder}`"
        )
    return open_own(folder).sized(SHAPE_CHW)
