"""The pre-trained models that were published for CNTK and for Caffe, and what is known of them.

Sources: CNTK's PretrainedModels/Image.md and download_model.py; for Caffe, the readme files of BVLC's models, of
KaimingHe/deep-residual-networks (VGG-16 too) and of yahoo/open_nsfw, and the papers of VGG and SqueezeNet. Errors are
those of a single central crop. What the sources do not say is None, and is not guessed: such a model needs --mean and
--channel-order from whoever has it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from convolve.errors import UsageError, unknown_name
from convolve.formats.labels import read_labels


@dataclass(frozen=True)
class Preset:
    """`mean` (in the network's order) and `scale` are what is done before the network; None: not known.

    `side_ratio` is the part of the shorter side that the central crop keeps. `classes` names the file of class names
    beside this one: imagenet.txt has ILSVRC 2012's, WordNet's synset and its first word, as Caffe's synset_words.txt.
    """

    name: str
    file_name: str | None = None
    input_size: int | None = None
    channel_order: str | None = None
    mean: float | tuple[float, ...] | None = None
    scale: float | None = None
    side_ratio: float | None = None
    published_error: float | None = None
    published_error_top5: float | None = None
    classes: str | None = None

    @property
    def knows_preprocessing(self) -> bool:
        return None not in (self.input_size, self.channel_order, self.mean, self.scale, self.side_ratio)

    @property
    def class_names(self) -> tuple[str, ...]:
        return read_labels(Path(__file__).with_name(f"{self.classes}.txt")) if self.classes else ()


# Means of pixels in B, G, R order: those of BVLC's imagenet_mean, of GoogLeNet, of VGG, of ResNet_mean.binaryproto.
_BVLC = (104.00698793, 116.66876762, 122.67891434)
_GOOGLENET = (104.0, 117.0, 123.0)
_VGG = (103.939, 116.779, 123.68)
_RESNET = (103.062623801, 115.902882574, 123.151630838)


def _of_caffe(
    name: str,
    file_name: str,
    size: int,
    mean: tuple[float, ...],
    errors: tuple[float | None, float | None] = (None, None),
    classes: str = "imagenet",
) -> Preset:
    """The center of an image whose shorter side is 256 pixels long, minus the mean; `errors` are top-1 and top-5."""
    return Preset(
        name, file_name, size, "bgr", mean, scale=1.0, side_ratio=size / 256,
        published_error=errors[0], published_error_top5=errors[1], classes=classes,
    )  # fmt: skip


_ROWS = (
    # AlexNet subtracts 114 inside the graph.
    Preset(
        "alexnet", "AlexNet_ImageNet_CNTK.model", 227, "bgr", 0.0, scale=1.0, side_ratio=0.88671875,
        published_error=0.40106, published_error_top5=0.17746,
    ),
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
    _of_caffe("bvlc-alexnet", "bvlc_alexnet.caffemodel", 227, _BVLC, (0.429, 0.198)),
    _of_caffe("bvlc-caffenet", "bvlc_reference_caffenet.caffemodel", 227, _BVLC, (0.426, 0.196)),
    _of_caffe("bvlc-googlenet", "bvlc_googlenet.caffemodel", 224, _GOOGLENET, (0.313, 0.111)),
    _of_caffe("vgg-ilsvrc-16", "VGG_ILSVRC_16_layers.caffemodel", 224, _VGG, (0.285, 0.099)),
    _of_caffe("vgg-ilsvrc-19", "VGG_ILSVRC_19_layers.caffemodel", 224, _VGG),
    _of_caffe("squeezenet-1.0", "squeezenet_v1.0.caffemodel", 227, _GOOGLENET, (0.425, 0.197)),
    _of_caffe("squeezenet-1.1", "squeezenet_v1.1.caffemodel", 227, _GOOGLENET),
    _of_caffe("deep-residual-50", "ResNet-50-model.caffemodel", 224, _RESNET, (0.247, 0.078)),
    _of_caffe("deep-residual-101", "ResNet-101-model.caffemodel", 224, _RESNET, (0.236, 0.071)),
    _of_caffe("deep-residual-152", "ResNet-152-model.caffemodel", 224, _RESNET, (0.230, 0.067)),
    _of_caffe("open-nsfw", "resnet_50_1by2_nsfw.caffemodel", 224, _GOOGLENET, classes="nsfw"),
)  # fmt: skip
PRESETS = {preset.name: preset for preset in _ROWS}


def find_preset(file: str, name: str | None = None) -> Preset | None:
    """The preset called `name`, else that of a published file name, in any case of letters; None if there is none."""
    if name is not None:
        if name not in PRESETS:
            raise UsageError(unknown_name("preset", name, PRESETS))
        return PRESETS[name]
    wanted = Path(file).name.lower()
    return next((preset for preset in _ROWS if (preset.file_name or "").lower() == wanted), None)
