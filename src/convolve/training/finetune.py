"""Training that starts from the weights of another model."""

from __future__ import annotations

from torch import nn

from convolve.errors import ModelError


def take_weights(module: nn.Module, source: nn.Module, name: str) -> None:
    """Initial weights by name; a last layer for other classes stays fresh, anything else must fit.

    `name` is what the user calls the model that `source` is of.
    """
    ours, theirs = module.state_dict(), source.state_dict()
    fitting = {key: tensor for key, tensor in theirs.items() if key in ours and ours[key].shape == tensor.shape}
    fresh = [key for key in ours if key not in fitting]
    last_layer = list(ours)[-2:]
    if any(key not in last_layer for key in fresh):
        raise ModelError(
            f"{name} does not fit this recipe's network: {fresh[0]} is missing or has another shape; "
            "choose the same model.name and model.variant"
        )
    module.load_state_dict(ours | fitting)
