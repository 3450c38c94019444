"""The metadata of an exported file, as JSON: enough to prepare its input and read its output without convolve."""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from typing import Any

import numpy as np
import torch

from convolve.atomic import parse_json
from convolve.errors import ModelError, UsageError
from convolve.records import ONE_CLASS, Metadata, TargetKind
from convolve.records.reading import from_json, require_format, to_json
from convolve.transforms.preprocess import ChannelOrder, Preprocess

FORMAT = 1
KEY = "convolve"  # of the metadata in ONNX; "convolve.json" in a .pt2
INPUT, OUTPUT = "images", "logits"
_OUTPUTS = {TargetKind.CLASS: OUTPUT, TargetKind.CLASSES: "probabilities", TargetKind.NUMBER: "numbers"}
PROBABILITIES, DISTANCE = "probabilities", "distance"  # of a model with confidence
# Of a file that takes one photograph of any size, which the network's own input and outputs are values of.
PHOTOGRAPH, NONE_OF_THESE, INNER = "image", "none_of_these", "_N"
# Of a model with confidence. If they have more values than the second constant, they are read from the network itself;
# below 2**13, torch's exporter may fold them into other constants and omit them.
IN_NETWORK, MOST_BESIDE = ("directions_RD", "means_KD"), 1 << 14


@dataclass(frozen=True)
class _Port:
    name: str
    type: str
    axes: str
    shape: tuple[Any, ...]


@dataclass(frozen=True)
class _Array:
    shape: tuple[int, ...]
    float32: str


@dataclass(frozen=True, kw_only=True)
class Description(Metadata):
    """`preprocess` is the preprocessing that remains to be done, its mean image as base64; `confidence_beside`,
    likewise, the values of `confidence` that the network does not contain. `independent`: see `Options`."""

    format: int
    convolve: str
    input: _Port
    output: _Port
    more_outputs: tuple[_Port, ...] = ()
    preprocess: dict[str, Any]
    preprocess_mean_image: str | None
    preprocess_in_graph: dict[str, Any] | None
    confidence_beside: dict[str, _Array] = field(default_factory=dict)
    independent: bool = False


@dataclass(frozen=True)
class Options:
    """What a file takes besides normalized images: uint8 images_NHWC, gray or RGB, `with_preprocessing`; with
    `any_size`, too, one uint8 image_HW3. `independent`: the scores are log-probabilities of independent classes.
    `confidence`: the tensors of the model's confidence."""

    with_preprocessing: bool = False
    any_size: bool = False
    independent: bool = False
    confidence: Mapping[str, torch.Tensor] = field(default_factory=dict)


def scores_of(metadata: Metadata) -> str:
    """The name of the output that answers for the target; there may be further outputs."""
    return _OUTPUTS[(metadata.target or ONE_CLASS).kind]


def describe(preprocess: Preprocess, metadata: Metadata, options: Options) -> dict[str, Any]:
    """The file's metadata as JSON values; the values of `metadata.confidence` that the network contains are
    left out."""
    channels, height, width = preprocess.shape_CHW
    with_preprocessing = options.with_preprocessing
    outside = _outside(preprocess) if with_preprocessing else preprocess
    if with_preprocessing:
        taken = _Port(INPUT, "uint8", "NHWC", ("N", height, width, channels))
    else:
        taken = _Port(INPUT, "float32", "NCHW", ("N", channels, height, width))
    scores = ("N", len(metadata.class_names))
    probabilities = (_Port(PROBABILITIES, "float32", "NK", scores),) if scores_of(metadata) == OUTPUT else ()
    more = (*probabilities, _Port(DISTANCE, "float32", "N", ("N",)))
    beside = {
        name: _Array(tuple(each.shape), str(_text_of(each.cpu().numpy())))
        for name, each in options.confidence.items()
        if name not in IN_NETWORK or each.numel() <= MOST_BESIDE
    }
    description = Description(
        **vars(metadata),
        format=FORMAT,
        convolve=version("convolve"),
        input=taken,
        output=_Port(scores_of(metadata), "float32", "NK", scores),
        more_outputs=more if metadata.confidence else (),
        preprocess=outside.mapping(),
        preprocess_mean_image=_text_of(outside.mean_image_CHW),
        preprocess_in_graph=preprocess.mapping() if with_preprocessing else None,
        confidence_beside=beside,
        independent=options.independent,
    )
    plain: dict[str, Any] = to_json(description)
    return plain


def for_any_size(text: str, metadata: Metadata) -> str:
    """The result of `describe` with preprocessing, for a file of the same network that takes one photograph of any
    size."""
    name, farthest = scores_of(metadata), metadata.confidence.farthest if metadata.confidence else None
    scores = _Port(PROBABILITIES if name == OUTPUT else name, "float32", "K", (len(metadata.class_names),))
    is_none = (_Port(NONE_OF_THESE, "bool", "", ()),) if farthest is not None else ()
    ports = {
        "input": _Port(PHOTOGRAPH, "uint8", "HWC", ("H", "W", 3)),
        "output": scores,
        "more_outputs": (*is_none, _Port(DISTANCE, "float32", "", ())) if metadata.confidence else (),
    }
    changed = {key: to_json(port) for key, port in ports.items()}
    return json.dumps(json.loads(text) | changed, ensure_ascii=False)


def _outside(preprocess: Preprocess) -> Preprocess:
    """The preprocessing that remains when the file does the arithmetic: size, crop, gray or RGB."""
    order: ChannelOrder = "gray" if preprocess.channels == 1 else "rgb"
    return replace(preprocess, mean=0.0, scale=1.0, channel_order=order, mean_image_CHW=None)


def read_metadata(text: str, path: object) -> tuple[Preprocess, Description, dict[str, np.ndarray]]:
    """(preprocessing, metadata, the values of `confidence`) from the metadata; `path` is for messages."""
    try:
        values = parse_json(text)
        require_format(values, FORMAT, path)
        said = from_json(Description, values)
        image = _image_of(said.preprocess_mean_image, said.preprocess)
        preprocess = Preprocess(**said.preprocess, mean_image_CHW=image)
        confidence = {name: _array_of(each.float32, each.shape) for name, each in said.confidence_beside.items()}
    except (UsageError, KeyError, TypeError, ValueError, OverflowError) as error:
        reason = " ".join(str(error).split())
        raise ModelError(f"{path}: its metadata is damaged ({reason}); convert the model again") from None
    return preprocess, said, confidence


def _text_of(mean_image_CHW: np.ndarray | None) -> str | None:
    """float32, little-endian, in C order, as base64."""
    return None if mean_image_CHW is None else base64.b64encode(mean_image_CHW.astype("<f4").tobytes()).decode()


def _image_of(text: str | None, preprocess: dict[str, Any]) -> np.ndarray | None:
    if text is None:
        return None
    return _array_of(text, tuple(preprocess[name] for name in ("channels", "height", "width")))


def _array_of(text: str, shape: tuple[int, ...]) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text, validate=True), "<f4").reshape(shape).astype(np.float32)
