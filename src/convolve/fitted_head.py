"""A fresh head on a trained body begins with its fit to frozen features."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch

from convolve.data.dataset import Dataset
from convolve.data.loader import normalize
from convolve.data.relations import relate
from convolve.data.sources.files import FileSource
from convolve.graph.heads import HEAD_HIDDEN
from convolve.initial import Initial
from convolve.model import Model
from convolve.training.events import Callback
from convolve.training.features import FrozenBody
from convolve.training.probe import Probe, fit
from convolve.training.session import Session
from convolve.training.workers import Workers
from convolve.transforms.normalize import mean_of, scale_of

# Legend: N images, D features, K classes.


@dataclass(frozen=True, eq=False)
class FittedHead:
    """`probe` was fitted to these images: features_ND of the first view of each, and their labels."""

    probe: Probe
    features_ND: torch.Tensor
    labels: torch.Tensor


def fit_head(
    initial: Initial | None, model: Model, images: Dataset, session: Session, workers: Workers, callback: Callback
) -> FittedHead | None:
    """Give a fresh linear head of `model` the weights that suit its frozen body best; None where it has none.

    `images` are those it is trained on. An unfinished run fits again when it goes on: it comes to the same bits.
    """
    if initial is None or not initial.has_fresh_head or HEAD_HIDDEN in dict(model.module.named_modules()):
        return None
    preprocess = model.preprocess
    see = partial(
        normalize, mean=mean_of(preprocess), scale=scale_of(preprocess), bgr=preprocess.channel_order == "bgr"
    )
    body = FrozenBody.of(model.body(), preprocess.shape_CHW, see, session.precision, session.device)
    features_NVD, labels = body.features(images, workers=workers)
    source = images.source
    groups_N = None if not isinstance(source, FileSource) else source.units_N
    if groups_N is None and isinstance(source, FileSource):
        groups_N = relate(source).unit_N
    probe = fit(features_NVD, labels, groups_N, classes=len(model.class_names))
    ours = workers.broadcast_tensors({"weight_KD": probe.weight_KD, "bias_K": probe.bias_K})
    model.set_head(ours["weight_KD"], ours["bias_K"])
    right = float((probe.out_of_fold_NK.argmax(1) == labels).float().mean())
    callback("note", {"message": f"the head is fitted to {features_NVD.shape[2]:,} frozen features of "
        f"{len(labels):,} images (l2={probe.l2:.1g}, {right:.1%} right in cross-validation)"})  # fmt: skip
    return FittedHead(probe, features_NVD[:, 0], labels)
