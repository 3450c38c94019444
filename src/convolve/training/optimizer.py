"""CNTK's learners, exactly, and Muon: one function a learner, one table of them, one class that holds their state.

Notation (CNTK 2.7's Python API; tests/golden/train holds traces of the real one): N samples in the batch,
e rate per sample, beta momentum, q variance momentum, u = 1 - beta with unit gain and 1 without, w weights,
g = gradient of the SUMMED loss. PyTorch gives the gradient of the mean, so g = N * gradient and e*g = rate * gradient:
N is folded into the scalars.

    sgd            w -= e*g
    momentum_sgd   v = beta*v + u*e*g;  w -= v              (the rate is inside v: old velocity keeps its old rate)
    nesterov       v = beta*v + u*e*g;  w -= beta*v + u*e*g
    adagrad        s += g^2;  w -= e*g / sqrt(s + 1e-16)    (CNTK's need_ave_multiplier=False)
    adadelta       s = rho*s + (1-rho)*g^2;  d = g*sqrt((x+eps)/(s+eps));  x = rho*x + (1-rho)*d^2;  w -= e*d
    adam           s = q*s + (1-q)*g^2;  m = beta*m + u*g;  w -= e*m*sqrt(1-q^t)/(1-beta^t) / (sqrt(s)+eps)
    fsadagrad      s = q*s + (1-q)*g^2;  c = q*c + (1-q)*N;  m = beta*m + u*g*min(sqrt(c/s), 10);  w -= e*m

and one of today, for filters and matrices; a row of the matrix W is what leads to one map or unit, r their number:

    muon           v = beta*v + u*g;  W *= sqrt(r) / |W|;  W -= rate * O(beta*v + u*g), where O makes all singular
                   values nearly 1; vectors move as with nesterov, at vector_rate times the rate

Before it, g is clipped, then l2*N*w is added; after it, w is soft-thresholded by e*l1*N, both for weights that are
penalized. A rate of 0 skips all of it.

The torch._foreach_ functions take whole lists of tensors: an update is a handful of Python calls, however many
parameters there are. torch.optim is itself written with them and they have kept their form since torch 1.9.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from convolve.errors import ModelError, UsageError, unknown_name
from convolve.recipe import OptimizerSpec
from convolve.training.schedule import StepSize

ADAGRAD_FLOOR = 1e-16  # inside the root; a constant of CNTK's Adagrad
FSADAGRAD_MAX_SCALE = 10.0  # a constant of CNTK's FSAdaGrad
MUON_ITERATIONS = 3  # as airbench94_muon
MUON_FLOOR = 1e-7  # of a norm that is divided by


class _Step(NamedTuple):
    weights: list[Tensor]
    gradients: list[Tensor]  # of the mean loss, clipped and with L2
    samples: int  # N
    size: StepSize
    spec: OptimizerSpec
    updates: int  # t, this one included
    samples_smoothed: float  # c, this one included

    @property
    def gain(self) -> float:
        return 1 - self.size.momentum if self.spec.unit_gain else 1.0


def _sgd(step: _Step) -> None:
    torch._foreach_add_(step.weights, step.gradients, alpha=-step.size.rate)


def _momentum_sgd(step: _Step, velocity: list[Tensor]) -> None:
    _decay(velocity, step.size.momentum, step.gradients, step.gain * step.size.rate)
    torch._foreach_sub_(step.weights, velocity)


def _nesterov(step: _Step, velocity: list[Tensor]) -> None:
    _decay(velocity, step.size.momentum, step.gradients, step.gain * step.size.rate)
    torch._foreach_add_(step.weights, velocity, alpha=-step.size.momentum)
    torch._foreach_add_(step.weights, step.gradients, alpha=-step.gain * step.size.rate)


def _adagrad(step: _Step, square: list[Tensor]) -> None:
    torch._foreach_addcmul_(square, step.gradients, step.gradients, value=step.samples**2)
    root = torch._foreach_add(square, ADAGRAD_FLOOR)
    torch._foreach_sqrt_(root)
    torch._foreach_addcdiv_(step.weights, step.gradients, root, value=-step.size.rate)


def _adadelta(step: _Step, square: list[Tensor], delta_square: list[Tensor]) -> None:
    rho, epsilon = step.spec.adadelta_rho, step.spec.epsilon
    torch._foreach_mul_(square, rho)
    torch._foreach_addcmul_(square, step.gradients, step.gradients, value=(1 - rho) * step.samples**2)
    delta = torch._foreach_add(delta_square, epsilon)
    torch._foreach_div_(delta, torch._foreach_add(square, epsilon))
    torch._foreach_sqrt_(delta)
    torch._foreach_mul_(delta, step.gradients)
    torch._foreach_mul_(delta, step.samples)
    torch._foreach_mul_(delta_square, rho)
    torch._foreach_addcmul_(delta_square, delta, delta, value=1 - rho)
    torch._foreach_add_(step.weights, delta, alpha=-step.size.rate_per_sample)


def _adam(step: _Step, mean: list[Tensor], square: list[Tensor]) -> None:
    beta, q, t = step.size.momentum, step.size.variance_momentum, step.updates
    _decay_square(square, step)
    _decay(mean, beta, step.gradients, step.gain * step.samples)
    root = torch._foreach_sqrt(square)
    torch._foreach_add_(root, step.spec.epsilon)
    rate = step.size.rate_per_sample * math.sqrt(1 - q**t) / (1 - beta**t)
    torch._foreach_addcdiv_(step.weights, mean, root, value=-rate)


def _fsadagrad(step: _Step, mean: list[Tensor], square: list[Tensor]) -> None:
    _decay_square(square, step)
    scaled = torch._foreach_sqrt(square)
    torch._foreach_reciprocal_(scaled)
    torch._foreach_mul_(scaled, math.sqrt(step.samples_smoothed))
    torch._foreach_clamp_max_(scaled, FSADAGRAD_MAX_SCALE)
    torch._foreach_mul_(scaled, step.gradients)
    _decay(mean, step.size.momentum, scaled, step.gain * step.samples)
    torch._foreach_add_(step.weights, mean, alpha=-step.size.rate_per_sample)


def _muon(step: _Step, velocity: list[Tensor]) -> None:
    """Keller Jordan's Muon (kellerjordan.github.io/posts/muon), with weights of constant norm as in airbench94_muon."""
    beta, rate = step.size.momentum, step.size.rate
    _decay(velocity, beta, step.gradients, step.gain)
    ahead = torch._foreach_mul(velocity, beta)
    torch._foreach_add_(ahead, step.gradients, alpha=step.gain)
    for weight, direction in zip(step.weights, ahead, strict=True):
        if weight.ndim > 1:
            weight.mul_(math.sqrt(len(weight)) / weight.norm().clamp_min(MUON_FLOOR))
            weight.sub_(_orthogonal(direction), alpha=rate)
        else:
            weight.sub_(direction, alpha=rate * step.spec.vector_rate)


