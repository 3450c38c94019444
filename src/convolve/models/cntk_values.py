"""A network's initial values and dropout masks as CNTK 2.7 draws them on a processor, bit for bit.

CNTK increments a seed: each weight and each dropout takes the next one, in the order of creation. Here that is the
order in which a network registers its layers.
"""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor, nn

from convolve.cntk_random import Distribution, Draws
from convolve.errors import UsageError

_GLOROT = Distribution("uniform", mode="glorot")  # CNTK's default


def draw_weights(module: nn.Module, seed: int) -> None:
    """Fill the weights of all convolutions and dense layers; everything else stays unchanged.

    If the network has a `deviation(name)`, weights are normally distributed with that standard deviation. Raises
    UsageError for a network that has its own way to initialize weights.
    """
    deviation: Callable[[str], float] | None = getattr(module, "deviation", None)
    if hasattr(module, "initialize") and deviation is None:
        raise UsageError(
            f"run.initial_values=cntk: {type(module).__name__} has its own initial values, which CNTK does not draw; "
            f"leave it out, or choose another model.name"
        )
    for number, (name, layer) in _seeded(module, seed):
        if not isinstance(layer, nn.Conv2d | nn.Linear):
            continue
        spread = Distribution("normal", deviation(name)) if deviation else _GLOROT
        layer.weight.data.copy_(torch.from_numpy(_drawn(layer, spread, number)))


def draw_masks(module: nn.Module, seed: int, workers: int = 1, rank: int = 0) -> None:
    """Make every dropout layer draw CNTK's masks, separately for each worker."""
    for number, (name, layer) in [*_seeded(module, seed)]:
        if isinstance(layer, nn.Dropout):
            module.set_submodule(name, CntkDropout(layer.p, number * workers + rank))


def _seeded(module: nn.Module, seed: int) -> Iterator[tuple[int, tuple[str, nn.Module]]]:
    """(seed, (name, layer)) of everything that CNTK draws numbers for."""
    kinds = nn.Conv2d | nn.Linear | nn.Dropout
    return enumerate(((name, layer) for name, layer in module.named_modules() if isinstance(layer, kinds)), seed)


def _drawn(layer: nn.Conv2d | nn.Linear, spread: Distribution, seed: int) -> np.ndarray:
    """A layer's weights in torch's order: those of a dense layer are drawn as (inputs, outputs)."""
    out, *inside = layer.weight.shape
    if isinstance(layer, nn.Linear):
        return spread.drawn((*inside, out), seed).T
    over = Distribution(spread.kind, spread.scale, spread.mode, output_rank=-1, filter_rank=2)
    return over.drawn((out, *inside), seed)


class CntkDropout(nn.Dropout):
    """An element is kept if its random fraction is above the rate; the stream continues from batch to batch."""

    def __init__(self, p: float, seed: int) -> None:
        super().__init__(p)
        self.draws = Draws(seed)

    def forward(self, x: Tensor) -> Tensor:
        return dropped(x, self.p, self.draws) if self.training and self.p else x


def dropped(x: Tensor, rate: float, draws: Draws) -> Tensor:
    """`x` with the next mask applied."""
    mask: Tensor = torch.from_numpy(draws.fractions(x.numel()) > rate).reshape(x.shape).to(x)
    kept: Tensor = x * (mask * (1 / (1 - rate)))
    return kept


def mask_places(network: nn.Module) -> Tensor:
    """The state of each dropout's stream, one after the other; empty without any."""
    found = [layer.draws.place for layer in network.modules() if isinstance(layer, CntkDropout)]
    return torch.from_numpy(np.concatenate([np.empty(0, np.uint64), *found]).view(np.int64))


def go_to(network: nn.Module, places_D: Tensor) -> None:
    """Continue the dropouts' streams from their `mask_places`."""
    layers = [layer for layer in network.modules() if isinstance(layer, CntkDropout)]
    for layer, place in zip(layers, places_D.numpy().view(np.uint64).reshape(len(layers), -1), strict=True):
        layer.draws.go_to(place)
