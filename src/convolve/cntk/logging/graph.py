"""Search in functions, and their pictures."""

from __future__ import annotations

from typing import Any

from convolve.cntk.ops.functions import Function
from convolve.cntk.searching import depth_first_search

__all__ = [
    "depth_first_search",
    "find_all_with_name",
    "find_by_name",
    "find_by_uid",
    "get_node_outputs",
]


def find_all_with_name(node: Any, node_name: str, depth: int = 0) -> list[Any]:
    return depth_first_search(node, lambda item: item.name == node_name, depth)


def find_by_name(node: Any, node_name: str, depth: int = 0) -> Any:
    if not isinstance(node_name, str):
        raise ValueError(f"node name has to be a string. You gave: {type(node_name)}")
    found = find_all_with_name(node, node_name, depth)
    if len(found) > 1:
        raise ValueError(
            f'found multiple functions matching "{node_name}". If that was expected call find_all_with_name'
        )
    return found[0] if found else None


def find_by_uid(node: Any, node_uid: str, depth: int = 0) -> Any:
    found = depth_first_search(node, lambda item: item.uid == node_uid, depth)
    return found[0] if found else None


def get_node_outputs(node: Any, depth: int = 0) -> list[Any]:
    functions = depth_first_search(node, lambda item: isinstance(item, Function), depth)
    return [output for function in functions for output in function.outputs]
