"""The order of a network's layers: which are frozen, and how much slower the early ones learn."""

from types import SimpleNamespace
from typing import Any

from torch import nn

from convolve.errors import look_up
from convolve.models.heads import last_layer

BODY = "body."  # prefix of the layer names in a network with a new head; users may omit it


def frozen_layers(network: nn.Module, freeze: str) -> set[str]:
    """The names of the layers with parameters that `model.freeze` selects: "none", "all" but the head, or those up to
    and including a layer, given by its name or that of a module that contains it."""
    numbered = [name for name, layer in network.named_modules() if _has_numbers(layer)]
    if freeze == "none":
        return set()
    if freeze == "all":
        return set(numbered[: numbered.index(_head(network))])
    known = {name.removeprefix(BODY): name for name, _ in network.named_modules() if name}
    within = look_up(known, freeze.removeprefix(BODY), "layer", "model.freeze")
    reached = [name for name, _ in network.named_modules() if name == within or name.startswith(f"{within}.")]
    order = [name for name, _ in network.named_modules()]
    last = order.index(reached[-1])
    return {name for name in numbered if order.index(name) <= last}


def _has_numbers(layer: nn.Module) -> bool:
    return next(layer.parameters(recurse=False), next(layer.buffers(recurse=False), None)) is not None


def _head(network: nn.Module) -> str:
    """The first layer of the head: our hidden layer, or otherwise the last layer with weights."""
    return "head_hidden" if isinstance(getattr(network, "head_hidden", None), nn.Module) else last_layer(network)


def depths(network: nn.Module) -> dict[str, int]:
    """Name of each parameter -> the number of its layer, from 0 at the images. timm's networks define their own layers.

    In any other network, as in timm, each module of a list (a block) is one layer. Biases and normalization belong to
    the weights before them, parameters outside of layers (a class token) to the first layer, modules named in `joins`
    to the layer before, and both layers of a head count as one.
    """
    body: Any = getattr(network, "body", network)
    if hasattr(body, "group_matcher"):
        from timm.models import group_parameters

        named = [(name.removeprefix(BODY), parameter) for name, parameter in network.named_parameters()]
        theirs = SimpleNamespace(named_parameters=lambda: named)
        numbers = group_parameters(theirs, body.group_matcher(coarse=False), reverse=True)
        return {name: numbers[name.removeprefix(BODY)] for name, _ in network.named_parameters()}
    found: dict[str, int] = {}
    number, before = 0, ""
    for name, parameter in network.named_parameters():
        words = name.removeprefix(BODY).split(".")
        counted = [word.isdecimal() for word in words[1:]]
        block = ".".join(words[: 1 + (counted.index(False) if False in counted else len(counted))])
        block = "head" if block == "head_hidden" else block
        if parameter.ndim > 1 and len(words) > 1 and block != before and block not in getattr(body, "joins", ()):
            number, before = number + bool(before), block
        found[name] = number
    return found
