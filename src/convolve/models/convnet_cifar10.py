"""CNTK's ConvNet for CIFAR-10 (Examples/Image/Classification/ConvNet), with and without response normalization.

Two variants share the name: CNTK's Python script pads the pooling layers and the convolutions, its BrainScript
configuration only the convolutions. At 3x32x32 their feature maps are 32 -> 16 -> 8 and 32 -> 15 -> 7; 1,195,594 and
949,834 parameters.
"""

from dataclasses import dataclass

import torch
from torch import nn

from convolve.errors import UsageError, look_up
from convolve.models.lrn import LocalResponseNorm
from convolve.specs.model import NetworkSpec


@dataclass(frozen=True)
class Variant:
    maps: int
    dense: tuple[int, int]
    pool_padding: int


VARIANTS = {
    "python": Variant(64, (256, 128), pool_padding=1),
    "brainscript": Variant(64, (256, 128), pool_padding=0),
    "tiny": Variant(12, (16, 12), pool_padding=1),
}
VARIANTS[""] = VARIANTS["python"]


class ConvNetCifar10(nn.Module):
    def __init__(
        self,
        variant: Variant,
        norm: nn.Module | None,
        input_shape_CHW: tuple[int, int, int],
        class_count: int,
        dropout: float,
    ):
        super().__init__()
        maps, (dense1, dense2), padding = variant.maps, variant.dense, variant.pool_padding
        channels, height, width = input_shape_CHW
        self.conv1 = nn.Conv2d(channels, maps, 3, padding=1)
        self.conv2 = nn.Conv2d(maps, maps, 3, padding=1)
        self.conv3 = nn.Conv2d(maps, maps, 3, padding=1)
        self.conv4 = nn.Conv2d(maps, maps, 3, padding=1)
        self.norm = norm
        self.pool = nn.MaxPool2d(3, stride=2, padding=padding)
        self.fc1 = nn.Linear(maps * _last_map(height, padding) * _last_map(width, padding), dense1)
        self.dropout1 = nn.Dropout(dropout)  # two, since CNTK draws their masks separately
        self.fc2 = nn.Linear(dense1, dense2)
        self.dropout2 = nn.Dropout(dropout)
        self.fc3 = nn.Linear(dense2, class_count)

    def forward(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        x = self._pooled(self.conv2(self.conv1(images_NCHW).relu()))
        x = self._pooled(self.conv4(self.conv3(x).relu()))
        x = self.dropout1(self.fc1(x.flatten(1)).relu())
        x = self.dropout2(self.fc2(x).relu())
        return self.fc3(x)  # type: ignore[no-any-return]

    def _pooled(self, maps_NCHW: torch.Tensor) -> torch.Tensor:
        if self.norm is None:
            return torch.relu(self.pool(maps_NCHW))  # pooling commutes with ReLU, and leaves it a quarter of the work
        return self.pool(self.norm(maps_NCHW.relu()))  # type: ignore[no-any-return]


def _last_map(side: int, padding: int) -> int:
    for _ in range(2):  # the two pooling layers; the convolutions keep the size
        side = (side + 2 * padding - 3) // 2 + 1
    if side < 1:
        raise UsageError("convnet-cifar10 needs images of at least 7x7 pixels; use larger ones or model.variant=python")
    return side


def convnet_cifar10(spec: NetworkSpec, input_shape_CHW: tuple[int, int, int], class_count: int) -> nn.Module:
    return _build(spec, None, input_shape_CHW, class_count)


def convnet_cifar10_lrn(spec: NetworkSpec, input_shape_CHW: tuple[int, int, int], class_count: int) -> nn.Module:
    """With response normalization over 9 channels (CNTK: k=1, n=4) after the second convolution of each pair."""
    norm = LocalResponseNorm(9, alpha=0.001, beta=0.75, k=1.0)
    return _build(spec, norm, input_shape_CHW, class_count)


def _build(
    spec: NetworkSpec, norm: nn.Module | None, input_shape_CHW: tuple[int, int, int], class_count: int
) -> nn.Module:
    variant = look_up(VARIANTS, spec.variant, "variant", "model.variant")
    return ConvNetCifar10(variant, norm, input_shape_CHW, class_count, spec.dropout[0])
