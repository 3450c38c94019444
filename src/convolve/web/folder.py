"""The folder: the page, the model in ONNX, and the page's data. It gets its name when it is complete."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from convolve.atomic import always_utf8, write_json
from convolve.errors import UnsupportedError
from convolve.export.inputs import as_input, probe_images
from convolve.export.metadata import INPUT
from convolve.export.onnx import check_packages, open_session
from convolve.export.parity import TOLERANCE, distance
from convolve.loading import load
from convolve.model import Model
from convolve.records import TargetKind
from convolve.serve.page import files, page, text_of
from convolve.smaller import AS_IT_IS, Asked, Exported, export_as
from convolve.training.metrics import thresholds_of
from convolve.web.runtime import Runtime

CODE = ("worker.js", "decode.js", "fit.js")
_SEEN = 8  # images on which the page's arithmetic is compared


def write_page(
    model: Model, name: str, folder: Path, runtime: Runtime, asked: Asked = AS_IT_IS, run: Path = Path()
) -> Exported:
    """Write the new `folder` for `model`, called `name`, with its file as `asked`; returns what was compared.

    Raises UsageError for a model without classes or images, UnsupportedError and ConvolveError as `Model.export` does.
    """
    check_packages()
    model.require_images()
    folder.mkdir()
    file = folder / "model.onnx"
    compared = export_as(model, file, replace(asked, with_preprocessing=True), run)
    output = _require_same_answers(load(file) if asked.quantize else model, file)
    size = file.stat().st_size + sum(map(len, runtime.files.values()))
    write_json(folder / "model.json", _about(model, output, runtime))
    texts = {
        "index.html": page(model, name, loading=f", {size / 1e6:,.1f} MB"),
        **{path.lstrip("/"): text for path, text, _ in files("convolve.web")},
        **{each: text_of("convolve.web", each) for each in CODE},
    }
    for path, text in texts.items():
        (folder / path).write_text(always_utf8(text), encoding="utf-8", newline="\n")
    for path, content in runtime.files.items():
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_bytes(content)
    return compared


def _about(model: Model, output: str, runtime: Runtime) -> dict[str, Any]:
    """The data for the page's code, as JSON values."""
    preprocess, target, sure = model.preprocess, model.target, model.confidence
    record = sure.record if sure else None
    return {
        "classes": list(model.class_names),
        "target": target.kind.value,
        "thresholds": thresholds_of(target, len(model.class_names)) if target.kind == TargetKind.CLASSES else None,
        "output": output,
        "scores": _meaning(model),
        "confidence": record and {key: getattr(record, key) for key in ("farthest", "least_probability", "within")},
        "preprocess": preprocess.mapping() | {"size_before_crop": preprocess.size_before_crop},
        "runtime": {"script": runtime.script, "wasm": runtime.wasm, "digests": runtime.digests},
    }


def _meaning(model: Model) -> str:
    """The meaning of the file's scores: logits of one class, logits of independent classes, or log-probabilities."""
    if model.target.kind != TargetKind.CLASS:
        return "answers"
    return "logarithms" if model.independent else "logits"


def _require_same_answers(model: Model, path: Path) -> str:
    """The name of the file's output from which the page computes the model's answers.

    Raises UnsupportedError if it would compute others.
    """
    images_NCHW = probe_images(model.preprocess.shape_CHW, len(model.class_names))[:_SEEN]
    session = open_session(str(path))
    output = str(session.get_outputs()[0].name)
    pixels_NHWC = as_input(images_NCHW, model.preprocess, with_preprocessing=True).numpy()
    scores_NK = torch.from_numpy(session.run([output], {INPUT: pixels_NHWC})[0])
    meaning = _meaning(model)
    if meaning != "answers":
        scores_NK = scores_NK.softmax(1) if meaning == "logits" else scores_NK.exp()
    answers_NK = scores_NK.numpy()
    expected_NK: np.ndarray = model.probabilities(images_NCHW.numpy()).numpy()
    if not distance(expected_NK, answers_NK).max() <= TOLERANCE:
        raise UnsupportedError(
            "the page cannot compute this model's answers from its scores (only a softmax, sigmoids and plain numbers)"
            "; `convolve serve` has a page for it"
        )
    return output
