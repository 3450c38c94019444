"""SqueezeNet 1.0 and 1.1 (Iandola et al., arXiv:1602.07360), with the names and the layout of torchvision's.

1.1 needs 2.4 times less computation for the same error. 1,248,424 and 1,235,496 parameters with 1000 classes. Pooling
rounds sizes up, as the original does in Caffe.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from convolve.errors import UsageError, look_up
from convolve.specs.model import NetworkSpec

# Legend: N batch, C channel, H row, W column, K class.


@dataclass(frozen=True)
class Variant:
    """The first convolution (maps, kernel size), and for each Fire the maps of squeeze and of each expand; 0: a
    pooling."""

    first: tuple[int, int]
    fires: tuple[tuple[int, int], ...]


POOL = (0, 0)
_SMALL, _MIDDLE, _LARGE = [(16, 64), (16, 64)], [(32, 128), (32, 128)], [(48, 192), (48, 192)]
VARIANTS = {
    "1.0": Variant((96, 7), (POOL, *_SMALL, _MIDDLE[0], POOL, _MIDDLE[1], *_LARGE, (64, 256), POOL, (64, 256))),
    "1.1": Variant((64, 3), (POOL, *_SMALL, POOL, *_MIDDLE, POOL, *_LARGE, (64, 256), (64, 256))),
    "tiny": Variant((8, 3), (POOL, (4, 6), (4, 6), POOL, (6, 8))),
}
VARIANTS[""] = VARIANTS["1.1"]


class Fire(nn.Module):
    """maps_NCHW -> maps_NCHW: a few 1x1 convolutions, then 1x1 and 3x3 side by side."""

    def __init__(self, channels: int, squeeze: int, expand: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(channels, squeeze, 1)
        self.expand1x1 = nn.Conv2d(squeeze, expand, 1)
        self.expand3x3 = nn.Conv2d(squeeze, expand, 3, padding=1)

    def forward(self, maps_NCHW: Tensor) -> Tensor:
        squeezed = self.squeeze(maps_NCHW).relu()
        return torch.cat([self.expand1x1(squeezed).relu(), self.expand3x3(squeezed).relu()], 1)


class SqueezeNet(nn.Module):
    """images_NCHW -> logits_NK: the mean of one feature map for each class."""

    def __init__(self, spec: NetworkSpec, input_shape_CHW: tuple[int, int, int], class_count: int) -> None:
        super().__init__()
        variant = look_up(VARIANTS, spec.variant, "variant", "model.variant")
        if min(input_shape_CHW[1:]) < 21:
            raise UsageError("squeezenet needs images of at least 21x21 pixels; use larger ones or another model")
        channels, size = variant.first
        layers: list[nn.Module] = [nn.Conv2d(input_shape_CHW[0], channels, size, stride=2), nn.ReLU()]
        for squeeze, expand in variant.fires:
            layers.append(Fire(channels, squeeze, expand) if squeeze else nn.MaxPool2d(3, stride=2, ceil_mode=True))
            channels = 2 * expand or channels
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(
            nn.Dropout(spec.dropout[0]), nn.Conv2d(channels, class_count, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1)
        )

    def forward(self, images_NCHW: Tensor) -> Tensor:
        maps_NK11: Tensor = self.classifier(self.features(images_NCHW))
        return maps_NK11.flatten(1)
