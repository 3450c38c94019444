"""ILSVRC2012: 1,281,167 training and 50,000 validation photographs of 1,000 classes, of all sizes.

They are handed out by image-net.org, to who asks for them: nothing is downloaded.
"""

from __future__ import annotations

from pathlib import Path

from convolve.data.splits import DatasetInfo
from convolve.errors import MissingDataError

# Of photographs whose shorter side was scaled to 256, as most recipes begin.
INFO = DatasetInfo("ilsvrc2012", (3, 256, 256), tuple(map(str, range(1000))), 1_281_167, 50_000)


def missing(folder: Path) -> MissingDataError:
    """What to say where `folder` lists no photographs."""
    return MissingDataError(
        f"no ILSVRC2012 in {folder}, which should hold train_map.txt and val_map.txt; get the images from "
        f"image-net.org, unpack them, and give `convolve prepare ilsvrc2012 --source ILSVRC2012 --out {folder}`"
    )
