"""One update of the weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

from convolve.training.optimizer import Optimizer
from convolve.training.precision import LossScale, Precision
from convolve.training.schedule import StepSize


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
    module: nn.Module,
    optimizer: Optimizer,
    loss_scale: LossScale,
    images_NCHW: torch.Tensor,
    labels_N: torch.Tensor,
    size: StepSize,
    settings: StepSettings,
) -> StepResult:
    """Forward, backward, update.

    The gradient is that of the mean loss over the whole batch, in however many pieces it is computed.
    """
    count = len(labels_N)
    losses, errors = [], torch.zeros((), device=settings.device)
    piece = -(-count // settings.accumulation_steps)
    for images, labels in zip(images_NCHW.split(piece), labels_N.split(piece), strict=True):
        images, labels = images.to(settings.device), labels.to(settings.device)  # noqa: PLW2901
        with settings.precision.autocast(settings.device):
            logits_NK = module(images)
        loss_N = F.cross_entropy(logits_NK.float(), labels, reduction="none", label_smoothing=settings.label_smoothing)
        loss_scale.scaled(loss_N.sum() / count).backward()
        losses.append(loss_N.detach())
        errors += (logits_NK.argmax(1) != labels).sum()
    if loss_scale.unscale(optimizer.gradients()):
        optimizer.step(size, count)
    optimizer.zero_grad()
    losses_N = torch.cat(losses)
    loss_sum = losses_N.sum()
    return StepResult(torch.stack([loss_sum, errors, (~loss_sum.isfinite()).float()]), losses_N)


def set_dropout(module: nn.Module, probability: float) -> None:
    """Give every dropout layer the `probability` of the epoch at hand."""
    for layer in module.modules():
        if isinstance(layer, nn.Dropout):
            layer.p = probability
