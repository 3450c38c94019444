"""CNTK's optimizers, exactly, Muon, and those of torch.optim by name: all are subclasses of `torch.optim.Optimizer`.

Notation (CNTK 2.7's Python API; tests/golden/train holds traces of the real one): N samples in the batch,
e learning rate per sample, beta momentum, q variance momentum, u = 1 - beta with unit gain and 1 without, w weights,
g = gradient of the SUMMED loss. PyTorch gives the gradient of the mean, so g = N * gradient and e*g = lr * gradient:
N is folded into the scalars.

    sgd            w -= e*g
    momentum_sgd   v = beta*v + u*e*g;  w -= v              (the rate is inside v: old velocity keeps its old rate)
    nesterov       v = beta*v + u*e*g;  w -= beta*v + u*e*g
    adagrad        s += g^2;  w -= e*g / sqrt(s + 1e-16)    (CNTK's need_ave_multiplier=False)
    adadelta       s = rho*s + (1-rho)*g^2;  d = g*sqrt((x+eps)/(s+eps));  x = rho*x + (1-rho)*d^2;  w -= e*d
    adam           s = q*s + (1-q)*g^2;  m = beta*m + u*g;  w -= e*m*sqrt(1-q^t)/(1-beta^t) / (sqrt(s)+eps)
    fsadagrad      s = q*s + (1-q)*g^2;  c = q*c + (1-q)*N;  m = beta*m + u*g*min(sqrt(c/s), 10);  w -= e*m

`adam` is thus CNTK's: its gradient is that of the sum, so that epsilon weighs N times less, and unit gain is optional.
PyTorch's is `torch.adam`. A modern one, for filters and matrices; each of the r rows of the matrix W belongs to one map
or unit:

    muon           v = beta*v + u*g;  W *= sqrt(r) / |W|;  W -= lr * O(beta*v + u*g), where O makes all singular
                   values nearly 1; vectors are updated as by nesterov, at bias_lr times the rate

Before the update, g is clipped, then l2*N*w is added; after it, w is soft-thresholded by e*l1*N, both for weights with
penalties. A learning rate of 0 skips all of this.

The torch._foreach_ functions take lists of tensors: an update is a handful of Python calls, however many parameters
there are. torch.optim itself uses them, and their signatures have not changed since torch 1.9.
"""

import inspect
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from convolve.errors import UsageError
from convolve.recipe import Recipe
from convolve.specs.optimizer import OptimizerSpec
from convolve.torch_optim import torch_optimizer
from convolve.training.finetune import group_settings
from convolve.training.schedule import StepSize

ADAGRAD_FLOOR = 1e-16  # inside the root; a constant of CNTK's Adagrad
FSADAGRAD_MAX_SCALE = 10.0  # a constant of CNTK's FSAdaGrad
MUON_ITERATIONS = 3  # as airbench94_muon
MUON_FLOOR = 1e-7  # of a norm that is divided by

Group = dict[str, Any]  # one of an optimizer's `param_groups`


