"""A field of a recipe."""

from dataclasses import field
from typing import Any


def setting(default: Any, comment: str) -> Any:
    """A field with its default and the comment that `convolve show` prints beside it."""
    if default == {}:
        return field(default_factory=dict, metadata={"comment": comment})
    return field(default=default, metadata={"comment": comment})
