"""Function: a piece of a network that can be applied, asked, copied, trained and saved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum, unique
from typing import Any

import numpy as np

from convolve.cntk import cloning, refused, running, searching
from convolve.cntk.nodes import Block, Node, infer_all, leaves_of, results_of
from convolve.cntk.operators import Operators
from convolve.cntk.variables import Constant, Input, Output, Parameter, Placeholder, Variable, new_uid


@unique
class CloneMethod(Enum):
    """What becomes of the parameters of a copy: the same ones, copies of them, or constants."""

    share = "share"
    clone = "clone"
    freeze = "freeze"


@unique
class ModelFormat(Enum):
    CNTKv2 = "CNTKv2"
    ONNX = "ONNX"


class Function(Operators):
    """The function whose last node is `root`; `Function(f)` of a Python function is what that makes of placeholders.

    A composite one reaches from its arguments to the root, a primitive one is the root alone.
    """

    def __new__(cls, root: Any = None, *args: Any, **kwargs: Any) -> Any:
        if callable(root) and not isinstance(root, Node | Function):
            types = getattr(root, "cntk_types", ())
            return function_of(root).update_signature(*types) if types else function_of(root)
        return object.__new__(cls)

    def __init__(self, root: Any, is_composite: bool = True, order: Sequence[Variable] = (), **_: Any) -> None:
        if not isinstance(root, Node):
            return  # made of a Python function, by __new__
        self._root, self.is_composite = root, is_composite
        self._order = list(order)
        self._uid = new_uid("CompositeFunction") if is_composite else root.uid

    # -- what it is ---------------------------------------------------------------------------------------------------

    @property
    def root_function(self) -> Function:
        return Function(self._root, is_composite=False) if self.is_composite else self

    @property
    def node(self) -> Node:
        return self._root

    @property
    def uid(self) -> str:
        return self._uid

    @property
    def name(self) -> str:
        return self._root.name

    @name.setter
    def name(self, name: str) -> None:
        self._root.name = name
        for output in self._root.outputs:
            output.name = name

    @property
    def op_name(self) -> str:
        return "CompositeFunctionOpName" if self.is_composite else self._root.op_name

    is_primitive = property(lambda self: not self.is_composite and self._root.block is None)
    is_block = property(lambda self: not self.is_composite and self._root.block is not None)

    @property
    def attributes(self) -> dict[str, Any]:
        return {} if self.is_composite else searching.readable_attributes(self._root)

    @property
    def block_root(self) -> Function:
        block = self._block("block_root")
        return block.root.root_function

    @property
    def block_composite(self) -> Function:
        return self._block("block_composite").root

    @property
    def block_arguments_mapping(self) -> list[tuple[Variable, Variable]]:
        return list(self._block("block_arguments_mapping").arguments)

    def _block(self, what: str) -> Block:
        block = None if self.is_composite else self._root.block
        if block is None:
            raise ValueError(f"Function::{what}() cannot be called for a Function which is not a block.")
        return block

    # -- what it consists of ------------------------------------------------------------------------------------------

    @property
    def outputs(self) -> tuple[Variable, ...]:
        return tuple(results_of(self._root))

    @property
    def output(self) -> Variable:
        outputs = self.outputs
        if len(outputs) != 1:
            raise RuntimeError(
                f"A Function instance with more than one output cannot be implicitly converted to a Variable; {self} "
                f"has {len(outputs)}"
            )
        return outputs[0]

    @property
    def inputs(self) -> tuple[Variable, ...]:
        return tuple(leaves_of(self.outputs) if self.is_composite else self._root.inputs)

    @property
    def arguments(self) -> tuple[Variable, ...]:
        found = [
            v for v in self.inputs if v.kind in ("Input", "Placeholder") or (not self.is_composite and v.is_output)
        ]
        return tuple(dict.fromkeys(found))

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        return tuple(dict.fromkeys(v for v in self.inputs if isinstance(v, Parameter)))

    @property
    def constants(self) -> tuple[Constant, ...]:
        return tuple(dict.fromkeys(v for v in self.inputs if isinstance(v, Constant)))

    @property
    def placeholders(self) -> tuple[Placeholder, ...]:
        return tuple(dict.fromkeys(v for v in self.inputs if isinstance(v, Placeholder)))

    @property
    def signature(self) -> tuple[Variable, ...]:
        """The arguments in the order in which a call takes them: that of the Python function, if it was one."""
        arguments = list(self.arguments)
        first = [variable for variable in self._order if variable in arguments]
        return (*first, *(variable for variable in arguments if variable not in first))

    shape = property(lambda self: (-2,) if self.output.known_shape is None else self.output.shape)
    dtype = property(lambda self: self.output.dtype)
    owner = property(lambda self: self.output.owner)
    dynamic_axes = property(lambda self: self.output.dynamic_axes)
    is_sparse = property(lambda self: self.output.is_sparse)
    needs_gradient = property(lambda self: self.output.needs_gradient)
    is_parameter = is_constant = is_input = is_placeholder = property(lambda self: False)
    is_output = property(lambda self: True)

    # -- applying -----------------------------------------------------------------------------------------------------

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Of variables and functions: the function of these. Of numbers: what it gives."""
        values = self.argument_map(*args, **kwargs)
        if any(isinstance(value, Variable | Function) for value in values.values()):
            return self.clone(CloneMethod.share, values)
        result = running.evaluated(self.outputs, values)
        return next(iter(result.values())) if len(result) == 1 else tuple(result.values())

    def argument_map(self, *args: Any, **kwargs: Any) -> dict[Variable, Any]:
        """Argument -> what a call gives for it, by place or by name."""
        wanted = self.signature
        if len(args) + len(kwargs) != len(wanted):
            raise TypeError(f"CNTK Function expected {len(wanted)} arguments, got {len(args) + len(kwargs)}")
        given: dict[Variable, Any] = dict(zip(wanted, args, strict=False))
        for name, value in kwargs.items():
            found = [variable for variable in wanted if variable.name == name]
            if not found or found[0] in given:
                raise TypeError(f"got an unexpected keyword argument '{name}'")
            given[found[0]] = value
        return given

    def clone(self, method: Any = CloneMethod.clone, substitutions: Mapping[Any, Any] | None = None) -> Function:
        """A copy, with `substitutions` in the place of its arguments or of inner values."""
        return cloning.cloned(self, CloneMethod(getattr(method, "value", method)).value, substitutions or {})

    def replace_placeholders(self, substitutions: Mapping[Any, Any]) -> Function:
        """Bind placeholders, in place."""
        own = set(self.placeholders)
        for placeholder in substitutions:
            if placeholder not in own:
                raise ValueError(
                    f"Placeholder '{placeholder}' specified for replacement not found in the Function '{self!r}'."
                )
        cloning.replace_in_place(self, {key: as_variable(value) for key, value in substitutions.items()})
        infer_all(self.outputs)
        return self

    def replace_placeholder(self, substitution: Any) -> Function:
        placeholders = self.placeholders
        if len(placeholders) != 1:
            raise ValueError(
                f"ReplacePlaceholder called with a single replacement variable but this Function '{self!r}' has "
                f"{len(placeholders)} placeholders"
            )
        return self.replace_placeholders({placeholders[0]: substitution})

    def update_signature(self, *args: Any, **kwargs: Any) -> Function:
        """Say of what type the arguments are: `Tensor[3]`, `Sequence[Tensor[3]]`, shapes."""
        from convolve.cntk.layers.typing import as_variable_type

        inputs: dict[Any, Any] = {}
        for variable, kind in self.argument_map(*args, **kwargs).items():
            shape, axes, is_sparse = as_variable_type(kind)
            inputs[variable] = Input(shape, dtype=variable.dtype, name=variable.name, dynamic_axes=axes)
            inputs[variable].is_sparse = is_sparse
        self._order = [inputs[variable] for variable in self.signature]
        return self.replace_placeholders(inputs)

    @staticmethod
    def with_signature(*types: Any) -> Any:
        """A decorator: the function of a Python function, whose arguments are of these types."""
        return lambda definition: function_of(definition).update_signature(*types)

    # -- asking -------------------------------------------------------------------------------------------------------

    def eval(self, arguments: Any = None, outputs: Any = None, device: Any = None, as_numpy: bool = True) -> Any:
        """What it gives: an array, or a dictionary by variable where there are several outputs."""
        wanted = self.outputs if outputs is None else tuple(map(as_variable, outputs))
        result = running.evaluated(wanted, running.arguments_of(wanted, arguments, self.signature), as_numpy)
        return next(iter(result.values())) if len(result) == 1 else result

    def forward(
        self,
        arguments: Any,
        outputs: Any = None,
        keep_for_backward: Any = None,
        device: Any = None,
        as_numpy: bool = True,
    ) -> tuple[Any, dict[Variable, Any]]:
        """(what `backward` needs, values of the outputs): a pass as in training."""
        wanted = self.outputs if outputs is None else tuple(map(as_variable, outputs))
        return running.forward(
            wanted, running.arguments_of(wanted, arguments, self.signature), keep_for_backward, as_numpy
        )

    def backward(self, state: Any, root_gradients: Any, variables: Any, as_numpy: bool = True) -> Any:
        """Gradients of `variables`, from those at the outputs: a dictionary, or those of the only one."""
        if state is None:
            raise ValueError("You are attempting to backpropagate on a minibatch for which no state was kept.")
        return running.backward(state, root_gradients, variables, as_numpy)

    def grad(
        self, at: Any, wrt: Any = None, outputs: Any = None, device: Any = None, as_numpy: bool = True,
        grad_root: Any = None,
    ) -> Any:  # fmt: skip
        """The gradient of the sum of the output, with respect to `wrt`: by default to all inputs that need one."""
        return running.gradient(self, at, wrt, outputs, as_numpy=as_numpy, grad_root=grad_root)

    def train(self, *args: Any, **options: Any) -> Any:
        from convolve.cntk.train.simple import train

        return train(self, *args, **options)

    def test(self, *args: Any, **options: Any) -> Any:
        from convolve.cntk.train.simple import test

        return test(self, *args, **options)

    # -- finding ------------------------------------------------------------------------------------------------------

    def find_all_with_name(self, name: str, depth: int = 0) -> list[Any]:
        return searching.depth_first_search(self, lambda item: item.name == name, depth)

    def find_by_name(self, name: str, depth: int = 0) -> Any:
        """The function or variable of that name; None where there is none."""
        found = [
            item
            for item in self.find_all_with_name(name, depth)
            if not getattr(item, "is_output", False) or isinstance(item, Function)
        ]
        if len(found) > 1:
            raise RuntimeError(
                f"found multiple functions matching '{name}'. If that was expected call find_all_with_name"
            )
        return found[0] if found else None

    def find_by_uid(self, uid: str, depth: int = 0) -> Any:
        found = searching.depth_first_search(self, lambda item: item.uid == uid, depth)
        return found[0] if found else None

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        found = searching.member(self, name)
        if found is None:
            raise AttributeError(f"'{type(self).__name__}' object has no attribute '{name}'")
        return found

    # -- the rest -----------------------------------------------------------------------------------------------------

    def save(self, filename: str, format: Any = ModelFormat.CNTKv2, **_: Any) -> None:
        from convolve.cntk import saving

        saving.save(self, str(filename), ModelFormat(getattr(format, "value", format)).value)

    @staticmethod
    def load(model: Any, device: Any = None, format: Any = ModelFormat.CNTKv2) -> Function:
        from convolve.cntk import saving

        return saving.load(model)

    load_model = load

    def print_node_timing(self) -> None:
        """Nothing is timed."""

    def restore(self, filename: str) -> None:
        from convolve.cntk import saving

        saving.restore(self, str(filename))

    def set_attribute(self, name: str, value: Any) -> None:
        if name == "dropoutRate":
            self._root.attributes[name] = float(value)
        elif name == "rngSeed":
            self._root.attributes[name], self._root.state = int(value), None
        else:
            raise ValueError(f"set_attribute: {name} cannot be set; dropoutRate and rngSeed can")
        running.forget()

    def __getitem__(self, key: Any) -> Any:
        """Of several outputs one; of a single one, a part of it."""
        return self.outputs[key] if len(self.outputs) > 1 else super().__getitem__(key)

    def __rshift__(self, other: Any) -> Any:
        return as_function(other)(self)

    def __lshift__(self, other: Any) -> Any:
        return self(as_function(other))

    def __str__(self) -> str:
        return searching.in_words(self)

    def __repr__(self) -> str:
        if not self.is_composite:
            return str(self)
        given, made = ", ".join(map(str, self.signature)), ", ".join(map(str, self.outputs))
        return f"Composite({self._root.op_name}): {given} -> {made}"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Function) and (self._root, self.is_composite) == (other._root, other.is_composite)

    def __hash__(self) -> int:
        return hash(self._root)


