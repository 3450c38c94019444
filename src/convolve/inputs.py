"""The inputs of a run: images, and a network, either the recipe's own or an existing one."""

from dataclasses import replace
from hashlib import sha256

import torch
from torch import nn

from convolve.data.build import DataModule, in_size
from convolve.data.known import published_error
from convolve.data.open import open_data
from convolve.data.options import DataOptions
from convolve.data.relations import unwatched
from convolve.data.splits import Splits
from convolve.errors import DataError, UsageError
from convolve.initial import Initial
from convolve.model import Model
from convolve.models import build_model
from convolve.models.memory_layout import to_channels_last
from convolve.models.whitened_convnet import WhitenedConvNet
from convolve.recipe import Recipe
from convolve.recipes.ladder import planned
from convolve.records import Target, TargetKind
from convolve.specs.data import DataSpec
from convolve.training.events import Callback
from convolve.training.finetune import freeze_for_good
from convolve.training.session import TrainedOn
from convolve.training.workers import Workers, one_first_on_each_host


def open_inputs(
    recipe: Recipe,
    where: str | Splits | None,
    options: DataOptions,
    callback: Callback,
    workers: Workers,
    kept: Recipe | None = None,
) -> tuple[Recipe, Splits]:
    """(the recipe, with its plan for this number of images if it has plans; the data at `where`, in file order if the
    recipe asks for it). `kept` is the recipe of the unfinished run that is resumed."""
    splits = _open(recipe.data, where, options, callback, workers)
    recipe, said = planned(recipe, len(splits.train), len(splits.test), kept)
    if said:
        callback("plan", {"message": said, "epochs": recipe.run.epochs})
    return replace(recipe, published_error=published_error(recipe, splits)), splits


def _open(
    spec: DataSpec, where: str | Splits | None, options: DataOptions, callback: Callback, workers: Workers
) -> Splits:
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
        raise DataError(f"{splits.description}: its labels suit data.target={splits.target}, not {spec.target}")
    return splits


def describe(recipe: Recipe, initial: Initial | None, splits: Splits, data: DataModule, callback: Callback) -> None:
    """Report which settings are not used, how the start was adapted, and how images in files are resized."""
    if initial and (unused := initial.unused(recipe.model)):
        callback("warning", {"message": unused})
    if initial and recipe.optimizer.name == "muon" and not isinstance(initial.model.module, WhitenedConvNet):
        forgets = "changes the norm of the weights, which spoils what the start has learned; set another optimizer.name"
        callback("warning", {"message": f"muon {forgets}"})
    said = initial.said if initial else ()
    if recipe.confidence and initial and initial.model.target.objective:
        said = (
            *said,
            "confidence does not apply to a network trained with a configuration's own criterion; leave confidence out",
        )
    for message in (*said, data.judged_by, "" if splits.array_shape_CHW else data.description):
        if message:
            callback("note", {"message": message})


def trained_on(splits: Splits, data: DataModule) -> TrainedOn:
    """What must stay unchanged from the start of a run to its end."""
    mean_CHW = data.preprocess.mean_image_CHW
    return TrainedOn(
        data=splits.description,
        data_name=splits.name,
        data_note=splits.note,
        data_fingerprint=splits.fingerprint(),
        mean_image_sha256=None if mean_CHW is None else sha256(mean_CHW.tobytes()).hexdigest(),
        train_samples=data.loader.dataset_size,
        test_samples=len(splits.test),
    )


def network_of(
    recipe: Recipe, splits: Splits, data: DataModule, initial: Initial | None, device: torch.device
) -> Model:
    """The network to train, on `device`."""
    target = _target(splits, data, initial)
    if initial:
        model = replace(initial.model, membership=splits.membership, target=target)
    else:
        network = recipe.model.network()
        shape_CHW, as_cntk = data.preprocess.shape_CHW, recipe.run.initial_values == "cntk"
        module = build_model(network, shape_CHW, len(splits.class_names), recipe.run.seed, as_cntk)
        model = Model(
            module, network, data.preprocess, class_names=splits.class_names, data_name=splits.name,
            membership=splits.membership, target=target,
        )  # fmt: skip
        if isinstance(module, WhitenedConvNet):
            images_NCHW, _ = next(data.loader.epoch(recipe.run.epochs - 1))  # of the test images' size
            module.whiten(images_NCHW)
    freeze_for_good(model.module, recipe.model)
    for size in recipe.data.progressive_sizes:
        _require_fit(model.module, in_size(data.preprocess, size).shape_CHW)
    to_channels_last(model.module.to(device))
    return model


def _target(splits: Splits, data: DataModule, initial: Initial | None) -> Target:
    """What the network predicts. A network that gave numbers before keeps their units; one of a configuration keeps its
    objective."""
    kind = TargetKind(splits.target)
    if initial and initial.model.target.objective:
        return initial.model.target
    if kind != TargetKind.NUMBER:
        return Target(kind)
    if initial and not initial.has_fresh_head:
        return replace(initial.model.target, kind=kind)
    numbers_NK = data.loader.datasets[0].source.labels_N.double()
    spread_K = numbers_NK.std(0, correction=0)
    spread_K[spread_K == 0] = 1.0
    return Target(kind, mean=tuple(numbers_NK.mean(0).tolist()), spread=tuple(spread_K.tolist()))


def _require_fit(module: nn.Module, shape_CHW: tuple[int, int, int]) -> None:
    """Raise `UsageError` if the network does not accept one of `data.progressive_sizes`."""
    was_training = module.training
    try:
        with torch.inference_mode():
            module.eval()(torch.zeros(1, *shape_CHW))
    except RuntimeError as error:
        raise UsageError(
            f"data.progressive_sizes: the network does not accept images of {shape_CHW[2]}x{shape_CHW[1]}; set "
            f"larger sizes, or train at one size with --set data.progressive_sizes="
        ) from error
    finally:
        module.train(was_training)
