"""The files of a model, written whole and checked when they are read.

    model/model.json            architecture, class names, preprocessing, where it comes from, SHA-256 of the weights
    model/model-card.md         the same in words, for people
    model/weights.safetensors   the parameters under their names in the module; a mean image as preprocess.mean_image

The architecture is "model", one of our networks by name, or "graph", an imported one node by node. Nothing is ever
unpickled, and nothing of the files is executed but the code that `build` makes from a checked graph.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import nn

from convolve.atomic import replacing, write_json
from convolve.errors import ModelError, UnsupportedError, UsageError, unknown_name
from convolve.graph.build import build
from convolve.graph.graph import Graph
from convolve.graph.stored import graph_from_mapping, graph_to_mapping
from convolve.model_card import CARD, model_card
from convolve.models import MODELS, build_model
from convolve.recipe import ModelSpec
from convolve.records import Metadata, ModelRecord, read_record, to_json
from convolve.transforms.preprocess import Preprocess

FORMAT = 1
MEAN_IMAGE = "preprocess.mean_image"
_MEND = "copy the model folder again"

Architecture = ModelSpec | Graph


def write_model(
    folder: Path,
    module: nn.Module,
    architecture: Architecture,
    preprocess: Preprocess,
    metadata: Metadata,
) -> None:
    """Write the model folder; model.json, which vouches for the weights, comes last."""
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in module.state_dict().items()}
    if preprocess.mean_image_CHW is not None:
        state[MEAN_IMAGE] = torch.from_numpy(preprocess.mean_image_CHW)
    content = save_tensors(state)
    with replacing(folder / "weights.safetensors") as temporary:
        temporary.write_bytes(content)
    sha256 = hashlib.sha256(content).hexdigest()
    card = model_card(architecture, module, preprocess, metadata, ("weights.safetensors", sha256))
    with replacing(folder / CARD) as temporary:
        temporary.write_text(card, encoding="utf-8")
    record = ModelRecord(
        class_names=metadata.class_names, data=metadata.data, training_info=metadata.training_info, format=FORMAT,
        preprocess=preprocess.mapping(), weights_sha256=sha256,
        graph=graph_to_mapping(architecture) if isinstance(architecture, Graph) else None,
        model=None if isinstance(architecture, Graph) else asdict(architecture),
    )  # fmt: skip
    write_json(folder / "model.json", to_json(record))


def is_folder(path: Path) -> bool:
    """Whether `path` is a model folder, or a run folder that has one."""
    return any((path / name).exists() for name in ("model.json", "model/model.json"))


def find_folder(path: Path) -> Path:
    """The model folder that `path` is, or the one of a run folder."""
    if not is_folder(path):
        raise _not_a_model(path)
    return path / "model" if (path / "model" / "model.json").exists() else path


def read_model(folder: Path) -> tuple[nn.Module, Architecture, Preprocess, Metadata]:
    """The inverse of `write_model`; the module is in evaluation mode. Raises ModelError or UnsupportedError."""
    path = folder / "model.json"
    record = _read_record(path)
    content = _read_weights(folder / "weights.safetensors", record.weights_sha256)
    try:
        tensors = load_tensors(content)
    except SafetensorError as error:
        raise _misfit(folder, error) from None
    image = tensors.pop(MEAN_IMAGE, None)
    try:
        mean_image = None if image is None else image.to(torch.float32).numpy()
        preprocess = Preprocess(**record.preprocess, mean_image_CHW=mean_image)
        architecture = _architecture(record, len(content))
        module = _module(architecture, preprocess, len(record.class_names))
    except (ModelError, UnsupportedError) as error:
        raise type(error)(f"{path}: {error}") from None
    except (UsageError, AttributeError, KeyError, TypeError, ValueError, RuntimeError, OverflowError) as error:
        reason = " ".join(str(error).split())
        raise ModelError(f"{path} is damaged ({reason}); {_MEND}") from None
    try:
        module.load_state_dict(tensors)
    except RuntimeError as error:
        raise _misfit(folder, error) from None
    return module.eval(), architecture, preprocess, record


def _not_a_model(path: Path) -> ModelError | UsageError | UnsupportedError:
    if not path.exists():
        return UsageError(f"{path} does not exist; give a model folder or a run folder")
    if (path / "weights.safetensors").exists():
        return ModelError(f"{path}: model.json is missing; copy the model folder again, whole")
    if (path / "recipe.json").exists():
        return UsageError(
            f"{path} is a run without a model yet; finish it with `convolve train {path} --out {path}` and its --data"
        )
    if path.is_file():
        return UnsupportedError(
            f"{path} is no model that convolve can read; give a model folder, a run folder, a CNTK model or "
            "net.prototxt+net.caffemodel"
        )
    return ModelError(f"{path} holds no model.json; give a model folder or a run folder")


def _read_record(path: Path) -> ModelRecord:
    record = read_record(path, ModelRecord, _MEND, ModelError)
    if record.format != FORMAT:
        raise UnsupportedError(f"{path} has format {record.format}, this version reads {FORMAT}; update convolve")
    if (record.model is None) is (record.graph is None):
        raise ModelError(f"{path} is damaged (it has a model or a graph, one of the two); {_MEND}")
    return record


def _architecture(record: ModelRecord, weights_bytes: int) -> Architecture:
    if record.model is None:
        return graph_from_mapping(record.graph, weights_bytes)
    return ModelSpec(**record.model | {"dropout": tuple(record.model["dropout"])})


def _module(architecture: Architecture, preprocess: Preprocess, classes: int) -> nn.Module:
    if not isinstance(architecture, Graph):
        if architecture.name not in MODELS:
            unknown = unknown_name("model", architecture.name, MODELS)
            raise UnsupportedError(f"{unknown} A newer convolve may know it, or a package that is not installed here")
        return build_model(architecture, preprocess.shape_CHW, classes)
    inputs = [value.shape for value in architecture.inputs]
    scores = architecture.values()[architecture.outputs[0]].shape
    if inputs != [preprocess.shape_CHW] or len(architecture.outputs) != 1 or scores != (classes,):
        raise ModelError(
            f"the graph takes {inputs} and gives {scores}; preprocessing makes {preprocess.shape_CHW}, "
            f"and {classes} classes have names"
        )
    return build(architecture)


def _read_weights(path: Path, sha256: str) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror}; copy the model folder again, whole") from None
    if hashlib.sha256(content).hexdigest() != sha256:
        raise ModelError(
            f"{path} was altered or cut: its checksum is not the one in model.json; copy the model folder again"
        )
    return content


def _misfit(folder: Path, error: Exception) -> ModelError:
    first = " ".join(str(error).split("\n\t")[:2])  # torch lists every tensor
    return ModelError(f"{folder / 'weights.safetensors'} does not fit model.json: {first}; copy the model folder again")
