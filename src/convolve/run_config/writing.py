"""write: the values of nodes, as text, sample by sample."""

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import torch
from numpy.typing import NDArray

from convolve.atomic import read_ordinary, replacing
from convolve.data.evaluation import eval_dataset
from convolve.errors import DataError, MissingDataError, UnsupportedError, UsageError
from convolve.graph.build import build
from convolve.graph.classifier import image_input
from convolve.graph.graph import Graph
from convolve.importers.brainscript.job import WriteStep
from convolve.importers.brainscript.lower import lower
from convolve.importers.brainscript.output import OutputFormat
from convolve.loading import load
from convolve.model import Model
from convolve.names import portable
from convolve.records import TargetKind
from convolve.run_config.reach import Reach, note_own, require_own
from convolve.run_config.readers import as_prepared, test_images
from convolve.training.events import Callback

_MOST_BYTES = 1 << 20  # of the names of classes


def write_outputs(step: WriteStep, callback: Callback, data: str | None, reach: Reach) -> None:
    """Write `<outputPath>.<node>` for each node of `step`, one line per sample."""
    nodes = step.nodes or _output_nodes(step)
    for node in nodes:
        model = _model_up_to(step, node)
        shape_CHW = model.preprocess.shape_CHW
        if isinstance(model.architecture, Graph):
            model.preprocess = as_prepared(step.reader, shape_CHW)
        is_class = model.target.kind == TargetKind.CLASS
        part = test_images(step.reader, shape_CHW, data, step.samples, one_class=is_class)
        samples = eval_dataset(part, model.preprocess)
        name = portable(node) if sys.platform == "win32" else node  # behind a colon is an alternate stream there
        path = Path(f"{step.output_path}.{name}")
        reach.require(path)  # names of nodes may have slashes
        require_own(path)
        with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
            file.write(step.format.prologue)
            _write(file, _values(model, samples), step.format)
            file.write(step.format.epilogue)
        note_own(path)
    batches = [min(step.batch_size, len(samples) - first) for first in range(0, len(samples), step.batch_size)]
    callback("written", {"path": step.output_path, "batches": batches, "samples": len(samples)})


def _output_nodes(step: WriteStep) -> tuple[str, ...]:
    names = tuple(node.name for node in step.network.roles["outputNodes"]) if step.network else ()
    if not names:
        raise UsageError(f"{step.name} names no outputNodeNames, and the network has no outputNodes; name the nodes")
    return names


def _model_up_to(step: WriteStep, node: str) -> Model:
    """The model up to `node`; if the node is not part of the classifier, it is built from the text."""
    text = step.network.members.get(node) if step.network else None
    try:
        return load(step.model_path, node=node)
    except UsageError:
        model = load(step.model_path, whole=True)
        if text is None or not isinstance(model.architecture, Graph):
            raise
    graph = image_input(lower([text], None, model.architecture.origin), model.preprocess.shape_CHW)
    module, weights = build(graph), model.module.state_dict()
    unknown = [name for name in module.state_dict() if name not in weights]
    if unknown:
        raise UnsupportedError(f"{step.name}: {node} needs {unknown[0]}, which is not part of the trained classifier")
    module.load_state_dict({name: weights[name] for name in module.state_dict()})
    return replace(model, module=module, architecture=graph, node=node)


def _values(model: Model, samples: Any) -> Iterator[NDArray[np.float32]]:
    """values_ND, batch by batch: each sample in CNTK's order, that of the axes (C, H, W)."""
    model.module.eval()
    with torch.inference_mode():
        for images_NCHW, _ in model.batches(samples):
            yield model.module(images_NCHW).float().flatten(1).numpy()


def _write(file: TextIO, batches: Iterator[NDArray[np.float32]], form: OutputFormat) -> None:
    number = f"%{form.precision}f"
    names = _labels(form)
    between = ""
    for values_ND in batches:
        if form.label_file and len(names) != values_ND.shape[1]:
            what = f"names {len(names)} of {values_ND.shape[1]} classes"
            raise DataError(f"{form.label_file} {what}; labelMappingFile needs one label per line")
        for values_D in values_ND:
            if form.is_category:
                best = int(values_D.argmax())
                text = names[best] if names else str(best)
            else:
                text = form.between_elements.join(number % value for value in values_D.tolist())
            file.write(f"{between}{form.before_sample}{text}{form.after_sample}")
            between = form.between_samples


def _labels(form: OutputFormat) -> list[str]:
    if not form.label_file:
        return []
    try:
        return read_ordinary(form.label_file, _MOST_BYTES).decode("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise MissingDataError(f"cannot read {form.label_file}: {reason}; correct labelMappingFile") from None