class CntkOptimizer(torch.optim.Optimizer):
    """The base of CNTK's optimizers: a step from `.grad`, the gradient of the MEAN loss over a batch.

    `take_step` gives each parameter group the learning rate, the momentum and the batch size of the present step. Build
    it when the parameters have their final device, type and memory format: its state follows theirs.
    """

    slots: ClassVar[tuple[str, ...]] = ()  # tensors of the state, shaped as the weights and zero at the start
    counters: ClassVar[tuple[str, ...]] = ()  # numbers of the state

    def __init__(self, params: Iterable[Any], spec: OptimizerSpec) -> None:
        self.spec = spec
        super().__init__(params, {"lr": 0.0, "l1": spec.l1, "l2": spec.l2})

    def add_param_group(self, param_group: Group) -> None:
        # torch's own method is wrapped in a function that first imports torch._dynamo, which takes more than a second.
        inspect.unwrap(torch.optim.Optimizer.add_param_group)(self, param_group)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drop the gradients; zeros in their place would only cost time, so `set_to_none` is ignored."""
        for weight in parameters_of(self):
            weight.grad = None

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            if group["lr"] != 0:
                self._step_of(group)

    def _step_of(self, group: Group) -> None:
        weights, gradients = group["params"], [_gradient(weight) for weight in group["params"]]
        if self.spec.clip_per_sample:
            _clip(gradients, self.spec)
        if group["l2"]:
            torch._foreach_add_(gradients, weights, alpha=group["l2"])
        state = [self._state_of(weight) for weight in weights]
        self.update(group, weights, gradients, *([s[name] for s in state] for name in (*self.slots, *self.counters)))
        if group["l1"]:
            _soft_threshold(weights, group["lr"] * group["l1"])

    def _state_of(self, weight: Tensor) -> dict[str, Tensor]:
        state: dict[str, Tensor] = self.state[weight]
        if not state:
            state |= {slot: torch.zeros_like(weight) for slot in self.slots}
            state |= {name: torch.zeros((), dtype=torch.float64) for name in self.counters}
        return state

    def update(self, group: Group, weights: list[Tensor], gradients: list[Tensor], *state: list[Tensor]) -> None:
        raise NotImplementedError

    def gain(self, group: Group) -> float:
        """u: the weight of the gradient."""
        return 1 - group["momentum"] if self.spec.unit_gain else 1.0


class Sgd(CntkOptimizer):
    def update(self, group: Group, weights: list[Tensor], gradients: list[Tensor], *_: list[Tensor]) -> None:
        torch._foreach_add_(weights, gradients, alpha=-group["lr"])


class MomentumSgd(CntkOptimizer):
    slots = ("velocity",)

    def update(self, group: Group, weights: list[Tensor], gradients: list[Tensor], *state: list[Tensor]) -> None:
        (velocity,) = state
        _decay(velocity, group["momentum"], gradients, self.gain(group) * group["lr"])
        torch._foreach_sub_(weights, velocity)


class Nesterov(CntkOptimizer):
    slots = ("velocity",)

    def update(self, group: Group, weights: list[Tensor], gradients: list[Tensor], *state: list[Tensor]) -> None:
        (velocity,) = state
        gain = self.gain(group)
        _decay(velocity, group["momentum"], gradients, gain * group["lr"])
        torch._foreach_add_(weights, velocity, alpha=-group["momentum"])
        torch._foreach_add_(weights, gradients, alpha=-gain * group["lr"])


class Adagrad(CntkOptimizer):
    slots = ("square",)

    def update(self, group: Group, weights: list[Tensor], gradients: list[Tensor], *state: list[Tensor]) -> None:
        (square,) = state
        torch._foreach_addcmul_(square, gradients, gradients, value=group["samples"] ** 2)
        root = torch._foreach_add(square, ADAGRAD_FLOOR)
        torch._foreach_sqrt_(root)
        torch._foreach_addcdiv_(weights, gradients, root, value=-group["lr"])


class Adadelta(CntkOptimizer):
    slots = ("square", "delta_square")

    def update(self, group: Group, weights: list[Tensor], gradients: list[Tensor], *state: list[Tensor]) -> None:
        square, delta_square = state
        rho, epsilon = self.spec.adadelta_rho, self.spec.epsilon
        _decay_square(square, gradients, rho, group["samples"])
        delta = torch._foreach_add(delta_square, epsilon)
        torch._foreach_div_(delta, torch._foreach_add(square, epsilon))
        torch._foreach_sqrt_(delta)
        torch._foreach_mul_(delta, gradients)
        torch._foreach_mul_(delta, group["samples"])
        torch._foreach_mul_(delta_square, rho)
        torch._foreach_addcmul_(delta_square, delta, delta, value=1 - rho)
        torch._foreach_add_(weights, delta, alpha=-group["lr_per_sample"])


class Adam(CntkOptimizer):
    slots, counters = ("mean", "square"), ("updates",)

    def update(self, group: Group, weights: list[Tensor], gradients: list[Tensor], *state: list[Tensor]) -> None:
        mean, square, updates = state
        beta, q = group["momentum"], group["variance_momentum"]
        torch._foreach_add_(updates, 1.0)
        t = int(updates[0])
        _decay_square(square, gradients, _rounded(q), group["samples"])
        _decay(mean, beta, gradients, self.gain(group) * group["samples"])
        root = torch._foreach_sqrt(square)
        torch._foreach_add_(root, self.spec.epsilon)
        rate = group["lr_per_sample"] * math.sqrt(1 - q**t) / (1 - beta**t)
        torch._foreach_addcdiv_(weights, mean, root, value=-rate)


class FsAdagrad(CntkOptimizer):
    slots, counters = ("mean", "square"), ("samples_smoothed",)

    def update(self, group: Group, weights: list[Tensor], gradients: list[Tensor], *state: list[Tensor]) -> None:
        mean, square, samples_smoothed = state
        q = group["variance_momentum"]
        torch._foreach_mul_(samples_smoothed, q)
        torch._foreach_add_(samples_smoothed, (1 - q) * group["samples"])
        _decay_square(square, gradients, _rounded(q), group["samples"])
        scaled = torch._foreach_sqrt(square)
        torch._foreach_reciprocal_(scaled)
        torch._foreach_mul_(scaled, math.sqrt(float(samples_smoothed[0])))
        torch._foreach_clamp_max_(scaled, FSADAGRAD_MAX_SCALE)
        torch._foreach_mul_(scaled, gradients)
        _decay(mean, group["momentum"], scaled, self.gain(group) * group["samples"])
        torch._foreach_add_(weights, mean, alpha=-group["lr_per_sample"])


class Muon(CntkOptimizer):
    """Keller Jordan's Muon (kellerjordan.github.io/posts/muon), with weights of constant norm as in airbench94_muon."""

    slots = ("velocity",)

    def update(self, group: Group, weights: list[Tensor], gradients: list[Tensor], *state: list[Tensor]) -> None:
        (velocity,) = state
        beta, gain, lr = group["momentum"], self.gain(group), group["lr"]
        _decay(velocity, beta, gradients, gain)
        ahead = torch._foreach_mul(velocity, beta)
        torch._foreach_add_(ahead, gradients, alpha=gain)
        for weight, direction in zip(weights, ahead, strict=True):
            if weight.ndim > 1:
                weight.mul_(math.sqrt(len(weight)) / weight.norm().clamp_min(MUON_FLOOR))
                weight.sub_(_orthogonal(direction), alpha=lr)
            else:
                weight.sub_(direction, alpha=lr * self.spec.bias_lr)


