"""What a run starts from: images, and a network, which is the recipe's own or an imported one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

import torch
from torch import nn

from convolve.data.build import DataModule, in_size
from convolve.data.open import open_data
from convolve.data.options import DataOptions
from convolve.data.relations import unwatched
from convolve.data.splits import Splits
from convolve.errors import DataError, ModelError, UsageError
from convolve.graph.build import build
from convolve.graph.ends import for_training
from convolve.graph.graph import Graph
from convolve.loading import load
from convolve.model import Model
from convolve.models import build_model
from convolve.models.memory_layout import to_channels_last
from convolve.models.whitened_convnet import WhitenedConvNet
from convolve.recipe import Recipe
from convolve.records import ONE_CLASS, Target, TargetKind
from convolve.specs.data import DataSpec
from convolve.specs.model import ModelSpec
from convolve.training.events import Callback
from convolve.training.finetune import take_weights
from convolve.training.run_folder import RunFolder
from convolve.training.session import TrainedOn
from convolve.training.workers import Workers, one_first_on_each_host
from convolve.transforms.preprocess import Preprocess


def open_images(
    spec: DataSpec, where: str | Splits | None, options: DataOptions, callback: Callback, workers: Workers
) -> Splits:
    """What lies at `where`, in the order of its files if `spec` keeps to that."""
    if isinstance(where, Splits):
        return _for_target(where, spec)

    def downloading(file: str, done_bytes: int, size_bytes: int) -> None:
        callback("download", {"file": file, "done_bytes": done_bytes, "size_bytes": size_bytes})

    in_file_order, options = spec.order != "shuffled", replace(options, group=spec.group, target=spec.target)
    if workers.rank:
        options = replace(options, watch=unwatched)
    splits = one_first_on_each_host(
        workers,
        lambda: open_data(where, spec.name, file_order=in_file_order, progress=downloading, options=options),
    )
    return _for_target(splits, spec)


def _for_target(splits: Splits, spec: DataSpec) -> Splits:
    if splits.target != spec.target:
        raise DataError(f"{splits.description}: its labels are for data.target={splits.target}, not {spec.target}")
    return splits


@dataclass(frozen=True)
class Initial:
    """The `model` that a training starts from, which the user calls `name`.

    One that has a `graph` was imported, and is trained itself. Of another only the weights are taken; where they come
    from a checkpoint of PyTorch, the network is that checkpoint's, too, and so is `preprocess`.
    """

    model: Model
    name: str

    @property
    def graph(self) -> Graph | None:
        return self.model.architecture if isinstance(self.model.architecture, Graph) else None

    @property
    def preprocess(self) -> Preprocess | None:
        """How an imported network takes its images; None for one of ours, where the recipe says it."""
        return self.model.preprocess if self.graph or self.model.training_info.imported_from else None

    @property
    def has_dropout_rates(self) -> bool:
        """Whether dropout is the file's own affair; v1 files hold no rates, which leaves it to the recipe."""
        graph = self.graph
        return graph is not None and {node.number("rate") for node in graph.nodes if node.op == "dropout"} != {0.0}


def initial_model(splits: Splits, folder: RunFolder, from_model: str | Path | None) -> Initial | None:
    """The model that the training in `folder` starts from; an imported network is made ready for the data."""
    if not from_model:
        return None
    kept = folder.path / "from"
    model = load(kept if folder.resumes and (kept / "model.json").exists() else from_model)
    if model.architecture is None:
        raise UsageError(
            f"{from_model} is a quantized file, which cannot be trained; give the model that it was made from"
        )
    if isinstance(model.architecture, Graph):
        model = _for_data(model, splits)
    return Initial(model, str(from_model))


def describe(initial: Initial | None, splits: Splits, data: DataModule, callback: Callback) -> None:
    """Tell what is not used of the recipe and of an imported network, and what is made of images in files."""
    if initial and initial.preprocess:
        kept = "" if initial.has_dropout_rates else " but for model.dropout, since the file holds no rates"
        unused = f"is trained as it is; the recipe's model{kept}, data.mean and data.scale are not used"
        callback("warning", {"message": f"{initial.name} {unused}"})
        parameters = initial.graph.parameters if initial.graph else ()
        if {parameter.learning_rate_multiplier for parameter in parameters} - {0.0, 1.0}:
            multipliers = "has learning-rate multipliers other than 0 (frozen) and 1: they are taken as 1"
            callback("warning", {"message": f"{initial.name} {multipliers}"})
    for message in (data.judged_by, "" if splits.array_shape_CHW else data.description):
        if message:
            callback("note", {"message": message})


