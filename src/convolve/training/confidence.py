"""What a model knows about its own confidence: calibrated probabilities, "none of these", sets of classes.

All of it is learned from images that the network was not trained on: a validation part, or the held-out folds of
cross-validation.

Legend: N images, M held-out images (or as many quantiles), K classes or numbers, D features.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor, nn

from convolve.errors import UsageError
from convolve.records import ConfidenceRecord, TargetKind
from convolve.training.outliers import OutlierDetector

MOST_KEPT = 1000  # distances and scores that a model keeps: more would tell a threshold no better than to 0.1 %
# The tensors that it is stored as, with their numbers of axes.
TENSORS = {"directions_RD": 2, "distances_M": 1, "means_KD": 2, "rest": 0, "scores_M": 1, "variances_R": 1}
LIMITS = ("distances_M", "scores_M")  # those that limits follow from; the others measure a distance
_SHARPEST = 20.0  # a temperature between 1/20 and 20: beyond, there is nothing that a probability could tell


@dataclass(frozen=True)
class Confidence:
    """`distances_M` and `scores_M` are sorted; a score is 1 - the probability of an image's own class. For numbers it
    is the distance of each from the true one, (M, K), each column sorted; with several classes per image there are no
    scores. `detector`: None if the network computes the distance itself."""

    record: ConfidenceRecord
    detector: OutlierDetector | None
    distances_M: Tensor
    scores_M: Tensor

    def asked(self, accept: float | None = None, coverage: float | None = None) -> Self:
        """A copy with other limits: the fraction `accept` of images like these that get an answer, and the probability
        `coverage` that a set contains the true class. None: unchanged.

        The limits are those of split conformal prediction. With the probability as score it gives the smallest sets on
        average: Sadinle, Lei and Wasserman 2019, "Least Ambiguous Set-Valued Classifiers with Bounded Error Levels".
        With out-of-fold predictions it is cross-conformal prediction (Vovk 2015), which works in practice but is
        unproven.
        """
        record = self.record
        if accept is not None:
            record = replace(record, accept=accept, farthest=conformal_quantile(self.distances_M, accept))
        if coverage is not None:
            columns_KM = self.scores_M.T if self.scores_M.ndim == 2 else self.scores_M[None]
            found = [conformal_quantile(each_M, coverage) for each_M in columns_KM]
            known = [each for each in found if each is not None]  # all or none, as there is an equal number for each
            if self.scores_M.ndim == 2:
                record = replace(record, coverage=coverage, within=tuple(known) or None)
            else:
                record = replace(record, coverage=coverage, least_probability=1 - known[0] if known else None)
        return replace(self, record=record)

    def is_none_of_these(self, distances_N: Tensor) -> Tensor:
        """bool_N: whether images at these distances from the training images are something else."""
        return distances_N > (math.inf if self.record.farthest is None else self.record.farthest)

    def sets(self, probabilities_NK: Tensor) -> Tensor:
        """bool_NK: which classes each image's set contains; none if none is probable enough."""
        return probabilities_NK >= (self.record.least_probability or 0.0)

    def said(self, answers_NK: Tensor, distances_N: Tensor, class_names: Sequence[str]) -> list[dict[str, Any]]:
        """The confidence of each answer: whether the image is "none of these", its distance, and which classes are
        possible, the most probable first."""
        are_none = self.is_none_of_these(distances_N).tolist()
        said = [
            {"none_of_these": is_none, "distance": d} for is_none, d in zip(are_none, distances_N.tolist(), strict=True)
        ]
        if self.has_sets:
            for one, p_K, holds_K in zip(said, answers_NK, self.sets(answers_NK), strict=True):
                likeliest_first = p_K.argsort(descending=True, stable=True).tolist()
                one["possible"] = tuple(class_names[k] for k in likeliest_first if holds_K[k])
        if within_K := self.record.within:
            for one, numbers_K in zip(said, answers_NK.tolist(), strict=True):
                numbers = zip(class_names, numbers_K, within_K, strict=True)
                one["intervals"] = {name: (number - most, number + most) for name, number, most in numbers}
        return said

    def too_few_for(self, part: float) -> str:
        """Why the limit cannot be computed for this `part` of all images; empty if it can. 1 needs no images."""
        images = len(self.distances_M)
        if part == 1 or conformal_quantile(self.distances_M, part) is not None:
            return ""
        most = f", at most {math.floor(100 * images / (images + 1)) / 100:g}" if images else ""
        return f"the {images} held-out images that the model learned from are too few to determine {part:g}{most}"

    @property
    def has_sets(self) -> bool:
        """Whether answers come with a set of classes."""
        return self.record.least_probability is not None

    @property
    def tensors(self) -> dict[str, Tensor]:
        """The tensors stored with the record."""
        measuring = self.detector.state_dict() if self.detector else {}
        return {**measuring, "distances_M": self.distances_M, "scores_M": self.scores_M}

    @classmethod
    def of(cls, record: ConfidenceRecord, tensors: Mapping[str, Tensor], measures: bool = True) -> Self:
        """The inverse of `tensors`; if the model itself `measures` the distance, only the `LIMITS` are needed. Raises
        ValueError or RuntimeError for inconsistent data."""
        parts, wanted = dict(tensors), {name: axes for name, axes in TENSORS.items() if measures or name in LIMITS}
        if parts.keys() != wanted.keys():
            raise ValueError(f"the tensors are {', '.join(sorted(parts))}, not {', '.join(wanted)}")
        numbers = {"scores_M": 2} if parts["scores_M"].ndim == 2 else {}
        if {name: each.ndim for name, each in parts.items()} != wanted | numbers:
            raise ValueError("they have the wrong number of axes")
        if not all(each.dtype == torch.float32 and each.isfinite().all() for each in parts.values()):
            raise ValueError("they must be finite numbers in float32")
        distances_M, scores_M = parts.pop("distances_M"), parts.pop("scores_M")
        detector = OutlierDetector(**parts) if measures else None
        if detector:
            with torch.inference_mode():
                detector(torch.zeros(1, detector.means_KD.shape[1]))  # raises if the shapes do not fit
        return cls(record, detector, distances_M, scores_M)


