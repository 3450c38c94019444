"""Labels that are probably wrong, and images that belong to no class, judged by a trained network's features.

A linear head is fitted to frozen features, and each image is judged by a fit without it: the smaller the probability of
its label, the more doubtful the label (the self-confidence of Northcutt et al. 2021, "Confident Learning").
docs/explanation/faults-found.md says how many are found.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from convolve.checking.alike import Pair
from convolve.checking.finding import Findings
from convolve.checking.looks import Looks, Progress
from convolve.checking.part import Part
from convolve.data.damaged import Damaged
from convolve.data.evaluation import eval_dataset
from convolve.data.loader import normalize
from convolve.data.near_copies import clusters
from convolve.data.sources.source import UNLABELED
from convolve.data.team import Team
from convolve.errors import DataError, UsageError
from convolve.model import Model
from convolve.training.features import FrozenBody
from convolve.training.outliers import fit_outliers
from convolve.training.precision import Precision
from convolve.training.probe import FOLDS, Probe, fit
from convolve.transforms.normalize import mean_of, scale_of

# Legend: N images, P pairs, D features, K classes.

IMPROBABLE = 0.2  # the probability of a doubtful label; of flowers with 5 % wrong labels 8 % of the images are below
FAR_OUT = 3.0  # robust deviations above the median distance; of clean flowers 0.5 % are further away
_BLOCK = 512  # images that a worker takes at a time
_DEVIATION = 1.4826  # of a normal distribution, in medians of the absolute deviation


@dataclass(frozen=True)
class Judging:
    """The trained network by which labels are judged, and how it is run."""

    model: Model
    threads: int
    progress: Progress
    team: Team


def check_labels(
    parts: Sequence[Part], looks: Sequence[Looks], pairs: Sequence[Pair], judging: Judging, findings: Findings
) -> None:
    """Add the doubtful labels, the most doubtful first, then the images far from all others.

    Images that look the same, by `pairs`, are in the same fold. Classes of fewer than `FOLDS` images are not judged.
    Any network will do: its classes do not matter.
    """
    judged = _Judged.of(parts, looks)
    body, features = _body_of(judging.model, judging.threads), []
    for number, part in enumerate(parts):
        chosen_N = judged.index_N[judged.part_N == number]
        features.append(_features_ND(body, judging, part, chosen_N))
    features_ND, labels = torch.cat(features), torch.from_numpy(judged.labels_N)
    probe = fit(features_ND, labels, judged.groups_N(pairs))
    doubts = {"wrong label": _doubtful(judged, probe), "stranger": _strangers(features_ND, labels, probe)}
    for kind, image, what in ((kind, *each) for kind, found in doubts.items() for each in found):
        part, index = parts[judged.part_N[image]], int(judged.index_N[image])
        findings.add(kind, part.full_location(index), what, _MENDS[kind], part.at(index))


@dataclass(frozen=True, eq=False)
class _Judged:
    """The images that can be read and whose class has enough images: their part, index and class."""

    part_N: NDArray[np.int64]
    index_N: NDArray[np.int64]
    labels_N: NDArray[np.int64]
    class_names: tuple[str, ...]

    @classmethod
    def of(cls, parts: Sequence[Part], looks: Sequence[Looks]) -> Self:
        places = [
            (number, index, part.label(index))
            for number, (part, look) in enumerate(zip(parts, looks, strict=True))
            for index in np.flatnonzero(look.seen_N & (part.labels_N != UNLABELED)).tolist()
        ]
        names, counts = np.unique([label for *_, label in places], return_counts=True)
        kept = {str(name): number for number, name in enumerate(names[counts >= FOLDS])}
        if len(kept) < 2:
            raise DataError(
                f"--from judges labels by those of other images: it needs two classes of at least {FOLDS} images"
            )
        part_N, index_N, labels_N = np.array(
            [(number, index, kept[label]) for number, index, label in places if label in kept], np.int64
        ).T
        return cls(part_N, index_N, np.ascontiguousarray(labels_N), tuple(kept))

    def groups_N(self, pairs: Sequence[Pair]) -> NDArray[np.int64]:
        """One number for each group of images that look the same."""
        places = zip(self.part_N.tolist(), self.index_N.tolist(), strict=True)
        number = {place: position for position, place in enumerate(places)}
        known = [(number[pair.one], number[pair.other]) for pair in pairs if {pair.one, pair.other} <= number.keys()]
        pairs_P2 = np.array(known, np.int64).reshape(-1, 2)
        return clusters(len(number), pairs_P2, np.ones(len(pairs_P2)), lambda numbers: False)[0]


def _body_of(model: Model, threads: int) -> FrozenBody:
    if model.architecture is None:
        raise UsageError(
            "--from: a model that only onnxruntime can run has no features; give the model that it was made from"
        )
    model.require_images()
    torch.set_num_threads(threads)
    preprocess = model.preprocess
    see = partial(
        normalize, mean=mean_of(preprocess), scale=scale_of(preprocess), bgr=preprocess.channel_order == "bgr"
    )
    return FrozenBody.of(model.body(), preprocess.shape_CHW, see, Precision("fp32", ""), torch.device("cpu"))


def _features_ND(body: FrozenBody, judging: Judging, part: Part, chosen_N: NDArray[np.int64]) -> Tensor:
    ignored = Damaged(len(chosen_N), lambda message: None)  # already a finding
    source = part.source.take(chosen_N)
    dataset = eval_dataset(source, judging.model.preprocess, threads=judging.threads, damaged=ignored)

    def tell(before: int, done: int, count: int) -> None:
        judging.progress(f"features of the {part.name}", before + done, len(chosen_N))

    def compute(numbers: range) -> Iterator[NDArray[np.float32]]:
        for first in numbers[::_BLOCK]:
            some = range(first, min(first + _BLOCK, numbers.stop))
            yield body.features(dataset, of=some, progress=partial(tell, first))[0].numpy()

    found = list(judging.team.blocks(f"{part.name} images judged by their features", len(chosen_N), _BLOCK, compute))
    return torch.from_numpy(np.concatenate(found)) if found else torch.empty(0)


def _doubtful(judged: _Judged, probe: Probe) -> Iterator[tuple[int, str]]:
    """Images for which another class is more probable, ordered by the probability of their own."""
    probabilities_NK = probe.out_of_fold_NK.double().exp().numpy()
    labels_N, said_N = judged.labels_N, probabilities_NK.argmax(1)
    own_N = probabilities_NK[np.arange(len(labels_N)), labels_N]
    for image in np.argsort(own_N, kind="stable").tolist():
        if own_N[image] >= IMPROBABLE:
            return
        if said_N[image] != labels_N[image]:
            own, other = (judged.class_names[each] for each in (labels_N[image], said_N[image]))
            likely = probabilities_NK[image, said_N[image]]
            yield image, f"labeled {own} ({own_N[image]:.1%}), looks like {other} ({likely:.1%})"


def _strangers(features_ND: Tensor, labels: Tensor, probe: Probe) -> Iterator[tuple[int, str]]:
    """Images far from every class, judged by the other folds, the farthest first."""
    distance_N = torch.empty(len(labels))
    for fold in np.unique(probe.fold_N):
        held_out = torch.from_numpy(probe.fold_N == fold)
        distance_N[held_out] = fit_outliers(features_ND[~held_out], labels[~held_out])(features_ND[held_out])
    median = distance_N.median()
    limit = float(median + FAR_OUT * _DEVIATION * (distance_N - median).abs().median())
    for image in distance_N.argsort(descending=True, stable=True).tolist():
        if distance_N[image] <= limit:
            return
        yield image, f"{float(distance_N[image] / median):.2f} times as far from the nearest class as the median image"


_MENDS = {
    "wrong label": "look at it, and correct the label if it is wrong",
    "stranger": "look at it, and remove it if it shows something else",
}
