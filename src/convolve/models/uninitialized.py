"""Memory for a network that is on the meta device."""

from typing import TypeVar

import torch
from torch import nn

M = TypeVar("M", bound=nn.Module)


def uninitialized(module: M, device: torch.device | str = "cpu") -> M:
    """`module` itself, its weights allocated on `device` without being set.

    As `to_empty`, which would import torch's symbolic shapes and thereby take a third of a second.
    """
    module._apply(lambda each: torch.empty(each.shape, dtype=each.dtype, device=device))  # type: ignore[no-untyped-call]
    return module