def _orthogonal(direction: Tensor) -> Tensor:
    """The matrix with the same singular vectors and with singular values near 1, but for tiny ones, by Newton-Schulz.

    The coefficients are Jordan's: they pull small singular values up fast rather than all of them exactly to 1.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    matrix = direction.flatten(1)
    is_tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if is_tall else matrix
    x = x / x.norm().clamp_min(MUON_FLOOR)
    for _ in range(MUON_ITERATIONS):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.T if is_tall else x).reshape(direction.shape)


class _Learner(NamedTuple):
    """`update(step, *slots)`, and the names of the slots: lists of tensors shaped as the weights, zero at the start."""

    update: Callable[..., None]
    slots: tuple[str, ...] = ()


LEARNERS = {
    "sgd": _Learner(_sgd),
    "momentum_sgd": _Learner(_momentum_sgd, ("velocity",)),
    "nesterov": _Learner(_nesterov, ("velocity",)),
    "adagrad": _Learner(_adagrad, ("square",)),
    "adadelta": _Learner(_adadelta, ("square", "delta_square")),
    "adam": _Learner(_adam, ("mean", "square")),
    "fsadagrad": _Learner(_fsadagrad, ("mean", "square")),
    "muon": _Learner(_muon, ("velocity",)),
}


class Optimizer:
    """Updates `parameters` in place as the learner `spec.name` of CNTK would.

    Build it when the parameters have their final device, type and memory format: its state follows theirs.
    `free` are those that no penalty acts on.
    """

    def __init__(
        self,
        spec: OptimizerSpec,
        parameters: Sequence[torch.nn.Parameter],
        free: Collection[torch.nn.Parameter] = (),
    ) -> None:
        if spec.name not in LEARNERS:
            raise UsageError(f"optimizer.name: {unknown_name('optimizer', spec.name, LEARNERS)}")
        self.spec = spec
        self._weights: list[Tensor] = list(parameters)
        unpenalized = {id(parameter) for parameter in free}
        self._penalized = [i for i, parameter in enumerate(parameters) if id(parameter) not in unpenalized]
        self._slots = {name: [torch.zeros_like(w) for w in parameters] for name in LEARNERS[spec.name].slots}
        self._updates = 0
        self._samples_smoothed = 0.0

    @torch.no_grad()
    def step(self, size: StepSize, batch_size: int) -> None:
        """Update from `.grad`, the gradient of the MEAN loss over `batch_size` samples; `.grad` is left overwritten."""
        if size.rate == 0:
            return
        spec, weights, gradients = self.spec, self._weights, self.gradients()
        if spec.clip_per_sample:
            _clip(gradients, spec)
        penalized = [weights[i] for i in self._penalized]
        if spec.l2:
            torch._foreach_add_([gradients[i] for i in self._penalized], penalized, alpha=spec.l2)
        q = size.variance_momentum
        self._updates += 1
        self._samples_smoothed = q * self._samples_smoothed + (1 - q) * batch_size
        step = _Step(weights, gradients, batch_size, size, spec, self._updates, self._samples_smoothed)
        LEARNERS[spec.name].update(step, *self._slots.values())
        if spec.l1:
            _soft_threshold(penalized, size.rate * spec.l1)

    def gradients(self) -> list[Tensor]:
        """`.grad` of every parameter, in their order."""
        return [_gradient(weight) for weight in self._weights]

    def reset(self) -> None:
        """Forget all earlier updates."""
        for slot in self._slots.values():
            torch._foreach_zero_(slot)
        self._updates, self._samples_smoothed = 0, 0.0

    def zero_grad(self) -> None:
        for weight in self._weights:
            weight.grad = None

    def state(self) -> dict[str, Tensor]:
        """Everything a resumed training needs, under flat names ("velocity.0")."""
        tensors = {f"{name}.{i}": t.contiguous() for name, slot in self._slots.items() for i, t in enumerate(slot)}
        counters = {
            "updates": torch.tensor(self._updates),
            "samples_smoothed": torch.tensor(self._samples_smoothed, dtype=torch.float64),
        }
        return counters | tensors

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take over the `state()` of the same learner and parameters; another is a `ModelError`, nothing changed."""
        own = self.state()
        for name in sorted(own.keys() | state.keys()):
            if name not in state or name not in own:
                kind = "lacks" if name in own else "has a superfluous"
                raise ModelError(f"the optimizer state {kind} {name!r}; it belongs to another optimizer or model")
            if state[name].shape != own[name].shape or state[name].dtype != own[name].dtype:
                raise ModelError(f"optimizer state {name!r}: expected {_form(own[name])}, got {_form(state[name])}")
        self._updates = int(state["updates"])
        self._samples_smoothed = float(state["samples_smoothed"])
        for name, slot in self._slots.items():
            for i, tensor in enumerate(slot):
                tensor.copy_(state[f"{name}.{i}"])


