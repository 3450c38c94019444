"""The losses of a training, and what each counts as an error: one row each.

Labels are int64 (N,), one class for each image, or float32 (N, K): soft labels of one class, as MixUp and CutMix make
them; 0 or 1 for each of several classes; or numbers. The network's output is outputs_NK in every case.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from convolve.records import Objective, Target, TargetKind
from convolve.specs.run import RunSpec
from convolve.training.objective import node_values, only

Loss = Callable[[Tensor, Tensor], Tensor]  # (outputs_NK, labels) -> loss_N
ERROR = "error rate"  # what is counted of classes; no node of a configuration is called so
_LEAST_SQUARE = 1e-12  # below the rounding of what is compared: the root of 0 has no derivative
_LEAST_DOUBT = 1e-7  # below the rounding of p: the power of 0 has no derivative


@dataclass(frozen=True)
class Criterion:
    """`loss` is that of each sample; `counts` is summed separately under these `names`: which samples are errors, if
    the target is a class.

    Both are functions of torch with their arguments bound, as they are called in each step.
    """

    loss: Loss
    counts: Callable[[Tensor, Tensor], Tensor] | None = None  # (outputs_NK, labels) -> counts_N or counts_NE
    names: tuple[str, ...] = ()


def cross_entropy(run: RunSpec, target: Target) -> Criterion:
    """For one class per image. Label smoothing as in Szegedy et al. 2015, section 7."""
    loss = partial(F.cross_entropy, reduction="none", label_smoothing=run.label_smoothing)
    return Criterion(loss, _is_wrong, (ERROR,))


def focal(run: RunSpec, target: Target) -> Criterion:
    """The cross-entropy of each class times (1 - p)^gamma: Lin et al. 2017, arXiv:1708.02002, with a softmax."""

    def loss(outputs_NK: Tensor, labels: Tensor) -> Tensor:
        log_NK, classes = outputs_NK.log_softmax(1), outputs_NK.shape[1]
        labels_NK = labels if labels.ndim == 2 else F.one_hot(labels, classes).to(log_NK.dtype)
        labels_NK = labels_NK * (1 - run.label_smoothing) + run.label_smoothing / classes
        doubt_NK = -torch.expm1(log_NK)  # 1 - p
        return -(labels_NK * doubt_NK.clamp(min=_LEAST_DOUBT) ** run.focal_gamma * log_NK).sum(1)

    return Criterion(loss, _is_wrong, (ERROR,))


def binary_cross_entropy(run: RunSpec, target: Target) -> Criterion:
    """For several classes per image, independent of each other, summed over them: a logit's gradient is as large as
    with `cross_entropy`.

    Label smoothing moves each label towards one half, as in Keras.
    """

    def loss(outputs_NK: Tensor, labels_NK: Tensor) -> Tensor:
        smooth_NK = labels_NK.lerp(torch.full_like(labels_NK, 0.5), run.label_smoothing)
        return F.binary_cross_entropy_with_logits(outputs_NK, smooth_NK, reduction="none").sum(1)

    return Criterion(loss)


def square_error(run: RunSpec, target: Target) -> Criterion:
    """For numbers, summed over those of an image, as CNTK's SquareError."""
    return _distance(F.mse_loss, target)


def root_mean_square(run: RunSpec, target: Target) -> Criterion:
    """The root of the mean over the numbers of an image; it grows as the error does, not as its square."""
    square = _distance(F.mse_loss, target)

    def loss(outputs_NK: Tensor, numbers_NK: Tensor) -> Tensor:
        return (square.loss(outputs_NK, numbers_NK) / numbers_NK.shape[1]).clamp_min(_LEAST_SQUARE).sqrt()

    return Criterion(loss)


def l1(run: RunSpec, target: Target) -> Criterion:
    """The absolute error, on which outliers among the labels have less influence."""
    return _distance(F.l1_loss, target)


