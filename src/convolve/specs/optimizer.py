"""The part of a recipe about the optimizer."""

from dataclasses import dataclass
from typing import Literal

from convolve.errors import UsageError, unknown_name
from convolve.recipe_values import Arguments, Steps
from convolve.specs.setting import setting
from convolve.torch_optim import PREFIX, checked_arguments
from convolve.transforms.transform import require

OPTIMIZER_NAMES = ("sgd", "momentum_sgd", "nesterov", "adagrad", "adadelta", "adam", "fsadagrad", "muon")


@dataclass(frozen=True)
class OptimizerSpec:
    """CNTK's optimizers, Muon, or one of torch.optim; the arithmetic is in `training/optimizers.py`.

    An optimizer of torch.optim takes its learning rate from the schedule, for the mean gradient, and everything else
    from `arguments`.
    """

    name: str = setting(
        "momentum_sgd",
        "sgd, momentum_sgd, nesterov, adagrad, adadelta, adam, fsadagrad: CNTK's (adam is not PyTorch's); muon; or one "
        "of torch.optim, such as torch.adamw",
    )
    arguments: Arguments = setting({}, "arguments of an optimizer of torch.optim, such as betas and weight_decay")
    momentum: Steps = setting((0.9,), "one value for each period of the schedule; the last one stays")
    momentum_unit: Literal["per_minibatch", "per_reference_batch", "time_constant_samples"] = setting(
        "per_minibatch",
        "per_minibatch: used as is; per_reference_batch: for momentum_reference_batch_size samples; "
        "time_constant_samples: T in exp(-samples / T), 0: none",
    )
    momentum_reference_batch_size: int = setting(1, "samples that a momentum with per_reference_batch is meant for")
    unit_gain: bool = setting(True, "weight the gradient by 1 - momentum, as CNTK does by default")
    variance_momentum: float = setting(
        0.9999986111120757, "for adam and fsadagrad; CNTK's default is a time constant of 720,000 samples"
    )
    variance_momentum_unit: Literal["per_minibatch", "per_sample"] = setting("per_sample", "")
    adadelta_rho: float = setting(0.95, "")
    epsilon: float = setting(1e-8, "for adam and adadelta")
    bias_lr: float = setting(1.0, "for muon: learning rate of biases and scales, as a multiple of the filters' rate")
    layer_decay: float = setting(
        1.0, "layer-wise learning-rate decay from each layer to the one below it, as in timm; 1: none"
    )
    l1: float = setting(0.0, "weight of the L1 penalty per sample")
    l2: float = setting(0.0, "weight of the L2 penalty per sample: weight decay on the mean gradient, including biases")
    penalize_batch_norm: bool = setting(True, "whether the penalties include batch normalization's scales and biases")
    clip_per_sample: float = setting(0.0, "limit for the mean gradient; 0: none")
    clip_by: Literal["truncation", "norm"] = setting(
        "truncation", "how gradients are clipped. truncation: each element; norm: the norm of each parameter's gradient"
    )

    def __post_init__(self) -> None:
        require(bool(self.momentum), "optimizer.momentum", "at least one value", self.momentum)
        if self.momentum_unit == "time_constant_samples":
            require(min(self.momentum) >= 0, "optimizer.momentum", "time constants of 0 or more", self.momentum)
        else:
            require(all(0 <= m < 1 for m in self.momentum), "optimizer.momentum", "in [0, 1)", self.momentum)
        require(0 < self.layer_decay <= 1, "optimizer.layer_decay", "in (0, 1]", self.layer_decay)
        reference = self.momentum_reference_batch_size
        require(reference >= 1, "optimizer.momentum_reference_batch_size", "at least 1", reference)
        require(0 <= self.variance_momentum < 1, "optimizer.variance_momentum", "in [0, 1)", self.variance_momentum)
        require(0 < self.adadelta_rho < 1, "optimizer.adadelta_rho", "in (0, 1)", self.adadelta_rho)
        require(self.epsilon > 0, "optimizer.epsilon", "above 0", self.epsilon)
        for name in ("l1", "l2", "clip_per_sample", "bias_lr"):
            require(getattr(self, name) >= 0, f"optimizer.{name}", "at least 0", getattr(self, name))
        self._check_name()

    def _check_name(self) -> None:
        if self.name.startswith(PREFIX):
            object.__setattr__(self, "arguments", checked_arguments(self.name, self.arguments))
            for name in ("l1", "l2", "clip_per_sample"):
                if getattr(self, name):
                    raise UsageError(
                        f"optimizer.{name} is for CNTK's optimizers and muon: set it to 0 with {self.name}"
                        + (", and optimizer.arguments.weight_decay in its place" if name == "l2" else "")
                    )
        elif self.name not in OPTIMIZER_NAMES:
            raise UsageError(f"optimizer.name: {unknown_name('optimizer', self.name, OPTIMIZER_NAMES)}")
        elif self.arguments:
            raise UsageError(
                f"optimizer.arguments are for optimizers of torch.optim, not for {self.name}; leave them out"
            )
