"""A small modern network for small images: six convolutions after a fixed layer that whitens patches.

Source of the ideas: Keller Jordan's CIFAR-10 speed records (airbench94, 2024, arXiv:2404.00498), after tysam-code's
hlb-CIFAR10 and David Page's DAWNBench entry. At 3x32x32 the feature maps are 31 -> 15 -> 7 -> 3.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from convolve.errors import UsageError, look_up
from convolve.specs.model import NetworkSpec

# Legend: N batch, C channel, H row, W column, K class, P patch, D number in a patch.

PATCH = 2  # pixels, as in airbench94
EIGENVALUE_FLOOR = 5e-4  # added to the variances, so that directions without signal do not become noise
BATCH_NORM_MOMENTUM = 0.4  # the share of a batch; statistics of the last few batches, when the rate is nearly 0
LOGIT_SCALE = 1 / 9  # keeps the first logits small without small weights


VARIANTS = {  # maps of the three blocks
    "": (64, 256, 256),
    "wide": (128, 384, 384),  # as in airbench95
    "narrow": (32, 128, 256),
    "tiny": (8, 12, 16),
}


class Block(nn.Module):
    """maps_NCHW -> maps_NCHW at half the size: two convolutions, pooling after the first, batch norm after both."""

    def __init__(self, channels: int, maps: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, maps, 3, padding=1, bias=False)
        self.norm1 = _norm(maps)
        self.conv2 = nn.Conv2d(maps, maps, 3, padding=1, bias=False)
        self.norm2 = _norm(maps)

    def forward(self, maps_NCHW: Tensor) -> Tensor:
        x = F.gelu(self.norm1(F.max_pool2d(self.conv1(maps_NCHW), 2)))
        return F.gelu(self.norm2(self.conv2(x)))


class WhitenedConvNet(nn.Module):
    """images_NCHW -> logits_NK. `whiten` sets the first layer's filters; only its biases are trained."""

    def __init__(self, spec: NetworkSpec, input_shape_CHW: tuple[int, int, int], class_count: int) -> None:
        super().__init__()
        maps1, maps2, maps3 = look_up(VARIANTS, spec.variant, "variant", "model.variant")
        channels, height, width = input_shape_CHW
        if min(height, width) < 9:
            raise UsageError("whitened-convnet needs images of at least 9x9 pixels; use larger ones or another model")
        filters = 2 * channels * PATCH**2
        self.whitening = nn.Conv2d(channels, filters, PATCH)
        self.whitening.weight.requires_grad_(False)
        self.blocks = nn.Sequential(Block(filters, maps1), Block(maps1, maps2), Block(maps2, maps3))
        self.dropout = nn.Dropout(spec.dropout[0])
        self.head = nn.Linear(maps3, class_count, bias=False)

    def forward(self, images_NCHW: Tensor) -> Tensor:
        maps_NCHW = self.blocks(F.gelu(self.whitening(images_NCHW)))
        return self.head(self.dropout(maps_NCHW.amax((2, 3)))) * LOGIT_SCALE  # type: ignore[no-any-return]

    @torch.no_grad()
    def initialize(self, generator: torch.Generator) -> None:
        """Convolutions pass their input through in their first maps; the others are random; logits have unit scale."""
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_uniform_(layer.weight, a=5**0.5, generator=generator)  # torch's own default
                if layer is not self.whitening:
                    nn.init.dirac_(layer.weight[: layer.in_channels])
            elif isinstance(layer, nn.BatchNorm2d):
                layer.reset_parameters()
        self.get_parameter("whitening.bias").zero_()
        nn.init.normal_(self.head.weight, generator=generator)

    @torch.no_grad()
    def whiten(self, images_NCHW: Tensor) -> None:
        """Set the filters to the principal axes of the images' patches, with unit variance, and their negatives."""
        channels = images_NCHW.shape[1]
        patches_NDP = F.unfold(images_NCHW.float(), PATCH)
        patches_PD = patches_NDP.transpose(1, 2).reshape(-1, channels * PATCH**2)
        covariance_DD = patches_PD.T @ patches_PD / len(patches_PD)
        variances_D, axes_DD = torch.linalg.eigh(covariance_DD)
        filters = (axes_DD / (variances_D + EIGENVALUE_FLOOR).sqrt()).T.reshape(-1, channels, PATCH, PATCH).flip(0)
        self.whitening.weight.copy_(torch.cat([filters, -filters]))


def _norm(maps: int) -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(maps, momentum=BATCH_NORM_MOMENTUM)
    norm.weight.requires_grad_(False)
    return norm
