"""Names of CNTK that are known and not supported, each with a way out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_RECURRENCE = "sequences and recurrence are not supported but for what `cntk.sequence` has; convolve is for images"
_WAYS_OUT = {
    **dict.fromkeys(
        [
            "Recurrence",
            "RecurrenceFrom",
            "ForwardDeclaration",
            "Fold",
            "FoldFrom",
            "UnfoldFrom",
            "LSTM",
            "GRU",
            "RNNStep",
            "RNNUnit",
            "Delay",
            "PastValueWindow",
            "PastValue",
            "FutureValue",
            "SequentialConvolution",
            "AttentionModel",
            "optimized_rnnstack",
            "edit_distance_error",
            "forward_backward",
            "labels_to_graph",
            "lattice_sequence_with_softmax",
        ],
        _RECURRENCE,
    ),
    **dict.fromkeys(
        [
            "HTKFeatureDeserializer",
            "HTKMLFDeserializer",
            "HTKMLFBinaryDeserializer",
            "LatticeDeserializer",
            "CBFDeserializer",
        ],
        "this format is not read; write the data as CTF",
    ),
    **dict.fromkeys(
        [
            "nce_loss",
            "lambda_rank",
            "ndcg_at_1",
            "cosine_distance_with_negative_samples",
            "hierarchical_softmax_layer",
        ],
        "this loss is not supported; write it with cntk's operations",
    ),
    **dict.fromkeys(
        ["native_user_function", "register_native_user_function"],
        "user functions in C++ are not supported; write them in Python, as UserFunction",
    ),
}


def known(name: str) -> bool:
    return name in _WAYS_OUT


def way_out(name: str) -> str:
    return f"{name}: {_WAYS_OUT[name]}"


def by_way_out() -> dict[str, list[str]]:
    """Each way out, and the names that have it."""
    found: dict[str, list[str]] = {}
    for name, way in _WAYS_OUT.items():
        found.setdefault(way, []).append(name)
    return found


def stand_in(name: str) -> Callable[..., Any]:
    """What a program gets that imports `name`: it refuses to be called."""

    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError(way_out(name))

    made = {"__init__": refuse, "__class_getitem__": classmethod(lambda cls, item: cls), "is_refused": True}
    return type(name, (), made)


def is_stand_in(value: Any) -> bool:
    return isinstance(value, type) and "is_refused" in vars(value)


def attribute(module: str) -> Callable[[str], Any]:
    """For `__getattr__` of a module: a stand-in for what is known and not supported."""

    def get(name: str) -> Any:
        if known(name):
            return stand_in(name)
        raise AttributeError(f"module '{module}' has no attribute '{name}'")

    return get
