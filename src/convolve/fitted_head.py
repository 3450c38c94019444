"""A fresh head on a trained body begins with its fit to frozen features."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from convolve.data.build import DataModule
from convolve.data.loader import normalize
from convolve.data.relations import relate
from convolve.data.sources.files import FileSource
from convolve.data.sources.source import Source
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
    initial: Initial | None, model: Model, data: DataModule, session: Session, *, start: Path | None,
    workers: Workers, callback: Callback,
) -> FittedHead | None:  # fmt: skip
    """Keep the start of a training in the folder `start`, if there is to be one, and give a fresh linear head the weights that suit its body best.

    None where the head is not fresh, or not linear. An unfinished run fits again when it goes on: to the same bits.
    """
    if initial and start and not workers.rank:
        model.save(start)
    if initial is None or not initial.has_fresh_head or HEAD_HIDDEN in dict(model.module.named_modules()):
        return None
    preprocess, images = model.preprocess, data.unaugmented
    see = partial(
        normalize, mean=mean_of(preprocess), scale=scale_of(preprocess), bgr=preprocess.channel_order == "bgr"
    )
    body = FrozenBody.of(model.body(), preprocess.shape_CHW, see, session.precision, session.device)
    features_NVD, labels = body.features(images, workers=workers)
    counts = data.loader.loss_K or data.loader.sampling_K
    probe = fit(
        features_NVD, labels, _units(images.source), classes=len(model.class_names),
        weights_K=torch.tensor(counts) if counts else None,
    )  # fmt: skip
    ours = workers.broadcast_tensors({"weight_KD": probe.weight_KD, "bias_K": probe.bias_K})
    model.set_head(ours["weight_KD"], ours["bias_K"])
    right = float((probe.out_of_fold_NK.argmax(1) == labels).float().mean())
    message = (
        f"the head begins with its fit to {features_NVD.shape[2]:,} features of {len(labels):,} images: {right:.1%} "
        f"right in cross-validation (l2={probe.l2:.1g})"
    )
    callback("note", {"message": message})
    return FittedHead(probe, features_NVD[:, 0], labels)


def _units(source: Source) -> NDArray[np.int64] | None:
    """What no fold may tear apart; that is looked for in files only, as published sets have none."""
    if not isinstance(source, FileSource):
        return None
    return relate(source).unit_N if source.units_N is None else source.units_N