def require_known(confidence: Confidence | None, accept: float | None, coverage: float | None) -> None:
    """Raise UsageError for a limit that `Confidence.asked` cannot use, or if the model has no confidence."""
    for option, value in {"--accept": accept, "--coverage": coverage}.items():
        if value is not None and not 0 < value <= 1:
            raise UsageError(
                f"{option} is a fraction of all images, above 0 and at most 1, for example 0.9; got {value:g}"
            )
        if value is not None and confidence is None:
            raise UsageError(
                f"{option}: this model has no confidence statistics; train one that has them with `convolve train "
                f"RECIPE {option} {value:g}`, and add --from MODEL to start from this one's weights"
            )
        if value is not None and confidence and (too_few := confidence.too_few_for(value)):
            raise UsageError(f"{option}: {too_few}")
    if coverage is not None and confidence and not confidence.scores_M.numel():
        raise UsageError(
            "--coverage is for models of one class per image or of numbers; this one has thresholds for its classes"
        )


def conformal_quantile(sorted_M: Tensor, part: float) -> float | None:
    """The value that one more number of this kind does not exceed with probability `part`; None: too few numbers."""
    rank = math.ceil((len(sorted_M) + 1) * part - 1e-9)
    return float(sorted_M[rank - 1]) if 1 <= rank <= len(sorted_M) else None


def fit_confidence(
    detector: OutlierDetector, answers_NK: Tensor, labels: Tensor, distances_N: Tensor, learned_from: str, *,
    kind: TargetKind = TargetKind.CLASS,
) -> Confidence:  # fmt: skip
    """The confidence from the outputs for images that the network was not trained on, and their distances by a
    `detector` that was not fitted to them either."""
    temperature, scores = 1.0, torch.zeros(0)
    if kind == TargetKind.CLASS:
        log_NK = answers_NK.double().clamp(min=1e-37).log()
        temperature = fit_temperature(log_NK, labels)
        scores = 1 - (log_NK / temperature).softmax(1).gather(1, labels[:, None])[:, 0]
    elif kind == TargetKind.NUMBER:  # Lei et al. 2018, "Distribution-Free Predictive Inference for Regression"
        scores = (answers_NK - labels).abs()
    record = ConfidenceRecord(temperature, len(labels), learned_from)
    return Confidence(record, detector, _kept(distances_N), _kept(scores))


