"""What an exported file says of itself, as JSON: enough to feed it and to read its answer without convolve."""

from __future__ import annotations

import base64
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Any

import numpy as np

from convolve.errors import ModelError, UsageError
from convolve.records import ONE_CLASS, Metadata, TargetKind
from convolve.records.reading import from_json, parse_json, require_format, to_json
from convolve.transforms.preprocess import ChannelOrder, Preprocess

FORMAT = 1
KEY = "convolve"  # of the metadata in ONNX; "convolve.json" in a .pt2
INPUT, OUTPUT = "images", "logits"
_OUTPUTS = {TargetKind.CLASS: OUTPUT, TargetKind.CLASSES: "probabilities", TargetKind.NUMBER: "numbers"}
PROBABILITIES, DISTANCE = "probabilities", "distance"  # of a model that knows its own certainty


@dataclass(frozen=True)
class _Port:
    name: str
    type: str
    axes: str
    shape: tuple[Any, ...]


@dataclass(frozen=True, kw_only=True)
class _Description(Metadata):
    """`preprocess` is what remains to be done to an image, its mean image as base64."""

    format: int
    convolve: str
    input: _Port
    output: _Port
    more_outputs: tuple[_Port, ...] = ()
    preprocess: dict[str, Any]
    preprocess_mean_image: str | None
    preprocess_in_graph: dict[str, Any] | None


def scores_of(metadata: Metadata) -> str:
    """What the output is called that answers for the target; something may stand beside it."""
    return _OUTPUTS[(metadata.target or ONE_CLASS).kind]


def describe(preprocess: Preprocess, metadata: Metadata, with_preprocessing: bool) -> dict[str, Any]:
    """What the file says, as JSON takes it."""
    channels, height, width = preprocess.shape_CHW
    outside = _outside(preprocess) if with_preprocessing else preprocess
    if with_preprocessing:
        taken = _Port(INPUT, "uint8", "NHWC", ("N", height, width, channels))
    else:
        taken = _Port(INPUT, "float32", "NCHW", ("N", channels, height, width))
    scores = ("N", len(metadata.class_names))
    more = (_Port(PROBABILITIES, "float32", "NK", scores), _Port(DISTANCE, "float32", "N", ("N",)))
    description = _Description(
        **vars(metadata),
        format=FORMAT,
        convolve=version("convolve"),
        input=taken,
        output=_Port(scores_of(metadata), "float32", "NK", scores),
        more_outputs=more if metadata.confidence else (),
        preprocess=outside.mapping(),
        preprocess_mean_image=_text_of(outside.mean_image_CHW),
        preprocess_in_graph=preprocess.mapping() if with_preprocessing else None,
    )
    plain: dict[str, Any] = to_json(description)
    return plain


def _outside(preprocess: Preprocess) -> Preprocess:
    """What is left of the preprocessing when the file does its arithmetic: size, crop, gray or RGB."""
    order: ChannelOrder = "gray" if preprocess.channels == 1 else "rgb"
    return replace(preprocess, mean=0.0, scale=1.0, channel_order=order, mean_image_CHW=None)


def read_metadata(text: str, path: object) -> tuple[Preprocess, Metadata, bool]:
    """(preprocessing, metadata, whether it takes uint8, (N, H, W, C)) of what `describe` wrote; `path` is for
    messages."""
    try:
        values = parse_json(text)
        require_format(values, FORMAT, path)
        said = from_json(_Description, values)
        image = _image_of(said.preprocess_mean_image, said.preprocess)
        preprocess = Preprocess(**said.preprocess, mean_image_CHW=image)
    except (UsageError, KeyError, TypeError, ValueError, OverflowError) as error:
        reason = " ".join(str(error).split())
        raise ModelError(f"{path}: its metadata is damaged ({reason}); convert the model again") from None
    return preprocess, said, said.input.type == "uint8"


def _text_of(mean_image_CHW: np.ndarray | None) -> str | None:
    """float32, little-endian, in the order of the axes, as base64."""
    return None if mean_image_CHW is None else base64.b64encode(mean_image_CHW.astype("<f4").tobytes()).decode()


def _image_of(text: str | None, preprocess: dict[str, Any]) -> np.ndarray | None:
    if text is None:
        return None
    shape = tuple(preprocess[name] for name in ("channels", "height", "width"))
    return np.frombuffer(base64.b64decode(text, validate=True), "<f4").reshape(shape).astype(np.float32)
