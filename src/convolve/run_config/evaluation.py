"""test, eval and cv: the nodes of a network, evaluated over all samples of a reader."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

from convolve.data.evaluation import eval_dataset
from convolve.errors import MissingDataError, UnsupportedError, look_up
from convolve.graph.graph import Graph
from convolve.importers.brainscript.job import EvaluateStep
from convolve.loading import load
from convolve.records import Objective, TargetKind
from convolve.run_config.readers import as_prepared, test_images
from convolve.training.evaluate import Evaluation
from convolve.training.events import Callback


@dataclass(frozen=True)
class Figure:
    """The mean of a node over some samples; errors are fractions."""

    node: str
    value: float
    is_cross_entropy: bool


def evaluate(step: EvaluateStep, callback: Callback, data: str | None) -> list[dict[str, Any]]:
    """The result of one test of the model at modelPath."""
    figures, samples = _evaluate(step, step.model_path, callback, data)
    return [{"test": step.name, "samples": samples} | {figure.node: figure.value for figure in figures}]


def cross_validate(step: EvaluateStep, callback: Callback, data: str | None) -> list[dict[str, Any]]:
    """A result for the model of each epoch that `step` names; in place of missing ones, once, that at modelPath."""
    assert step.epochs is not None  # only a cv action has these
    first, every, last = step.epochs
    found: dict[Path, list[Figure]] = {}
    results = []
    for epoch in range(first, last + 1, every):
        path = step.model_path.with_name(f"{step.model_path.name}.{epoch}")
        if not path.exists():
            callback("note", {"message": f"model {path} does not exist."})
            path = step.model_path
        if path in found or not path.exists():
            continue
        callback("model", {"path": path})
        found[path], samples = _evaluate(step, path, callback, data)
        results.append(
            {"test": step.name, "model": str(path), "samples": samples} | {f.node: f.value for f in found[path]}
        )
    if not found:
        raise MissingDataError(
            f"{step.name} finds neither a model at {step.model_path} nor one of an epoch; train first"
        )
    by_node = zip(*([(figure.value, path) for figure in figures] for path, figures in found.items()), strict=True)
    callback("best", {"models": [min(models) for models in by_node]})
    return results


def _evaluate(step: EvaluateStep, path: Path, callback: Callback, data: str | None) -> tuple[list[Figure], int]:
    model = load(path, whole=True)
    shape_CHW, nodes = model.preprocess.shape_CHW, _nodes(step, model.target.objective)
    if isinstance(model.architecture, Graph):
        model.preprocess = as_prepared(step.reader, shape_CHW)
    is_class = model.target.kind == TargetKind.CLASS
    part = test_images(step.reader, shape_CHW, data, step.samples, one_class=is_class)
    evaluation = model.evaluate(eval_dataset(part, model.preprocess))

    def figures(some: Evaluation) -> list[Figure]:
        return [_figure(name, kind, top, some) for name, kind, top in nodes]

    batches = -(-len(part) // step.batch_size)
    for first in range(0, batches if step.lines_every else 0, step.lines_every or 1):
        last = min(first + step.lines_every, batches)
        some = _part(evaluation, first * step.batch_size, last * step.batch_size)
        callback("part", {
            "first": first + 1, "last": last, "figures": figures(some), "samples": len(some.labels_N),
        })  # fmt: skip
    callback("final", {"figures": figures(evaluation), "samples": len(part), "batches": batches})
    return figures(evaluation), len(part)


def _part(evaluation: Evaluation, begin: int, end: int) -> Evaluation:
    labels_N, answers_NK = evaluation.labels_N[begin:end], evaluation.answers_NK[begin:end]
    if evaluation.target.objective:
        return replace(evaluation, labels_N=labels_N, answers_NK=answers_NK, nodes_NE=evaluation.nodes_NE[begin:end])
    probabilities_NK = answers_NK
    log_NK = probabilities_NK.double().clamp_min(torch.finfo(torch.float32).tiny).log()
    return Evaluation(labels_N, probabilities_NK, float(F.nll_loss(log_NK, labels_N)))


def _nodes(step: EvaluateStep, objective: Objective | None) -> list[tuple[str, str, int]]:
    """(name, kind, top) of each node that is reported; for a model without its text or objective, the usual two."""
    network = step.network
    if objective:
        listed = [node.name for node in network.roles["evaluationNodes"]] if network else objective.evaluations
        chosen = step.nodes or [*dict.fromkeys((*listed, objective.criterion))]
        for name in chosen:
            look_up(objective.nodes, name, "criterion of the model", f"{step.name}.evalNodeNames")
        return [(name, _kind(objective.nodes[name]), 0) for name in chosen]
    if network is None:
        return [("errs", "ClassificationError", 1), ("ce", "CrossEntropyWithSoftmax", 1)]
    roles = [*network.roles["evaluationNodes"], *network.roles["criterionNodes"]]
    nodes = [look_up(network.members, name, "node", f"{step.name}.evalNodeNames") for name in step.nodes]
    asked = dict.fromkeys(nodes or roles)
    return [(node.name, node.kind, int(float(str(node.settings.get("top", 1))))) for node in asked]


def _kind(expression: Any) -> str:
    return expression[0] if isinstance(expression, list | tuple) else ""


def _figure(name: str, kind: str, top: int, evaluation: Evaluation) -> Figure:
    if evaluation.target.objective:
        return Figure(name, evaluation.nodes[name], kind in ("CrossEntropyWithSoftmax", "CrossEntropy"))
    if kind == "CrossEntropyWithSoftmax":
        return Figure(name, evaluation.loss, True)
    if kind != "ClassificationError":
        raise UnsupportedError(f"evaluating {name}, a {kind}, is not supported; only errors and the criterion are")
    likely = evaluation.probabilities_NK.topk(min(top, evaluation.probabilities_NK.shape[1]), dim=1).indices
    wrong = int((likely != evaluation.labels_N[:, None]).all(1).sum())
    return Figure(name, wrong / len(evaluation.labels_N), False)
