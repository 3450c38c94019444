"""Evaluation: exact over the whole set, in fp32, whatever the batch size."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from convolve.training.precision import whole_fp32
from convolve.training.workers import SINGLE_PROCESS, Workers


@dataclass(frozen=True)
class Evaluation:
    """What a network says of a labeled set: `labels_N` int64 and `probabilities_NK` float32, on the CPU."""

    labels_N: torch.Tensor
    probabilities_NK: torch.Tensor
    loss: float  # mean cross-entropy in nats

    @property
    def wrong_N(self) -> torch.Tensor:
        return self.probabilities_NK.argmax(1) != self.labels_N

    @property
    def error(self) -> float:
        """Top-1 error as a fraction."""
        return int(self.wrong_N.sum()) / len(self.labels_N)

    @property
    def wrong_top5_N(self) -> torch.Tensor | None:
        """Where the label is none of the five likeliest; None with five classes or fewer, where that has no meaning."""
        if self.probabilities_NK.shape[1] <= 5:
            return None
        return (self.probabilities_NK.topk(5, dim=1).indices != self.labels_N[:, None]).all(1)

    @property
    def error_top5(self) -> float | None:
        """Top-5 error as a fraction; None where it has no meaning."""
        wrong_N = self.wrong_top5_N
        return None if wrong_N is None else int(wrong_N.sum()) / len(self.labels_N)


def _loss(log_NK: torch.Tensor, labels_N: torch.Tensor, independent: bool) -> float:
    """The sum over the samples."""
    if not independent:
        return float(F.nll_loss(log_NK, labels_N, reduction="sum"))
    targets_NK = F.one_hot(labels_N, log_NK.shape[1]).double()
    return float(F.binary_cross_entropy(log_NK.exp().clamp(max=1.0), targets_NK, reduction="sum"))


def evaluate(
    module: nn.Module,
    batches: Iterable[tuple[torch.Tensor, torch.Tensor]],
    device: torch.device,
    views: int = 1,
    workers: Workers = SINGLE_PROCESS,
    independent: bool = False,
) -> Evaluation:
    """Run `module` over `batches` of (images_NCHW, labels_N).

    Always fp32: training's last evaluation, `convolve evaluate` and `predict` then give one answer. With `views`, so
    many images in a row belong to one label: their probabilities are averaged, and the loss is that of the average.
    What is `independent` gives the logarithm of each class's probability by itself: its loss is the binary
    cross-entropy, summed over the classes. With several `workers`, each has some whole batches, in the order of ranks,
    and all get the answer of one alone.
    """
    was_training = module.training
    module.eval()
    labels, probabilities, losses = [torch.empty(0, dtype=torch.int64)], [torch.empty(0)], []
    with torch.inference_mode(), whole_fp32():
        for images_NCHW, labels_N in batches:
            logits_NK = module(images_NCHW.to(device)).float().cpu()
            labels.append(labels_N.cpu())
            log_NK = logits_NK.double() if independent else logits_NK.double().log_softmax(1)
            log_NVK = log_NK.unflatten(0, (-1, views))
            log_NK = log_NVK.logsumexp(1) - math.log(views)
            probabilities.append(log_NK.exp().float().flatten())
            losses.append(_loss(log_NK, labels[-1], independent))
    module.train(was_training)
    labels_N, probabilities_NK = workers.gather(torch.cat(labels)), workers.gather(torch.cat(probabilities))
    loss_sum = 0.0
    for loss in workers.gather(torch.tensor(losses, dtype=torch.float64)).tolist():
        loss_sum += loss  # one after the other: the same bits, however many workers
    return Evaluation(labels_N, probabilities_NK.view(len(labels_N), -1), loss_sum / len(labels_N))
