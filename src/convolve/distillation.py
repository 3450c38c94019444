"""The teacher of a training: a network that gets the same batches as the student, which learns its probabilities."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional as F

from convolve.data.loader import normalize
from convolve.errors import UsageError
from convolve.loading import load
from convolve.model import Model
from convolve.recipe import Recipe
from convolve.specs.distillation import DistillationSpec
from convolve.training.run_folder import RunFolder
from convolve.transforms.normalize import mean_of, scale_of
from convolve.transforms.preprocess import Preprocess

# Legend: N images, C channels, H rows, W columns, K classes.


@dataclass(frozen=True, eq=False)
class Teacher:
    """`order_K`: the index of each of the student's classes among the teacher's. `student`: its preprocessing."""

    model: Model
    spec: DistillationSpec
    student: Preprocess
    order_K: Tensor

    def __call__(self, loss_N: Tensor, logits_NK: Tensor, images_NCHW: Tensor) -> Tensor:
        """The loss including the teacher's part, times T * T, since a temperature T shrinks the gradients by that
        factor."""
        with torch.no_grad():
            theirs_NK = self.model.module(self._seen(images_NCHW)).float()[:, self.order_K]
        temperature, weight = self.spec.temperature, self.spec.weight
        ours_NK, theirs_NK = ((each / temperature).log_softmax(1) for each in (logits_NK, theirs_NK))
        apart_N = F.kl_div(ours_NK, theirs_NK, reduction="none", log_target=True).sum(1)
        return torch.lerp(loss_N, temperature**2 * apart_N, weight)

    def _seen(self, images_NCHW: Tensor) -> Tensor:
        """The student's images as the teacher needs them: in its size, its color mode and its normalization."""
        ours, theirs = self.student, self.model.preprocess
        is_whole = images_NCHW.shape[2:] == theirs.shape_CHW[1:]  # otherwise it is progressive resizing
        if is_whole and _numbers(ours) == _numbers(theirs) and ours.mean_image_CHW is theirs.mean_image_CHW is None:
            return images_NCHW
        mean, scale = (each(ours) for each in (mean_of, scale_of))
        pixels_NCHW = images_NCHW / _on(images_NCHW, scale) + _on(images_NCHW, mean)
        if ours.channel_order == "bgr":
            pixels_NCHW = pixels_NCHW.flip(1)
        if theirs.channels != ours.channels:
            gray = pixels_NCHW.new_tensor([0.299, 0.587, 0.114])[:, None, None]  # ITU-R BT.601, as in decoding
            pixels_NCHW = pixels_NCHW.expand(-1, 3, -1, -1) if ours.channels == 1 else (pixels_NCHW * gray).sum(1, True)
        if pixels_NCHW.shape[2:] != theirs.shape_CHW[1:]:
            pixels_NCHW = F.interpolate(pixels_NCHW, theirs.shape_CHW[1:], mode="bilinear", antialias=True)
        return normalize(pixels_NCHW, mean_of(theirs), scale_of(theirs), theirs.channel_order == "bgr")

    def kept_in(self, folder: Path, is_first: bool) -> Self:
        """The same teacher; the run's folder gets a copy of its network, which is used when the run is resumed."""
        if is_first and not (folder / "teacher" / "model.json").exists():
            self.model.save(folder / "teacher")
        return self


def teacher_of(recipe: Recipe, student: Model, folder: RunFolder) -> Teacher | None:
    """The teacher named by the recipe. Raises `UsageError` if its classes differ."""
    if not (spec := recipe.distillation):
        return None
    kept = folder.path / "teacher"
    model = load(kept if folder.resumes and (kept / "model.json").exists() else spec.teacher)
    if model.architecture is None:
        raise UsageError(f"{spec.teacher} can only be run by onnxruntime; give the model that it was made from")
    model = model.for_images(student.preprocess.shape_CHW)
    model.require_images()
    model.require_classes()
    theirs, ours = model.class_names, student.class_names
    if {*theirs} != {*ours}:
        odd = next(iter([name for name in ours if name not in theirs] or [name for name in theirs if name not in ours]))
        where = "the images" if odd in ours else "the teacher"
        raise UsageError(
            f"the teacher {spec.teacher} knows {len(theirs)} classes, the images have {len(ours)}: {odd} is a class "
            f"of {where} only; a teacher needs the same classes: train it on these images with --from {spec.teacher}"
        )
    device = next(student.module.parameters()).device
    model.module.to(device).eval().requires_grad_(False)
    order_K = torch.tensor([theirs.index(name) for name in ours], device=device)
    return Teacher(model, spec, student.preprocess, order_K)


def _numbers(preprocess: Preprocess) -> tuple[object, ...]:
    return preprocess.shape_CHW, preprocess.channel_order, preprocess.mean, preprocess.scale


def _on(images_NCHW: Tensor, value: float | Tensor) -> float | Tensor:
    return value.to(images_NCHW.device) if isinstance(value, Tensor) else value
