"""The files of a model, written completely or not at all, and checked when they are read.

    model/model.json            architecture, class names, preprocessing, origin, SHA-256 of the weights
    model/model-card.md         the same for people to read
    model/weights.safetensors   the parameters under their names in the module; a mean image as preprocess.mean_image;
                                hashes of the images, if the test part was held out, as membership.*; the model's
                                confidence as confidence.*

The architecture is "model", one of our networks by name, or "graph", an imported one node by node. Nothing is ever
unpickled, and nothing in the files is executed except the code that `build` makes from a checked graph.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as save_tensors
from torch import nn

from convolve.atomic import filling, opened, parse_json, read_whole, replacing, write_json, write_text
from convolve.data.hold_out import Membership
from convolve.errors import ModelError, UnsupportedError, UsageError, unknown_name
from convolve.graph.build import build
from convolve.graph.classifier import NoClassifierError
from convolve.graph.graph import Graph
from convolve.graph.stored import graph_from_mapping, graph_to_mapping
from convolve.model_card import CARD, model_card
from convolve.models import MODELS, bare_model, build_model
from convolve.recipe_values import parse
from convolve.records import Metadata, ModelRecord, TrainingInfo
from convolve.records.reading import MOST_BYTES, from_json, require_format, to_json
from convolve.specs.model import NetworkSpec
from convolve.training.confidence import Confidence
from convolve.transforms.preprocess import Preprocess

FORMAT = 1
MEAN_IMAGE = "preprocess.mean_image"
_MEMBERS = "membership.{}.{}"  # of hashes of bytes or names; of the images that the model was trained or tested on
CONFIDENCE = "confidence."  # what a model knows of its own certainty, beside `confidence` in model.json
_MEND = "copy the model folder again"

Architecture = NetworkSpec | Graph
Shapes = dict[str, tuple[int, ...]]


def digest_of(module: nn.Module, preprocess: Preprocess, beside: tuple[object, ...], file: Path | None) -> str:
    """A digest that differs between models whose answers differ: of its weights, or its `file`, its preprocessing, and
    what is `beside` them."""
    digest = hashlib.sha256(repr((preprocess, *beside)).encode())
    digest.update(b"" if preprocess.mean_image_CHW is None else preprocess.mean_image_CHW.tobytes())
    digest.update(file.read_bytes() if file else b"")
    for name, tensor in module.state_dict().items():
        digest.update(name.encode() + tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def write_model(
    folder: Path,
    module: nn.Module,
    architecture: Architecture,
    preprocess: Preprocess,
    metadata: Metadata,
    membership: Membership | None = None,
    confidence: Confidence | None = None,
) -> None:
    """Write the model folder; model.json, which has the weights' checksum, is written last."""
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in module.state_dict().items()}
    if preprocess.mean_image_CHW is not None:
        state[MEAN_IMAGE] = torch.from_numpy(preprocess.mean_image_CHW)
    if membership:
        kind = "names" if membership.by_name else "bytes"
        for part in ("trained", "tested"):  # safetensors for torch has no unsigned integers
            state[_MEMBERS.format(kind, part)] = torch.from_numpy(getattr(membership, part).view(np.int64))
    for name, tensor in (confidence.tensors if confidence else {}).items():
        state[CONFIDENCE + name] = tensor.cpu().contiguous()
    content = save_tensors(state)
    sha256 = hashlib.sha256(content).hexdigest()
    card = model_card(architecture, module, preprocess, metadata, ("weights.safetensors", sha256))
    record = ModelRecord(
        **vars(metadata), format=FORMAT, preprocess=preprocess.mapping(), weights_sha256=sha256,
        model=None if isinstance(architecture, Graph) else _network(architecture),
        graph=graph_to_mapping(architecture) if isinstance(architecture, Graph) else None,
    )  # fmt: skip
    _write(folder, content, record, card)


def _write(folder: Path, content: bytes, record: ModelRecord, card: str = "") -> None:
    with filling(folder) as place:
        with replacing(place / "weights.safetensors") as temporary:
            temporary.write_bytes(content)
        if card:
            write_text(place / CARD, card)
        write_json(place / "model.json", to_json(record))


def _network(spec: NetworkSpec) -> dict[str, Any]:
    """The description of one of our networks, without what only a training needs, such as the path of its start."""
    return {f.name: to_json(getattr(spec, f.name)) for f in fields(NetworkSpec)}


def is_folder(path: Path) -> bool:
    """Whether `path` is a model folder, or a run folder that contains one."""
    return any((path / name).exists() for name in ("model.json", "model/model.json"))


