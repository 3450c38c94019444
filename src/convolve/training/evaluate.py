"""Evaluation: exact over the whole set, in fp32, independent of the batch size."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional as F

from convolve.models.fused import for_evaluation
from convolve.records import ONE_CLASS, Target, TargetKind
from convolve.training.class_metrics import ClassMetrics, class_metrics
from convolve.training.criteria import in_units, standardized
from convolve.training.memory import keep_freed_memory
from convolve.training.metrics import FIGURES, class_counts
from convolve.training.objective import answers, node_values, only
from convolve.training.precision import whole_fp32
from convolve.training.workers import SINGLE_PROCESS, Workers

Batch = tuple[torch.Tensor, torch.Tensor]  # images_NCHW, labels_N


@dataclass(frozen=True)
class Evaluation:
    """A network's predictions for a labeled set, on the CPU: `labels_N` as in `training/criteria.py`, and `answers_NK`
    float32: probabilities of classes, or numbers."""

    labels_N: torch.Tensor
    answers_NK: torch.Tensor
    loss: float  # mean over the images: cross-entropy in nats, or the square error of standardized numbers
    target: Target = ONE_CLASS
    beside_NB: torch.Tensor = field(default_factory=lambda: torch.empty(0))  # float32: what stands beside the scores
    nodes_NE: torch.Tensor = field(default_factory=lambda: torch.empty(0, 0))  # of the objective's nodes, each sample's

    @property
    def probabilities_NK(self) -> torch.Tensor:
        """The answers, if they are probabilities."""
        assert self.target.kind != TargetKind.NUMBER
        return self.answers_NK

    @property
    def answers_name(self) -> str:
        """The name of the answers in evaluation.safetensors."""
        return "numbers_NK" if self.target.kind == TargetKind.NUMBER else "probabilities_NK"

    @property
    def distances_N(self) -> torch.Tensor | None:
        """For a model with confidence: the distance of each image from the training images."""
        return self.beside_NB[:, 0] if self.beside_NB.numel() else None

    @cached_property
    def figures(self) -> dict[str, Any]:
        """The metrics of this target, by their names in result.json without `test_`."""
        nodes = {"nodes": self.nodes} if self.target.objective else {}
        if nodes and self.target.kind == TargetKind.NUMBER and self.labels_N.shape != self.answers_NK.shape:
            return nodes  # predictions other than its labels
        if self.target.kind != TargetKind.CLASS:
            return nodes | FIGURES[self.target.kind](self.labels_N.numpy(), self.answers_NK.numpy(), self.target)
        found = {"error": self.wrong_N} | ({} if self.wrong_top5_N is None else {"error_top5": self.wrong_top5_N})
        errors = {name: int(wrong_N.sum()) / len(wrong_N) for name, wrong_N in found.items()}
        return errors | self.classes.macro | nodes

    @property
    def nodes(self) -> dict[str, float]:
        """The means of the objective's nodes."""
        names = self.target.objective.nodes if self.target.objective else ()
        return dict(zip(names, self.nodes_NE.double().mean(0).tolist(), strict=True))

    @cached_property
    def classes(self) -> ClassMetrics:
        """The metrics of each class."""
        if self.target.kind == TargetKind.CLASSES:
            return class_counts(self.labels_N.numpy(), self.answers_NK.numpy(), self.target)
        said_N = self.answers_NK.argmax(1)
        return class_metrics(self.labels_N.numpy(), said_N.numpy(), self.answers_NK.shape[1])

    @property
    def wrong_N(self) -> torch.Tensor:
        return self.probabilities_NK.argmax(1) != self.labels_N

    @property
    def error(self) -> float:
        """Top-1 error as a fraction; only for one class per image."""
        error: float = self.figures["error"]
        return error

    @property
    def wrong_top5_N(self) -> torch.Tensor | None:
        """Where the label is not among the five most probable classes; None for five classes or fewer, where this is
        meaningless."""
        if self.answers_NK.shape[1] <= 5:
            return None
        return (self.answers_NK.topk(5, dim=1).indices != self.labels_N[:, None]).all(1)

    @property
    def error_top5(self) -> float | None:
        """Top-5 error as a fraction; None if it is meaningless."""
        return self.figures.get("error_top5")


def _nodes(outputs_NVK: torch.Tensor, labels_N: torch.Tensor, target: Target) -> torch.Tensor:
    """nodes_NE of the target's objective; without one, no columns."""
    if not target.objective:
        return outputs_NVK.new_empty(len(outputs_NVK), 0)
    return torch.stack([*node_values(target.objective, outputs_NVK.mean(1), labels_N).values()], 1)


