"""The precision of a run, and the self-test by which "auto" chooses it."""

import math
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from convolve.errors import UsageError

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

# bf16 keeps 8 bits of mantissa. The gradients of a correct implementation are within 2 to 4 % of fp32's (ConvNet_MNIST,
# six seeds); the faults reported for some strides (pytorch #169688, #163347) are wrong by the size of the value itself.
_GRADIENT_TOLERANCE = 0.1

# The fastest of many short rounds is what the processor can do; a large network's few rounds are long enough.
_MIN_ROUNDS, _MAX_ROUNDS, _ROUND_SECONDS = 3, 30, 1.0


@dataclass(frozen=True)
class Precision:
    """A precision, and why it was chosen."""

    name: str
    reason: str

    def autocast(self, device: torch.device) -> AbstractContextManager[None]:
        """A context for each forward pass."""
        return nullcontext() if self.name == "fp32" else torch.autocast(device.type, dtype=_DTYPES[self.name])


@contextmanager
def whole_fp32() -> Iterator[None]:
    """Compute fp32 convolutions in full fp32: GPUs since Ampere would otherwise round them to TF32's 10 bits."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


@dataclass
class LossScale:
    """fp16's dynamic loss scaling: the gradients of small losses would underflow without it.

    Constants are those of torch.amp.GradScaler.
    """

    scale: float = field(default=2.0**16)
    good_steps: int = 0

    def unscale(self, gradients: list[torch.Tensor]) -> bool:
        """Undo the scaling in place. False: the gradients overflowed, and this update must be skipped."""
        torch._foreach_mul_(gradients, 1 / self.scale)
        finite = bool(torch.stack([gradient.isfinite().all() for gradient in gradients]).all())
        self.good_steps = self.good_steps + 1 if finite else 0
        if not finite:
            self.scale /= 2
        elif self.good_steps % 2000 == 0:
            self.scale *= 2
        return finite


def has_bf16_instructions() -> bool | None:
    """Whether this processor multiplies bf16 in hardware; without that, bf16 is many times slower.

    None: unknown. AVX512-BF16 or AMX mean that it does. Other kinds of processors, and other systems, do not say.
    """
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return "avx512_bf16" in flags or "amx_bf16" in flags if platform.machine() == "x86_64" else None


Gradients = Callable[["Precision"], list[torch.Tensor]]  # the gradients of one step, in some precision


def choose_precision(asked: str, module: nn.Module, images_NCHW: torch.Tensor, device: torch.device) -> Precision:
    """`asked`, or for "auto" the fastest precision whose gradients for `module` and `images_NCHW` are correct."""
    return fastest_right(asked, lambda precision: _gradients(module, images_NCHW, precision, device), device)


def fastest_right(asked: str, gradients: Gradients, device: torch.device) -> Precision:
    """`asked`, or for "auto" the fastest precision whose `gradients` are correct.

    The processor's features decide. Time is measured only if they are unknown, since other processes may disturb it.
    """
    if asked == "fp16" and device.type != "cuda":
        raise UsageError("run.precision=fp16 needs a CUDA device; use bf16, fp32 or auto here")
    if asked != "auto":
        return Precision(asked, "asked for")
    if device.type == "cuda":
        name = "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
        return Precision(name, f"the fastest on {torch.cuda.get_device_name(device)}")
    has_instructions = has_bf16_instructions()
    if has_instructions is False:
        return Precision("fp32", "the processor has no bf16 instructions")
    exact, rounded = (gradients(Precision(name, "")) for name in ("fp32", "bf16"))
    pairs = zip(exact, rounded, strict=True)
    worst = float(torch.stack([_relative_difference(a, b) for a, b in pairs]).max())  # NaN if one is
    if not worst <= _GRADIENT_TOLERANCE:
        return Precision("fp32", f"self-test: bf16 gradients are off by {worst:.0%} of fp32's")
    if has_instructions:
        return Precision("bf16", f"the processor has bf16 instructions, and gradients are within {worst:.1%}")
    ratio = _speed_of_bf16(gradients)
    if ratio < 1.05:
        return Precision("fp32", f"self-test: bf16 runs at {ratio:.2f} times the speed of fp32")
    return Precision("bf16", f"self-test: {ratio:.1f} times as fast as fp32, gradients within {worst:.1%}")


def _speed_of_bf16(gradients: Gradients) -> float:
    """The speed of bf16 as a multiple of that of fp32."""
    seconds = {"fp32": math.inf, "bf16": math.inf}
    rounds, start = 0, time.perf_counter()
    while rounds < _MIN_ROUNDS or (rounds < _MAX_ROUNDS and time.perf_counter() - start < _ROUND_SECONDS):
        rounds += 1
        for name in ("fp32", "bf16"):  # in turn, so that other load on the machine affects both
            began = time.perf_counter()
            gradients(Precision(name, ""))
            seconds[name] = min(seconds[name], time.perf_counter() - began)
    return seconds["fp32"] / seconds["bf16"]


def _gradients(
    module: nn.Module, images_NCHW: torch.Tensor, precision: Precision, device: torch.device
) -> list[torch.Tensor]:
    """The gradients of one step."""
    was_training = module.training
    module.eval()  # dropout would hide the difference
    with precision.autocast(device):
        logits_NK = module(images_NCHW)
    # One class for all: the gradients add up. With real labels they cancel, and rounding alone appears as 20 %.
    target_N = torch.zeros(len(logits_NK), dtype=torch.int64, device=device)
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    gradients = torch.autograd.grad(F.cross_entropy(logits_NK.float(), target_N), trained)
    module.train(was_training)
    return list(gradients)


def _relative_difference(exact: torch.Tensor, rounded: torch.Tensor) -> torch.Tensor:
    difference: torch.Tensor = (exact - rounded).norm() / exact.norm().clamp_min(1e-30)
    return difference
