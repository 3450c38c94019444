"""`convolve convert --snippet`: a program that runs a model's ONNX file."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convolve.cli.formatting import Answer
from convolve.errors import UsageError, look_up, quoted

if TYPE_CHECKING:
    from convolve.export.snippets import File
    from convolve.importers.loader import PreprocessOverrides
    from convolve.model import Model
    from convolve.records import ConfidenceRecord


@dataclass(frozen=True)
class Snippet:
    """The program that a command asks for, and the options of its ONNX file."""

    language: str
    with_preprocessing: bool
    any_size: bool
    output: list[str] | None
    overrides: PreprocessOverrides

    def answer(self, path: Path, out: Path | None) -> Answer:
        """The program for the model at `path`, or a line that says to where it was written."""
        from convolve.atomic import staged
        from convolve.export.snippets import LANGUAGES, snippet
        from convolve.graph.classifier import NoClassifierError, SeveralHeadsError
        from convolve.loading import load
        from convolve.training.metrics import thresholds_of

        look_up(LANGUAGES, self.language, "language", "--snippet")
        if out and out.exists():
            raise UsageError(f"{out} exists already; choose another --out")
        try:
            model = load(path, replace(self.overrides, output=self.output[0] if self.output else None))
            model.require_images()
            model.require_classes()
        except (NoClassifierError, SeveralHeadsError) as error:
            raise UsageError(f"--snippet is for a classifier of images: {error}") from None
        form = "any size" if self.any_size else "pixels" if self.with_preprocessing else ""
        file, confidence = _file(path, model, form)
        target = replace(model.target, thresholds=thresholds_of(model.target, len(model.class_names)))
        metadata = replace(model.metadata, target=target, confidence=confidence)
        text = snippet(self.language, model.preprocess, metadata, file)
        if out:
            with staged(out) as written:
                written.write_text(text, encoding="utf-8", newline="\n")
            return Answer([f"{out}: {file.said}"], {"asks": file.said})
        return Answer(text.splitlines(), {"asks": file.said, "program": text})


def _file(path: Path, model: Model, form: str) -> tuple[File, ConfidenceRecord | None]:
    """(the file that the program runs, the metadata of its confidence): `path` itself if it is our ONNX file, else the
    one that `convert` would write."""
    from convolve.export.any_size import require_sayable
    from convolve.export.snippets import File

    if own := _own_metadata(path):
        taken = own["input"]
        if taken["axes"] != "HWC" and taken["shape"][0] not in ("N", 1):
            raise UsageError(
                f"--snippet: {path} takes {taken['shape'][0]} images at once; convert it with --batch-size 1, or "
                f"without --batch-size"
            )
        form = {"NHWC": "pixels", "HWC": "any size"}.get(taken["axes"], "")
        confidence = model.metadata.confidence if own["more_outputs"] else None
        return File(f"For the file {path.name}.", form, model.independent), confidence
    if form == "any size":
        require_sayable(model.preprocess, Path("model.onnx"))
    elif model.preprocess.mean_image_CHW is not None:
        form = "pixels"
    option = {"any size": " --any-size", "pixels": " --with-preprocessing"}.get(form, "")
    said = f"For the file of: convolve convert {quoted(str(path))} --to onnx{option} --out model.onnx"
    return File(said, form, model.independent), model.metadata.confidence


def _own_metadata(path: Path) -> dict[str, Any]:
    """The metadata of an ONNX file of ours; empty for any other file."""
    if path.suffix != ".onnx":
        return {}
    import onnx

    from convolve.export.metadata import KEY

    texts = {item.key: item.value for item in onnx.load(path).metadata_props}
    return dict(json.loads(texts.get(KEY, "{}")))
