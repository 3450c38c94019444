"""What an ONNX file, and files beside it, say about images and classes: in convolve's metadata, or in those of other
tools.

    convolve         the metadata `convolve`
    ONNX             the metadata Image.BitmapPixelFormat, Image.NominalPixelRange (onnx's docs/MetadataProps.md), which
                     Azure Custom Vision and Windows ML write; Custom Vision has labels.txt beside the model
    Lobe             signature.json
    Ultralytics      the metadata names, task, imgsz
    timm, Hugging Face   config.json, preprocessor_config.json
"""

import ast
import json
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from convolve.errors import DataError
from convolve.export.metadata import IN_NETWORK, KEY, read_metadata
from convolve.formats.labels import parse_labels
from convolve.importers.loader import three_numbers
from convolve.importers.onnx.files import Files
from convolve.importers.onnx.model import OnnxModel
from convolve.records import Metadata, TrainingInfo


@dataclass(frozen=True)
class Stated:
    """What is stated. `preprocess`: those fields of `Preprocess`. `own`: convolve wrote the file. `names_from`: the
    file beside it that names the classes, if one does. `independent`: the scores are logits of one probability per
    class."""

    preprocess: dict[str, Any] = field(default_factory=dict)
    metadata: Metadata | None = None
    own: bool = False
    names_from: Path | None = None
    confidence: Mapping[str, np.ndarray] = field(default_factory=dict)
    independent: bool = False


def stated(model: OnnxModel, files: Files) -> Stated:
    """What the first of `_READERS` that knows the file says; if that names no classes, labels.txt or ZipMap does."""
    found = next((said for read in _READERS if (said := read(model, files))), Stated())
    if found.metadata is None and (names := _labels(files)):
        return Stated(found.preprocess, _named(names), names_from=files.place("labels.txt"))
    if found.metadata is None and (names := _zipped_names(model)):
        return Stated(found.preprocess, _named(names))
    return found


def _named(names: Sequence[str]) -> Metadata:
    return Metadata(class_names=tuple(names), data="", training_info=TrainingInfo())


def _labels(files: Files) -> tuple[str, ...]:
    content = files.beside("labels.txt")
    with suppress(DataError):
        return parse_labels(content, files.place("labels.txt")) if content else ()
    return ()


def _zipped_names(model: OnnxModel) -> tuple[str, ...]:
    """The class names that ZipMap pairs with the scores."""
    for node in model.nodes:
        names = node.attributes.get("classlabels_strings") if node.op == "ZipMap" else None
        if isinstance(names, list):
            return tuple(map(str, names))
    return ()


def _object(files: Files, name: str) -> dict[str, Any]:
    """The JSON object in a file beside the model; empty where there is none."""
    with suppress(ValueError, RecursionError):
        value = json.loads(files.beside(name) or b"{}")
        return value if isinstance(value, dict) else {}
    return {}


def _own(model: OnnxModel, files: Files) -> Stated | None:
    if KEY not in model.metadata:
        return None
    preprocess, metadata, confidence = read_metadata(model.metadata[KEY], model.path)
    fields = preprocess.mapping() | {"mean_image_CHW": preprocess.mean_image_CHW}
    ends = {name: f"detector.{name}" for name in IN_NETWORK}
    inside = {
        name: constant.array
        for name, end in ends.items()
        for key, constant in model.constants.items()
        if key.endswith(end) and constant.array.dtype == np.float32
    }
    confidence = inside | confidence if confidence else {}
    return Stated(fields, metadata, own=True, confidence=confidence, independent=metadata.independent)


def _lobe(model: OnnxModel, files: Files) -> Stated | None:
    """Lobe: the central square of the image, RGB, 0 to 1."""
    signature = _object(files, "signature.json")
    names = signature.get("classes", {}).get("Label") if isinstance(signature.get("classes"), dict) else None
    if not isinstance(names, list):
        return None
    fields = {"channel_order": "rgb", "scale": 1 / 255, "resize": "square", "known_from": "Lobe's signature.json"}
    return Stated(fields, _named([*map(str, names)]), names_from=files.place("signature.json"))