def _gradient(weight: Tensor) -> Tensor:
    if weight.grad is None:
        raise UsageError(f"a parameter of shape {tuple(weight.shape)} has no gradient; leave it out or call backward()")
    return weight.grad


def _decay(average: list[Tensor], survival: float, values: list[Tensor] | tuple[Tensor, ...], weight: float) -> None:
    """average = survival * average + weight * values"""
    torch._foreach_mul_(average, survival)
    torch._foreach_add_(average, values, alpha=weight)


def _decay_square(square: list[Tensor], step: _Step) -> None:
    """square = q * square + (1 - q) * g^2"""
    q = float(np.float32(step.size.variance_momentum))  # as CNTK does; it moves 1 - q of the default by up to 1 %
    torch._foreach_mul_(square, q)
    torch._foreach_addcmul_(square, step.gradients, step.gradients, value=(1 - q) * step.samples**2)


def _clip(gradients: list[Tensor], spec: OptimizerSpec) -> None:
    """Limit every element, or the norm of every parameter's gradient."""
    limit = spec.clip_per_sample  # CNTK limits the sum to N times this, so the mean to this
    if spec.clip_by == "truncation":
        torch._foreach_clamp_min_(gradients, -limit)
        torch._foreach_clamp_max_(gradients, limit)
    else:
        factors = torch._foreach_norm(gradients)
        torch._foreach_reciprocal_(factors)
        torch._foreach_mul_(factors, limit)
        torch._foreach_clamp_max_(factors, 1.0)  # also where the norm is 0 and its inverse infinite
        torch._foreach_mul_(gradients, factors)


def _soft_threshold(weights: list[Tensor], threshold: float) -> None:
    """Move every weight towards 0 by `threshold`, and those that are nearer onto it."""
    near = torch._foreach_clamp_max(weights, threshold)
    torch._foreach_clamp_min_(near, -threshold)
    torch._foreach_sub_(weights, near)


def _form(tensor: Tensor) -> str:
    return f"{tensor.dtype} {tuple(tensor.shape)}"
