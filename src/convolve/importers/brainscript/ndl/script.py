"""The statements of an NDL script -> nodes of a network, under the names that CNTK gives them.

A macro's nodes are named after the variable to which its call is assigned: `h1 = Layer (...)` makes h1.W and h1.z. `h1`
itself is the node with the macro's name, or else the last one. Case does not matter in names. A variable may be used
before it is defined.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from convolve.errors import ConvolveError, UnsupportedError, unknown_name
from convolve.importers.brainscript.ndl.maker import Maker
from convolve.importers.brainscript.ndl.syntax import (
    Call,
    Embedded,
    Expression,
    Items,
    Macro,
    Statement,
    Word,
)
from convolve.importers.brainscript.syntax import Spot
from convolve.importers.brainscript.values import Array, Item, Node, Value

MAX_STEPS, MAX_DEPTH = 50_000, 100  # calls; macros inside macros

# CNTK's names -> what they are also called. Source: the table of its builder.
_FUNCTIONS = {
    "InputValue": "Input", "SparseInputValue": "SparseInput", "LearnableParameter": "Parameter", "ImageParameter": "",
    "Constant": "Const", "ImageInput": "Image", "Scale": "", "Transpose": "", "Times": "", "TransposeTimes": "",
    "ElementTimes": "", "RowElementTimes": "", "ColumnElementTimes": "", "DiagTimes": "", "Plus": "", "Minus": "",
    "Negate": "", "RectifiedLinear": "ReLU", "Sigmoid": "", "Tanh": "", "Exp": "", "Log": "", "Cosine": "Cos",
    "Sin": "", "Abs": "", "Sqrt": "", "Reciprocal": "", "Hardmax": "", "Softmax": "", "LogSoftmax": "", "LogPlus": "",
    "SquareError": "SE", "Logistic": "", "CrossEntropyWithSoftmax": "CEWithSM", "CrossEntropy": "",
    "PerDimMeanVarNormalization": "PerDimMVNorm", "PerDimMeanVarDeNormalization": "PerDimMVDeNorm",
    "ErrorPrediction": "ClassificationError", "Dropout": "", "Reshape": "", "Mean": "", "InvStdDev": "",
    "Convolution": "Convolve", "Pooling": "", "MaxPooling": "", "AveragePooling": "", "RowSlice": "", "RowStack": "",
    "BatchNormalization": "", "SumElements": "", "Pass": "", "ExponentialLinearUnit": "ELU", "Clip": "",
    "ReduceSum": "", "ReduceMean": "", "ReduceMax": "", "ReduceMin": "",
}  # fmt: skip
_KNOWN = {also.lower(): name for name, also in _FUNCTIONS.items() if also} | {name.lower(): name for name in _FUNCTIONS}
_REFUSED = (
    "SparseImageInput SumColumnElements StrideTimes CosDistance CosDist KhatriRaoProduct ColumnwiseCrossProduct "
    "SequenceWithSoftmax SEWithSM ClassBasedCrossEntropyWithSoftmax CBCEWithSM MatrixL1Reg L1Reg MatrixL2Reg L2Reg "
    "RowRepeat Diagonal PastValue Delay FutureValue LookupTable GMMLogLikelihood GMMLL TimeReverse CRF Parallel LSTM "
    "CosDistanceWithNegativeSamples CosWithNegSamples DummyCriterion PairNetwork NoiseContrastiveEstimation Where"
).lower().split()  # fmt: skip
_OF_ANY_NUMBER = ("InputValue", "SparseInputValue", "LearnableParameter", "ImageParameter", "RowStack")
_IMAGES = {"ImageInput": "HWC", "Convolution_7": "HWC", "MaxPooling_5": "HWC", "AveragePooling_5": "HWC"}
_IMAGES |= {
    "ImageInput_3": "HWC",
    "ImageInput_4": "HWC",
    "Convolution_3": "CHW",
    "Pooling_2": "CHW",
    "Pooling_3": "CHW",
}
_WITH_A_COLUMN = ("Plus", "Minus", "ElementTimes", "ColumnElementTimes", "DiagTimes")  # adds it at each place
_NO_IMAGES = ("Times", "TransposeTimes", "Reshape_2", "RowSlice_3", "RowStack", "Transpose")
_LAYOUTS = {"hwc": "HWC", "legacy": "HWC", "chw": "CHW", "cudnn": "CHW"}
_INITIALIZERS = {name.lower(): name for name in ("uniform", "gaussian", "fixedValue", "fromFile")}

TAGS = {
    "feature": "featureNodes", "label": "labelNodes", "criterion": "criterionNodes", "criteria": "criterionNodes",
    "eval": "evaluationNodes", "evaluation": "evaluationNodes", "output": "outputNodes",
}  # fmt: skip
_LISTS = {
    "featurenodes": "featureNodes", "labelnodes": "labelNodes", "criterionnodes": "criterionNodes",
    "criterianodes": "criterionNodes", "evalnodes": "evaluationNodes", "evaluationnodes": "evaluationNodes",
    "outputnodes": "outputNodes",
}  # fmt: skip
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")
_FLAGS = {"true": True, "t": True, "false": False, "f": False}


@dataclass(eq=False)
class _Symbol:
    """`name` stands for the value of `expression` in `scope`, computed when it is first needed. A node that is made for
    an argument has no name."""

    name: str
    expression: Expression
    scope: Scope
    is_argument: bool = False
    value: Found | None = None
    running: bool = False


@dataclass(eq=False)
class Scope:
    """The variables of a script, or of one call of a macro; other names are looked up where that was called."""

    base: str = ""
    outer: Scope | None = None
    depth: int = 0
    symbols: dict[str, _Symbol] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class _Expansion:
    """What a call of a macro has made: all nodes, and the node that the call stands for."""

    scope: Scope
    node: Value


Found = Value | _Expansion


class Ndl:
    def __init__(self, maker: Maker) -> None:
        self.maker = maker
        self.top = Scope()
        self._macros: dict[str, Macro] = {}
        self._layouts: dict[Node, str] = {}
        self._columns: dict[Node, Item] = {}  # parameters that are one -> how long
        self._constants: dict[Node, Value] = {}
        self._steps = self._unnamed = 0

    def run(self, script: Iterable[Statement]) -> None:
        """Make all nodes of a script, and give them their roles."""
        declared = self._declare(script, self.top)
        for symbol in declared:
            role = _LISTS.get(symbol.name.lower())
            if role is None:
                self._force(symbol)
                continue
            listed = symbol.expression.items if isinstance(symbol.expression, Items) else (symbol.expression,)
            for each in listed:
                self.maker.tag(role, self.node(each.spot, self._value(each, self.top, "")))

    def _declare(self, script: Iterable[Statement], scope: Scope) -> list[_Symbol]:
        declared = []
        for statement in script:
            if isinstance(statement, Macro):
                self._macros[statement.name.lower()] = statement
                continue
            name = statement.name or self._free_name()
            if name.lower() in _KNOWN:
                raise statement.spot.error(f"{name!r} is the name of a function; rename the variable")
            if name.lower() in scope.symbols and not scope.symbols[name.lower()].is_argument:
                raise statement.spot.error(f"{name!r} is defined twice; rename one of the two")
            symbol = scope.symbols[name.lower()] = _Symbol(name, statement.value, scope)
            declared.append(symbol)
        return declared

    def _free_name(self) -> str:
        self._unnamed += 1
        return f"unnamed{self._unnamed}"

    # -- values -------------------------------------------------------------------------------------------------------

    def _force(self, symbol: _Symbol) -> Found:
        if symbol.running:
            spot = symbol.expression.spot
            raise UnsupportedError(
                f"{spot.place}: {symbol.name} depends on itself; a recurrent network is not supported"
            )
        if symbol.value is None:
            symbol.running = True
            name = "" if symbol.is_argument else f"{symbol.scope.base}.{symbol.name}".removeprefix(".")
            symbol.value = self._value(symbol.expression, symbol.scope, name)
            symbol.running = False
        return symbol.value

    def _value(self, expression: Expression, scope: Scope, name: str) -> Found:
        self._steps += 1
        if self._steps > MAX_STEPS:
            raise expression.spot.error(f"the network is not complete after {MAX_STEPS:,} steps; is it endless?")
        if isinstance(expression, Word):
            found = self._of_word(expression, scope)
            if found is None:
                raise expression.spot.error(unknown_name("name", expression.text, self._visible(scope)))
            return found
        if isinstance(expression, Items):
            return Array(tuple(self._plain(item.spot, self._value(item, scope, "")) for item in expression.items))
        if isinstance(expression, Embedded):
            raise expression.spot.error(
                "a network in [...] is possible in a MEL script only, after the name of a model"
            )
        if not name or name.endswith("."):
            name = f"{scope.base}.{self._free_name()}".lstrip(".")
        macro = self._macros.get(expression.function.lower())
        return self._expanded(macro, expression, scope, name) if macro else self._called(expression, scope, name)

    def _of_word(self, word: Word, scope: Scope) -> Found | None:
        """A string, a number, a variable or a boolean; None for any other word."""
        if word.quoted:
            return word.text
        if _NUMBER.fullmatch(word.text):
            return float(word.text)
        found = self.find(word.text, scope)
        return _FLAGS.get(word.text.lower()) if found is None else found

    def find(self, name: str, scope: Scope) -> Found | None:
        """The value of a name, also `macro.node`, here or where this macro was called from."""
        looked: Scope | None = scope
        while looked is not None:
            found = self._inside(name, looked)
            if found is not None:
                return found
            looked = looked.outer
        return self.maker.nodes.get(name)

    def _inside(self, name: str, scope: Scope) -> Found | None:
        if name.lower() in scope.symbols:
            return self._force(scope.symbols[name.lower()])
        first, _, rest = name.partition(".")
        if not rest or first.lower() not in scope.symbols:
            return None
        found = self._force(scope.symbols[first.lower()])
        return self._inside(rest, found.scope) if isinstance(found, _Expansion) else None

    def _visible(self, scope: Scope | None) -> list[str]:
        names: list[str] = []
        while scope is not None:
            names += [symbol.name for symbol in scope.symbols.values()]
            scope = scope.outer
        return names or ["none"]

    @staticmethod
    def _plain(spot: Spot, found: Found) -> Value:
        return found.node if isinstance(found, _Expansion) else found

    def node(self, spot: Spot, found: Found) -> Node:
        value = self._plain(spot, found)
        if not isinstance(value, Node):
            raise spot.error("a node of the network is expected here")
        return value

    # -- calls --------------------------------------------------------------------------------------------------------

    def _expanded(self, macro: Macro, call: Call, scope: Scope, name: str) -> _Expansion:
        if scope.depth >= MAX_DEPTH:
            raise call.spot.error(f"macros are nested more than {MAX_DEPTH} deep; does {macro.name} call itself?")
        if not len(macro.parameters) <= len(call.positional) <= len(macro.parameters) + len(macro.defaults):
            wanted = ", ".join(macro.parameters) or "none"
            counts = f"{len(macro.parameters)} arguments ({wanted}), but got {len(call.positional)}"
            raise call.spot.error(f"{macro.name} takes {counts}")
        inner = Scope(name, scope, scope.depth + 1)
        for option, default in macro.defaults:
            inner.symbols[option.lower()] = _Symbol(option, default, inner)
        names = (*macro.parameters, *(option for option, _ in macro.defaults))
        for parameter, expression in zip(names, call.positional, strict=False):
            inner.symbols[parameter.lower()] = _Symbol(parameter, expression, scope, is_argument=True)
        for option, given in call.named:
            if option.lower() != "tag":
                symbol = inner.symbols[option.lower()] = _Symbol(option, given, scope, is_argument=True)
                symbol.value = self._option(given, scope)
        declared = self._declare(macro.script, inner)
        made = [self._force(symbol) for symbol in declared]
        if not made:
            raise call.spot.error(f"the macro {macro.name} makes no node")
        own = inner.symbols.get(macro.name.lower())
        last = made[-1] if own is None else self._force(own)
        node = self._plain(call.spot, last)
        self._tagged(call, node)
        return _Expansion(inner, node)

    def _called(self, call: Call, scope: Scope, name: str) -> Value:
        function = _KNOWN.get(call.function.lower())
        if function is None or self.maker.function(function, len(call.positional)) is None:
            raise self._unknown(call)
        values = [self._plain(each.spot, self._value(each, scope, "")) for each in call.positional]
        if function in _OF_ANY_NUMBER:
            values = [Array(tuple(values))]
        elif function == "ErrorPrediction" and len(values) == 3:
            values[2] = self._constants.get(values[2], values[2]) if isinstance(values[2], Node) else values[2]
        library = self.maker.function(function, len(values))
        assert library is not None  # found earlier
        named = self._options(call, library, scope)
        layout = self._layout(call, library, values, named)
        if library in _WITH_A_COLUMN and layout == "HWC":
            self._serve_each_place(values)
        node = self.maker.call(call.spot, name, library, values, named)
        if layout:
            self._layouts[node] = layout
        if function == "Constant":
            self._constants[node] = values[0]
        elif function == "LearnableParameter" and isinstance(values[0], Array) and values[0].items[1:] in ((), (1.0,)):
            self._columns[node] = values[0].items[0]
        self._tagged(call, node)
        return node

    def _unknown(self, call: Call) -> ConvolveError:
        name = call.function
        if name.lower() in _REFUSED:
            where = f"{call.spot.place}: {name} is not supported"
            return UnsupportedError(f"{where}; convolve trains networks of images, without sequences and penalties")
        if name.lower() in _KNOWN:
            return call.spot.error(f"{name} does not take {len(call.positional)} arguments")
        return call.spot.error(unknown_name("function or macro", name, [*_FUNCTIONS, *self._macros]))

    def _option(self, given: Word | Items, scope: Scope) -> Found:
        """The value of an optional argument: of a variable of this name, if there is one, else its own."""
        if isinstance(given, Items):
            return self._value(given, scope, "")
        if given.quoted:
            number = _NUMBER.fullmatch(given.text)
            return float(given.text) if number else _FLAGS.get(given.text.lower(), given.text)
        found = self._of_word(given, scope)
        return given.text if found is None else found

    def _options(self, call: Call, library: str, scope: Scope) -> Mapping[str, Value]:
        known = {option.lower(): option for option in self.maker.options(library)}
        options: dict[str, Value] = {}
        for name, given in call.named:
            value = self._plain(given.spot, self._option(given, scope))
            if name.lower() == "tag":
                continue
            if name.lower() not in known:
                message = (
                    f"{given.spot.place}: {call.function}: {unknown_name('optional argument', name, known.values())}"
                )
                self.maker.warnings.append(f"{message}; it is ignored, as in CNTK")
                continue
            if name.lower() == "init":
                value = _INITIALIZERS.get(str(value).lower(), value)
            options[known[name.lower()]] = value
        return options

    def _tagged(self, call: Call, node: Value) -> None:
        for name, given in call.named:
            if name.lower() != "tag":
                continue
            tag = given.text.lower() if isinstance(given, Word) else ""
            role = TAGS.get("eval" if tag.startswith("eval") else tag)
            if role is None and tag != "multiseq":
                raise given.spot.error(unknown_name("tag", tag, TAGS))
            if role and isinstance(node, Node):
                self.maker.tag(role, node)

    # -- images -------------------------------------------------------------------------------------------------------

    def _layout(self, call: Call, library: str, values: Sequence[Value], named: Mapping[str, Value]) -> str:
        """HWC or CHW for a node that is made from images; "" for any other."""
        if library in _IMAGES:
            said = str(named.get("imageLayout", _IMAGES[library])).lower()
            if said not in _LAYOUTS:
                raise call.spot.error(f"{call.function}: {unknown_name('imageLayout', said, _LAYOUTS)}")
            if library.startswith("ImageInput") and _LAYOUTS[said] == "HWC" and values[2] != 1:
                self.maker.interleaved = True
            return _LAYOUTS[said]
        found = [self._layouts[value] for value in values if isinstance(value, Node) and value in self._layouts]
        return found[0] if found and library not in _NO_IMAGES else ""

    def _serve_each_place(self, values: Sequence[Value]) -> None:
        """In HWC, channels are the fastest axis: a column could be added to an image. Here it gets the third axis."""
        for node in values:
            if isinstance(node, Node) and node.operation == "Parameter" and node in self._columns:
                assert isinstance(node.attributes, dict)  # made by the library
                node.attributes["shape"] = Array((1.0, 1.0, self._columns[node]))
