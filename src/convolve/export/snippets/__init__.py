"""A few lines in another language that run a model's ONNX file: a template for each language, filled with the model's
own numbers.

They resize images as the model's preprocessing does, to within one gray level: with OpenCV if the language has it,
otherwise in lines of their own.
"""

import json
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from convolve.errors import UnsupportedError, UsageError, look_up, plain
from convolve.export.metadata import DISTANCE, OUTPUT, PROBABILITIES, scores_of
from convolve.records import ONE_CLASS, Metadata, TargetKind
from convolve.templates import render
from convolve.transforms.preprocess import Preprocess

# What --snippet takes -> the template; both Python variants share one.
LANGUAGES = {
    "python-cv2": "python", "python-pillow": "python", "javascript": "javascript", "cpp": "cpp", "csharp": "csharp",
}  # fmt: skip
_OPENCV = {"area": "AREA", "linear": "LINEAR", "nearest": "NEAREST", "cubic": "CUBIC", "lanczos": "LANCZOS4"}
_TAPS = {  # name of the function in JavaScript
    "area": "taps", "linear": "between", "cubic": "between", "lanczos": "between", "nearest": "skipped",
    "linear_antialiased": "triangles",
}  # fmt: skip
_MARKS = '"\\?'  # of which C++ makes something else
_LINE = 110  # characters of class names


@dataclass(frozen=True)
class File:
    """The ONNX file to run: `said` is its metadata; its form is "" for normalized images_NCHW, "pixels" for uint8
    images_NHWC, "any size" for one image. `independent`: its scores are log-probabilities of independent classes."""

    said: str
    form: str = ""
    independent: bool = False


def snippet(language: str, preprocess: Preprocess, metadata: Metadata, file: File) -> str:
    """The snippet's text. Raises UsageError for an unknown language or a model without classes."""
    template = look_up(LANGUAGES, language, "language", "--snippet")
    target = metadata.target or ONE_CLASS
    if target.kind == TargetKind.NUMBER:
        raise UsageError("--snippet is for a classifier; this model gives numbers")
    if preprocess.mean_image_CHW is not None and not file.form:
        raise UnsupportedError(
            "--snippet: this model subtracts a mean image, which is too long for a snippet; add "
            "--with-preprocessing, for a file that contains it"
        )
    farthest = metadata.confidence.farthest if metadata.confidence else None
    scores = PROBABILITIES if file.form == "any size" else scores_of(metadata)
    meaning = ("logarithms" if file.independent else "logits") if scores == OUTPUT else "probabilities"
    return render(
        f"export/snippets/{template}.jinja",
        **_of_images(preprocess),
        title="Which class is a photograph of?",
        language=language,
        pillow=language == "python-pillow",
        weighted=language in ("python-pillow", "javascript") or preprocess.filter == "linear_antialiased",
        file=" ".join(plain(file.said).split()),  # a path, in a comment of one line
        pixels=file.form == "pixels",
        any_size=file.form == "any size",
        classes=_lines(metadata.class_names, language),
        thresholds=list(target.thresholds or ()) if target.kind == TargetKind.CLASSES else None,
        farthest=farthest,
        meaning=meaning,
        outputs=[scores, *([DISTANCE] if farthest is not None else [])],
    )


def _of_images(preprocess: Preprocess) -> dict[str, Any]:
    """The templates' values for an image's preprocessing; mean and scale are in the network's channel order."""
    before = preprocess.height, preprocess.width
    if preprocess.resize != "square":
        before = preprocess.size_before_crop
    ratio = preprocess.crop_ratio
    return {
        "width": preprocess.width,
        "height": preprocess.height,
        "channels": preprocess.channels,
        "before": before,
        "resize": preprocess.resize,
        "cuts": preprocess.resize == "cover" or (preprocess.resize == "squash" and ratio < 1),
        "ratio": 1 if ratio == 1 else float(np.float32(ratio)),  # as in `Crop`
        "filter": preprocess.filter,
        "opencv": _OPENCV.get(preprocess.filter, ""),
        "taps": _TAPS[preprocess.filter],
        "padding": preprocess.padding_value,
        "stored": preprocess.orientation == "stored",
        "bgr": preprocess.channel_order == "bgr",
        "mean": _each(preprocess.mean, preprocess.channels),
        "scale": _each(preprocess.scale, preprocess.channels),
        "in_words": preprocess.size_in_words[0].upper() + preprocess.size_in_words[1:],
    }


def _each(value: float | tuple[float, ...], channels: int) -> list[float]:
    return [float(each) for each in (value if isinstance(value, tuple) else (value,) * channels)]


def _lines(names: tuple[str, ...], language: str) -> list[str]:
    """The names as strings of the language, several per line."""
    lines = [""]
    for name in map(partial(_quoted, language=language), names):
        if lines[-1] and len(lines[-1]) + len(name) > _LINE:
            lines.append("")
        lines[-1] += f", {name}" if lines[-1] else name
    return lines


def _quoted(text: str, language: str) -> str:
    """A string as all these languages write it. What cannot be seen is escaped, in C++ by its bytes in octal digits."""
    quoted = json.dumps(text, ensure_ascii=False)
    if language == "cpp":
        escapes = {c: "".join(f"\\{byte:03o}" for byte in c.encode("utf-8", "replace")) for c in set(text)}
        return f'"{"".join(c if c.isprintable() and c not in _MARKS else escapes[c] for c in text)}"'
    return "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in quoted)
