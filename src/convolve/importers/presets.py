"""The pre-trained models that CNTK published, and what is known of them.

Source: CNTK's PretrainedModels/Image.md and download_model.py. Errors are those of a single central crop. What the
sources do not say is None, and is not guessed: such a model needs --mean and --channel-order from whoever has it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePath

from convolve.errors import UsageError, unknown_name


@dataclass(frozen=True)
class Preset:
    """`mean` and `scale` are what is done before the network; None for `input_size` or `mean`: not known.

    `side_ratio` is the part of the shorter side that the central crop keeps.
    """

    name: str
    file_name: str | None = None
    input_size: int | None = None
    channel_order: str | None = None
    mean: float | None = None
    scale: float | None = None
    side_ratio: float | None = None
    published_error: float | None = None
    published_error_top5: float | None = None

    @property
    def knows_preprocessing(self) -> bool:
        return None not in (self.input_size, self.channel_order, self.mean, self.scale, self.side_ratio)


_ROWS = (
    # AlexNet subtracts 114 inside the graph.
    Preset("alexnet", "AlexNet_ImageNet_CNTK.model", 227, "bgr", 0.0, 1.0, 0.88671875, 0.40106, 0.17746),
    Preset("alexnet-caffe", "AlexNet_ImageNet_Caffe.model", 227, published_error_top5=0.198),
    Preset("inception-v3", "InceptionV3_ImageNet_CNTK.model", 299, published_error=0.21520),
    Preset("bn-inception-caffe", "BNInception_ImageNet_Caffe.model", 224, published_error_top5=0.1150),
    Preset("resnet18", "ResNet18_ImageNet_CNTK.model", 224, published_error=0.29186, published_error_top5=0.10284),
    Preset("resnet34", "ResNet34_ImageNet_CNTK.model", 224, published_error=0.27240, published_error_top5=0.08962),
    Preset("resnet50", "ResNet50_ImageNet_CNTK.model", 224, published_error=0.23862, published_error_top5=0.07180),
    Preset("resnet101", "ResNet101_ImageNet_CNTK.model", 224),
    Preset("resnet152", "ResNet152_ImageNet_CNTK.model", 224),
    Preset("resnet20-cifar", "ResNet20_CIFAR10_CNTK.model", 32, published_error=0.0817),
    Preset("resnet110-cifar", "ResNet110_CIFAR10_CNTK.model", 32, published_error=0.0608),
    Preset("resnet50-caffe", "ResNet50_ImageNet_Caffe.model", 224, published_error_top5=0.0775),
    Preset("resnet101-caffe", "ResNet101_ImageNet_Caffe.model", 224, published_error_top5=0.0712),
    Preset("resnet152-caffe", "ResNet152_ImageNet_Caffe.model", 224, published_error_top5=0.0671),
    Preset("vgg16-caffe", "VGG16_ImageNet_Caffe.model", 224, published_error_top5=0.1011),
    Preset("vgg19-caffe", "VGG19_ImageNet_Caffe.model", 224, published_error_top5=0.1018),
)
PRESETS = {preset.name: preset for preset in _ROWS}


def find_preset(file: str, name: str | None = None) -> Preset | None:
    """The preset called `name`, else that of a published file name, in any case of letters; None if there is none."""
    if name is not None:
        if name not in PRESETS:
            raise UsageError(unknown_name("preset", name, PRESETS))
        return PRESETS[name]
    wanted = PurePath(file).name.lower()
    return next((preset for preset in _ROWS if (preset.file_name or "").lower() == wanted), None)
