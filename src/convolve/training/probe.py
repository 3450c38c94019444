"""A linear head on frozen features: logistic regression whose regularization is chosen by cross-validation.

All folds and the fit on all images are solved together, with one pass over the features per step; docs/decisions.md has
the times.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from convolve.errors import DataError, TrainingError
from convolve.records import TargetKind
from convolve.training.folds import fold_numbers

# Legend: N images, D features, R directions of them, K classes, F folds and all.

FOLDS = 5
# From strong to weak, each fit starting from the previous one; one more is tried after the best. For features of mean
# square
# 1: photographs of 20 to 600 a class came out between 1e-3 and 1e-5; no command here repeats that.
_STRENGTHS = tuple(10 ** (-half / 2) for half in range(4, 15))
_STEPS = 25  # of L-BFGS for each strength: the loss left out then stands to 0.001
_LEAST_SPREAD = 1e-7  # of the largest direction's: less is rounding
_CURVATURE = 0.1  # of the loss of one sample, roughly: p * (1 - p)


class Kind(NamedTuple):
    """The kind of a head: `loss` of (logits_NK, targets_NK) for each sample, and `answer` of (logits_NK)."""

    loss: Callable[[Tensor, Tensor], Tensor]
    answer: Callable[[Tensor], Tensor]


KINDS = {
    TargetKind.CLASS: Kind(lambda z, t: -(t * z.log_softmax(-1)).sum(-1), lambda z: z.log_softmax(-1)),
    TargetKind.CLASSES: Kind(lambda z, t: (F.softplus(z) - t * z).sum(-1), F.logsigmoid),
    TargetKind.NUMBER: Kind(lambda z, t: (z - t).square().sum(-1) / 2, lambda z: z),
}


@dataclass(frozen=True, eq=False)
class Probe:
    """logits_NK = features_ND @ weight_KD.T + bias_K, fitted with L2 penalty `l2`.

    `out_of_fold_NK`: the log-probabilities (or numbers) of each image by the fit without its fold `fold_N`.
    """

    weight_KD: Tensor
    bias_K: Tensor
    l2: float
    out_of_fold_NK: Tensor
    fold_N: NDArray[np.int64]


def fit(
    features_ND: Tensor,
    labels: Tensor,
    groups_N: NDArray[np.int64] | None = None,
    *,
    classes: int = 0,
    kind: TargetKind = TargetKind.CLASS,
    weights_K: Tensor | None = None,
    folds: int = FOLDS,
    l2: float | None = None,
) -> Probe:
    """The head for `labels`: int64 (N,), of so many `classes`, or float (N, K), which may be soft, several, or numbers.

    `groups_N`: images with the same number stay in one fold. `weights_K`: the weight of an image of each class; their
    logarithms are added to the bias, as in `criterion_for`. `l2` None: the penalty with the smallest loss on left-out
    images. The same arguments give the same bits, with the same number of threads.
    """
    if not bool(features_ND.isfinite().all()):
        raise TrainingError("the network's output is not finite; start from another one")
    targets_NK = labels.float() if labels.ndim == 2 else F.one_hot(labels, classes or int(labels.max()) + 1).float()
    groups_N = np.arange(len(targets_NK)) if groups_N is None else groups_N
    folds = min(folds, len(np.unique(groups_N)))
    if folds < 2:
        raise DataError("a head on frozen features needs two images, or two groups of images; add more")
    fold_N = fold_numbers(targets_NK.argmax(1).numpy(), groups_N, folds)
    fits = _Fits.of(features_ND, targets_NK, torch.from_numpy(fold_N), KINDS[kind])
    shift_K = torch.zeros(targets_NK.shape[1]) if weights_K is None else weights_K.log()
    best_loss, best = float("inf"), None
    for strength in _STRENGTHS if l2 is None else (*(each for each in _STRENGTHS if each > l2), l2):
        fits.take_steps(strength)
        left_out_NK = fits.left_out_NK()
        loss = float(fits.kind.loss(left_out_NK, targets_NK).mean())
        if best and l2 is None and loss > best_loss:
            break
        weight_KD, bias_K = fits.head()
        answers_NK = fits.kind.answer(left_out_NK + shift_K)
        best_loss, best = loss, Probe(weight_KD, bias_K + shift_K, strength, answers_NK, fold_N)
    assert best is not None  # there is always at least one penalty
    return best


@dataclass(eq=False)
class _Fits:
    """The fits without each of the folds, and the last one on all images.

    The features are rotated to their principal directions, where each weight can be scaled to the loss's curvature in
    its direction: L-BFGS then needs about twenty steps instead of hundreds.
    """

    kind: Kind
    fold_N: Tensor
    targets_NK: Tensor
    share_NF: Tensor  # the weight of each image in each fit; they sum to 1
    features_NR: Tensor
    spread_R: Tensor
    directions_DR: Tensor  # float64, divided by the scale of the features
    mean_D: Tensor
    weight_FKR: Tensor
    bias_FK: Tensor

    @classmethod
    def of(cls, features_ND: Tensor, targets_NK: Tensor, fold_N: Tensor, kind: Kind) -> Self:
        """Start fits, before any step."""
        folds = int(fold_N.max()) + 1
        share_NF = (fold_N[:, None] != torch.arange(folds + 1)).float()
        exact_ND = features_ND.double()
        mean_D = exact_ND.mean(0)
        spread_R, directions_DR = _principal(exact_ND - mean_D)
        return cls(
            kind, fold_N, targets_NK, share_NF=share_NF / share_NF.sum(0),
            features_NR=((exact_ND - mean_D) @ directions_DR).float(), spread_R=spread_R.float(),
            directions_DR=directions_DR, mean_D=mean_D,
            weight_FKR=torch.zeros(folds + 1, targets_NK.shape[1], len(spread_R)),
            bias_FK=torch.zeros(folds + 1, targets_NK.shape[1]),
        )  # fmt: skip

    def take_steps(self, l2: float) -> None:
        """Continue to the fits with penalty `l2`."""
        steepness_R = (_CURVATURE * self.spread_R + l2).sqrt()
        scaled_FKR, bias_FK = (self.weight_FKR * steepness_R).requires_grad_(), self.bias_FK.requires_grad_()
        steps = _Steps(
            [scaled_FKR, bias_FK], max_iter=_STEPS, history_size=10, tolerance_grad=0, tolerance_change=1e-6,
            line_search_fn="strong_wolfe",
        )  # fmt: skip

        def objective() -> Tensor:
            scaled_FKR.grad = bias_FK.grad = None
            weight_FKR = scaled_FKR / steepness_R
            logits_NFK = self._logits(self.features_NR, weight_FKR, bias_FK)
            loss_NF = self.kind.loss(logits_NFK, self.targets_NK[:, None])
            loss = (loss_NF * self.share_NF).sum() + l2 / 2 * weight_FKR.square().sum()
            loss.backward()
            return loss

        steps.step(objective)  # type: ignore[no-untyped-call]
        self.weight_FKR, self.bias_FK = scaled_FKR.detach() / steepness_R, bias_FK.detach()

    def left_out_NK(self) -> Tensor:
        """The logits of each image by the fit without it."""
        logits_NFK = self._logits(self.features_NR, self.weight_FKR, self.bias_FK)
        return logits_NFK[torch.arange(len(self.fold_N)), self.fold_N]

    def head(self) -> tuple[Tensor, Tensor]:
        """(weight_KD, bias_K) of the fit on all images, for unscaled features."""
        weight_KD = self.weight_FKR[-1].double() @ self.directions_DR.T
        return weight_KD.float(), (self.bias_FK[-1] - weight_KD @ self.mean_D).float()

    @staticmethod
    def _logits(features_NR: Tensor, weight_FKR: Tensor, bias_FK: Tensor) -> Tensor:
        logits_NFK: Tensor = (features_NR @ weight_FKR.flatten(0, 1).T).unflatten(1, bias_FK.shape)
        return logits_NFK + bias_FK


class _Steps(torch.optim.LBFGS):
    def add_param_group(self, param_group: dict[str, Any]) -> None:
        # As in `CntkOptimizer`: torch's own first imports torch._dynamo.
        inspect.unwrap(torch.optim.LBFGS.add_param_group)(self, param_group)


def _principal(centered_ND: Tensor) -> tuple[Tensor, Tensor]:
    """(spread_R: the mean square along each direction, directions_DR); scaled so that an image's mean square is 1."""
    images, width = centered_ND.shape
    scale = centered_ND.square().sum(1).mean().sqrt().clamp_min(1e-12)
    scaled_ND = centered_ND / scale
    if images > width:
        spread_R, directions_DR = torch.linalg.eigh(scaled_ND.T @ scaled_ND / images)
    else:  # as many directions as images
        spread_R, images_NR = torch.linalg.eigh(scaled_ND @ scaled_ND.T / images)
        directions_DR = scaled_ND.T @ images_NR / (spread_R * images).clamp_min(1e-30).sqrt()
    kept = spread_R > _LEAST_SPREAD * spread_R.max().clamp_min(1e-30)
    return spread_R[kept], directions_DR[:, kept] / scale
