"""What an exported file says of itself, as JSON: enough to feed it and to read its answer without convolve."""

from __future__ import annotations

import base64
import json
from dataclasses import fields, replace
from importlib.metadata import version
from typing import Any

import numpy as np

from convolve.errors import ModelError, UnsupportedError, UsageError
from convolve.records import Metadata, from_json, to_json
from convolve.transforms.preprocess import ChannelOrder, Preprocess

FORMAT = 1
KEY = "convolve"  # of the metadata in ONNX; "convolve.json" in a .pt2
INPUT, OUTPUT = "images", "logits"


def describe(preprocess: Preprocess, metadata: Metadata, with_preprocessing: bool) -> dict[str, Any]:
    """The metadata of the file; `with_preprocessing`, it takes pixels: uint8 (N, H, W, C)."""
    channels, height, width = preprocess.shape_CHW
    outside = _outside(preprocess) if with_preprocessing else preprocess
    if with_preprocessing:
        taken = {"name": INPUT, "type": "uint8", "axes": "NHWC", "shape": ["N", height, width, channels]}
    else:
        taken = {"name": INPUT, "type": "float32", "axes": "NCHW", "shape": ["N", channels, height, width]}
    return {
        "format": FORMAT,
        "convolve": version("convolve"),
        "input": taken,
        "output": {"name": OUTPUT, "type": "float32", "axes": "NK", "shape": ["N", len(metadata.class_names)]},
        "preprocess": outside.mapping(),
        "preprocess_mean_image": _text_of(outside.mean_image_CHW),
        "preprocess_in_graph": preprocess.mapping() if with_preprocessing else None,
        **to_json(metadata),
    }


def _outside(preprocess: Preprocess) -> Preprocess:
    """What is left of the preprocessing when the file does its arithmetic: size, crop, grey or RGB."""
    order: ChannelOrder = "grey" if preprocess.channels == 1 else "rgb"
    return replace(preprocess, mean=0.0, scale=1.0, channel_order=order, mean_image_CHW=None)


def read_metadata(text: str, path: object) -> tuple[Preprocess, Metadata, bool]:
    """The inverse of `describe`, with what remains to be done to an image; `path` is for messages."""
    try:
        values = json.loads(text)
        if values["format"] != FORMAT:
            raise UnsupportedError(
                f"{path} has metadata of format {values['format']}, this version reads {FORMAT}; update convolve"
            )
        image = _image_of(values["preprocess_mean_image"], values["preprocess"])
        preprocess = Preprocess(**values["preprocess"], mean_image_CHW=image)
        metadata = from_json(Metadata, {item.name: values[item.name] for item in fields(Metadata)})
        return preprocess, metadata, values["input"]["type"] == "uint8"
    except (UsageError, AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise ModelError(f"{path}: its metadata is damaged ({reason}); convert the model again") from None


def _text_of(mean_image_CHW: np.ndarray | None) -> str | None:
    """float32, little-endian, in the order of the axes, as base64."""
    return None if mean_image_CHW is None else base64.b64encode(mean_image_CHW.astype("<f4").tobytes()).decode()


def _image_of(text: str | None, preprocess: dict[str, Any]) -> np.ndarray | None:
    if text is None:
        return None
    shape = tuple(preprocess[name] for name in ("channels", "height", "width"))
    return np.frombuffer(base64.b64decode(text, validate=True), "<f4").reshape(shape).astype(np.float32)
