"""Models for other runtimes. A file gets its name only after it was run and gave the same results as its source.

    inputs.py            the two kinds of input, normalized images or pixels, and the images for the comparison
    exported_program.py  a module traced by torch.export; .pt2 files
    onnx.py              ONNX files, made by torch's exporter and run by onnxruntime
    any_size.py          ONNX files that take a photograph of any size
    metadata.py          the metadata of both: class names, preprocessing, names and shapes of input and output
    parity.py            the comparison, and where the first difference is

Nothing here imports `model.py`, so that `Model.export` can be a method.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.export import ExportedProgram

from convolve.atomic import replacing
from convolve.errors import UsageError
from convolve.export import exported_program, onnx
from convolve.export.any_size import attach, require_sayable
from convolve.export.inputs import PixelsIn, WithProbabilities, as_input, extreme_inputs, probe_images
from convolve.export.metadata import Options, describe
from convolve.export.parity import Parity, Runner, Values, compare
from convolve.records import ONE_CLASS, Metadata
from convolve.transforms.preprocess import Preprocess


@dataclass(frozen=True)
class Form:
    """A kind of file: the packages it needs, how it is written and run, and its intermediate values."""

    ending: str
    check_packages: Callable[[], None]
    write: Callable[[ExportedProgram, dict[str, Any], Path], None]
    runner: Callable[[Path], Runner]
    values: Callable[[Path, torch.Tensor], Values]


FORMS = {
    "onnx": Form(".onnx", onnx.check_packages, onnx.write, onnx.runner, onnx.values),
    "exported-program": Form(
        ".pt2", lambda: None, exported_program.write, exported_program.runner, exported_program.values
    ),
}


def form_of(path: Path) -> Form:
    """The form for the ending of `path`."""
    for form in FORMS.values():
        if path.suffix == form.ending:
            return form
    endings = ", ".join(f"{form.ending} ({name})" for name, form in FORMS.items())
    raise UsageError(f"{path}: the ending selects the format, and must be one of {endings}")


def export(module: nn.Module, preprocess: Preprocess, metadata: Metadata, path: Path, options: Options) -> Parity:
    """Write `module`, images_NCHW -> logits_NK, to `path`, with `metadata` in it. A network with confidence gives
    (logits_NK, distance_N), and the file also probabilities.

    With preprocessing, the file includes the arithmetic of `preprocess`. Raises UnsupportedError for what the form
    cannot represent, and ConvolveError if the file's output differs from the module's; then nothing is written.
    """
    form, with_preprocessing = form_of(path), options.with_preprocessing
    form.check_packages()
    if options.any_size:
        require_sayable(preprocess, path)
    is_class = (metadata.target or ONE_CLASS) == ONE_CLASS
    module = WithProbabilities(module) if metadata.confidence and is_class else module
    source = copy.deepcopy(module).to(device="cpu", memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    source.requires_grad_(False).eval()
    network = PixelsIn(source, preprocess) if with_preprocessing else source
    images_NCHW = probe_images(preprocess.shape_CHW, len(metadata.class_names))
    with replacing(path) as temporary:
        temporary.touch()  # if nothing can be written here, fail before the work
        program = exported_program.trace(network, as_input(images_NCHW[:2], preprocess, with_preprocessing))
        form.write(program, describe(preprocess, metadata, options), temporary)

        def located(inputs: torch.Tensor) -> tuple[Values, Values]:
            return exported_program.values_of(program, inputs), form.values(temporary, inputs)

        batches = (
            (as_input(images, preprocess, False), as_input(images, preprocess, with_preprocessing))
            for images in (images_NCHW[:1], images_NCHW[1:3], *images_NCHW[3:].split(16))  # any batch size is allowed
        )
        extremes = extreme_inputs(images_NCHW[-2:], preprocess, with_preprocessing)
        run = form.runner(temporary)
        parity = compare(path, source, run, batches, extremes, located=located, of_one_class=is_class)
        return attach(temporary) if options.any_size else parity
