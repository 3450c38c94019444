"""One update of the weights."""

from __future__ import annotations

from dataclasses import dataclass

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


def train_step(
    module: nn.Module,
    optimizer: Optimizer,
    loss_scale: LossScale,
    images_NCHW: torch.Tensor,
    labels_N: torch.Tensor,
    size: StepSize,
    settings: StepSettings,
) -> torch.Tensor:
    """Forward, backward, update. Returns (sum of the losses, errors, 1 if the loss is not finite), still on the device.

    The gradient is that of the mean loss over the whole batch, in however many pieces it is computed.
    """
    count = len(labels_N)
    loss_sum, errors = torch.zeros(2, device=settings.device)
    piece = -(-count // settings.accumulation_steps)
    for images, labels in zip(images_NCHW.split(piece), labels_N.split(piece), strict=True):
        images, labels = images.to(settings.device), labels.to(settings.device)  # noqa: PLW2901
        with settings.precision.autocast(settings.device):
            logits_NK = module(images)
        loss = F.cross_entropy(logits_NK.float(), labels, reduction="sum", label_smoothing=settings.label_smoothing)
        loss_scale.scaled(loss / count).backward()
        loss_sum += loss.detach()
        errors += (logits_NK.argmax(1) != labels).sum()
    if loss_scale.unscale(optimizer.gradients()):
        optimizer.step(size, count)
    optimizer.zero_grad()
    return torch.stack([loss_sum, errors, (~loss_sum.isfinite()).float()])


def set_dropout(module: nn.Module, probability: float) -> None:
    """Give every dropout layer the `probability` of the epoch at hand."""
    for layer in module.modules():
        if isinstance(layer, nn.Dropout):
            layer.p = probability
