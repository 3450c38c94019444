"""EfficientNet-Lite0: EfficientNet for small devices, without squeeze-and-excitation, with ReLU6; timm's names.

4,652,008 parameters with 1000 classes. Source: github.com/tensorflow/tpu, models/official/efficientnet/lite (2020).
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from convolve.errors import look_up
from convolve.specs.model import NetworkSpec

# Legend: N batch, C channel, H row, W column, K class.


@dataclass(frozen=True)
class Variant:
    """Feature maps before and after the blocks; for each stage (blocks, kernel size, stride, expansion, maps).

    `pads_as_tensorflow`: as in the trained network, odd padding is put at the end.
    """

    stem: int
    stages: tuple[tuple[int, int, int, int, int], ...]
    head: int
    pads_as_tensorflow: bool = True
    epsilon: float = 1e-3


_LITE0 = (
    (1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112), (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)  # fmt: skip
VARIANTS = {
    "": Variant(32, _LITE0, 1280),
    "symmetric": Variant(32, _LITE0, 1280, pads_as_tensorflow=False, epsilon=1e-5),  # as timm trained it
    "tiny": Variant(4, ((1, 3, 1, 1, 4), (2, 5, 2, 2, 6)), 16),
}


class PaddedConv(nn.Conv2d):
    """A convolution that pads as TensorFlow does: ceil(size / stride) windows, with more padding at the end."""

    def forward(self, images_NCHW: Tensor) -> Tensor:
        padding = [*self.margins(images_NCHW.shape[3], 1), *self.margins(images_NCHW.shape[2], 0)]
        return super().forward(F.pad(images_NCHW, padding) if any(padding) else images_NCHW)

    def margins(self, size: int, axis: int) -> tuple[int, int]:
        """The padding before and after an axis (0: rows) of this size."""
        window, stride = self.kernel_size[axis], self.stride[axis]
        spare = max((-(-size // stride) - 1) * stride + window - size, 0)
        return spare // 2, spare - spare // 2


def _conv(variant: Variant, channels: int, maps: int, size: int, stride: int, groups: int = 1) -> nn.Conv2d:
    if variant.pads_as_tensorflow and stride > 1:
        return PaddedConv(channels, maps, size, stride, groups=groups, bias=False)
    return nn.Conv2d(channels, maps, size, stride, padding=size // 2, groups=groups, bias=False)


class DepthwiseSeparable(nn.Module):
    """maps_NCHW -> maps_NCHW: a depthwise convolution, then a 1x1 convolution."""

    def __init__(self, variant: Variant, channels: int, maps: int, size: int, stride: int) -> None:
        super().__init__()
        self.conv_dw = _conv(variant, channels, channels, size, stride, groups=channels)
        self.bn1 = nn.BatchNorm2d(channels, variant.epsilon)
        self.conv_pw = nn.Conv2d(channels, maps, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(maps, variant.epsilon)
        self.adds = stride == 1 and channels == maps

    def forward(self, maps_NCHW: Tensor) -> Tensor:
        x: Tensor = self.bn2(self.conv_pw(F.relu6(self.bn1(self.conv_dw(maps_NCHW)))))
        return x + maps_NCHW if self.adds else x


class InvertedResidual(nn.Module):
    """maps_NCHW -> maps_NCHW: a 1x1 convolution expands, a depthwise one follows, a 1x1 convolution projects."""

    def __init__(self, variant: Variant, channels: int, stage: tuple[int, int, int, int, int], stride: int) -> None:
        super().__init__()
        _, size, _, widening, maps = stage
        wide = channels * widening
        self.conv_pw = nn.Conv2d(channels, wide, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(wide, variant.epsilon)
        self.conv_dw = _conv(variant, wide, wide, size, stride, groups=wide)
        self.bn2 = nn.BatchNorm2d(wide, variant.epsilon)
        self.conv_pwl = nn.Conv2d(wide, maps, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(maps, variant.epsilon)
        self.adds = stride == 1 and channels == maps

    def forward(self, maps_NCHW: Tensor) -> Tensor:
        x: Tensor = F.relu6(self.bn2(self.conv_dw(F.relu6(self.bn1(self.conv_pw(maps_NCHW))))))
        x = self.bn3(self.conv_pwl(x))
        return x + maps_NCHW if self.adds else x


class EfficientNetLite(nn.Module):
    """images_NCHW -> logits_NK."""

    joins = ("conv_head",)  # counted with the block before it, as in timm: see models/depth.py

    def __init__(self, spec: NetworkSpec, input_shape_CHW: tuple[int, int, int], class_count: int) -> None:
        super().__init__()
        variant = look_up(VARIANTS, spec.variant, "variant", "model.variant")
        channels = variant.stem
        self.conv_stem = _conv(variant, input_shape_CHW[0], channels, 3, 2)
        self.bn1 = nn.BatchNorm2d(channels, variant.epsilon)
        stages: list[nn.Module] = []
        for stage in variant.stages:
            count, size, first_stride, widening, maps = stage
            blocks: list[nn.Module] = []
            for stride in (first_stride, *(1,) * (count - 1)):
                separable = widening == 1
                blocks.append(
                    DepthwiseSeparable(variant, channels, maps, size, stride)
                    if separable
                    else InvertedResidual(variant, channels, stage, stride)
                )
                channels = maps
            stages.append(nn.Sequential(*blocks))
        self.blocks = nn.Sequential(*stages)
        self.conv_head = nn.Conv2d(channels, variant.head, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(variant.head, variant.epsilon)
        self.dropout = nn.Dropout(spec.dropout[0])
        self.classifier = nn.Linear(variant.head, class_count)

    def forward(self, images_NCHW: Tensor) -> Tensor:
        x = self.blocks(F.relu6(self.bn1(self.conv_stem(images_NCHW))))
        x = F.relu6(self.bn2(self.conv_head(x)))
        return self.classifier(self.dropout(x.mean((2, 3))))  # type: ignore[no-any-return]

    def initialize(self, generator: torch.Generator) -> None:
        """As the original: by fan out, per group; the last layer by its number of classes."""
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                outputs = layer.out_channels * layer.kernel_size[0] * layer.kernel_size[1] // layer.groups
                nn.init.normal_(layer.weight, std=(2 / outputs) ** 0.5, generator=generator)
            elif isinstance(layer, nn.BatchNorm2d):
                layer.reset_parameters()
        bound = self.classifier.out_features**-0.5
        nn.init.uniform_(self.classifier.weight, -bound, bound, generator=generator)
        nn.init.zeros_(self.classifier.bias)
