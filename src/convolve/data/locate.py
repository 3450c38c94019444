"""The place of a data set on this machine."""

import os
from importlib import resources
from pathlib import Path

from convolve.cache import cache_folder
from convolve.errors import MissingDataError

SAMPLE = "sample"
_SAMPLED = "mnist"  # what the package holds a sample of


def locate(dataset: str, where: str | None) -> Path:
    """The folder to read `dataset` from: `where` (what --data says), $CONVOLVE_DATA/<dataset> or the cache folder.

    "sample" is the folder shipped in the package; a folder of that name of your own is "./sample". The cache folder
    need not exist yet: the caller downloads what it lacks. A `where` that is no folder raises `MissingDataError`.
    """
    if where == SAMPLE:
        if dataset != _SAMPLED:
            raise MissingDataError(f"the package has no sample of {dataset}; give a folder that holds it")
        return Path(str(resources.files("convolve") / "data" / "sample"))
    if where is not None:
        folder = Path(where).expanduser()
        if not folder.is_dir():
            state = "is not a folder" if folder.exists() else "does not exist"
            sample = ", or --data sample" if dataset == _SAMPLED else ""
            raise MissingDataError(f"{where} {state}; give a folder that holds {dataset}{sample}")
        return folder
    shared = os.environ.get("CONVOLVE_DATA")
    if shared and Path(shared, dataset).is_dir():
        return Path(shared, dataset)
    return cache_folder(dataset)
