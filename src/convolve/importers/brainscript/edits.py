"""Networks made from networks: BS.Network.CloneFunction, BS.Network.Edit, and what edit functions read of nodes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from convolve.errors import unknown_name
from convolve.importers.brainscript.loaded import STORED, as_record, inputs_of, load_network, rebuilt
from convolve.importers.brainscript.values import Array, Function, Item, Node, Record, Scope, Value, kind_of

if TYPE_CHECKING:
    from convolve.importers.brainscript.evaluate import Evaluator
    from convolve.importers.brainscript.syntax import Spot

_TREATMENTS = ("learnable", "constant", "shared")


def _load(evaluator: Evaluator, spot: Spot, given: Mapping[str, Value], path: str) -> Value:
    name = given["path"]
    if not isinstance(name, str):
        raise evaluator.error(spot, f"the path of a model must be a string, not {kind_of(name)}")
    return load_network(evaluator, name, spot)


# -- CloneFunction ----------------------------------------------------------------------------------------------------


def _clone_function(evaluator: Evaluator, spot: Spot, given: Mapping[str, Value], path: str) -> Value:
    """A function of as many nodes as `inputs`. It returns copies of `outputs`, computed from its arguments."""
    inputs, outputs, how = _nodes(evaluator, spot, given["inputs"]), given["outputs"], given["how"]
    if how not in _TREATMENTS:
        raise evaluator.error(spot, unknown_name("value of parameters", str(how), _TREATMENTS))

    def call(fail: Callable[[str], Exception], values: list[Value]) -> Value:
        arguments = [value for value in values if isinstance(value, Node)]
        if len(arguments) < len(values):
            raise fail("a cloned function takes nodes of the network")
        done = dict(zip(inputs, arguments, strict=True))
        make = _copy(evaluator, str(how), path, {*inputs})

        def cloned(value: Value) -> Value:
            if isinstance(value, Record):
                members = {name: evaluator.force(item) for name, item in value.scope.members.items()}
                return Record(Scope({name: cloned(item) for name, item in members.items()}, None))
            if isinstance(value, Array):
                return Array(tuple(cloned(evaluator.force(item)) for item in value.items))
            if not isinstance(value, Node):
                raise fail(f"the outputs of a cloned function are nodes, not {kind_of(value)}")
            return rebuilt(evaluator, value, make, done)

        return cloned(outputs)

    parameters = tuple(f"x{number}" for number in range(len(inputs)))
    return Function(path, parameters, {}, evaluator.library, native=call)


def _copy(evaluator: Evaluator, how: str, path: str, inputs: set[Node]) -> Callable[[Node, list[Item]], Node]:
    """How a node is copied: with new operands; for "constant", neither it nor its operands learn."""
    moved: set[Node] = {*inputs}  # what depends on the arguments

    def copy(node: Node, operands: list[Item]) -> Node:
        before = inputs_of(evaluator, node)
        if any(item in moved for item in before if isinstance(item, Node)):
            moved.add(node)
        is_parameter = node.operation == "Parameter"
        if node.operation == "Input" or (how == "shared" and node not in moved):
            return node
        attributes = {**node.attributes, "inputs": Array(tuple(operands))}
        if how == "constant":
            attributes |= {"rate": 0.0} if is_parameter else frozen(node)
        return replace(node, attributes=attributes, path=f"{path}.{node.path}" if path else node.path)

    return copy


def frozen(node: Node) -> dict[str, Any]:
    """The settings of a batch normalization whose running statistics no longer change."""
    if node.operation == "BatchNormalization":
        return {"timeConstant": math.inf, "blend": math.inf}
    stored: Any = node.attributes.get("node")
    if node.operation != STORED or stored.op != "batch_normalization":
        return {}
    times = {"time_constant_samples": math.inf, "blend_time_constant_samples": math.inf}
    return {"node": replace(stored, attributes={**stored.attributes, **times})}


def _nodes(evaluator: Evaluator, spot: Spot, value: Value) -> list[Node]:
    """One node, or several."""
    items = [evaluator.force(item) for item in value.items] if isinstance(value, Array) else [value]
    found = [item for item in items if isinstance(item, Node)]
    if not found or len(found) < len(items):
        wrong = next((item for item in items if not isinstance(item, Node)), value)
        raise evaluator.error(spot, f"nodes of a network are expected, not {kind_of(wrong)}")
    return found


# -- Edit -------------------------------------------------------------------------------------------------------------


def _edit(evaluator: Evaluator, spot: Spot, given: Mapping[str, Value], path: str) -> Value:
    """The network with each node replaced by what the edit functions return for it; `roots` are added."""
    model, roots = given["model"], given["roots"]
    if not isinstance(model, Record):
        raise evaluator.error(spot, f"BS.Network.Edit takes a network, not {kind_of(model)}")
    functions = _functions(evaluator, spot, given["functions"])
    members = {name: evaluator.force(item) for name, item in model.scope.members.items()}
    editing = _Editing(evaluator, spot, functions)
    for value in members.values():
        if isinstance(value, Node):
            editing.originals(value)
    edited = {name: editing.value(value) for name, value in members.items()}
    if isinstance(roots, Array) and not roots.items:
        return as_record(edited)
    added = [editing.target(node) for node in _nodes(evaluator, spot, roots)]
    listed = edited.get("outputNodes", Array(()))
    before = listed.items if isinstance(listed, Array) else (listed,)
    own = {node.path.rpartition(".")[2]: node for node in added}
    return as_record({**edited, **own, "outputNodes": Array((*before, *added))})


class _Editing:
    def __init__(self, evaluator: Evaluator, spot: Spot, functions: list[Function]) -> None:
        self.evaluator, self.spot, self.functions = evaluator, spot, functions
        self.replacements: dict[Node, Node] = {}
        self.done: dict[Node, Node] = {}
        self.targets: dict[Node, Node] = {}

    def originals(self, root: Node) -> None:
        """Ask the edit functions about every node from which `root` is computed."""

        def ask(node: Node, operands: list[Item]) -> Node:
            for function in self.functions:
                made = self.evaluator.apply(function, {function.parameters[0]: node}, self.spot, node.path)
                if not isinstance(made, Node):
                    raise self.evaluator.error(self.spot, f"an edit function must return a node, not {kind_of(made)}")
                if made is not node:
                    self.replacements[node] = made
                    break
            return node

        rebuilt(self.evaluator, root, ask, self.done)

    def value(self, value: Value) -> Value:
        if isinstance(value, Array):
            return Array(tuple(self.value(self.evaluator.force(item)) for item in value.items))
        return self.target(value) if isinstance(value, Node) else value

    def target(self, node: Node, inside: tuple[Node, ...] = ()) -> Node:
        """What replaces a node. A replacement that reads the node which it replaces still reads the original."""
        if node in self.targets and node not in inside:
            return self.targets[node]
        replacement = self.replacements.get(node)
        if replacement is None or node in inside:
            made = self._with_operands(
                node, inside if replacement is None else tuple(x for x in inside if x is not node)
            )
        else:
            made = self.target(replacement, (*inside, node))
        if node not in inside:
            self.targets[node] = made
        return made

    def _with_operands(self, node: Node, inside: tuple[Node, ...]) -> Node:
        before = inputs_of(self.evaluator, node)
        after = [self.target(item, inside) if isinstance(item, Node) else item for item in before]
        if all(old is new for old, new in zip(before, after, strict=True)):
            return node
        return replace(node, attributes={**node.attributes, "inputs": Array(tuple(after))})


def _functions(evaluator: Evaluator, spot: Spot, value: Value) -> list[Function]:
    items = [evaluator.force(item) for item in value.items] if isinstance(value, Array) else [value]
    found = [item for item in items if isinstance(item, Function) and len(item.parameters) == 1]
    if len(found) < len(items):
        raise evaluator.error(spot, "node => an edit function must take one node, as in node => node => node")
    return found


# -- what BrainScript calls objects -----------------------------------------------------------------------------------

# The name behind `new` -> what makes the object from the members of its record.
OBJECTS: dict[str, Callable[[Evaluator, Spot, Mapping[str, Value], str], Value]] = {
    "ComputationNetworkFromFile": _load,
    "CloneFunctionConfigLambda": _clone_function,
    "ComputationNetworkWithEdits": _edit,
}

WEIGHT_FIRST = ("linear", "convolution", "convolution_transpose")  # in CNTK; the neutral graph has it second
_OPERATIONS = {  # of the neutral graph and of library.bs -> CNTK's
    "ReLU": "RectifiedLinear", "relu": "RectifiedLinear", "Parameter": "LearnableParameter", "Input": "InputValue",
    "linear": "Times", "add": "Plus", "subtract": "Minus", "multiply": "ElementTimes",
    "Transpose": "TransposeDimensions",
    "Reduce": "ReduceElements", "Splice": "RowStack", "concatenate": "RowStack", "max_pool": "Pooling",
    "average_pool": "Pooling",
}  # fmt: skip


def attribute(evaluator: Evaluator, node: Node, name: str, spot: Spot) -> Value:
    """node.name, .operation, .inputs, .input, .dims, .dim"""
    if name == "name":
        return node.path
    stored: Any = node.attributes.get("node")
    kind = stored.op if node.operation == STORED else node.operation
    if name in ("inputs", "input"):
        found = inputs_of(evaluator, node)
        if kind in WEIGHT_FIRST:
            found[:2] = found[1::-1]
        return found[0] if len(found) == 1 else Array(tuple(found))  # type: ignore[return-value]  # they are forced
    if name == "operation":
        return _OPERATIONS.get(kind) or "".join(word[:1].upper() + word[1:] for word in kind.split("_"))
    shape = (
        Array(tuple(map(float, stored.shape[::-1]))) if stored else evaluator.force(node.attributes.get("shape", 0.0))
    )
    numbers = [evaluator.force(item) for item in shape.items] if isinstance(shape, Array) else [shape]
    if name in ("dim", "dims") and all(type(number) is float and number > 0 for number in numbers):
        return shape if name == "dims" else math.prod(numbers)  # type: ignore[arg-type]
    if name in ("dim", "dims"):
        raise evaluator.error(spot, f"the size of {node.path} is known only when the network is complete; write it out")
    raise evaluator.error(spot, unknown_name("member of a node", name, ("name", "operation", "inputs", "dim", "dims")))
