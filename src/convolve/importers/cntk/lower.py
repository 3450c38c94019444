"""CntkModel -> Graph: the one place where CNTK's meaning of a model is turned into the neutral one.

Only what the wanted outputs need is lowered, so that an operator out of scope in an unused branch does no harm.
"""

from collections.abc import Sequence
from contextlib import suppress

from convolve.errors import FormatError, UnsupportedError, UsageError, legible, look_up
from convolve.graph.draft import Draft
from convolve.graph.graph import Graph
from convolve.graph.shapes import GraphError
from convolve.importers.cntk.call import Call
from convolve.importers.cntk.layers import LAYER_RULES
from convolve.importers.cntk.model import CntkModel, Function, Variable
from convolve.importers.cntk.plain import PLAIN_RULES, Rule

RULES: dict[str, Rule] = {**PLAIN_RULES, **LAYER_RULES}


def lower(
    model: CntkModel, outputs: Sequence[str] | None = None, image_shape_CHW: tuple[int, ...] | None = None
) -> Graph:
    """The graph that computes `outputs`, names or uids; without them, the model's own outputs.

    `image_shape_CHW` has the sizes that an input leaves open. Raises UsageError for an unknown output, UnsupportedError
    for an operator out of scope, FormatError for nodes that do not fit together.
    """
    wanted = model.outputs if outputs is None else tuple(_find(model, name) for name in outputs)
    lowering = _Lowering(model, image_shape_CHW)
    return lowering.draft.finish([lowering.value(uid) for uid in wanted], model.origin)


def lower_whole(model: CntkModel) -> Graph:
    """The graph of all nodes that can be lowered, with everything that the file calls by a name in it."""
    lowering = _Lowering(model, None)
    for uid in model.functions:
        with suppress(UnsupportedError):
            lowering.value(uid)
    outputs = [lowering.done[uid] for uid in map(model.resolve, model.outputs) if uid in lowering.done]
    return lowering.draft.finish(outputs, model.origin, whole=True)


def _find(model: CntkModel, name: str) -> str:
    """The uid of the value that the author's `name`, or a uid, stands for."""
    known: dict[str, set[str]] = {}
    named = [(function.name, uid) for uid, function in model.functions.items() if function.name]
    for word, uid in (*named, *((uid, uid) for uid in (*model.functions, *model.aliases)), *model.names):
        known.setdefault(word, set()).add(model.resolve(uid))
    found = look_up(known, name, "node", str(model.path))
    if len(found) > 1:
        uids = ", ".join(sorted(map(legible, found)))
        raise UsageError(f"{model.path}: several nodes are called {name!r}; give one of {uids}")
    return found.pop()


class _Lowering:
    def __init__(self, model: CntkModel, image_shape_CHW: tuple[int, ...] | None) -> None:
        self.model, self.image_shape_CHW = model, image_shape_CHW
        self.draft = Draft()
        self.draft.notes.extend(model.notes)
        self.done: dict[str, str] = {}  # uid of a value -> its key in the draft
        self.block_names: dict[str, list[str]] = {}
        for name, uid in model.names:
            self.block_names.setdefault(model.resolve(uid), []).append(name)

    def value(self, wanted: str) -> str:
        """The key of a value, after all that it needs. Our own stack: a model may be deeper than Python's."""
        wanted = self.model.resolve(wanted)
        stack, opened = [wanted], set()
        while stack:
            uid = stack[-1]
            if uid not in self.done and uid in self.model.variables:
                self.done[uid] = self.leaf(self.model.variables[uid])
            if uid in self.done:
                stack.pop()
                continue
            function = self.model.functions[uid]
            rule = self.rule(function)  # before its operands, so that a recurrent network is not reported as a loop
            operands = [self.model.resolve(name, function.offset) for name in function.inputs]
            missing = [name for name in operands if name not in self.done]
            if missing and uid in opened:
                raise self.misfit(function, "it depends on its own result")
            opened.add(uid)
            stack += missing
            if not missing:
                self.function(function, rule, operands)
        return self.done[wanted]

    def rule(self, function: Function) -> Rule:
        if function.op not in RULES:
            raise UnsupportedError(
                f"{self.model.path}: node {function}: the operator {function.op} is not supported; "
                "choose an --output that does not need it"
            )
        return RULES[function.op]

    def leaf(self, variable: Variable) -> str:
        try:
            if variable.array is None:
                key = self.draft.input(self.input_shape(variable), variable.name)
            else:
                key = self.draft.parameter(variable.array, variable.learning_rate_multiplier, variable.name)
        except GraphError as error:
            raise FormatError(self.model.path, f"byte {variable.offset}", f"{legible(variable.uid)}: {error}") from None
        self.draft.call(key, variable.name, variable.uid)
        return key

    def input_shape(self, variable: Variable) -> tuple[int, ...]:
        shape = variable.shape[::-1]
        if all(size >= 0 for size in shape):
            return shape
        name = f"{self.model.path}: input {legible(variable.name or variable.uid)}"
        wanted = self.image_shape_CHW
        if wanted is None or len(wanted) != len(shape):
            sizes = "x".join(str(size) if size >= 0 else "?" for size in shape)
            raise UsageError(f"{name} has no fixed size, {sizes}; give it with --image-shape, for example 3x224x224")
        if any(size >= 0 and size != other for size, other in zip(shape, wanted, strict=True)):
            raise UsageError(
                f"{name} has the shape {shape}, which --image-shape {'x'.join(map(str, wanted))} does not fit"
            )
        return wanted

    def function(self, function: Function, rule: Rule, operands: list[str]) -> None:
        self.draft.block = function.block
        call = Call(self.draft, tuple(self.done[uid] for uid in operands), function.attributes)
        try:
            result = rule(call)
        except GraphError as error:
            raise self.misfit(function, str(error)) from None
        except UnsupportedError as error:
            raise UnsupportedError(f"{self.model.path}: node {function} is not supported: {error}") from None
        keys = (result,) if isinstance(result, str) else result
        for key, uid in zip(keys, function.outputs, strict=True):
            self.done[uid] = key
            self.name(key, uid, function)

    def name(self, key: str, uid: str, function: Function) -> None:
        """The author's name of the function, then the names of the blocks whose output it is."""
        for name in [function.name, *self.block_names.get(uid, ())]:
            self.draft.call(key, name, uid)

    def misfit(self, function: Function, what: str) -> FormatError:
        return FormatError(self.model.path, f"byte {function.offset}", f"node {function} is invalid: {what}")
