"""Sequences in CNTK's text format."""

from collections.abc import Mapping
from numbers import Number
from typing import Any

import numpy as np


def _is_tensor(data: Any) -> bool:
    """Whether all are lists of lists of numbers."""
    while isinstance(data, list | tuple) and len(data):
        data = data[0]
    return isinstance(data, Number)


def sequence_to_cntk_text_format(seq_idx: int, alias_tensor_map: Mapping[str, Any]) -> str:
    """The lines of one sequence: arrays with one sample per row; for sparse streams, one dictionary per sample."""
    longest = max(len(tensor) for tensor in alias_tensor_map.values())
    lines = []
    for at in range(longest):
        samples = [(alias, tensor) for alias, tensor in sorted(alias_tensor_map.items()) if at < len(tensor)]
        lines.append(f"{seq_idx}\t" + " ".join(f"|{alias} {_text(tensor, at)}" for alias, tensor in samples))
    return "\n".join(lines)


def _text(tensor: Any, at: int) -> str:
    if isinstance(tensor, np.ndarray) or _is_tensor(tensor):
        return " ".join(map(str, np.asarray(tensor)[at].ravel().tolist()))
    if isinstance(tensor, list) and isinstance(tensor[at], dict):
        return " ".join(f"{index}:{value}" for index, value in sorted(tensor[at].items()))
    raise ValueError(f'expected a tensor (dense) or list of dicts (sparse), but got "{type(tensor)}"')
