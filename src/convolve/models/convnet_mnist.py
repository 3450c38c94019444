"""CNTK's ConvNet for MNIST (Examples/Image/Classification/ConvNet, ConvNet_MNIST): 98,778 parameters at 1x28x28.

Feature maps: 28 -> 13 -> 11 -> 5 -> 3. Pooling is unpadded; only the first convolution keeps the size.
"""

import torch
from torch import nn

from convolve.errors import UsageError, look_up
from convolve.specs.model import NetworkSpec

# variant -> feature maps of the three convolutions, width of the dense layer
_WIDTHS = {"": (32, 48, 64, 96), "tiny": (4, 6, 8, 12)}


class ConvNetMnist(nn.Module):
    def __init__(self, spec: NetworkSpec, input_shape_CHW: tuple[int, int, int], class_count: int) -> None:
        super().__init__()
        *maps, dense = look_up(_WIDTHS, spec.variant, "variant", "model.variant")
        channels, height, width = input_shape_CHW
        self.conv1 = nn.Conv2d(channels, maps[0], 5, padding=2)
        self.conv2 = nn.Conv2d(maps[0], maps[1], 3)
        self.conv3 = nn.Conv2d(maps[1], maps[2], 3)
        self.pool = nn.MaxPool2d(3, stride=2)
        self.fc1 = nn.Linear(maps[2] * _last_map(height) * _last_map(width), dense)
        self.dropout = nn.Dropout(spec.dropout[0])
        self.fc2 = nn.Linear(dense, class_count)

    def forward(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        x = self.pool(self.conv1(images_NCHW)).relu()  # pooling commutes with ReLU, and leaves it a quarter of the work
        x = self.pool(self.conv2(x)).relu()
        x = self.conv3(x).relu()
        x = self.fc1(x.flatten(1)).relu()
        return self.fc2(self.dropout(x))  # type: ignore[no-any-return]


def _last_map(side: int) -> int:
    for stride in (2, 1, 2, 1):  # pool, conv2, pool, conv3: all windows 3 wide, unpadded
        side = (side - 3) // stride + 1
    if side < 1:
        raise UsageError("convnet-mnist needs images of at least 19x19 pixels; use larger ones or another model.name")
    return side