def find_folder(path: Path) -> Path:
    """The model folder at `path`, or in the run folder `path`."""
    if not is_folder(path):
        raise _not_a_model(path)
    return path / "model" if (path / "model" / "model.json").exists() else path


def read_model(
    folder: Path,
) -> tuple[nn.Module, Architecture, Preprocess, Metadata, Membership | None, Confidence | None]:
    """The inverse of `write_model`; the module is in evaluation mode. Raises ModelError or UnsupportedError.

    No memory is allocated for sizes that only model.json claims: the shapes of the weights are compared first.
    """
    path, weights = folder / "model.json", folder / "weights.safetensors"
    record = _read_record(path)
    if _is_no_classifier(record):
        raise NoClassifierError(f"{folder} holds a network that is not a classifier; use `convert` or `show`")
    stored_bytes = _require_whole(weights, record.weights_sha256)
    try:
        with safe_open(weights, framework="pt") as stored:
            shapes = {name: tuple(stored.get_slice(name).get_shape()) for name in stored.keys()}  # noqa: SIM118
            has_mean = shapes.pop(MEAN_IMAGE, None) is not None
            membership = _membership(stored, shapes)
            known = [name for name in shapes if name.startswith(CONFIDENCE)]
            sure = {name.removeprefix(CONFIDENCE): stored.get_tensor(name).clone() for name in known}
            shapes = {name: shape for name, shape in shapes.items() if name not in known}
            mean_CHW = stored.get_tensor(MEAN_IMAGE).to(torch.float32, copy=True).numpy() if has_mean else None
            with _located(path):
                preprocess = Preprocess(**record.preprocess, mean_image_CHW=mean_CHW)
                architecture = _architecture(record, stored_bytes)
                confidence = _confidence(record, sure)
                outputs = sum(record.target.objective.sizes) if record.target and record.target.objective else 0
                module = _module(architecture, preprocess, outputs or len(record.class_names), shapes)
            module.load_state_dict({name: stored.get_tensor(name) for name in shapes})
    except (SafetensorError, RuntimeError) as error:
        raise ModelError(f"{weights} is damaged ({error}); {_MEND}") from None
    return module.eval(), architecture, preprocess, record, membership, confidence


def write_network(folder: Path, module: nn.Module, graph: Graph) -> None:
    """Write a network that is not a classifier: the same files, without class names, preprocessing and card."""
    content = save_tensors({name: tensor.detach().cpu().contiguous() for name, tensor in module.state_dict().items()})
    record = ModelRecord(
        class_names=(), data="", training_info=TrainingInfo(), format=FORMAT, preprocess={},
        weights_sha256=hashlib.sha256(content).hexdigest(), graph=graph_to_mapping(graph),
    )  # fmt: skip
    _write(folder, content, record)


def read_network(folder: Path) -> tuple[nn.Module, Graph | None, tuple[int, int, int], int]:
    """(module, graph, image shape, classes) of any model folder; the last two are meaningless after `write_network`."""
    path, weights = folder / "model.json", folder / "weights.safetensors"
    record = _read_record(path)
    if not _is_no_classifier(record):
        module, architecture, preprocess, metadata, *_ = read_model(folder)
        graph = architecture if isinstance(architecture, Graph) else None
        return module, graph, preprocess.shape_CHW, len(metadata.class_names)
    stored_bytes = _require_whole(weights, record.weights_sha256)
    try:
        with safe_open(weights, framework="pt") as stored, _located(path):
            shapes = {name: tuple(stored.get_slice(name).get_shape()) for name in stored.keys()}  # noqa: SIM118
            graph = graph_from_mapping(record.graph, stored_bytes)
            module = build(graph)
            _require_shapes(module, shapes)
            module.load_state_dict({name: stored.get_tensor(name) for name in shapes})
    except SafetensorError as error:
        raise ModelError(f"{weights} is damaged ({error}); {_MEND}") from None
    return module.eval(), graph, (0, 0, 0), 0


def _is_no_classifier(record: ModelRecord) -> bool:
    return record.graph is not None and not record.preprocess and not record.class_names


def _membership(stored: Any, shapes: Shapes) -> Membership | None:
    """Remove the hashes of single images from `shapes` and return them."""
    for kind in ("bytes", "names"):
        names = [_MEMBERS.format(kind, part) for part in ("trained", "tested")]
        if all(shapes.pop(name, None) for name in names):
            # Copies: a tensor of the file keeps it memory-mapped, and then Windows lets nobody replace it.
            trained, tested = (stored.get_tensor(name).to(torch.int64, copy=True).numpy() for name in names)
            trained, tested = trained.view(np.uint64), tested.view(np.uint64)
            return Membership(trained, tested, kind == "names")
    return None


