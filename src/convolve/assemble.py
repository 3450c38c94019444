"""The parts of one run, built from a recipe and a data set, and what was decided when it started."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save
from torch import nn
from torch.nn import functional as F

from convolve.atomic import replacing
from convolve.data.build import DataModule, build_data, in_size
from convolve.data.splits import Splits
from convolve.distributed.gradient_sync import gradient_sync_for
from convolve.errors import ModelError, UsageError
from convolve.graph.graph import Graph
from convolve.model import Model, load, to_channels_last
from convolve.models import build_model
from convolve.models.batch_norm import CntkBatchNorm2d
from convolve.models.whitened_convnet import WhitenedConvNet
from convolve.recipe import Recipe
from convolve.records import Result, ResumeEvent, Start, StartEvent, TrainingInfo, to_json
from convolve.training.calibration import reliability
from convolve.training.error_analysis import worth_a_picture
from convolve.training.evaluate import Evaluation
from convolve.training.events import Callback
from convolve.training.extras.best_epoch import BestEpoch
from convolve.training.extras.ema import Ema
from convolve.training.extras.hard_examples import HardExamples
from convolve.training.extras.plateau import Plateau
from convolve.training.optimizers import build_optimizer
from convolve.training.run_folder import RunFolder
from convolve.training.session import TrainedOn, begin_session, choose_device, choose_threads
from convolve.training.snapshot import resume
from convolve.training.trainer import Extras, Trainer
from convolve.training.workers import SINGLE_PROCESS, Workers

PICTURE_SIDE = 96  # pixels; larger pictures are kept smaller for the report
_RESULT_FROM_START = (
    "parameters", "precision", "device", "threads", "data_name", "data_fingerprint", "versions", "hardware",
)  # fmt: skip


@dataclass(frozen=True)
class Assembly:
    """A trainer, the model artefact over the module that it trains, what flows into it, and start.json."""

    trainer: Trainer
    model: Model
    data: DataModule
    start: Start

    def begin(self, progress: Callback) -> None:
        """Go back to the newest checkpoint of an unfinished run, if there is one, and tell where the run starts."""
        for warning in resume(self.trainer):
            progress("warning", {"message": warning})
        step = self.trainer.position.step
        if not self.trainer.workers.rank:
            self.trainer.folder.log(ResumeEvent(step=step) if step else StartEvent(step=step))
        seen = self.trainer.position.samples_seen
        progress("start", to_json(self.start) | {"step": step, "samples_seen": seen})

    def save(self, evaluation: Evaluation) -> None:
        """Write the model and its last evaluation into the run folder."""
        path = self.trainer.folder.path
        self.model.training_info = self._training_info(evaluation)
        self.model.save(path / "model")
        labels_N, probabilities_NK = evaluation.labels_N, evaluation.probabilities_NK
        kept_M = worth_a_picture(labels_N.numpy(), probabilities_NK.numpy())
        tensors = {
            "labels_N": labels_N,
            "probabilities_NK": probabilities_NK,
            "kept_indices_M": torch.from_numpy(kept_M),
            "kept_images_MHWC": self._test_pictures(kept_M),
        }
        with replacing(path / "evaluation.safetensors") as temporary:
            temporary.write_bytes(save(tensors))

    def _training_info(self, evaluation: Evaluation) -> TrainingInfo:
        run, at, best, start = self.trainer.recipe.run, self.trainer.position, self.trainer.extras.best, self.start
        found = reliability(evaluation.labels_N.numpy(), evaluation.probabilities_NK.numpy())
        return TrainingInfo(
            recipe=self.trainer.recipe.name,
            started_from=Path(start.from_model).name if start.from_model else None,
            epochs=at.epoch,
            epoch_kept=best.epoch if best else at.epoch,
            weights_averaged=run.ema_epochs > 0,
            train_images=start.train_samples,
            seed=run.seed,
            precision=start.precision,
            test_images=len(evaluation.labels_N),
            test_error=evaluation.error,
            test_error_top5=evaluation.error_top5,
            test_loss=evaluation.loss,
            calibration_error=found.expected_error,
            data_fingerprint=start.data_fingerprint,
            convolve=start.versions["convolve"],
        )

    def _test_pictures(self, index_M: NDArray[np.int64]) -> torch.Tensor:
        """images_MHWC, uint8, none larger than `PICTURE_SIDE`."""
        channels, *size = self.model.preprocess.shape_CHW
        shrink = min(1.0, PICTURE_SIDE / max(size))
        small = [max(1, round(side * shrink)) for side in size]
        pictures = [torch.zeros(0, channels, *small, dtype=torch.uint8)]
        for images_NCHW, _ in self.data.test.batches(index_M, self.model.batch_size):
            resized = F.interpolate(images_NCHW.float(), small, mode="area") if shrink < 1 else images_NCHW.float()
            pictures.append(resized.round().clamp(0, 255).to(torch.uint8))
        return torch.cat(pictures).permute(0, 2, 3, 1).contiguous()

    def result(self, evaluation: Evaluation, total_seconds: float) -> Result:
        run, at, start = self.trainer.recipe.run, self.trainer.position, self.start
        return Result(
            recipe=self.trainer.recipe.name,
            test_error=evaluation.error,
            test_error_top5=evaluation.error_top5,
            test_loss=evaluation.loss,
            epochs=at.epoch,
            model_epoch=self.trainer.extras.best.epoch if self.trainer.extras.best else None,
            samples_seen=at.samples_seen,
            train_seconds=at.train_seconds,
            total_seconds=total_seconds,
            images_per_second=at.samples_seen / at.train_seconds,
            data_wait_fraction=at.wait_seconds / at.train_seconds,
            world_size=self.trainer.workers.size,
            bytes_sent=self.trainer.gradient_sync.bytes_sent if self.trainer.gradient_sync else 0,
            seed=run.seed,
            **{name: getattr(start, name) for name in _RESULT_FROM_START},
        )


def assemble(
    recipe: Recipe,
    splits: Splits,
    folder: RunFolder,
    from_model: str | Path | None,
    progress: Callback,
    workers: Workers = SINGLE_PROCESS,
) -> Assembly:
    """Build every part as the recipe says; decide what it leaves open, or take the decisions of the unfinished run.

    Of several `workers` the first decides for all, and writes.
    """
    run = recipe.run
    resumes = folder.resumes
    threads = choose_threads(run, workers, folder)
    given = _given(splits, folder, from_model)
    imported = given.architecture if given and isinstance(given.architecture, Graph) else None
    batches_at_once = workers.size if recipe.distributed.block_samples else 1
    data = build_data(
        recipe, splits, threads, given.preprocess if given and imported else None, batches_at_once,
        lambda message: progress("warning", {"message": message}),
    )  # fmt: skip
    network = given if given and imported else _network(recipe, splits, data, given, from_model)
    module, batches = network.module, data.loader
    for size in recipe.data.train_sizes:
        _require_fit(module, in_size(data.preprocess, size).shape_CHW)
    device = choose_device(run.device, workers)
    to_channels_last(module.to(device))
    mean_CHW = data.preprocess.mean_image_CHW
    session = begin_session(
        recipe, folder, workers, network=module, threads=threads,
        trained_on=TrainedOn(
            from_model=str(from_model) if from_model else None,
            data=splits.description,
            data_name=splits.name,
            data_fingerprint=splits.fingerprint(),
            mean_image_sha256=None if mean_CHW is None else sha256(mean_CHW.tobytes()).hexdigest(),
            train_samples=batches.dataset_size,
            test_samples=len(splits.test),
        ),
        first_images=lambda: next(batches.epoch(0, share=lambda count: workers.shard(count).rows))[0],
    )  # fmt: skip
    own_dropout = imported is not None and _has_rates(imported)
    if imported:
        for message in _not_used(imported, str(from_model), own_dropout):
            progress("warning", {"message": message})
        if not resumes and not workers.rank:
            network.save(folder.path / "from")
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    optimizer = build_optimizer(recipe.optimizer, trained, _no_decay(recipe, module))
    extras = Extras(
        ema=Ema(module, run.ema_epochs * batches.samples) if run.ema_epochs else None,
        hard_examples=HardExamples(batches.samples, recipe.data.hard_after * run.epochs, device)
        if recipe.data.hard_fraction < 1
        else None,
        best=BestEpoch(run.early_stopping_epochs) if run.keep == "best" else None,
        plateau=Plateau(recipe.plateau, len(recipe.schedule.learning_rates)) if recipe.plateau else None,
    )
    model = replace(network, module=extras.ema.network if extras.ema else module)
    trainer = Trainer(
        recipe=recipe,
        session=session,
        network=module,
        optimizer=optimizer,
        loader=batches,
        validation=lambda: model.batches(data.validation, workers=workers),
        validation_name=data.validation_name,
        folder=folder,
        workers=workers,
        callback=progress,
        extras=extras,
        sets_dropout=not own_dropout,
    )
    trainer.gradient_sync = gradient_sync_for(trainer)
    return Assembly(trainer, model, data, session.start)


def _given(splits: Splits, folder: RunFolder, from_model: str | Path | None) -> Model | None:
    """The model that the training starts from; an imported network is made ready for the data, to be trained itself."""
    if not from_model:
        return None
    kept = folder.path / "from"
    given = load(kept if folder.resumes and (kept / "model.json").exists() else from_model)
    if given.architecture is None:
        raise UsageError(f"{from_model} is an exported file, which cannot be trained; give the model that it came from")
    if not isinstance(given.architecture, Graph):
        return given
    if splits.array_shape_CHW:
        given = given.for_images(splits.array_shape_CHW)
    given.require_images()
    return _fitting(given, splits)


def _fitting(given: Model, splits: Splits) -> Model:
    """An imported network for the classes of `splits`, as many as it has; images in memory must have its size."""
    shape_CHW = splits.array_shape_CHW or given.preprocess.shape_CHW
    if given.preprocess.shape_CHW != shape_CHW or len(given.class_names) != len(splits.class_names):
        raise ModelError(
            f"the imported network takes images {given.preprocess.shape_CHW} (C, H, W) of {len(given.class_names)} "
            f"classes, the data has {shape_CHW} and {len(splits.class_names)}; choose other data"
        )
    if not any(parameter.requires_grad for parameter in given.module.parameters()):
        raise ModelError("every parameter of the imported network is frozen: there is nothing to train")
    return replace(given, class_names=splits.class_names, data_name=splits.name)


def _network(recipe: Recipe, splits: Splits, data: DataModule, given: Model | None, name: str | Path | None) -> Model:
    """The recipe's network, with the weights of the model `given`, if there is one, called `name`."""
    module = build_model(recipe.model, data.preprocess.shape_CHW, len(splits.class_names), recipe.run.seed)
    if given:
        _take_weights(module, given.module, str(name))
    elif isinstance(module, WhitenedConvNet):
        images_NCHW, _ = next(data.loader.epoch(recipe.run.epochs - 1))  # in the size of the test images
        module.whiten(images_NCHW)
    return Model(module, recipe.model, data.preprocess, splits.class_names, splits.name)


