"""Update rules of CNTK's Python API that recipes do not offer: rmsprop, Adamax, Adagrad with the mean multiplier.

Notation of `training/optimizers.py`. Found by comparison with the real CNTK 2.7, step by step (tests/golden/cntk).

    adagrad   s += g^2;  a = 1 / sqrt(s + 1e-16);  w -= e*a*g / mean(a)
    adamax    s = max(q*s, |g|);  m = beta*m + u*g;  w -= e*m / (1-beta^t) / (s + eps)
    rmsprop   s = gamma*s + (1-gamma)*g^2, from s = g^2;  d, from 0.02, is multiplied by inc (at most max) where g has
              the sign that it had before, else by dec (at least min);  a = d / sqrt(s + 1e-6);  w -= e*a*g / mean(a)
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from convolve.specs.optimizer import OptimizerSpec
from convolve.training.optimizers import ADAGRAD_FLOOR, Adagrad, Adam, CntkOptimizer, Group

RMSPROP_FLOOR, RMSPROP_FIRST = 1e-6, 0.02  # constants of CNTK's RmsProp


class MeanAdagrad(Adagrad):
    """need_ave_multiplier=True, which is CNTK's default."""

    def update(self, group: Group, weights: list[Tensor], gradients: list[Tensor], *state: list[Tensor]) -> None:
        (square,) = state
        torch._foreach_addcmul_(square, gradients, gradients, value=group["samples"] ** 2)
        for weight, gradient, s in zip(weights, gradients, square, strict=True):
            scale = (s + ADAGRAD_FLOOR).rsqrt_()
            weight.sub_(gradient * scale, alpha=group["lr"] / float(scale.mean()))


class Adamax(Adam):
    def update(self, group: Group, weights: list[Tensor], gradients: list[Tensor], *state: list[Tensor]) -> None:
        mean, square, updates = state
        torch._foreach_add_(updates, 1.0)
        beta, n = group["momentum"], group["samples"]
        rate = group["lr_per_sample"] / (1 - beta ** int(updates[0]))
        for weight, gradient, m, s in zip(weights, gradients, mean, square, strict=True):
            torch.maximum(s.mul_(group["variance_momentum"]), gradient.abs() * n, out=s)
            m.mul_(beta).add_(gradient, alpha=self.gain(group) * n)
            weight.addcdiv_(m, s + self.spec.epsilon, value=-rate)


class RmspropFactors(NamedTuple):
    gamma: float
    inc: float
    dec: float
    max: float
    min: float
    has_mean: bool


class Rmsprop(CntkOptimizer):
    slots, counters = ("square", "sign", "factor"), ("updates",)

    def __init__(self, params: Iterable[Any], spec: OptimizerSpec, factors: RmspropFactors) -> None:
        super().__init__(params, spec)
        self._factors = factors

    def update(self, group: Group, weights: list[Tensor], gradients: list[Tensor], *state: list[Tensor]) -> None:
        for weight, mean, s, sign, d, updates in zip(weights, gradients, *state, strict=True):
            g, f = mean * group["samples"], self._factors
            if not updates:
                s.copy_(g * g)
                d.fill_(RMSPROP_FIRST)
            updates.add_(1)
            s.mul_(f.gamma).addcmul_(g, g, value=1 - f.gamma)
            d.copy_(torch.where(sign * g > 0, (d * f.inc).clamp_max(f.max), (d * f.dec).clamp_min(f.min)))
            sign.copy_(g.sign())
            scale = d / (s + RMSPROP_FLOOR).sqrt_()
            rate = group["lr_per_sample"] / (float(scale.mean()) if f.has_mean else 1.0)
            if rate:  # 0 if a factor has grown without bound: CNTK then changes nothing
                weight.sub_(g * scale, alpha=rate)