def _orthogonal(direction: Tensor) -> Tensor:
    """The matrix with the same singular vectors and with singular values near 1, except tiny ones, by Newton-Schulz.

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


OPTIMIZERS: dict[str, type[CntkOptimizer]] = {
    "sgd": Sgd,
    "momentum_sgd": MomentumSgd,
    "nesterov": Nesterov,
    "adagrad": Adagrad,
    "adadelta": Adadelta,
    "adam": Adam,
    "fsadagrad": FsAdagrad,
    "muon": Muon,
}


def build_optimizer(
    spec: OptimizerSpec,
    parameters: Sequence[nn.Parameter],
    no_decay: Collection[nn.Parameter] = (),
    settings: Mapping[nn.Parameter, tuple[Any, ...]] = MappingProxyType({}),
) -> torch.optim.Optimizer:
    """The optimizer that `spec` names, over `parameters`; no penalty acts on those of `no_decay`.

    `settings` of a parameter: (multiple of the rate, when it is frozen), which define its group.
    """
    exempt, usual = {id(parameter) for parameter in no_decay}, (1.0, ())
    keys = [(id(parameter) in exempt, *settings.get(parameter, usual)) for parameter in parameters]
    groups: list[Group] = [
        {
            "params": [p for p, own in zip(parameters, keys, strict=True) if own == key],
            "rate": key[1],
            "frozen_in": key[2],
        }
        | _penalties(spec, is_exempt=key[0])
        for key in sorted(dict.fromkeys(keys), key=lambda key: key[0])
    ]
    if spec.name in OPTIMIZERS:
        return OPTIMIZERS[spec.name](groups, spec)
    kind, _ = torch_optimizer(spec.name)
    try:
        # If the rate starts at 0, the real one comes with each step.
        return kind(groups, **{"lr": 0.0} | dict(spec.arguments))
    except (TypeError, ValueError) as error:
        raise UsageError(f"optimizer.name={spec.name} with optimizer.arguments: {error}") from error


def _penalties(spec: OptimizerSpec, is_exempt: bool) -> Group:
    if not is_exempt:
        return {}
    if spec.name in OPTIMIZERS:
        return {"l1": 0.0, "l2": 0.0}
    return {"weight_decay": 0.0} if "weight_decay" in torch_optimizer(spec.name)[1] else {}


def optimizer_for(recipe: Recipe, network: nn.Module) -> torch.optim.Optimizer:
    """The optimizer for all parameters of `network` that are not frozen; penalties may exclude those of batch
    normalization."""
    spec = recipe.optimizer
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    norms = [layer for layer in network.modules() if hasattr(layer, "running_var")]
    no_decay = [] if spec.penalize_batch_norm else [p for layer in norms for p in layer.parameters()]
    return build_optimizer(spec, parameters, no_decay, group_settings(network, recipe.model, spec.layer_decay))


def take_step(optimizer: torch.optim.Optimizer, size: StepSize, samples: int) -> None:
    """One update from `.grad`, the gradient of the mean loss over a batch of this many `samples`; it is overwritten."""
    for group in optimizer.param_groups:
        at = size.times(0.0 if group.get("is_frozen") else group["rate"])
        group["lr"] = at.lr
        if isinstance(optimizer, CntkOptimizer):
            group |= {"lr_per_sample": at.lr_per_sample, "momentum": at.momentum, "samples": samples}
            group["variance_momentum"] = at.variance_momentum
        elif group.get("is_frozen"):
            for weight in group["params"]:
                weight.grad = None  # which torch.optim does not change
    optimizer.step()


def parameters_of(optimizer: torch.optim.Optimizer) -> list[nn.Parameter]:
    """All parameters, in the order of the groups."""
    return [weight for group in optimizer.param_groups for weight in group["params"]]


def gradients_of(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """`.grad` of every parameter that is not frozen."""
    groups = [group for group in optimizer.param_groups if not group.get("is_frozen")]
    return [_gradient(weight) for group in groups for weight in group["params"]]


def _gradient(weight: nn.Parameter) -> Tensor:
    if weight.grad is None:
        raise UsageError(f"a parameter of shape {tuple(weight.shape)} has no gradient; leave it out or call backward()")
    return weight.grad


def _decay(average: list[Tensor], decay: float, values: list[Tensor] | tuple[Tensor, ...], weight: float) -> None:
    """average = decay * average + weight * values"""
    torch._foreach_mul_(average, decay)
    torch._foreach_add_(average, values, alpha=weight)


def _decay_square(square: list[Tensor], gradients: list[Tensor], decay: float, samples: int) -> None:
    """square = decay * square + (1 - decay) * g^2"""
    torch._foreach_mul_(square, decay)
    torch._foreach_addcmul_(square, gradients, gradients, value=(1 - decay) * samples**2)


def _rounded(variance_momentum: float) -> float:
    """Rounded to fp32, as CNTK does where it decays squares; it changes 1 - q of the default by up to 1 %."""
    return float(np.float32(variance_momentum))


def _clip(gradients: list[Tensor], spec: OptimizerSpec) -> None:
    """Clip every element, or the norm of every parameter's gradient."""
    limit = spec.clip_per_sample  # CNTK limits the sum to N times this, that is, the mean to this
    if spec.clip_by == "truncation":
        torch._foreach_clamp_min_(gradients, -limit)
        torch._foreach_clamp_max_(gradients, limit)
    else:
        factors = torch._foreach_norm(gradients)
        torch._foreach_reciprocal_(factors)
        torch._foreach_mul_(factors, limit)
        torch._foreach_clamp_max_(factors, 1.0)  # also if the norm is 0 and its inverse infinite
        torch._foreach_mul_(gradients, factors)


def _soft_threshold(weights: list[Tensor], threshold: float) -> None:
    """Move every weight towards 0 by `threshold`; those closer to 0 become 0."""
    near = torch._foreach_clamp_max(weights, threshold)
    torch._foreach_clamp_min_(near, -threshold)
    torch._foreach_sub_(weights, near)