# -- making them ------------------------------------------------------------------------------------------------------


def as_variable(value: Any, dtype: Any = None) -> Variable:
    """A variable, a function's output, or the numbers as a constant (of the type of what it is computed with)."""
    if isinstance(value, Variable):
        return value
    if isinstance(value, Function):
        return value.output
    if callable(value):
        return function_of(value).output
    if dtype is None and not isinstance(value, np.ndarray):
        dtype = np.float32
    return Constant(value, dtype=dtype)


def as_function(value: Any) -> Function:
    """A function as it is; a Python function, made one; a variable as the function that gives it."""
    if isinstance(value, Function):
        return value
    if isinstance(value, Variable):
        return Function(value.node) if isinstance(value, Output) else Function(Node("Combine", [value]))
    return function_of(value)


def as_composite(function: Any, name: str = "") -> Function:
    return Function(as_function(function).node)


def load_model(model: Any, device: Any = None, format: Any = ModelFormat.CNTKv2) -> Function:
    """The function that a v2 file holds."""
    return Function.load(model, device, format)


from convolve.cntk.ops.definitions import BlockFunction as BlockFunction  # noqa: E402, PLC0414 - made of Function
from convolve.cntk.ops.definitions import as_block as as_block  # noqa: E402, PLC0414
from convolve.cntk.ops.definitions import function_of as function_of  # noqa: E402, PLC0414

__getattr__ = refused.attribute(__name__)
