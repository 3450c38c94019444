"""Function: a piece of a network that can be applied, evaluated, copied, trained and saved."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from enum import Enum, unique
from typing import Any

import numpy as np

from convolve.cntk import cloning, refused, running, searching
from convolve.cntk.nodes import Node, infer_all
from convolve.cntk.ops.structure import Structure
from convolve.cntk.variables import Constant, Input, Output, Variable, new_uid


@unique
class CloneMethod(Enum):
    """What happens to the parameters of a copy: shared, cloned, or frozen as constants."""

    share = "share"
    clone = "clone"
    freeze = "freeze"


@unique
class ModelFormat(Enum):
    CNTKv2 = "CNTKv2"
    ONNX = "ONNX"


class Function(Structure):
    """The function whose last node is `root`; `Function(f)` is what the Python function f computes from placeholders.

    A composite function reaches from its arguments to the root, a primitive one is the root alone.
    """

    def __new__(cls, root: Any = None, *args: Any, **kwargs: Any) -> Any:
        if callable(root) and not isinstance(root, Node | Function):
            return function_of(root, makes_parameters=False)
        if not isinstance(root, Node):
            raise NotImplementedError(f"Function({root!r}): give a Python function, as with @Function")
        return object.__new__(cls)

    def __init__(self, root: Any, is_composite: bool = True, order: Sequence[Variable] = (), **_: Any) -> None:
        if not isinstance(root, Node):
            return  # made from a Python function, by __new__
        self._root, self.is_composite = root, is_composite
        self._order = list(order)
        self._uid = new_uid("CompositeFunction") if is_composite else root.uid

    # -- applying -----------------------------------------------------------------------------------------------------

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """With variables and functions: the function of these. With numbers: its value."""
        values = self.argument_map(*args, **kwargs)
        if any(isinstance(value, Variable | Function) for value in values.values()):
            for variable, value in values.items():
                if not isinstance(value, Variable | Function):
                    name = variable.name or variable.uid
                    raise TypeError(f"argument {name} was passed an object that is not a Variable or Function")
            return self.clone(CloneMethod.share, values)
        result = running.evaluated(self.outputs, values)
        return next(iter(result.values())) if len(result) == 1 else tuple(result.values())

    def argument_map(self, *args: Any, **kwargs: Any) -> dict[Variable, Any]:
        """Argument -> what a call passes for it, by position or by name."""
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

    def clone(self, method: Any, substitutions: Mapping[Any, Any] | None = None) -> Function:
        """A copy, in which `substitutions` replace arguments or inner values."""
        for each in (item for pair in (substitutions or {}).items() for item in pair):
            if not isinstance(each, Variable | Function):
                raise TypeError(f"clone: substitutions must map variables to variables, not {type(each)}")
        return cloning.cloned(self, CloneMethod(getattr(method, "value", method)).value, substitutions or {})

    def replace_placeholders(self, substitutions: Mapping[Any, Any]) -> Function:
        """Replace placeholders, in place."""
        own = set(self.placeholders)
        for placeholder, value in substitutions.items():
            if not isinstance(value, Variable | Function):
                raise TypeError(f"replace_placeholders: a variable or function is needed, not {type(value)}")
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

    def update_signature(self, *args: Any, **kwargs: Any) -> None:
        """State the types of the arguments: `Tensor[3]`, `Sequence[Tensor[3]]`, shapes."""
        from convolve.cntk.layers.typing import as_variable_type

        inputs: dict[Any, Any] = {}
        for variable, kind in self.argument_map(*args, **kwargs).items():
            if kind is None:
                continue
            shape, axes, is_sparse = as_variable_type(kind)
            inputs[variable] = Input(shape, dtype=variable.data_type, name=variable.name, dynamic_axes=axes)
            inputs[variable].is_sparse = is_sparse
        self._order = [inputs.get(variable, variable) for variable in self.signature]
        self.replace_placeholders(inputs)

    @staticmethod
    def with_signature(*args: Any, **kwargs: Any) -> Any:
        """A decorator: the function of a Python function with arguments of these types."""
        from convolve.cntk.layers.typing import Signature

        return lambda definition: Function(Signature(*args, **kwargs)(definition))

    # -- evaluation
    # -------------------------------------------------------------------------------------------------------

    def eval(self, arguments: Any = None, outputs: Any = None, device: Any = None, as_numpy: bool = True) -> Any:
        """The value: an array, or a dictionary by variable if there are several outputs."""
        asked = self.outputs if outputs is None else outputs
        wanted = tuple(map(as_variable, asked if isinstance(asked, list | tuple | set) else [asked]))
        given = running.arguments_of(wanted, arguments, self.signature)
        result = running.named(asked, running.evaluated(wanted, given, as_numpy))
        return next(iter(result.values())) if len(result) == 1 else result

    def forward(
        self,
        arguments: Any,
        outputs: Any = None,
        keep_for_backward: Any = None,
        device: Any = None,
        as_numpy: bool = True,
    ) -> tuple[Any, dict[Variable, Any]]:
        """(state for `backward`, values of the outputs): a pass in training mode."""
        asked = self.outputs if outputs is None else outputs
        wanted = tuple(map(as_variable, asked))
        given = running.arguments_of(wanted, arguments, self.signature)
        state, values = running.forward(wanted, given, keep_for_backward, as_numpy)
        return state, running.named(asked, values)

    def backward(self, state: Any, root_gradients: Any, variables: Any, as_numpy: bool = True) -> Any:
        """Gradients with respect to `variables`, from those at the outputs: a dictionary, or the only one."""
        if state is None:
            raise ValueError(
                "You are attempting to backpropagate on a minibatch for which the corresponding forward operation did "
                "not keep any intermediate results, Please set keep_for_backward in forward to the variables in "
                "root_gradients.keys()"
            )
        return running.backward(state, root_gradients, variables, as_numpy)

    def grad(
        self, at: Any, wrt: Any = None, outputs: Any = None, device: Any = None, as_numpy: bool = True,
        grad_root: Any = None,
    ) -> Any:  # fmt: skip
        """The gradient of the sum of the output, with respect to `wrt`: by default all inputs that need one."""
        return running.gradient(self, at, wrt, outputs, as_numpy=as_numpy, grad_root=grad_root)

    def train(self, *args: Any, **options: Any) -> Any:
        from convolve.cntk.train.simple import train

        return train(self, *args, **options)

    def test(self, *args: Any, **options: Any) -> Any:
        from convolve.cntk.train.simple import test

        return test(self, *args, **options)

    # -- the rest -----------------------------------------------------------------------------------------------------

    def save(self, filename: str, format: Any = ModelFormat.CNTKv2, **_: Any) -> None:
        from convolve.cntk import saving

        if not isinstance(filename, str | os.PathLike) or not str(filename):
            raise ValueError(f"save: give the name of a file, not {filename!r}")
        saving.save(self, str(filename), ModelFormat(getattr(format, "value", format)).value)

    @staticmethod
    def load(model: Any, device: Any = None, format: Any = ModelFormat.CNTKv2) -> Function:
        from convolve.cntk import saving

        return saving.load(model, ModelFormat(getattr(format, "value", format)).value)

    load_model = load

    def print_node_timing(self) -> None:
        """Does nothing: nothing is timed."""

    def restore(self, filename: str) -> None:
        from convolve.cntk import saving

        saving.restore(self, str(filename))

    def set_attribute(self, name: str, value: Any) -> None:
        if name == "dropoutRate":
            self._root.attributes[name] = float(value)
        elif name == "rngSeed":
            self._root.attributes[name] = int(value)
            self._root.streams.clear()
        else:
            raise ValueError(f"set_attribute: {name} cannot be set; dropoutRate and rngSeed can")
        running.forget()

    def __getitem__(self, key: Any) -> Any:
        """One of several outputs; a slice of a single one."""
        count = len(self.outputs)
        if count == 1:
            return super().__getitem__(key)
        if not isinstance(key, int | slice) or (isinstance(key, int) and not -count <= key < count):
            raise KeyError(f"{self} has {count} outputs; select one by its number, not by {key!r}")
        return self.outputs[key]

    def __rshift__(self, other: Any) -> Any:
        """`f >> g`, and `f >> (g, h)`: both functions of f."""
        if isinstance(other, tuple):
            made = [as_function(each)(*self.outputs) for each in other]
            return Function(Node("Combine", [output for each in made for output in each.outputs]))
        return as_function(other)(*self.outputs)

    def __lshift__(self, other: Any) -> Any:
        return self(as_function(other))

    def __str__(self) -> str:
        return searching.in_words(self)

    def __repr__(self) -> str:
        op = f"Composite({self._root.op_name})" if self.is_composite else self._root.op_name
        return f"{op}: {', '.join(map(str, self.signature))} -> {', '.join(map(str, self.outputs))}"

    as_string = __repr__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Function) and (self._root, self.is_composite) == (other._root, other.is_composite)

    def __hash__(self) -> int:
        return hash(self._root)


# -- making them ------------------------------------------------------------------------------------------------------


def as_variable(value: Any, dtype: Any = None) -> Variable:
    """A variable, a function's output, or numbers as a constant (with the type of the other operands)."""
    if isinstance(value, Variable):
        return value
    if isinstance(value, Function):
        return value.output
    if callable(value):
        return function_of(value).output
    if value is None:
        raise ValueError("could not convert instance of type <class 'NoneType'> to an array")
    if dtype is None and not isinstance(value, np.ndarray):
        dtype = np.float32
    return Constant(value, dtype=dtype)


