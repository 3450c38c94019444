"""A path -> the model there, whatever tool wrote it."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from convolve.errors import ConvolveError, ModelError, UsageError, look_up
from convolve.export.onnx import OnnxNetwork
from convolve.graph.build import build
from convolve.importers import onnx, pytorch
from convolve.importers.loader import Loader, PreprocessOverrides
from convolve.importers.loaders import class_names, find_loader, named, read_third_party, with_overrides
from convolve.importers.presets import names_in, preset_of_weights, presets
from convolve.importers.refused import refuse
from convolve.model import Model
from convolve.model_folder import find_folder, is_folder, read_model
from convolve.models.memory_layout import to_channels_last
from convolve.names import own_slashes
from convolve.records import ONE_CLASS, Metadata, Target, TargetKind, TrainingInfo
from convolve.remote import local_model
from convolve.training.confidence import LIMITS, TENSORS, Confidence
from convolve.transforms.preprocess import Preprocess
from convolve.weights import in_place_of


def load(
    path: str | Path, overrides: PreprocessOverrides | None = None, node: str | None = None, whole: bool = False
) -> Model:
    """Open a model folder, the model of a run folder, a CNTK model, v1 or v2, an ONNX file, or a PyTorch checkpoint.

    Files are recognized by their content; a Caffe model is two files, `net.prototxt+net.caffemodel`.

    `overrides` adds what the model does not say about itself. With `node`, the model gives the features of that inner
    layer. A network with an `Objective` gives only its predictions, unless `whole` is true.
    """
    path, overrides = local_model(in_place_of(own_slashes(path))), overrides or PreprocessOverrides()
    if loader := None if is_folder(path) else find_loader(path):
        model = _import(loader, path, overrides, node)
    else:
        model = _open_own(path, overrides)
        model = model.cut(node) if node else model if whole else model.answer
    model.preprocess = with_overrides(model.preprocess, overrides)
    to_channels_last(model.module)
    model.module.eval()
    return model


def _import(loader: Loader, path: Path, overrides: PreprocessOverrides, node: str | None) -> Model:
    try:
        graph, preprocess, metadata, tensors = read_third_party(loader, path, overrides, node)
    except onnx.AsItIsError as error:
        try:
            return _open_as_it_is(error, overrides, node)
        except ConvolveError as fault:
            raise error if error.reason else fault from None
    names, data, info = metadata.class_names, metadata.data, metadata.training_info
    stops_at = "" if names else node or graph.outputs[0]
    target = metadata.target or ONE_CLASS if names else ONE_CLASS
    return Model(
        build(graph), graph, preprocess, names, data_name=data, training_info=info, node=stops_at, target=target,
        confidence=_confidence(path, metadata, tensors),
    )  # fmt: skip


def _confidence(
    path: Path, metadata: Metadata, arrays: Mapping[str, np.ndarray], measures: bool = True
) -> Confidence | None:
    """The confidence record in a file of ours, if no other tool has changed it. With `measures` the file itself
    computes distances; otherwise its network does. Its scores are already divided by the temperature."""
    wanted = TENSORS if measures else LIMITS
    if metadata.confidence is None or not arrays.keys() >= {*wanted}:
        return None
    tensors = {name: torch.from_numpy(np.array(arrays[name])) for name in wanted}
    try:
        return Confidence.of(replace(metadata.confidence, temperature=1.0), tensors, measures)
    except (ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise ModelError(f"{path}: its metadata is damaged ({reason}); convert the model again") from None


def _open_own(path: Path, overrides: PreprocessOverrides) -> Model:
    """One of our networks: a folder, or a PyTorch checkpoint whose tensors fit one."""
    if not is_folder(path):
        refuse(path)
        if pytorch.is_pytorch(path):
            return _open_checkpoint(path, overrides)
    return _open_folder(path, overrides)


def _open_checkpoint(path: Path, overrides: PreprocessOverrides) -> Model:
    found = pytorch.read(path, overrides)
    preset = look_up(presets(), overrides.preset, "preset") if overrides.preset else preset_of_weights(found.first)
    preprocess = found.preprocess
    if preset:
        size = None if overrides.image_shape_CHW else preset.input_size
        preprocess = replace(
            preprocess, **preset.preprocessing, height=size or preprocess.height, width=size or preprocess.width
        )
    names = found.class_names or names_in("imagenet")
    if overrides.labels or len(names) != found.classes:
        names = class_names(found.classes, overrides.labels)
    info = TrainingInfo(imported_from=f"{path.name} ({found.origin})", preset=preset.name if preset else None)
    return Model(found.module, found.spec, preprocess, names, training_info=info)


def _open_folder(path: Path, overrides: PreprocessOverrides) -> Model:
    module, architecture, preprocess, metadata, membership, confidence = read_model(find_folder(path))
    if overrides.output or overrides.preset or overrides.arch:
        raise UsageError(f"{path} is a convolve model: --output, --preset and --arch are for models of other tools")
    names = _named(metadata.class_names, overrides)
    model = Model(
        module, architecture, preprocess, names, data_name=metadata.data, training_info=metadata.training_info,
        membership=membership, target=metadata.target or ONE_CLASS, confidence=confidence,
    )  # fmt: skip
    return model.for_images(overrides.image_shape_CHW) if overrides.image_shape_CHW else model


def _open_as_it_is(error: onnx.AsItIsError, overrides: PreprocessOverrides, node: str | None) -> Model:
    opened, output = error.opened, overrides.output
    path, said = opened.files.path, onnx.as_it_is(opened, overrides)
    if node or (output and not error.reason):
        raise UsageError(
            f"{path} is a quantized model, which cannot be cut: use --output with the model that it was made from"
        )
    preprocess, target = Preprocess(**said.preprocess), said.metadata.target if said.metadata else None
    with_distance = said.metadata is not None and said.metadata.confidence is not None
    network = OnnxNetwork(
        said.content, path, preprocess, _logits(target, said.gives_probabilities), with_distance=with_distance,
        independent=opened.stated.independent, output=output,
    )  # fmt: skip
    if error.reason:
        network.require_independent()
        network.note = f"{error.reason.partition('; choose')[0]}; onnxruntime runs it unchanged"
    metadata = named(opened.stated.names_from or path, said.metadata, network.classes, overrides)
    limits = opened.stated.confidence if network.gives_distance else {}
    return Model(
        network, None, preprocess, metadata.class_names, data_name=metadata.data, training_info=metadata.training_info,
        target=target or ONE_CLASS, confidence=_confidence(path, metadata, limits, measures=False),
    )  # fmt: skip


def _logits(target: Target | None, gives_probabilities: bool) -> Callable[[torch.Tensor], torch.Tensor] | None:
    """The function from a file's output to the output of a model's network; None if they are the same."""
    kind = target.kind if target else TargetKind.CLASS
    if kind == TargetKind.CLASS:
        return (lambda answers_NK: answers_NK.clamp(min=1e-37).log()) if gives_probabilities else None
    return partial(torch.logit, eps=1e-7) if kind == TargetKind.CLASSES else None


def _named(own: tuple[str, ...], overrides: PreprocessOverrides) -> tuple[str, ...]:
    return own if overrides.labels is None else class_names(len(own), overrides.labels)
