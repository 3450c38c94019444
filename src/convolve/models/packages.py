"""Networks built by other installed packages: `timm:convnext_tiny`, `torchvision:mobilenet_v2`."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from torch import nn

from convolve.errors import ConvolveError, MissingDataError, UnsupportedError, UsageError, install_hint, unknown_name
from convolve.specs.model import NetworkSpec

Shape = tuple[int, int, int]  # C, H, W


@dataclass(frozen=True)
class Published:
    """The preprocessing of a network's published weights; `mean` and `std` are of red, green and blue in 0..1.

    `crop_ratio` is the fraction of the shorter side that the center crop keeps.
    """

    size: int = 224
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    crop_ratio: float = 0.875


def from_timm(name: str) -> Callable[[NetworkSpec, Shape, int], nn.Module]:
    return partial(_build, lambda channels, classes: _timm(name, in_chans=channels, num_classes=classes))


def from_torchvision(name: str) -> Callable[[NetworkSpec, Shape, int], nn.Module]:
    return partial(_build, lambda channels, classes: _torchvision(name, channels, classes))


FAMILIES = {"timm": from_timm, "torchvision": from_torchvision}


def can_be_built(name: str) -> bool:
    """Whether it is one of our networks, or its package is installed."""
    family, colon, _ = name.partition(":")
    return not colon or find_spec(family) is not None


def published(name: str) -> Published:
    """What the package says about `timm:NAME` or `torchvision:NAME`."""
    family, _, name = name.partition(":")
    if family == "timm":
        said = _timm(name).pretrained_cfg
        return Published(said["input_size"][1], tuple(said["mean"]), tuple(said["std"]), said["crop_pct"])
    weights = _package("torchvision").models.get_model_weights(_known_to_torchvision(name)).DEFAULT.transforms()
    size, scaled = weights.crop_size[0], weights.resize_size[0]
    return Published(size, tuple(weights.mean), tuple(weights.std), size / scaled)


def is_published(name: str) -> bool:
    """Whether the name stands for a network with published weights: `timm:NAME`."""
    return name.startswith("timm:")


def pretrained(name: str) -> nn.Module:
    """The network `timm:NAME` with its weights, which timm downloads and caches.

    Raises MissingDataError if they are not available.
    """
    try:
        module: nn.Module = _timm(name.partition(":")[2], pretrained=True)
    except ConvolveError:
        raise
    except Exception as error:  # exceptions of timm, of the hub it asks, or of the network
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise MissingDataError(
            f"the weights of {name} cannot be downloaded ({reason}); give a file of them with --arch {name}"
        ) from error
    return module


def _timm(name: str, **settings: Any) -> Any:
    timm = _package("timm")
    if name.partition(".")[0] not in timm.list_models():
        raise UsageError(unknown_name("network of timm", name, timm.list_models()))
    return timm.create_model(name, **settings)


def _torchvision(name: str, channels: int, classes: int) -> Any:
    if channels != 3:
        raise UsageError(f"torchvision:{name} takes color images, not {channels} channels")
    name = _known_to_torchvision(name)
    also = {"init_weights": True} if name in ("googlenet", "inception_v3") else {}  # they warn without
    return _package("torchvision").models.get_model(name, num_classes=classes, **also)


def _known_to_torchvision(name: str) -> str:
    models = _package("torchvision").models
    known = models.list_models(module=models)
    if name not in known:
        raise UsageError(unknown_name("network of torchvision", name, known))
    return name


def _package(name: str) -> Any:
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise _broken(name, error) from error
        how = install_hint("timm") if name == "timm" else "pip install torchvision"
        raise UnsupportedError(f"the network is built by {name}, which is not installed: {how}") from None
    except Exception as error:  # torchvision's own exceptions, with a torch that it was not built for
        raise _broken(name, error) from error


def _broken(name: str, error: Exception) -> UnsupportedError:
    reason = " ".join(str(error).split())
    return UnsupportedError(
        f"the network is built by {name}, which cannot be imported here ({reason}); install the torchvision that "
        f"belongs to torch {torch.__version__}"
    )


def _build(make: Callable[[int, int], nn.Module], _spec: NetworkSpec, shape_CHW: Shape, classes: int) -> nn.Module:
    """The network with initial values wherever they would otherwise be unset: only its package knows how."""
    with torch.device("cpu"):
        module = make(shape_CHW[0], classes)
    module.initialize = partial(  # type: ignore[assignment]
        _initialize, module, partial(make, shape_CHW[0], classes)
    )
    return module


@torch.no_grad()
def _initialize(module: nn.Module, make: Callable[[], nn.Module], generator: torch.Generator) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(generator.initial_seed())
        fresh = make()
    for ours, theirs in ((module.parameters(), fresh.parameters()), (module.buffers(), fresh.buffers())):
        for tensor, value in zip(ours, theirs, strict=True):
            tensor.copy_(value)
