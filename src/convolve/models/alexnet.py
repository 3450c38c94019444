"""AlexNet without groups, as CNTK trained it (Examples/Image/Classification/AlexNet), and with batch normalization.

Two networks have that name: CNTK's BrainScript configuration, whose model was published, does not pad the pooling; its
Python script does. At 3x227x227 their feature maps are 55 -> 27 -> 13 -> 6 and 55 -> 28 -> 14 -> 7; 62,003,496 and
75,634,984 parameters. Layers have CNTK's names.
"""

from dataclasses import dataclass

import torch
from torch import nn

from convolve.errors import UsageError, look_up
from convolve.models.lrn import LocalResponseNorm
from convolve.specs.model import NetworkSpec

# Legend: N batch, C channel, H row, W column, K class.

Shape = tuple[int, int, int]  # C, H, W


@dataclass(frozen=True)
class Variant:
    """Feature maps of the five convolutions, width of the two dense layers."""

    maps: tuple[int, int, int, int, int]
    dense: int


VARIANTS = {"": Variant((96, 192, 384, 384, 256), 4096), "tiny": Variant((6, 8, 12, 12, 8), 16)}

# CNTK's initial values: the standard deviation of normally distributed weights, and the biases.
_DEVIATIONS = {"fc6": 0.005, "fc7": 0.005}  # 0.01 in the others
_BIASES = {"conv2": 0.1, "conv4": 0.1, "conv5": 0.1, "fc6": 0.1, "fc7": 0.1}  # 0 in the others


class AlexNet(nn.Module):
    """images_NCHW -> logits_NK. Response normalization follows the first two convolutions."""

    pool_padding = 0

    def __init__(self, spec: NetworkSpec, input_shape_CHW: Shape, class_count: int) -> None:
        super().__init__()
        variant, pool_padding = look_up(VARIANTS, spec.variant, "variant", "model.variant"), self.pool_padding
        channels, height, width = input_shape_CHW
        maps1, maps2, maps3, maps4, maps5 = variant.maps
        rows, columns = (last_map(side, pool_padding) for side in (height, width))
        self.conv1 = nn.Conv2d(channels, maps1, 11, stride=4)
        self.norm1 = LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=1.0)
        self.pool1 = nn.MaxPool2d(3, stride=2, padding=pool_padding)
        self.conv2 = nn.Conv2d(maps1, maps2, 5, padding=2)
        self.norm2 = LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=1.0)
        self.pool2 = nn.MaxPool2d(3, stride=2, padding=pool_padding)
        self.conv3 = nn.Conv2d(maps2, maps3, 3, padding=1)
        self.conv4 = nn.Conv2d(maps3, maps4, 3, padding=1)
        self.conv5 = nn.Conv2d(maps4, maps5, 3, padding=1)
        self.pool5 = nn.MaxPool2d(3, stride=2, padding=pool_padding)
        self.fc6 = nn.Linear(maps5 * rows * columns, variant.dense)
        self.drop6 = nn.Dropout(spec.dropout[0])
        self.fc7 = nn.Linear(variant.dense, variant.dense)
        self.drop7 = nn.Dropout(spec.dropout[0])
        self.fc8 = nn.Linear(variant.dense, class_count)

    def forward(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        x = self.pool1(self.norm1(self.conv1(images_NCHW).relu()))
        x = self.pool2(self.norm2(self.conv2(x).relu()))
        x = self.conv4(self.conv3(x).relu()).relu()
        x = self.pool5(self.conv5(x)).relu()  # pooling commutes with ReLU, and leaves it a quarter of the work
        x = self.drop6(self.fc6(x.flatten(1)).relu())
        x = self.drop7(self.fc7(x).relu())
        return self.fc8(x)  # type: ignore[no-any-return]

    def initialize(self, generator: torch.Generator) -> None:
        """CNTK's initial values for this network."""
        for name, layer in self.named_children():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                nn.init.normal_(layer.weight, std=self.deviation(name), generator=generator)
                assert layer.bias is not None
                nn.init.constant_(layer.bias, _BIASES.get(name, 0.0))

    def deviation(self, layer: str) -> float:
        """The standard deviation of the initial weights."""
        return _DEVIATIONS.get(layer, 0.01)


class AlexNetPython(AlexNet):
    """As in CNTK's Python script."""

    pool_padding = 1


class AlexNetBatchNorm(nn.Module):
    """images_NCHW -> logits_NK: AlexNet's feature maps, with batch normalization after each convolution instead of LRN.

    Images of other sizes than `input_shape_CHW` fit too: the last maps are averaged, or repeated, to the size that they
    have for that shape. Images of that size are not affected.
    """

    def __init__(self, spec: NetworkSpec, input_shape_CHW: Shape, class_count: int) -> None:
        super().__init__()
        variant = look_up(VARIANTS, spec.variant, "variant", "model.variant")
        channels, height, width = input_shape_CHW
        maps1, maps2, maps3, maps4, maps5 = variant.maps
        rows, columns = (last_map(side, 0) for side in (height, width))
        # Batch normalization's shift makes a bias superfluous.
        self.conv1 = nn.Conv2d(channels, maps1, 11, stride=4, bias=False)
        self.norm1 = nn.BatchNorm2d(maps1)
        self.conv2 = nn.Conv2d(maps1, maps2, 5, padding=2, bias=False)
        self.norm2 = nn.BatchNorm2d(maps2)
        self.conv3 = nn.Conv2d(maps2, maps3, 3, padding=1, bias=False)
        self.norm3 = nn.BatchNorm2d(maps3)
        self.conv4 = nn.Conv2d(maps3, maps4, 3, padding=1, bias=False)
        self.norm4 = nn.BatchNorm2d(maps4)
        self.conv5 = nn.Conv2d(maps4, maps5, 3, padding=1, bias=False)
        self.norm5 = nn.BatchNorm2d(maps5)
        self.pool = nn.MaxPool2d(3, stride=2)
        self.grid = nn.AdaptiveAvgPool2d((rows, columns))
        self.fc6 = nn.Linear(maps5 * rows * columns, variant.dense)
        self.drop6 = nn.Dropout(spec.dropout[0])
        self.fc7 = nn.Linear(variant.dense, variant.dense)
        self.drop7 = nn.Dropout(spec.dropout[0])
        self.fc8 = nn.Linear(variant.dense, class_count)

    def forward(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        x = self.pool(self.norm1(self.conv1(images_NCHW))).relu()
        x = self.pool(self.norm2(self.conv2(x))).relu()
        x = self.norm3(self.conv3(x)).relu()
        x = self.norm4(self.conv4(x)).relu()
        x = self.pool(self.norm5(self.conv5(x))).relu()
        x = self.drop6(self.fc6(self.grid(x).flatten(1)).relu())
        x = self.drop7(self.fc7(x).relu())
        return self.fc8(x)  # type: ignore[no-any-return]


def last_map(side: int, pool_padding: int) -> int:
    """Rows (or columns) that the last pooling layer leaves of images of this size; `UsageError` if none."""
    found = (side - 11) // 4 + 1
    for _ in range(3):  # pooling layers; the convolutions between them keep the size
        found = (found + 2 * pool_padding - 3) // 2 + 1
    if found < 1:
        raise UsageError(
            f"AlexNet's pooling leaves nothing of {side} rows or columns; set data.image_size to 67 or more"
        )
    return found