CRITERIA: dict[str, Callable[[RunSpec, Target], Criterion]] = {
    "cross_entropy": cross_entropy,
    "focal": focal,
    "binary_cross_entropy": binary_cross_entropy,
    "square_error": square_error,
    "root_mean_square": root_mean_square,
    "l1": l1,
}
USUAL = {
    TargetKind.CLASS: "cross_entropy",
    TargetKind.CLASSES: "binary_cross_entropy",
    TargetKind.NUMBER: "square_error",
}


def criterion_for(run: RunSpec, target: Target, weights_K: tuple[float, ...] = ()) -> Criterion:
    """With `weights_K`, the weight of an image of each class, their logarithms are subtracted from the outputs.

    The optimum is that of weighted losses, but a network that is right on all training images is still improved: Menon
    et al. 2021, arXiv:2007.07314, "Long-tail learning via logit adjustment", equation 10.
    """
    if target.objective:
        return _of_objective(target.objective, target.kind)
    criterion = CRITERIA[USUAL[target.kind] if run.criterion == "auto" else run.criterion](run, target)
    if not weights_K:
        return criterion
    log_K = torch.tensor(weights_K).log()
    return replace(criterion, loss=lambda outputs_NK, labels: criterion.loss(outputs_NK - log_K.to(outputs_NK), labels))


def _of_objective(objective: Objective, kind: TargetKind) -> Criterion:
    """The objective of a CNTK configuration; if the target is a class, errors are counted too."""
    is_class = kind == TargetKind.CLASS

    def loss(outputs_NM: Tensor, labels: Tensor) -> Tensor:
        return node_values(only(objective, objective.criterion), outputs_NM, labels)[objective.criterion]

    def counts(outputs_NM: Tensor, labels: Tensor) -> Tensor:
        found = node_values(only(objective, *objective.evaluations), outputs_NM.detach().float(), labels)
        wrong = {ERROR: _is_wrong(outputs_NM[:, : objective.sizes[0]], labels)} if is_class else {}
        return torch.stack([*found.values(), *wrong.values()], 1)

    names = (*objective.evaluations, *((ERROR,) if is_class else ()))
    return Criterion(loss, counts if names else None, names)


def standardized(numbers_NK: Tensor, target: Target) -> Tensor:
    """Numbers on the network's scale: how many times the `spread` they are above the `mean` of the training labels."""
    if target.mean is None or target.spread is None:
        return numbers_NK
    return (numbers_NK - numbers_NK.new_tensor(target.mean)) / numbers_NK.new_tensor(target.spread)


def in_units(outputs_NK: Tensor, target: Target) -> Tensor:
    """The inverse of `standardized`."""
    if target.mean is None or target.spread is None:
        return outputs_NK
    return outputs_NK * outputs_NK.new_tensor(target.spread) + outputs_NK.new_tensor(target.mean)


class Answering(nn.Module):
    """A network with the output of a model's file: probabilities of several classes, or numbers in their units; for a
    model with confidence, also the distance."""

    def __init__(self, network: nn.Module, target: Target) -> None:
        super().__init__()
        self.network, self.target = network, target

    def forward(self, images_NCHW: Tensor) -> Tensor | tuple[Tensor, ...]:
        given = self.network(images_NCHW)
        outputs_NK, *distance_N = given if isinstance(given, tuple) else (given,)
        is_number = self.target.kind == TargetKind.NUMBER
        answers_NK: Tensor = in_units(outputs_NK, self.target) if is_number else outputs_NK.sigmoid()
        return (answers_NK, *distance_N) if distance_N else answers_NK


def _distance(of_each: Callable[..., Tensor], target: Target) -> Criterion:
    return Criterion(
        lambda outputs_NK, numbers_NK: of_each(outputs_NK, standardized(numbers_NK, target), reduction="none").sum(1)
    )


def _is_wrong(outputs_NK: Tensor, labels: Tensor) -> Tensor:
    """A soft label counts as its most probable class."""
    return torch.argmax(outputs_NK, dim=1) != (labels if labels.ndim == 1 else labels.argmax(dim=1))
