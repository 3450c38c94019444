"""Names of CNTK that are known but not supported, each with a way out."""

from collections.abc import Callable
from typing import Any

_RECURRENCE = "recurrence is not supported, and sequences only through `cntk.sequence`; convolve is for images"
_GROUPS = {
    _RECURRENCE: (
        "Recurrence RecurrenceFrom ForwardDeclaration Fold FoldFrom UnfoldFrom LSTM GRU RNNStep RNNUnit Delay "
        "PastValueWindow PastValue FutureValue SequentialConvolution AttentionModel optimized_rnnstack "
        "edit_distance_error forward_backward labels_to_graph lattice_sequence_with_softmax"
    ),
    "convolve does not read this format; write the data as CTF": (
        "HTKFeatureDeserializer HTKMLFDeserializer HTKMLFBinaryDeserializer LatticeDeserializer CBFDeserializer"
    ),
    "this loss is not supported; write it with cntk's operations": (
        "nce_loss lambda_rank ndcg_at_1 cosine_distance_with_negative_samples hierarchical_softmax_layer"
    ),
    "user functions in C++ are not supported; write them in Python, as UserFunction": (
        "native_user_function register_native_user_function"
    ),
}
_WAYS_OUT = {name: way for way, names in _GROUPS.items() for name in names.split()}


def known(name: str) -> bool:
    return name in _WAYS_OUT


def way_out(name: str) -> str:
    return f"{name}: {_WAYS_OUT[name]}"


def by_way_out() -> dict[str, list[str]]:
    """Way out -> the names that have it."""
    return {way: names.split() for way, names in _GROUPS.items()}


def stand_in(name: str) -> Callable[..., Any]:
    """What a program gets that imports `name`; it raises an error when it is called."""

    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError(way_out(name))

    made = {"__init__": refuse, "__class_getitem__": classmethod(lambda cls, item: cls), "is_refused": True}
    return type(name, (), made)


def is_stand_in(value: Any) -> bool:
    return isinstance(value, type) and "is_refused" in vars(value)


def attribute(module: str) -> Callable[[str], Any]:
    """For a module's `__getattr__`: a stand-in for a name that is known but not supported."""

    def get(name: str) -> Any:
        if known(name):
            return stand_in(name)
        raise AttributeError(f"module '{module}' has no attribute '{name}'")

    return get
