"""Everything that changes while a run goes on, and its way into a checkpoint and back."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

import torch
from torch import nn

from convolve.training.average import WeightAverage
from convolve.training.hardness import Hardness
from convolve.training.optimizers import load_state_tensors, state_tensors
from convolve.training.precision import LossScale
from convolve.training.workers import SINGLE_PROCESS, Workers


@dataclass
class Position:
    """How far the run is: `batch` batches into `epoch` (from 0), `step` updates and `samples_seen` in all."""

    epoch: int = 0
    batch: int = 0
    step: int = 0
    samples_seen: int = 0
    train_seconds: float = 0.0
    wait_seconds: float = 0.0  # the part of train_seconds spent waiting for data


@dataclass
class Tally:
    """Sums over the epoch at hand."""

    samples: int = 0
    loss_sum: float = 0.0
    errors: int = 0
    seconds: float = 0.0
    wait_seconds: float = 0.0


@dataclass
class Best:
    """The best error on the validation split so far, and the epoch (from 1) that reached it."""

    error: float = math.inf
    epoch: int = 0


@dataclass
class Adjustment:
    """Of a learning rate that adjusts itself: the `factor` of the schedule's rate, the `figure` of the last interval
    that counts, and the sum over the `epochs` since then."""

    factor: float = 1.0
    figure: float | None = None
    total: float = 0.0
    epochs: int = 0


class Earlier(NamedTuple):
    """A state that the training may go back to, as a checkpoint holds it."""

    tensors: dict[str, torch.Tensor]
    values: dict[str, Any]


@dataclass
class TrainingState:
    module: nn.Module
    optimizer: torch.optim.Optimizer
    loss_scale: LossScale
    average: WeightAverage | None
    hardness: Hardness | None = None
    position: Position = field(default_factory=Position)
    tally: Tally = field(default_factory=Tally)
    best: Best = field(default_factory=Best)
    best_weights: dict[str, torch.Tensor] = field(default_factory=dict)
    adjustment: Adjustment = field(default_factory=Adjustment)
    earlier: Earlier | None = None

    @property
    def evaluated(self) -> nn.Module:
        """The network that is evaluated and shipped: the average of the weights where the recipe asks for one."""
        return self.average.module if self.average else self.module

    def tensors(self, workers: Workers = SINGLE_PROCESS) -> dict[str, torch.Tensor]:
        """All tensors of a checkpoint, the states of all workers' random generators included: every one has to ask."""
        parts = {
            "module": self.module.state_dict(),
            "optimizer": state_tensors(self.optimizer),
            "average": self.average.module.state_dict() if self.average else {},
            "hardness": self.hardness.state() if self.hardness else {},
            "best": self.best_weights,
            "earlier": self.earlier.tensors if self.earlier else {},
            "random": {"cpu": workers.gather(torch.get_rng_state())},
        }
        if torch.cuda.is_initialized():
            parts["random"]["cuda"] = workers.gather(torch.cuda.get_rng_state())
        return {f"{part}.{name}": tensor for part, tensors in parts.items() for name, tensor in tensors.items()}

    def values(self) -> dict[str, Any]:
        """Everything in a checkpoint that is not a tensor."""
        scale = {"scale": self.loss_scale.scale, "good_steps": self.loss_scale.good_steps}
        best = asdict(self.best) if self.best.epoch else None  # infinity is not JSON
        return {
            "position": asdict(self.position), "tally": asdict(self.tally), "best": best, "loss_scale": scale,
            "adjustment": asdict(self.adjustment), "earlier": self.earlier.values if self.earlier else None,
        }  # fmt: skip

    def restore(self, tensors: dict[str, torch.Tensor], values: dict[str, Any], rank: int = 0) -> None:
        """The inverse of `tensors` and `values`, for the worker `rank`; a new one's generators stay as they are."""

        def part(prefix: str) -> dict[str, torch.Tensor]:
            return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}

        self.module.load_state_dict(part("module."))
        load_state_tensors(self.optimizer, part("optimizer."))
        if self.average:
            self.average.module.load_state_dict(part("average."))
        if self.hardness:
            self.hardness.load_state(part("hardness."))
        self.best_weights = part("best.")
        self.position, self.tally = Position(**values["position"]), Tally(**values["tally"])
        self.best = Best(**values["best"]) if values["best"] else Best()
        self.adjustment = Adjustment(**values.get("adjustment", {}))  # older checkpoints have none
        self.earlier = Earlier(part("earlier."), values["earlier"]) if values.get("earlier") else None
        self.loss_scale.scale, self.loss_scale.good_steps = (
            values["loss_scale"]["scale"],
            values["loss_scale"]["good_steps"],
        )
        _restore_random(tensors["random.cpu"], rank, torch.get_rng_state, torch.set_rng_state)
        if "random.cuda" in tensors:
            _restore_random(tensors["random.cuda"], rank, torch.cuda.get_rng_state, torch.cuda.set_rng_state)

    def remember(self, workers: Workers) -> None:
        """Keep a copy of everything, to go back to."""
        self.earlier = None
        tensors = {name: tensor.detach().clone() for name, tensor in self.tensors(workers).items()}
        self.earlier = Earlier(tensors, self.values())

    def go_back(self, rank: int) -> None:
        """Return to what is remembered, but for the adjustment, the count of updates and the time that they took."""
        assert self.earlier is not None  # the training remembers the end of each interval
        earlier, own, at = self.earlier, self.adjustment, self.position
        self.restore(earlier.tensors, earlier.values, rank)
        self.earlier, self.adjustment = earlier, own
        self.position.step = at.step
        self.position.train_seconds, self.position.wait_seconds = at.train_seconds, at.wait_seconds


def _restore_random(
    states: torch.Tensor, rank: int, get: Callable[[], torch.Tensor], put: Callable[[torch.Tensor], None]
) -> None:
    """`states` of all workers, one after the other."""
    of_each = states.split(len(get()))
    if rank < len(of_each):
        put(of_each[rank].clone())  # torch takes no view