def _confidence(record: ModelRecord, tensors: dict[str, torch.Tensor]) -> Confidence | None:
    """The model's confidence record, with its tensors; their shapes must fit each other."""
    if (record.confidence is None) != (not tensors):
        raise ValueError(f"confidence and the weights {CONFIDENCE}* need each other")
    if record.confidence is None:
        return None
    try:
        return Confidence.of(record.confidence, tensors)
    except ValueError as error:
        raise ValueError(f"{CONFIDENCE}*: {error}") from None


@contextmanager
def _located(path: Path) -> Iterator[None]:
    """Turn every error into one that names the file `path`."""
    try:
        yield
    except (ModelError, UnsupportedError) as error:
        raise type(error)(f"{path}: {error}") from None
    except (UsageError, AttributeError, KeyError, TypeError, ValueError, RuntimeError, OverflowError) as error:
        reason = " ".join(str(error).split())
        raise ModelError(f"{path} is damaged ({reason}); {_MEND}") from None


def _not_a_model(path: Path) -> ModelError | UsageError | UnsupportedError:
    if not path.exists():
        return UsageError(f"{path} does not exist; give a run folder, a model folder, or the file of a model")
    if (path / "weights.safetensors").exists():
        return ModelError(f"{path}: model.json is missing; copy the model folder again, whole")
    if (path / "recipe.json").exists():
        return UsageError(
            f"{path} is a run that has no model yet; finish it with `convolve train {path} --out {path}` and the --data"
            " it was started with"
        )
    if path.is_file():
        return UnsupportedError(
            f"{path} is not a model that convolve can read; give a model folder, a run folder, a CNTK model, an ONNX "
            "file, a PyTorch checkpoint or net.prototxt+net.caffemodel"
        )
    return ModelError(f"{path} holds no model.json; give a model folder or a run folder")


def _read_record(path: Path) -> ModelRecord:
    try:
        values = parse_json(read_whole(path, ModelError, MOST_BYTES).decode("utf-8"))
        require_format(values, FORMAT, path)
        record = from_json(ModelRecord, values)
        if (record.model is None) == (record.graph is None):
            raise ValueError("there must be either model or graph")
    except ValueError as error:
        raise ModelError(f"{path} is damaged ({error}); {_MEND}") from None
    return record


def _architecture(record: ModelRecord, weights_bytes: int) -> Architecture:
    if record.model is None:
        return graph_from_mapping(record.graph, weights_bytes)
    for name in ("dropout", "name", "variant"):  # others were added later, with defaults that mean nothing
        if name not in record.model:
            raise ValueError(f"model.{name} is missing")
    spec: NetworkSpec = parse(NetworkSpec, record.model, "model")
    return spec


def _module(architecture: Architecture, preprocess: Preprocess, classes: int, shapes: Shapes) -> nn.Module:
    """The network; its weights must have these shapes."""
    if not isinstance(architecture, Graph):
        if architecture.name not in MODELS:
            unknown = unknown_name("model", architecture.name, MODELS)
            raise UnsupportedError(f"{unknown} A newer convolve, or a package that is not installed here, may know it")
        _require_shapes(bare_model(architecture, preprocess.shape_CHW, classes), shapes)
        return build_model(architecture, preprocess.shape_CHW, classes)
    inputs = [value.shape for value in architecture.inputs]
    scores = architecture.values()[architecture.outputs[0]].shape
    if inputs != [preprocess.shape_CHW] or len(architecture.outputs) != 1 or scores != (classes,):
        raise ModelError(
            f"the graph takes {inputs} and gives {scores}, but preprocessing gives {preprocess.shape_CHW}, and "
            f"{classes} classes have names"
        )
    module = build(architecture)
    _require_shapes(module, shapes)
    return module


def _require_shapes(module: nn.Module, found: Shapes) -> None:
    wanted = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    for name in wanted | found:
        if wanted.get(name) != found.get(name):
            shapes = [found.get(name, "not there"), wanted.get(name, "none")]
            raise ModelError(
                f"weights.safetensors does not fit the network: {name} is {shapes[0]}, the network's {shapes[1]}"
            )


def _require_whole(path: Path, sha256: str) -> int:
    """The bytes of a file, which must have this digest."""
    try:
        with opened(path, ModelError) as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != sha256:
                raise ModelError(f"{path} was altered or truncated: its checksum is not the one in model.json; {_MEND}")
            return file.tell()
    except FileNotFoundError:
        raise ModelError(f"{path} is missing; {_MEND}, whole") from None
