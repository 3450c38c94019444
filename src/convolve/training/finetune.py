"""Training that starts from the weights of another model."""

from __future__ import annotations

from torch import nn

from convolve.errors import ModelError

_BODY = "body."  # what a network with a head of ours calls the rest


def take_weights(module: nn.Module, source: nn.Module, has_fresh_head: bool, what: str) -> None:
    """Initial weights by name, all but those of a fresh head.

    Raises ModelError for `what` of the source does not fit, by the first layer that differs.
    """
    ours = module.state_dict()
    theirs = {key.removeprefix(_BODY): tensor for key, tensor in source.state_dict().items()}
    for key, tensor in ours.items():
        if has_fresh_head and not key.startswith(_BODY):
            continue
        found = theirs.get(key.removeprefix(_BODY))
        if found is None or found.shape != tensor.shape:
            came = "is not there" if found is None else f"has the shape {tuple(found.shape)}"
            raise ModelError(f"{what}: {key.removeprefix(_BODY)} {came}, where {tuple(tensor.shape)} would fit")
        ours[key] = found
    module.load_state_dict(ours)
