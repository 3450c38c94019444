"""Training that starts from the weights of another model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import nn

from convolve.errors import ModelError, UsageError
from convolve.models.depth import BODY, depths, frozen_layers
from convolve.specs.model import ModelSpec
from convolve.training.schedule import set_epoch_values

if TYPE_CHECKING:
    from convolve.training.trainer import Trainer


def take_weights(module: nn.Module, source: nn.Module, has_fresh_head: bool, what: str) -> None:
    """Take initial weights by name, except those of a new head.

    Raises ModelError if `what` does not fit, naming the first layer that differs.
    """
    ours = module.state_dict()
    theirs = {key.removeprefix(BODY): tensor for key, tensor in source.state_dict().items()}
    for key, tensor in ours.items():
        if has_fresh_head and not key.startswith(BODY):
            continue
        found = theirs.get(key.removeprefix(BODY))
        if found is None or found.shape != tensor.shape:
            came = "is missing" if found is None else f"has the shape {tuple(found.shape)}"
            raise ModelError(f"{what}: {key.removeprefix(BODY)} {came}, but needs the shape {tuple(tensor.shape)}")
        ours[key] = found
    module.load_state_dict(ours)


def freeze_for_good(network: nn.Module, spec: ModelSpec) -> None:
    """Exclude what no epoch trains from the training. Raises UsageError if nothing is left."""
    frozen = [frozen_layers(network, freeze) for freeze in dict.fromkeys(spec.freezes)]
    for name in set.intersection(*frozen):
        for parameter in network.get_submodule(name).parameters(recurse=False):
            parameter.requires_grad_(False)
    if not any(parameter.requires_grad for parameter in network.parameters()):
        raise UsageError(
            f"model.freeze={spec.freeze}: nothing is left to train; name an earlier layer, or all for the body"
        )


def group_settings(network: nn.Module, spec: ModelSpec, layer_decay: float) -> dict[nn.Parameter, tuple[Any, ...]]:
    """For each trained parameter: its rate as a multiple of the schedule's, and in which epochs it is frozen.

    The multiple is that of its layer, times what an imported file says: Caffe's lr_mult, CNTK's multiplier.
    """
    depth = depths(network)
    stages = {freeze: frozen_layers(network, freeze) for freeze in dict.fromkeys(spec.freezes)}
    settings: dict[nn.Parameter, tuple[Any, ...]] = {}
    for name, parameter in network.named_parameters():
        rate = layer_decay ** (max(depth.values()) - depth[name]) * getattr(parameter, "learning_rate_multiplier", 1.0)
        frozen_in = tuple(freeze for freeze, layers in stages.items() if name.rpartition(".")[0] in layers)
        settings[parameter] = rate, frozen_in
    return settings


def begin_epoch(trainer: Trainer) -> None:
    """Apply the recipe's per-epoch values to the layers of the network, and freeze what it says.

    If workers sum gradients, those of frozen parameters are computed too, and ignored.
    """
    network, spec, epoch = trainer.network, trainer.recipe.model, trainer.position.epoch
    network.train()
    set_epoch_values(network, spec, epoch, trainer.sets_dropout)
    if (spec.freeze, spec.keep_batch_norm) == ("none", False):
        return
    frozen = frozen_layers(network, spec.frozen_in(epoch))
    for name, layer in network.named_modules():
        if hasattr(layer, "running_var") and (spec.keep_batch_norm or name in frozen):
            layer.eval()
    for group in trainer.optimizer.param_groups:
        group["is_frozen"] = spec.frozen_in(epoch) in group["frozen_in"]
        for parameter in group["params"]:
            parameter.requires_grad_(bool(trainer.gradient_sync) or not group["is_frozen"])
