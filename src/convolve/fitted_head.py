"""A new head on a trained body starts from its fit to frozen features."""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from convolve.data.build import DataModule
from convolve.data.evaluation import eval_dataset
from convolve.data.loader import normalize
from convolve.data.relations import relate
from convolve.data.sources.files import FileSource
from convolve.data.sources.source import Source
from convolve.graph.heads import HEAD_HIDDEN
from convolve.initial import Initial
from convolve.model import Model
from convolve.records import TargetKind
from convolve.specs.data import DataSpec
from convolve.training.criteria import standardized
from convolve.training.events import Callback
from convolve.training.features import FrozenBody
from convolve.training.probe import Probe, fit
from convolve.training.session import Session
from convolve.training.workers import Workers
from convolve.transforms.normalize import mean_of, scale_of

# Legend: N images, D features, K classes.


@dataclass(frozen=True, eq=False)
class FittedHead:
    """`probe` was fitted to these images: their features and labels."""

    probe: Probe
    features_ND: torch.Tensor
    labels: torch.Tensor


def fit_head(
    spec: DataSpec, initial: Initial | None, model: Model, data: DataModule, session: Session, *, start: Path,
    workers: Workers, callback: Callback,
) -> FittedHead | None:  # fmt: skip
    """Initialize a new linear head of `model` by logistic regression on its body's features; `start` keeps the
    original, which a resumed run writes, too, if it was ended before that.

    None if the head is not new, or not linear. A resumed run fits again, with the same result bit for bit.
    """
    if initial and not workers.rank and not (start / "model.json").exists():
        model.save(start)
    if initial is None or not initial.has_fresh_head or HEAD_HIDDEN in dict(model.module.named_modules()):
        return None
    preprocess = model.preprocess
    images = eval_dataset(data.train, preprocess, threads=session.threads, damaged=data.damaged)
    see = partial(
        normalize, mean=mean_of(preprocess), scale=scale_of(preprocess), bgr=preprocess.channel_order == "bgr"
    )
    body = FrozenBody.of(model.body(), preprocess.shape_CHW, see, session.precision, session.device)
    done = replace(preprocess, mean_image_CHW=None, mean=0.0, scale=1.0)  # the body handles its own mean
    kept_as = repr((done, images.decoding)) if spec.cache != "none" and preprocess.orientation != "cntk" else ""
    features_ND, labels = body.features(
        images, workers=workers, kept_as=kept_as,
        progress=lambda done, count: callback("features", {"done": done, "images": count}),
    )  # fmt: skip
    counts = data.loader.loss_K or data.loader.sampling_K
    targets = labels if labels.ndim == 1 else standardized(labels, model.target)
    probe = fit(
        features_ND, targets, _units(data.train), classes=len(model.class_names), kind=model.target.kind,
        weights_K=torch.tensor(counts) if counts else None,
    )  # fmt: skip
    ours = workers.broadcast_tensors({"weight_KD": probe.weight_KD, "bias_K": probe.bias_K})
    model.set_head(ours["weight_KD"], ours["bias_K"])
    message = f"the head starts from its fit to {features_ND.shape[1]:,} features of {len(labels):,} images"
    if model.target.kind == TargetKind.CLASS:
        right = float((probe.out_of_fold_NK.argmax(1) == labels).float().mean())
        message += f": {right:.1%} correct in cross-validation"
    callback("note", {"message": message})
    return FittedHead(probe, features_ND, labels)


def _units(source: Source) -> NDArray[np.int64] | None:
    """The groups that no fold may split; determined for image files only, as published sets have none."""
    if not isinstance(source, FileSource):
        return None
    return relate(source).unit_N if source.units_N is None else source.units_N
