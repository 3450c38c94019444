"""The networks: one file and one row in `MODELS` each; those of other packages by entry point, or as `timm:NAME`."""

from collections.abc import Callable

import torch
from torch import nn

from convolve.errors import UsageError, look_up
from convolve.models.alexnet import AlexNet, AlexNetBatchNorm, AlexNetPython
from convolve.models.cntk_values import draw_weights
from convolve.models.convnet_cifar10 import convnet_cifar10, convnet_cifar10_lrn
from convolve.models.convnet_mnist import ConvNetMnist
from convolve.models.efficientnet_lite import EfficientNetLite
from convolve.models.heads import HeadedNetwork, fill, headed
from convolve.models.packages import FAMILIES
from convolve.models.resnet import CntkResNetCifar10, ResNet
from convolve.models.squeezenet import SqueezeNet
from convolve.models.uninitialized import uninitialized
from convolve.models.whitened_convnet import WhitenedConvNet
from convolve.registry import Registry
from convolve.specs.model import NetworkSpec

Shape = tuple[int, int, int]  # C, H, W

# name -> class or function of (spec, input shape, number of classes). The variant "tiny" of each is for tests.
_ROWS: dict[str, Callable[[NetworkSpec, Shape, int], nn.Module]] = {
    "convnet-mnist": ConvNetMnist,
    "convnet-cifar10": convnet_cifar10,
    "convnet-cifar10-lrn": convnet_cifar10_lrn,
    "alexnet": AlexNet,
    "alexnet-python": AlexNetPython,
    "alexnet-batch-norm": AlexNetBatchNorm,
    "whitened-convnet": WhitenedConvNet,
    "efficientnet-lite0": EfficientNetLite,
    "resnet": ResNet,
    "resnet-cifar10": CntkResNetCifar10,
    "squeezenet": SqueezeNet,
}
MODELS = Registry("convolve.models", _ROWS, FAMILIES)


def build_model(
    spec: NetworkSpec, input_shape_CHW: Shape, class_count: int, seed: int = 0, as_cntk: bool = False
) -> nn.Module:
    """The network that `spec` names, freshly initialized from `seed`: images_NCHW (normalized) -> logits_NK.

    `as_cntk`: with the initial values that CNTK draws.
    """
    module = uninitialized(_without_head(spec, input_shape_CHW, class_count))
    generator = torch.Generator().manual_seed(seed)
    initialize(module, generator)
    if as_cntk:
        draw_weights(module, seed)
    if spec.head:
        module = _with_head(module, spec, input_shape_CHW, class_count)
        fill(module, generator)
    return module


def bare_model(spec: NetworkSpec, input_shape_CHW: Shape, class_count: int) -> nn.Module:
    """The network that `spec` names, on the meta device: its weights have shapes but no values."""
    module = _without_head(spec, input_shape_CHW, class_count)
    return _with_head(module, spec, input_shape_CHW, class_count) if spec.head else module


def _without_head(spec: NetworkSpec, input_shape_CHW: Shape, class_count: int) -> nn.Module:
    make = look_up(MODELS, spec.name, "model", "model.name")
    with torch.device("meta"):
        return make(spec, input_shape_CHW, class_count)


def _with_head(module: nn.Module, spec: NetworkSpec, shape_CHW: Shape, class_count: int) -> HeadedNetwork:
    return headed(module, shape_CHW, class_count, kind=spec.head, cut=spec.cut, dropout=spec.dropout[0])


def initialize(module: nn.Module, generator: torch.Generator) -> None:
    """The network's own `initialize(generator)`, if it has one; otherwise CNTK's default: Glorot-uniform weights, with
    the receptive field counted in both fans, and zero biases. Layers of other kinds get their own initial values."""
    own = getattr(module, "initialize", None)
    if own is not None:
        own(generator)
        return
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(generator.initial_seed())  # for `reset_parameters`, which takes no generator
        for layer in module.modules():
            _initialize_layer(layer, generator)


def _initialize_layer(layer: nn.Module, generator: torch.Generator) -> None:
    reset = getattr(layer, "reset_parameters", None)
    if isinstance(layer, nn.Conv2d | nn.Linear):
        nn.init.xavier_uniform_(layer.weight, generator=generator)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
    elif reset is not None:
        reset()
    elif [*layer.parameters(recurse=False), *layer.buffers(recurse=False)]:
        raise UsageError(
            f"the network has a {type(layer).__name__} without initial values; give it a reset_parameters()"
        )