def _for_data(model: Model, splits: Splits) -> Model:
    """An imported network for the classes of `splits`, as many as it has; images in memory must have its size."""
    if splits.array_shape_CHW:
        model = model.for_images(splits.array_shape_CHW)
    model.require_images()
    shape_CHW = splits.array_shape_CHW or model.preprocess.shape_CHW
    if model.preprocess.shape_CHW != shape_CHW or len(model.class_names) != len(splits.class_names):
        raise ModelError(
            f"the imported network takes images {model.preprocess.shape_CHW} (C, H, W) of {len(model.class_names)} "
            f"classes, the data has {shape_CHW} and {len(splits.class_names)}; choose other data"
        )
    if not any(parameter.requires_grad for parameter in model.module.parameters()):
        raise ModelError("every parameter of the imported network is frozen: there is nothing to train")
    assert isinstance(model.architecture, Graph)  # the caller has looked
    if (graph := for_training(model.architecture)) is not model.architecture:
        weights, module = model.module.state_dict(), build(graph)
        module.load_state_dict({key: weights[key] for key in module.state_dict()})
        model = replace(model, module=module, architecture=graph)
    return replace(model, class_names=splits.class_names, data_name=splits.name)


def trained_on(splits: Splits, data: DataModule, from_model: str | Path | None) -> TrainedOn:
    """What must stay the same from the start of a run to its end."""
    mean_CHW = data.preprocess.mean_image_CHW
    return TrainedOn(
        from_model=str(from_model) if from_model else None,
        data=splits.description,
        data_name=splits.name,
        data_fingerprint=splits.fingerprint(),
        mean_image_sha256=None if mean_CHW is None else sha256(mean_CHW.tobytes()).hexdigest(),
        train_samples=data.loader.dataset_size,
        test_samples=len(splits.test),
    )


def network_of(
    recipe: Recipe, splits: Splits, data: DataModule, initial: Initial | None, device: torch.device
) -> Model:
    """The network that is trained, on `device`."""
    if initial and initial.graph:
        model = replace(initial.model, membership=splits.membership, target=_target(splits, data, initial))
    else:
        spec = _spec(recipe, initial)
        module = build_model(spec, data.preprocess.shape_CHW, len(splits.class_names), recipe.run.seed)
        model = Model(
            module, spec, data.preprocess, class_names=splits.class_names, data_name=splits.name,
            membership=splits.membership, target=_target(splits, data, initial),
        )  # fmt: skip
        if initial:
            take_weights(module, initial.model.module, initial.name)
        elif isinstance(module, WhitenedConvNet):
            images_NCHW, _ = next(data.loader.epoch(recipe.run.epochs - 1))  # in the size of the test images
            module.whiten(images_NCHW)
    for size in recipe.data.progressive_sizes:
        _require_fit(model.module, in_size(data.preprocess, size).shape_CHW)
    to_channels_last(model.module.to(device))
    return model


def _target(splits: Splits, data: DataModule, initial: Initial | None) -> Target:
    """What the network is to answer. A network that gave numbers before goes on in its units."""
    kind = TargetKind(splits.target)
    if kind != TargetKind.NUMBER:
        return ONE_CLASS if kind == TargetKind.CLASS else Target(kind)
    if initial and (initial.graph or initial.model.target.kind == kind):
        return replace(initial.model.target, kind=kind)
    numbers_NK = data.loader.datasets[0].source.labels_N.double()
    spread_K = numbers_NK.std(0, correction=0)
    spread_K[spread_K == 0] = 1.0
    return Target(kind, mean=tuple(numbers_NK.mean(0).tolist()), spread=tuple(spread_K.tolist()))


def _spec(recipe: Recipe, initial: Initial | None) -> ModelSpec:
    """The recipe's network, or that of the checkpoint that the training starts from, with the recipe's dropout."""
    theirs = initial.model.architecture if initial and initial.preprocess else None
    if not isinstance(theirs, ModelSpec):
        return recipe.model
    return replace(recipe.model, name=theirs.name, variant=theirs.variant)


def _require_fit(module: nn.Module, shape_CHW: tuple[int, int, int]) -> None:
    """Raise `UsageError` for one of `data.progressive_sizes` that the network does not take."""
    was_training = module.training
    try:
        with torch.inference_mode():
            module.eval()(torch.zeros(1, *shape_CHW))
    except RuntimeError as error:
        raise UsageError(
            f"data.progressive_sizes: the network does not take images of {shape_CHW[2]}x{shape_CHW[1]}; set larger "
            "ones, or train in one size with --set data.progressive_sizes="
        ) from error
    finally:
        module.train(was_training)
