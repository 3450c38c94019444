"""Memory for a network on the meta device."""

from typing import TypeVar

import torch
from torch import nn

M = TypeVar("M", bound=nn.Module)


def uninitialized(module: M, device: torch.device | str = "cpu") -> M:
    """`module` itself, its weights on `device` with whatever stands there.

    What `to_empty` does; that asks for torch's symbolic shapes, whose import takes a third of a second.
    """
    module._apply(lambda each: torch.empty(each.shape, dtype=each.dtype, device=device))  # type: ignore[no-untyped-call]
    return module
