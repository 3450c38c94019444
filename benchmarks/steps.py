"""Training steps to be timed, on one batch of noise: the product's own, and that of a PyTorch tutorial."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from convolve.data.sources.source import ArraySource
from convolve.data.splits import Splits
from convolve.recipe import Recipe
from convolve.run import build_training
from convolve.training.plan import PlannedStep
from convolve.training.run_folder import RunFolder
from convolve.training.schedule import step_size
from convolve.training.workers import Shard
from rounds import Rates, ratio

Step = Callable[[], object]


def our_step(recipe: Recipe, side: int, classes: int, without: type[nn.Module] | None = None) -> Step:
    """`our_step_on` one batch of noise."""
    size = recipe.run.global_batch_size
    images_NCHW = torch.randn(size, 3, side, side).contiguous(memory_format=torch.channels_last)
    step, labels_N = our_step_on(recipe, side, classes, without), torch.arange(size) % classes
    return lambda: step(images_NCHW, labels_N)


def our_step_on(
    recipe: Recipe, side: int, classes: int, without: type[nn.Module] | None = None
) -> Callable[[torch.Tensor, torch.Tensor], object]:
    """The product's own step on (images_NCHW, labels_N) of `side` x `side`, with the parts that `convolve train` has.

    Layers of the type `without` are taken out of the network.
    """
    size = recipe.run.global_batch_size
    table = ArraySource(torch.randint(0, 256, (size, 3, side, side), dtype=torch.uint8), torch.arange(size) % classes)
    with tempfile.TemporaryDirectory() as folder:
        dataset = Splits(table, table, tuple(map(str, range(classes))), "noise")
        parts = build_training(recipe, dataset, RunFolder(Path(folder)), lambda event, values: None)
    rates = step_size(recipe.optimizer, recipe.schedule, 0, size, size, size)
    trainer, step = parts.trainer, PlannedStep(size, Shard(slice(0, size), 1.0), rates, None)
    for name, layer in list(trainer.network.named_children()):
        if without and isinstance(layer, without):
            setattr(trainer.network, name, nn.Identity())
    trainer.network.train()
    return lambda images_NCHW, labels_N: trainer.train_step(images_NCHW, labels_N, step)


def peer_step(model: nn.Module, batch_size: int, side: int, classes: int, weight_decay: float) -> Step:
    """The tutorial's step: fp32, NCHW, torch.optim.SGD."""
    loss_function = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=weight_decay)
    images, labels = torch.rand(batch_size, 3, side, side) - 0.5, torch.arange(batch_size) % classes

    def step() -> None:
        optimizer.zero_grad()
        loss = loss_function(model(images), labels)
        loss.backward()
        optimizer.step()

    return step


def images_per_second(step: Step, batch_size: int, steps: int, warm_up_steps: int) -> float:
    for _ in range(warm_up_steps):
        step()
    start = time.perf_counter()
    for _ in range(steps):
        step()
    return steps * batch_size / (time.perf_counter() - start)


def parts_of_a_step(rates: Rates, gflop: float) -> dict[str, Any]:
    """What of the processor's rate a step of `gflop` an image reaches, and what of its time LRN takes."""
    with_lrn = [side for side in rates if side.endswith(" with LRN")]
    return {
        "part_of_matrix_multiply": {
            precision: gflop * ratio(rates, f"ours {precision}", f"matrix multiply {precision}")
            for precision in ("bf16", "fp32")
        },
        "lrn_part_of_the_step": {side: 1 - ratio(rates, side, side.removesuffix(" with LRN")) for side in with_lrn},
    }
