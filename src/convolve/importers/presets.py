"""The pre-trained models that were published for CNTK and for Caffe, with their preprocessing.

Sources: CNTK's PretrainedModels/Image.md and download_model.py; for Caffe, the readme files of BVLC's models, of
KaimingHe/deep-residual-networks (VGG-16 too) and of yahoo/open_nsfw, and the papers of VGG and SqueezeNet. Means are
those of BVLC's imagenet_mean, of GoogLeNet, of VGG, of ResNet_mean.binaryproto; CNTK's AlexNet subtracts 114 inside
the graph. Errors are those of a single central crop. What the sources do not say is not guessed: such a model needs
--mean and --channel-order from the user.
"""

import csv
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convolve.errors import look_up
from convolve.formats.labels import read_labels


@dataclass(frozen=True)
class Preset:
    """A published model.

    `mean` (in the network's channel order) and `scale` are applied to the pixels; None: not known. `crop_ratio`: the
    fraction of the shorter side that the central crop keeps. `classes`: the file of class names beside this module;
    imagenet.txt has those of ILSVRC 2012, WordNet's synset and its first word, as in Caffe's synset_words.txt.
    `first_weights`: the first digits of the SHA-256 of the first layer's weights (float32, little-endian), for models
    that are published under several file names.
    """

    name: str
    file_name: str | None = None
    input_size: int | None = None
    channel_order: str | None = None
    mean: float | tuple[float, ...] | None = None
    scale: float | None = None
    crop_ratio: float | None = None
    published_error: float | None = None
    published_error_top5: float | None = None
    classes: str | None = None
    first_weights: str | None = None

    @property
    def preprocessing(self) -> dict[str, Any]:
        """The fields of `Preprocess` that the preset states; none if it does not know all of them."""
        fields = {"channel_order": self.channel_order, "mean": self.mean, "scale": self.scale}
        fields |= {"crop_ratio": self.crop_ratio}
        knows_all = None not in (self.input_size, *fields.values())
        return fields | {"resize": "square", "known_from": f"preset {self.name}"} if knows_all else {}

    @property
    def class_names(self) -> tuple[str, ...]:
        return names_in(self.classes) if self.classes else ()


_TEXTS = ("name", "file_name", "channel_order", "classes", "first_weights")


def names_in(classes: str) -> tuple[str, ...]:
    """The class names in the file `classes`.txt beside this module."""
    return read_labels(Path(__file__).with_name(f"{classes}.txt"))


@cache
def presets() -> dict[str, Preset]:
    """The rows of presets.csv by name. An empty cell means "not known"; means are in B, G, R order."""
    with Path(__file__).with_name("presets.csv").open(encoding="utf-8", newline="") as file:
        rows = [{name: _value(name, text) for name, text in row.items()} for row in csv.DictReader(file)]
    return {row["name"]: Preset(**row) for row in rows}


def _value(name: str, text: str) -> Any:
    if not text or name in _TEXTS:
        return text or None
    if name == "input_size":
        return int(text)
    numbers = tuple(map(float, text.split()))
    return numbers if len(numbers) > 1 else numbers[0]


def find_preset(file: str, name: str | None = None) -> Preset | None:
    """The preset called `name`, or else that of the published file name `file` (in any case), or None."""
    if name is not None:
        return look_up(presets(), name, "preset")
    wanted = Path(file).name.lower()
    return next((preset for preset in presets().values() if (preset.file_name or "").lower() == wanted), None)


def preset_of_weights(first: NDArray[np.float32]) -> Preset | None:
    """The preset whose published model has these weights in its first layer; None if there is none."""
    digits = sha256(first.astype("<f4", order="C").tobytes()).hexdigest()
    known = (preset for preset in presets().values() if preset.first_weights)
    return next((preset for preset in known if digits.startswith(preset.first_weights or "")), None)
