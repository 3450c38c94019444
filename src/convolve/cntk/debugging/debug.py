"""Functions described in words. Switches of CNTK's engine are accepted and do nothing."""

import string
import sys
from itertools import count, product
from typing import Any

from convolve.cntk.nodes import operands_in_order, resolved
from convolve.cntk.ops.functions import Function
from convolve.cntk.searching import depth_first_search


def set_checked_mode(enable: bool) -> None: ...


def set_computation_network_trace_level(level: int) -> None: ...


def set_computation_network_track_gap_nans(enable: bool) -> None: ...


def set_node_timing(enable: bool) -> None: ...


def force_deterministic(seed: int) -> None:
    """Computation is always deterministic; from now on, everything random takes this one seed."""
    from convolve.cntk import seeds

    seeds.fixed(seed)


def dump_signature(root: Function, tag: str | None = None) -> None:
    """Print the arguments and results of a function."""
    sys.stdout.write(f"{root}\n")


def dump_function(root: Function, tag: str | None = None) -> None:
    """Print a function, its arguments and results, and one line per part, also inside blocks."""
    dump_signature(root, tag)
    names = _Names()
    for item in depth_first_search(root, lambda _: True, depth=-1):
        if isinstance(item, Function):
            node = item.node
            name = names.of(node)
            made = ", ".join(names.described(output) for output in item.outputs)
            given = ", ".join(names.described(resolved(variable)) for variable in operands_in_order(node))
            line = f"{node.op_name:<20} {name:<30} ({given}) -> ({made})"
        else:
            name = f"{item.name} {item.uid}" if item.is_input else names.of(item)
            line = f"{item.kind:<20} {name:<30}  {_axes(item)}{item.shape}"
        sys.stdout.write(f"  {line}\n")


class _Names:
    """Letters for things without a name: a, b, ... z, aa, ab, ..."""

    def __init__(self) -> None:
        letters = string.ascii_lowercase
        self._letters = ("".join(each) for size in count(1) for each in product(letters, repeat=size))
        self._given: dict[Any, str] = {}

    def of(self, item: Any) -> str:
        if item.name:
            return str(item.name)
        if item not in self._given:
            self._given[item] = next(self._letters)
        return self._given[item]

    def described(self, variable: Any) -> str:
        return f"{self.of(variable)}:{_axes(variable)}{variable.shape}"


def _axes(variable: Any) -> str:
    return "[b*]" if variable.has_batch_axis else ""


def save_as_legacy_model(root: Function, filename: str) -> None:
    if not isinstance(root, Function):
        raise TypeError(f"save_as_legacy_model: give a Function, not {type(root)}")
    raise NotImplementedError(
        "save_as_legacy_model: convolve reads files of CNTK 1 but does not write them; use save(), whose files CNTK "
        "2 reads"
    )


def debug_model(model: Function, in_stream: Any = None, out_stream: Any = None, exit_func: Any = None) -> Function:
    raise NotImplementedError(
        "debug_model is not supported: print dump_function(model) and eval(..., outputs=[...]) of inner values, or "
        "use Python's debugger"
    )