def fit_temperature(log_NK: Tensor, labels_N: Tensor) -> float:
    """The temperature with the smallest cross-entropy: Guo et al. 2017, "On Calibration of Modern Neural Networks".

    The cross-entropy is convex in 1 / temperature, so its slope is bisected. As in Platt 1999, one additional image is
    assumed to have any class: otherwise, if all answers are right, the temperature would go to 0.
    """
    any_class = 1 / (len(labels_N) + 1)
    own_N = log_NK.gather(1, labels_N[:, None])[:, 0] * (1 - any_class) + log_NK.mean(1) * any_class
    low, high = 1 / _SHARPEST, _SHARPEST
    for _ in range(40):
        middle = math.sqrt(low * high)
        slope = ((log_NK * middle).softmax(1) * log_NK).sum(1) - own_N
        low, high = (low, middle) if slope.mean() > 0 else (middle, high)
    return 1 / math.sqrt(low * high)


def _kept(values_N: Tensor) -> Tensor:
    """The values sorted, each column separately; if there are too many, as many quantiles as are kept."""
    sorted_N = values_N.float().sort(0).values
    if len(sorted_N) <= MOST_KEPT:
        return sorted_N
    ranks_M = torch.arange(1, MOST_KEPT + 1, dtype=torch.float64) * (len(sorted_N) + 1) / (MOST_KEPT + 1)
    return sorted_N[(ranks_M.ceil().long() - 1).clamp(max=len(sorted_N) - 1)]


class ConfidentNetwork(nn.Module):
    """images_NCHW -> (logits_NK divided by the temperature, distance_N); `network` gives logits_NK and features_ND."""

    def __init__(self, network: nn.Module, confidence: Confidence) -> None:
        super().__init__()
        assert confidence.detector is not None
        self.network, self.detector = network, confidence.detector
        self.temperature = confidence.record.temperature
        self.training = network.training

    def forward(self, images_NCHW: Tensor) -> tuple[Tensor, Tensor]:
        logits_NK, features_ND = self.network(images_NCHW)
        return logits_NK / self.temperature, self.detector(features_ND)


@dataclass(frozen=True)
class Drift:
    """How much farther new images are than held-out ones.

    `beyond`: the fraction of the new images that is farther than 95 % of the held-out ones. `shift`: the largest
    difference of the two distributions (Kolmogorov and Smirnov). `probability`: that either occurs by chance alone.
    """

    beyond: float
    shift: float
    probability: float

    @property
    def is_there(self) -> bool:
        """Whether the drift is significant, and large enough to matter: with very many images, any difference is
        significant."""
        return self.probability < _BY_CHANCE and (self.shift >= _SHIFT or self.beyond >= 2 * (1 - USUAL))


USUAL = 0.95  # of held-out images are not beyond
_BY_CHANCE, _SHIFT = 0.01, 0.1  # false alarms and what is found with these: docs/explanation/trust.md


def drift(known: Confidence, distances_N: Tensor) -> Drift:
    """Whether new images are as far from the training images as held-out ones were: two tests, of the whole
    distribution and of its tail, where a few foreign images among many show first."""
    old_M, new_N, images = known.distances_M, distances_N.sort().values, known.record.images
    at = torch.cat([old_M, new_N])
    below = [torch.searchsorted(each, at, right=True) / len(each) for each in (old_M, new_N)]
    shift = float((below[0] - below[1]).max().clamp(min=0))
    limit = known.asked(USUAL).record.farthest
    beyond_N = new_N > (old_M[-1] if limit is None else limit)
    rank = math.ceil((images + 1) * USUAL) if limit is not None else images
    chances = _chance_of_shift(shift, images, len(new_N)), _chance_beyond(int(beyond_N.sum()), len(new_N), rank, images)
    return Drift(float(beyond_N.float().mean()), shift, min(1.0, 2 * min(chances)))


def _chance_of_shift(shift: float, old: int, new: int) -> float:
    """The probability that one of two samples of the same distribution is shifted up this far: Smirnov 1939, for many
    images.

    One-sided: the fits of cross-validation have seen fewer images than the last one, so held-out images are slightly
    farther than new ones of the same kind.
    """
    return math.exp(-2 * shift**2 * old * new / (old + new))


def _chance_beyond(beyond: int, new: int, rank: int, old: int) -> float:
    """The probability that this many new numbers, or more, are above the old one of this rank, if all come from one
    distribution: every order of old and new numbers is then equally likely."""
    a, b = old + 1 - rank, rank  # the part above that number is Beta(a, b), so the count is beta-binomial

    def log_choose(n: float, k: float) -> float:
        return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)

    log_all = log_choose(new + old, old)
    return min(1.0, sum(
        math.exp(log_choose(x + a - 1, x) + log_choose(new - x + b - 1, new - x) - log_all)
        for x in range(beyond, new + 1)
    ))  # fmt: skip