def _require_fit(module: nn.Module, shape_CHW: tuple[int, int, int]) -> None:
    """Raise `UsageError` for one of `data.train_sizes` that the network does not take."""
    was_training = module.training
    try:
        with torch.inference_mode():
            module.eval()(torch.zeros(1, *shape_CHW))
    except RuntimeError as error:
        raise UsageError(
            f"data.train_sizes: the network does not take images of {shape_CHW[2]}x{shape_CHW[1]}; set larger ones, or "
            "train in one size with --set data.train_sizes="
        ) from error
    finally:
        module.train(was_training)


def _no_decay(recipe: Recipe, module: nn.Module) -> list[nn.Parameter]:
    """The parameters that no penalty acts on."""
    layers = [layer for layer in module.modules() if isinstance(layer, CntkBatchNorm2d | nn.BatchNorm2d)]
    return [] if recipe.optimizer.penalize_batch_norm else [p for layer in layers for p in layer.parameters()]


def _has_rates(graph: Graph) -> bool:
    """Whether dropout is the network's own affair; v1 files hold no rates, which leaves it to the recipe."""
    rates = {node.number("rate") for node in graph.nodes if node.op == "dropout"}
    return rates != {0.0}


def _not_used(graph: Graph, name: str, own_dropout: bool) -> Iterator[str]:
    """What of the recipe is not used, and what of the file, when an imported network is trained."""
    kept = "" if own_dropout else " but for model.dropout, since the file holds no rates"
    yield f"{name} is trained as it is; the recipe's model{kept}, data.mean and data.scale are not used"
    if {parameter.learning_rate_multiplier for parameter in graph.parameters} - {0.0, 1.0}:
        yield f"{name} has learning-rate multipliers other than 0 (frozen) and 1: they are taken as 1"


def _take_weights(module: nn.Module, source: nn.Module, name: str | Path) -> None:
    """Initial weights by name; a last layer for other classes stays fresh, anything else must fit."""
    ours, theirs = module.state_dict(), source.state_dict()
    fitting = {key: tensor for key, tensor in theirs.items() if key in ours and ours[key].shape == tensor.shape}
    fresh = [key for key in ours if key not in fitting]
    last_layer = list(ours)[-2:]
    if any(key not in last_layer for key in fresh):
        raise ModelError(
            f"{name} does not fit this recipe's network: {fresh[0]} is missing or has another shape; "
            "choose the same model.name and model.variant"
        )
    module.load_state_dict(ours | fitting)
