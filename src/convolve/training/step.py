"""One update of the weights."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

from convolve.recipe_values import Steps
from convolve.training.optimizers import gradients_of, take_step
from convolve.training.precision import LossScale, Precision
from convolve.training.schedule import StepSize
from convolve.training.workers import GradientSync


@dataclass(frozen=True)
class StepSettings:
    """What stays the same from step to step."""

    device: torch.device
    precision: Precision
    label_smoothing: float
    accumulation_steps: int


class StepResult(NamedTuple):
    """What a step found, still on the device: [sum of the losses, errors, 1 if the loss is not finite], each loss."""

    sums: torch.Tensor
    losses_N: torch.Tensor


def train_step(
    gradient_sync: GradientSync,
    optimizer: torch.optim.Optimizer,
    loss_scale: LossScale,
    images_NCHW: torch.Tensor,
    labels_N: torch.Tensor,
    size: StepSize,
    settings: StepSettings,
    count: int,
    weight: float = 1.0,
) -> StepResult:
    """Forward, backward, update, on this worker's share of a batch of `count` samples.

    The gradient is that of the mean loss over the whole batch, in however many pieces it is computed. A share that
    only stands in for an empty one has the `weight` 0 and adds nothing to it.
    """
    divisor, smoothing = count / weight if weight else math.inf, settings.label_smoothing
    losses, errors = [], torch.zeros((), device=settings.device)
    size_of_piece = -(-len(labels_N) // settings.accumulation_steps)
    pieces = list(zip(images_NCHW.split(size_of_piece), labels_N.split(size_of_piece), strict=True))
    for number, (images, labels) in enumerate(pieces, 1):
        images, labels = images.to(settings.device), labels.to(settings.device)  # noqa: PLW2901
        with gradient_sync.micro_batch(is_last=number == len(pieces)):
            with settings.precision.autocast(settings.device):
                logits_NK = gradient_sync.module(images)
            loss_N = F.cross_entropy(logits_NK.float(), labels, reduction="none", label_smoothing=smoothing)
            loss_scale.scaled(loss_N.sum() / divisor).backward()
        losses.append(loss_N.detach())
        errors += (logits_NK.argmax(1) != labels).sum()
    if not loss_scale.enabled or loss_scale.unscale(gradients_of(optimizer)):
        take_step(optimizer, size, count)
    optimizer.zero_grad()
    losses_N = torch.cat(losses)
    loss_sum = losses_N.sum()
    return StepResult(torch.stack([loss_sum, errors, (~loss_sum.isfinite()).float()]), losses_N)


def set_batch_norm(module: nn.Module, time_constants: Steps, epoch: int) -> None:
    """Give CNTK's batch normalization the time constant of `epoch`: once one was other than 0, they all hold."""
    if any(time_constants[: epoch + 1]):
        value = time_constants[min(epoch, len(time_constants) - 1)]
        for layer in module.modules():
            if hasattr(layer, "normalization_time_constant_samples"):
                vars(layer)["normalization_time_constant_samples"] = value
                vars(layer)["blend_time_constant_samples"] = 0.0


def set_dropout(module: nn.Module, probability: float) -> None:
    """Give every dropout layer the `probability` of the epoch at hand."""
    for layer in module.modules():
        if isinstance(layer, nn.Dropout):
            layer.p = probability
