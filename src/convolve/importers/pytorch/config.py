"""What timm's config.json says about the checkpoint that it lies beside."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convolve.atomic import read_ordinary
from convolve.importers.loader import three_numbers
from convolve.models.packages import Published

_MOST_BYTES = 1 << 22


@dataclass(frozen=True)
class Config:
    """`architecture`: timm's name of the network. `published`: its preprocessing, None if it is not stated."""

    architecture: str = ""
    published: Published | None = None
    class_names: tuple[str, ...] = ()


def beside(path: Path) -> Config:
    """What the config.json beside `path` says; a damaged file, or one of another kind, says nothing."""
    file = path.with_name("config.json")
    try:
        said: Any = json.loads(read_ordinary(file, _MOST_BYTES))
        if not isinstance(said, dict) or not isinstance(said.get("architecture"), str):
            return Config()
        names = said.get("label_names")
        named = tuple(map(str, names)) if isinstance(names, list) else ()
        return Config(said["architecture"], _published(said.get("pretrained_cfg")), named)
    except (OSError, ValueError, RecursionError):
        return Config()


def _published(said: Any) -> Published | None:
    if not isinstance(said, dict):
        return None
    size, ratio = said.get("input_size"), said.get("crop_pct", 1.0)
    mean, std = (three_numbers(said.get(name)) for name in ("mean", "std"))
    if not mean or not std or min(std) < 1e-30 or type(ratio) not in (int, float) or not 0 < ratio <= 1:
        return None
    if not isinstance(size, list) or len(size) != 3 or not all(type(side) is int for side in size):
        return None
    return Published(size[1], mean, std, ratio) if 1 <= size[1] <= 1 << 14 else None
