"""Batch normalization with CNTK's running statistics. N batch, C channel, H row, W column."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class CntkBatchNorm2d(nn.Module):
    """images_NCHW -> images_NCHW; in evaluation mode exactly `nn.BatchNorm2d`.

    In training, the running statistics move by a fraction f towards the mean and the unbiased variance of a batch of N
    images. f is 1 for the first batch; then, with T = `normalization_time_constant_samples`, it is
    1 - exp(-N / T), so 1 for T = 0 and 0 for T = infinity; T < 0 averages over all images seen.

    With b = `blend_time_constant_samples` > 0, a training batch is normalized with b / (b + N) of the updated running
    statistics and the rest of its own. CNTK's GPU code does this (CntkBatchNormalization.cuh; we
    differentiate it exactly); its CPU code reads b and ignores it. If T and b are both infinite, the layer is frozen.

    Source: CNTK 2.7's `batch_normalization`, with its defaults; tests/golden/train holds its traces.
    """

    running_mean: Tensor
    running_var: Tensor
    running_count: Tensor

    def __init__(
        self,
        channels: int,
        normalization_time_constant_samples: float = 5000.0,
        blend_time_constant_samples: float = 0.0,
        epsilon: float = 1e-5,
    ) -> None:
        super().__init__()
        self.normalization_time_constant_samples = normalization_time_constant_samples
        self.blend_time_constant_samples = blend_time_constant_samples
        self.epsilon = epsilon
        self.weight = nn.Parameter(torch.empty(channels))
        self.bias = nn.Parameter(torch.empty(channels))
        self.register_buffer("running_mean", torch.empty(channels))
        self.register_buffer("running_var", torch.empty(channels))
        self.register_buffer("running_count", torch.empty(()))  # images seen
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.ones_(self.weight)
        nn.init.zeros_(self.bias)
        self.running_mean.zero_()
        self.running_var.fill_(1)
        self.running_count.zero_()

    def forward(self, images_NCHW: Tensor) -> Tensor:
        blend = self.blend_time_constant_samples
        frozen = math.isinf(blend) and math.isinf(self.normalization_time_constant_samples)
        if frozen or not self.training:
            return F.batch_norm(
                images_NCHW, self.running_mean, self.running_var, self.weight, self.bias, eps=self.epsilon
            )
        # With momentum 1, only this batch's statistics are left in the buffers.
        mean_C, var_C = torch.zeros_like(self.running_mean), torch.zeros_like(self.running_var)
        normalized = F.batch_norm(
            images_NCHW, mean_C, var_C, self.weight, self.bias, training=True, momentum=1.0, eps=self.epsilon
        )
        self._update(mean_C, var_C, len(images_NCHW))
        return self._blended(images_NCHW) if blend else normalized

    @torch.no_grad()
    def _update(self, mean_C: Tensor, var_C: Tensor, samples: int) -> None:
        """Update the running statistics; the count stays a tensor, so that no device synchronization is needed."""
        time_constant = self.normalization_time_constant_samples
        if time_constant < 0:
            share = samples / (self.running_count + samples)
        else:
            later = 1 - math.exp(-samples / time_constant) if time_constant else 1.0
            share = torch.where(self.running_count == 0, 1.0, later).to(self.running_count)
        self.running_mean.lerp_(mean_C, share)
        self.running_var.lerp_(var_C, share)
        self.running_count += samples

    def _blended(self, images_NCHW: Tensor) -> Tensor:
        blend, samples = self.blend_time_constant_samples, len(images_NCHW)
        share = 1.0 if math.isinf(blend) else blend / (blend + samples)
        images = images_NCHW.to(self.running_mean.dtype)  # under autocast they arrive in half precision
        var_C, mean_C = torch.var_mean(images, dim=(0, 2, 3), correction=0)
        mean_C = torch.lerp(mean_C, self.running_mean, share)
        # CNTK mixes the inverse standard deviations, not the variances.
        inverse_C, running_inverse_C = (var_C + self.epsilon).rsqrt(), (self.running_var + self.epsilon).rsqrt()
        scale_C = torch.lerp(inverse_C, running_inverse_C, share) * self.weight
        blended = images * scale_C[:, None, None] + (self.bias - mean_C * scale_C)[:, None, None]
        return blended.to(images_NCHW.dtype)

    def extra_repr(self) -> str:
        return (
            f"{len(self.weight)}, normalization_time_constant_samples={self.normalization_time_constant_samples:g}, "
            f"blend_time_constant_samples={self.blend_time_constant_samples:g}, epsilon={self.epsilon:g}"
        )


class SharedBatchNorm(nn.Module):
    """(images_NCHW, weight, bias, mean, variance, count) -> images_NCHW: `layer` with the parameters of
    another module."""

    _NAMES = ("weight", "bias", "running_mean", "running_var", "running_count")

    def __init__(self, layer: CntkBatchNorm2d) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, images_NCHW: Tensor, *numbers: Tensor) -> Tensor:
        given = {name: value.reshape(-1) for name, value in zip(self._NAMES, numbers, strict=False)}
        given["running_count"] = numbers[4].reshape(()) if len(numbers) > 4 else images_NCHW.new_zeros(())
        own = self.layer.__dict__
        before = own["_parameters"], own["_buffers"]
        # What torch.func.functional_call does, but that takes as long as a small convolution.
        own["_parameters"] = {name: given[name] for name in before[0]}
        own["_buffers"] = {name: given[name] for name in before[1]}
        try:
            normalized: Tensor = self.layer(images_NCHW)
        finally:
            own["_parameters"], own["_buffers"] = before
        return normalized