def _read(outputs_NVK: torch.Tensor, target: Target, independent: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """(answers_NK, the argument of `_loss`) from a network's outputs for V views of each image."""
    mean_NK = outputs_NVK.mean(1)
    if target.objective:
        return answers(target.objective, mean_NK, target.kind), mean_NK
    if target.kind == TargetKind.NUMBER:
        return in_units(mean_NK, target), mean_NK
    if target.kind == TargetKind.CLASSES:
        log_NVK = F.logsigmoid(outputs_NVK)
    else:
        log_NVK = outputs_NVK if independent else outputs_NVK.log_softmax(2)
    log_NK = log_NVK.logsumexp(1) - math.log(outputs_NVK.shape[1])
    return log_NK.exp(), log_NK


def _loss(read_NK: torch.Tensor, labels_N: torch.Tensor, target: Target, independent: bool) -> float:
    """The sum of the losses."""
    if target.objective:
        lowered = replace(target, objective=only(target.objective, target.objective.criterion))
        return float(_nodes(read_NK[:, None], labels_N, lowered).sum())
    if target.kind == TargetKind.NUMBER:
        return float(F.mse_loss(read_NK, standardized(labels_N.double(), target), reduction="sum"))
    if target.kind == TargetKind.CLASS and not independent:
        return float(F.nll_loss(read_NK, labels_N, reduction="sum"))
    targets_NK = labels_N.double() if labels_N.ndim == 2 else F.one_hot(labels_N, read_NK.shape[1]).double()
    return float(F.binary_cross_entropy(read_NK.exp().clamp(max=1.0), targets_NK, reduction="sum"))


def _given(module: nn.Module, images_NCHW: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """The module's output, whether scores alone or a pair."""
    network = for_evaluation(module, images_NCHW.shape[1:])
    if network is not module:
        keep_freed_memory()
    given = network(images_NCHW)
    return given if isinstance(given, tuple) else (given,)


def answer(
    module: nn.Module, images_NCHW: torch.Tensor, target: Target, independent: bool
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """(answers_NK, the module's output besides scores) on the CPU: what `evaluate` computes, bit for bit."""
    if was_training := module.training:
        module.eval()
    with torch.inference_mode(), whole_fp32():
        scores, *more = _given(module, images_NCHW)
        answers_NK, _ = _read(scores.float().cpu().double().unsqueeze(1), target, independent)
    if was_training:
        module.train()
    return answers_NK.float(), more[0].float().cpu().flatten() if more else None


def _added(losses: Sequence[float]) -> float:
    total = 0.0
    for loss in losses:
        total += loss  # in sequence: the same bits for any number of workers
    return total


class BatchAnswers(NamedTuple):
    """The part of an `Evaluation` from one batch: plain values, each array flat; `loss`: the sum of the losses."""

    samples: int
    labels: NDArray[Any]
    answers: NDArray[np.float32]
    beside: NDArray[np.float32]
    nodes: NDArray[np.float32]
    loss: float


def answers_to(
    module: nn.Module, batches: Iterable[Batch], device: torch.device, views: int = 1, *,
    independent: bool = False, target: Target = ONE_CLASS,
) -> Iterator[BatchAnswers | None]:  # fmt: skip
    """The answers of `module` for each of the `batches`; None for an empty one. See `evaluate`."""
    was_training = module.training
    module.eval()
    for images_NCHW, labels_N in batches:
        if not len(labels_N):
            yield None
            continue
        with torch.inference_mode(), whole_fp32():
            scores, *more = _given(module, images_NCHW.to(device))
            outputs_NVK = scores.float().cpu().double().unflatten(0, (-1, views))
            answers_NK, read_NK = _read(outputs_NVK, target, independent)
            loss = _loss(read_NK, labels_N.cpu(), target, independent)
            beside = [each.float().cpu().unflatten(0, (-1, views)).mean(1).flatten() for each in more]
            nodes_NE = _nodes(outputs_NVK, labels_N.cpu(), target).float()
        found = (labels_N.cpu(), answers_NK.float(), torch.cat([torch.empty(0), *beside]), nodes_NE)
        labels, said, more_said, nodes = (each.flatten().numpy() for each in found)
        yield BatchAnswers(len(answers_NK), labels, said, more_said, nodes, loss=loss)
    module.train(was_training)


def evaluation_of(
    batches: Iterable[BatchAnswers | None], workers: Workers = SINGLE_PROCESS, target: Target = ONE_CLASS
) -> Evaluation:
    """The evaluation of all answers: those of this worker, and of the other `workers`."""
    is_class = target.kind == TargetKind.CLASS
    none = np.empty(0, np.float32)
    nothing = BatchAnswers(0, none.astype(np.int64 if is_class else np.float32), none, none, none, loss=0.0)
    counts, *arrays, losses = zip(*filter(None, (nothing, *batches)), strict=True)
    samples = int(workers.gather(torch.tensor([sum(counts)])).sum())
    labels, *found = (workers.gather(torch.from_numpy(np.concatenate(each))) for each in arrays)
    loss = _added(workers.gather(torch.tensor(losses[1:], dtype=torch.float64)).tolist()) / samples
    answers_NK, beside_NB, nodes_NE = (each.view(samples, -1) for each in found)
    labels_N = labels if is_class else labels.view(samples, -1)
    return Evaluation(labels_N, answers_NK, loss, target, beside_NB=beside_NB, nodes_NE=nodes_NE)


def evaluate(
    module: nn.Module,
    batches: Iterable[Batch],
    device: torch.device,
    views: int = 1,
    workers: Workers = SINGLE_PROCESS,
    independent: bool = False,
    target: Target = ONE_CLASS,
) -> Evaluation:
    """Run `module` over `batches` of (images_NCHW, labels_N).

    Always fp32: training's last evaluation, `convolve evaluate` and `predict` then give one answer. If each label has
    several consecutive `views`, their answers are averaged, and the loss is that of the average. The `target` says what
    the outputs mean. With `independent`, outputs are log-probabilities of independent classes, and the loss is the
    binary cross-entropy, summed over the classes. With several `workers`, each has some whole batches, in the order of
    ranks, and all get the same result as a single process. A module may return a pair: scores and a further output.
    """
    found = answers_to(module, batches, device, views, independent=independent, target=target)
    return evaluation_of(found, workers, target)
