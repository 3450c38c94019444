"""Residual networks (He et al., arXiv:1512.03385): 18, 34 and 50 for ImageNet, 20 and CNTK's for CIFAR-10.

Layers have torchvision's names. 50 has its stride in the 3x3 convolution of a block, as in torchvision and timm. 20
pads its shortcuts with zeros (the paper's option A); "20-projection" uses 1x1 convolutions. 11,689,512, 21,797,672 and
25,557,032 parameters with 1000 classes; 269,722 with 10, CNTK's 272,474.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from convolve.errors import look_up
from convolve.models.batch_norm import CntkBatchNorm2d
from convolve.specs.model import NetworkSpec

# Legend: N batch, C channel, H row, W column, K class.


@dataclass(frozen=True)
class Variant:
    """Blocks of each stage; feature maps of the first, doubled in each; the expansion of a bottleneck's last
    convolution (0: no bottlenecks). `is_small`: for images of 32 pixels, the first convolution is 3x3 without
    pooling."""

    blocks: tuple[int, ...]
    maps: int = 64
    widening: int = 0
    is_small: bool = False
    projects: bool = True
    norm: Callable[[int], nn.Module] = nn.BatchNorm2d


VARIANTS = {
    "18": Variant((2, 2, 2, 2)),
    "34": Variant((3, 4, 6, 3)),
    "50": Variant((3, 4, 6, 3), widening=4),
    "20": Variant((3, 3, 3), maps=16, is_small=True, projects=False),
    "20-projection": Variant((3, 3, 3), maps=16, is_small=True),
    "tiny": Variant((1, 1), maps=6),
}
VARIANTS[""] = VARIANTS["18"]

_cntk = partial(
    Variant, maps=16, is_small=True, norm=partial(CntkBatchNorm2d, normalization_time_constant_samples=4096)
)
CIFAR10_VARIANTS = {"": _cntk((3, 3, 3)), "110": _cntk((18, 18, 18)), "tiny": _cntk((1, 1), maps=4)}


class PaddedShortcut(nn.Module):
    """maps_NCHW -> maps_NCHW at half the size, padded with zero maps: the paper's option A."""

    def __init__(self, added: int) -> None:
        super().__init__()
        self.added = added

    def forward(self, maps_NCHW: Tensor) -> Tensor:
        return F.pad(maps_NCHW[:, :, ::2, ::2], (0, 0, 0, 0, self.added // 2, self.added - self.added // 2))


class Block(nn.Module):
    """maps_NCHW -> maps_NCHW: two 3x3 convolutions beside a shortcut, or with `widening`, 1x1, 3x3 and 1x1."""

    def __init__(self, channels: int, maps: int, stride: int, variant: Variant) -> None:
        super().__init__()
        out = maps * (variant.widening or 1)
        first, strides = (1, (1, stride)) if variant.widening else (3, (stride, 1))
        self.conv1 = nn.Conv2d(channels, maps, first, strides[0], padding=first // 2, bias=False)
        self.bn1 = variant.norm(maps)
        self.conv2 = nn.Conv2d(maps, maps, 3, strides[1], padding=1, bias=False)
        self.bn2 = variant.norm(maps)
        if variant.widening:
            self.conv3 = nn.Conv2d(maps, out, 1, bias=False)
            self.bn3 = variant.norm(out)
        self.is_bottleneck = variant.widening > 0
        self.downsample: nn.Module = nn.Identity()
        if stride > 1 or channels != out:
            projection = nn.Sequential(nn.Conv2d(channels, out, 1, stride, bias=False), variant.norm(out))
            self.downsample = projection if variant.projects else PaddedShortcut(out - channels)

    def forward(self, maps_NCHW: Tensor) -> Tensor:
        x = self.bn2(self.conv2(self.bn1(self.conv1(maps_NCHW)).relu()))
        if self.is_bottleneck:
            x = self.bn3(self.conv3(x.relu()))
        total: Tensor = x + self.downsample(maps_NCHW)
        return total.relu()


class ResNet(nn.Module):
    """images_NCHW -> logits_NK."""

    variants = VARIANTS

    def __init__(self, spec: NetworkSpec, input_shape_CHW: tuple[int, int, int], class_count: int) -> None:
        super().__init__()
        variant = look_up(self.variants, spec.variant, "variant", "model.variant")
        planes, channels = input_shape_CHW[0], variant.maps
        size, stride = (3, 1) if variant.is_small else (7, 2)
        self.conv1 = nn.Conv2d(planes, channels, size, stride, padding=size // 2, bias=False)
        self.bn1 = variant.norm(channels)
        self.pool = nn.Identity() if variant.is_small else nn.MaxPool2d(3, stride=2, padding=1)
        self.stages = []
        for stage, count in enumerate(variant.blocks):
            maps, blocks = variant.maps * 2**stage, []
            for number in range(count):
                blocks.append(Block(channels, maps, 2 if stage and not number else 1, variant))
                channels = maps * (variant.widening or 1)
            self.stages.append(f"layer{stage + 1}")
            self.add_module(self.stages[-1], nn.Sequential(*blocks))
        self.fc = nn.Linear(channels, class_count)

    def forward(self, images_NCHW: Tensor) -> Tensor:
        x = self.pool(self.bn1(self.conv1(images_NCHW)).relu())
        for stage in self.stages:
            x = self.get_submodule(stage)(x)
        return self.fc(x.mean((2, 3)))  # type: ignore[no-any-return]

    def initialize(self, generator: torch.Generator) -> None:
        """As in the paper: normally distributed, by fan out; each normalization starts as the identity."""
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu", generator=generator)
            elif isinstance(layer, nn.BatchNorm2d):
                layer.reset_parameters()
        bound = self.fc.in_features**-0.5  # torch's own default
        nn.init.uniform_(self.fc.weight, -bound, bound, generator=generator)
        nn.init.uniform_(self.fc.bias, -bound, bound, generator=generator)


class CntkResNetCifar10(ResNet):
    """images_NCHW -> logits_NK, as in CNTK's residual networks for CIFAR-10: 1x1 convolutions where a shortcut changes
    size, running statistics with a time constant of 4096 images, and its own initial values."""

    variants = CIFAR10_VARIANTS

    def initialize(self, generator: torch.Generator) -> None:
        for name, layer in self.named_modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                nn.init.normal_(layer.weight, std=self.deviation(name), generator=generator)
            elif isinstance(layer, CntkBatchNorm2d):
                layer.reset_parameters()
        nn.init.zeros_(self.fc.bias)

    def deviation(self, layer: str) -> float:
        """The standard deviation of the initial weights: He et al. 2015 for convolutions, by fan in."""
        if layer == "fc":
            return 0.01
        return float((2 / self.get_parameter(f"{layer}.weight")[0].numel()) ** 0.5)
