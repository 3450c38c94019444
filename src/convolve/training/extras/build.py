"""The extras that a recipe asks for."""

from dataclasses import dataclass

import torch
from torch import nn

from convolve.recipe import Recipe
from convolve.training.extras.best_epoch import BestEpoch
from convolve.training.extras.ema import Ema
from convolve.training.extras.extra import Extra
from convolve.training.extras.hard_examples import HardExamples
from convolve.training.extras.plateau import Plateau


@dataclass(frozen=True)
class Extras:
    """None: not used by the recipe. Their hooks are called in this order."""

    ema: Ema | None = None
    hard_examples: HardExamples | None = None
    best: BestEpoch | None = None
    plateau: Plateau | None = None

    def items(self) -> list[tuple[str, Extra]]:
        return [(name, extra) for name, extra in vars(self).items() if extra]


def build_extras(recipe: Recipe, network: nn.Module, samples: int, device: torch.device) -> Extras:
    """The extras for a training of `network` with this many `samples` per epoch."""
    run, first_hard_epoch = recipe.run, recipe.data.hard_after * recipe.run.epochs
    return Extras(
        ema=Ema(network, run.ema_epochs * samples) if run.ema_epochs else None,
        hard_examples=HardExamples(samples, first_hard_epoch, device) if recipe.data.hard_fraction < 1 else None,
        best=BestEpoch(run.early_stopping_epochs) if run.keep == "best" else None,
        plateau=Plateau(recipe.plateau, len(recipe.schedule.learning_rates)) if recipe.plateau else None,
    )