def _ultralytics(model: OnnxModel, files: Files) -> Stated | None:
    """Ultralytics' classifiers: RGB, 0 to 1, resized to cover the size and cropped at the center."""
    if "names" not in model.metadata or "stride" not in model.metadata:
        return None
    names: Any = None
    with suppress(ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        names = ast.literal_eval(model.metadata["names"][:1_000_000])
    is_counted = isinstance(names, dict) and all(type(key) is int for key in names)
    rows = [str(names[key]) for key in sorted(names)] if is_counted else []
    fields = {"channel_order": "rgb", "scale": 1 / 255, "resize": "cover", "known_from": "Ultralytics' metadata"}
    return Stated(fields, _named(rows) if rows else None)


_LEAST = 1e-30  # of what is divided by, so that the result is a number, too

_ORDERS = {"Bgr8": "bgr", "Bgra8": "bgr", "Rgb8": "rgb", "Rgba8": "rgb", "Gray8": "gray"}
_RANGES = {"NominalRange_0_255": (0.0, 1.0), "Normalized_0_1": (0.0, 1 / 255), "Normalized_1_1": (127.5, 1 / 127.5)}


def _image_metadata(model: OnnxModel, files: Files) -> Stated | None:
    """Custom Vision without a stated range means 0 to 1, as in its own sample code."""
    order = _ORDERS.get(model.metadata.get("Image.BitmapPixelFormat", ""))
    custom_vision = files.beside("cvexport.manifest") is not None
    stated_range = model.metadata.get("Image.NominalPixelRange", "Normalized_0_1" if custom_vision else "")
    if order is None and not custom_vision:
        return None
    fields: dict[str, Any] = {"channel_order": order or "rgb"}
    if custom_vision:
        fields["resize"] = "square"
    if stated_range in _RANGES:
        mean, scale = _RANGES[stated_range]
        known_from = "Custom Vision's export" if custom_vision else "the file's metadata"
        fields |= {"mean": mean, "scale": scale, "known_from": known_from}
    return Stated(fields)


def _timm(model: OnnxModel, files: Files) -> Stated | None:
    """timm's config.json."""
    config = _object(files, "config.json")
    said = config.get("pretrained_cfg")
    if not isinstance(said, dict) or not {"mean", "std"} <= said.keys():
        return None
    fields = _normalization(said["mean"], said["std"], 255.0)
    if not fields:
        return None
    ratio = said.get("crop_pct")
    if type(ratio) is float and 0 < ratio <= 1:
        fields |= {"resize": "cover", "crop_ratio": ratio}
    names = config.get("label_names") or said.get("label_names")
    known = {"channel_order": "rgb", "known_from": "timm's config.json"}
    named = _named([*map(str, names)]) if isinstance(names, list) else None
    return Stated(fields | known, named, names_from=files.place("config.json"))


def _hugging_face(model: OnnxModel, files: Files) -> Stated | None:
    """preprocessor_config.json and config.json of the library transformers."""
    said, config = _object(files, "preprocessor_config.json"), _object(files, "config.json")
    if not {"image_mean", "image_std"} <= said.keys():
        return None
    factor = said.get("rescale_factor", 1 / 255)
    if (
        type(factor) is not float
        or not _LEAST < factor < 1 / _LEAST
        or False in (said.get("do_rescale"), said.get("do_normalize"))
    ):
        return None
    fields = _normalization(said["image_mean"], said["image_std"], 1 / factor)
    if not fields:
        return None
    labels = config.get("id2label")
    is_counted = isinstance(labels, dict) and all(re.fullmatch(r"[0-9]{1,9}", key) for key in labels)
    numbered: dict[str, Any] = labels if labels and is_counted else {}
    names = [numbered[key] for key in sorted(numbered, key=int)]
    known = {"channel_order": "rgb", "known_from": "preprocessor_config.json"} | _resize_of_hugging_face(said)
    return Stated(fields | known, _named([*map(str, names)]) if names else None, names_from=files.place("config.json"))


def _resize_of_hugging_face(said: Mapping[str, Any]) -> dict[str, Any]:
    """Either the whole image is stretched to the size, or its shorter side is resized and the center cropped.

    ConvNeXt's processor crops the fraction `crop_pct` below 384 pixels; from 384 on it stretches.
    """
    size, crop = (_side_of(said.get(name)) for name in ("size", "crop_size"))
    ratio = said.get("crop_pct")
    if type(ratio) is float and 0 < ratio <= 1 and size and size < 384:
        return {"resize": "cover", "crop_ratio": ratio}
    if not said.get("do_center_crop"):
        return {"resize": "squash"}
    is_resized = said.get("do_resize", True) and size and crop and crop <= size
    return {"resize": "cover", "crop_ratio": crop / size if is_resized and crop and size else 1.0}


def _side_of(said: Any) -> int | None:
    """The shorter side, in any of the library's forms of a size: 224, {"shortest_edge": 224}, two sides."""
    names = ("shortest_edge", "height", "width")
    sides = [said[name] for name in names if name in said] if isinstance(said, dict) else [said]
    return min(sides) if sides and all(type(side) is int and side > 0 for side in sides) else None


def _normalization(means: Any, stds: Any, white: float) -> dict[str, Any]:
    """Mean and scale of (pixel / white - mean) / std; empty unless both are three numbers."""
    mean, std = three_numbers(means), three_numbers(stds)
    if not mean or not std or min(std) < _LEAST:
        return {}
    return {"mean": tuple(white * number for number in mean), "scale": tuple(1 / (white * number) for number in std)}


_READERS: tuple[Callable[[OnnxModel, Files], Stated | None], ...] = (
    _own, _lobe, _ultralytics, _image_metadata, _timm, _hugging_face
)  # fmt: skip
