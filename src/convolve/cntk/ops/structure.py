"""What a function is, what it consists of, and search in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from convolve.cntk import searching
from convolve.cntk.nodes import Block, Node, leaves_of, operands_in_order, results_of
from convolve.cntk.operators import Operators
from convolve.cntk.variables import Constant, Output, Parameter, Placeholder, Variable

if TYPE_CHECKING:
    from convolve.cntk.ops.functions import Function


class Structure(Operators):
    _root: Node
    _uid: str
    _order: list[Variable]
    is_composite: bool

    # -- what it is ---------------------------------------------------------------------------------------------------

    @property
    def root_function(self) -> Function:
        from convolve.cntk.ops.functions import Function

        return Function(self._root, is_composite=False)

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
        if self._root.name:
            raise ValueError(f"Illegal to set name of a Function '{self!r}' with an existing name '{self._root.name}'")
        self._root.name = name

    def set_name(self, name: str) -> None:
        self.name = name

    @property
    def op_name(self) -> str:
        return "CompositeFunctionOpName" if self.is_composite else self._root.op_name

    is_primitive = property(lambda self: not self.is_composite)
    is_block = property(lambda self: not self.is_composite and self._root.block is not None)

    @property
    def attributes(self) -> dict[str, Any]:
        return {} if self.is_composite else searching.readable_attributes(self._root)

    @property
    def block_root(self) -> Function:
        return self._block("BlockRoot").root.root_function

    @property
    def block_composite(self) -> Function:
        return self._block("BlockComposite").root

    @property
    def block_arguments_mapping(self) -> tuple[tuple[Variable, Variable], ...]:
        return tuple(self._block("BlockArgumentsMapping").arguments)

    def _block(self, what: str) -> Block:
        block = None if self.is_composite else self._root.block
        if block is None:
            raise ValueError(f"Function::{what}() called for a Function '{self!r}' which is not a block.")
        return block

    # -- its parts
    # ---------------------------------------------------------------------------------------------------------

    @property
    def outputs(self) -> tuple[Variable, ...]:
        return tuple(results_of(self._root))

    @property
    def output(self) -> Variable:
        outputs = self.outputs
        if len(outputs) != 1:
            raise RuntimeError(
                f"A Function instance '{self!r}' with more than one output cannot be implicitly converted to a "
                "Variable."
            )
        return outputs[0]

    @property
    def inputs(self) -> tuple[Variable, ...]:
        return tuple(leaves_of(self.outputs, as_written=True) if self.is_composite else operands_in_order(self._root))

    def _leaves(self) -> list[Variable]:
        return leaves_of(self.outputs) if self.is_composite else self._root.inputs

    @property
    def arguments(self) -> tuple[Variable, ...]:
        found = [
            v for v in self.inputs if v.kind in ("Input", "Placeholder") or (not self.is_composite and v.is_output)
        ]
        return tuple(dict.fromkeys(found))

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        return tuple(dict.fromkeys(v for v in self._leaves() if isinstance(v, Parameter)))

    @property
    def constants(self) -> tuple[Constant, ...]:
        return tuple(dict.fromkeys(v for v in self._leaves() if isinstance(v, Constant)))

    @property
    def placeholders(self) -> tuple[Placeholder, ...]:
        return tuple(dict.fromkeys(v for v in self._leaves() if isinstance(v, Placeholder)))

    @property
    def signature(self) -> tuple[Variable, ...]:
        """The arguments in the order of a call: that of the Python function, if it came from one."""
        arguments = list(self.arguments)
        first = [variable for variable in self._order if variable in arguments]
        return tuple(dict.fromkeys([*first, *arguments]))

    shape = property(lambda self: self._of_output("shape"))
    dtype = property(lambda self: self._of_output("dtype"))
    owner = property(lambda self: self._of_output("owner"))
    dynamic_axes = property(lambda self: self._of_output("dynamic_axes"))
    is_sparse = property(lambda self: self._of_output("is_sparse"))
    needs_gradient = property(lambda self: self._of_output("needs_gradient"))
    is_parameter = is_constant = is_input = is_placeholder = property(lambda self: False)
    is_output = property(lambda self: True)

    def _of_output(self, name: str) -> Any:
        if len(self.outputs) != 1:
            raise AttributeError(
                f"Function does not have '{name}' and it cannot be looked up in its outputs because it does not have "
                "exactly one"
            )
        return getattr(self.output, name)

    # -- search
    # -----------------------------------------------------------------------------------------------------------

    def find_all_with_name(self, name: str, depth: int = 0) -> list[Any]:
        return searching.depth_first_search(self, lambda item: item.name == name, depth)

    def find_by_name(self, name: str, depth: int = 0) -> Any:
        """The function or variable of this name; None if there is none."""
        if not isinstance(name, str):
            raise ValueError(f"node name has to be a string. You gave a {type(name)}")
        found = [each for each in self.find_all_with_name(name, depth) if not isinstance(each, Output)]
        if len(found) > 1:
            raise ValueError(
                f'found multiple functions matching "{name}". If that was expected call find_all_with_name'
            )
        return found[0] if found else None

    def find_by_uid(self, uid: str, depth: int = 0) -> Any:
        found = searching.depth_first_search(self, lambda item: item.uid == uid, depth)
        return found[0] if found else None

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(f"neither Function nor its output variable has '{name}'")
        found = searching.member(self, name)
        if found is None and len(self.outputs) == 1 and name != "type" and hasattr(self.output, name):
            return getattr(self.output, name)  # as `owner`: a function with one output stands for the output
        if found is None:
            raise AttributeError(f"'Function' object has no attribute '{name}', and no part of that name")
        return found