def as_function(value: Any) -> Function:
    """The function itself; a Python function, converted; or the function that returns a variable."""
    if isinstance(value, Function):
        return value
    if isinstance(value, Variable):
        return Function(value.node) if isinstance(value, Output) else Function(Node("Combine", [value]))
    if not callable(value):
        raise TypeError(f"a function, a variable or a Python function is needed, not {value!r}")
    return function_of(value)


def combined(operands: Any, name: str = "") -> Function:
    """One function with the outputs of several."""
    outputs = [v for each in operands for v in (each.outputs if isinstance(each, Function) else [as_variable(each)])]
    return Function(Node("Combine", outputs, name=name))


def as_composite(root_function: Any, name: str = "") -> Function:
    made = Function(as_function(root_function).node)
    if name and not made.name:
        made.name = name
    return made


def load_model(model: Any, device: Any = None, format: Any = ModelFormat.CNTKv2) -> Function:
    """The function in a v2 file."""
    return Function.load(model, device, format)


from convolve.cntk.ops.definitions import BlockFunction as BlockFunction  # noqa: E402, PLC0414 - made of Function
from convolve.cntk.ops.definitions import as_block as as_block  # noqa: E402, PLC0414
from convolve.cntk.ops.definitions import function_of as function_of  # noqa: E402, PLC0414

__getattr__ = refused.attribute(__name__)
