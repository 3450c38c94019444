"""ILSVRC2012: 1,281,167 training and 50,000 validation photographs of 1,000 classes, of all sizes.

image-net.org gives them out on request: nothing is downloaded.
"""

from dataclasses import replace

from convolve.data.lists import find_lists, open_lists
from convolve.data.locate import locate
from convolve.data.splits import DatasetInfo, Splits
from convolve.errors import MissingDataError

# Of photographs whose shorter side was scaled to 256, as most recipes begin.
INFO = DatasetInfo("ilsvrc2012", (3, 256, 256), tuple(map(str, range(1000))), 1_281_167, 50_000)


def load_ilsvrc2012(where: str | None, file_order: bool) -> Splits:
    """The photographs listed in the folder to which `where` (--data) leads."""
    folder = locate(INFO.name, where)
    lists = find_lists(folder)
    if lists is None:
        raise MissingDataError(
            f"there is no ILSVRC2012 in {folder}, which should hold train_map.txt and val_map.txt; get the images from "
            f"image-net.org, unpack them, and give `convolve prepare ilsvrc2012 --source ILSVRC2012 --out {folder}`"
        )
    return replace(open_lists(folder, lists, file_order), name=INFO.name)
