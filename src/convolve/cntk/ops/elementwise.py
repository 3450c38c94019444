"""Elementwise operations, of one operand or several."""

from collections.abc import Callable
from typing import Any

import numpy as np

from convolve.cntk import seeds, wire_writer
from convolve.cntk.ops.functions import Function
from convolve.cntk.ops.making import block, primitive


def _unary(called: str, op: str) -> Callable[..., Function]:
    """The public function `name`, which is one primitive operation."""

    def made(x: Any, name: str = "") -> Function:
        return primitive(op, x, name=name)

    made.__name__ = made.__qualname__ = called
    return made


def _binary(called: str, op: str) -> Callable[..., Function]:
    def made(left: Any, right: Any, name: str = "") -> Function:
        return primitive(op, left, right, name=name)

    made.__name__ = made.__qualname__ = called
    return made


# -- two and more operands --------------------------------------------------------------------------------------------


def _associative(op: str, values: tuple[Any, ...], name: str) -> Function:
    first, *rest = values
    for at, other in enumerate(rest):
        first = primitive(op, first, other, name=name if at == len(rest) - 1 else "")
    return first if isinstance(first, Function) else primitive("Pass", first, name=name)


def plus(left: Any, right: Any, *more: Any, name: str = "") -> Function:
    return _associative("Plus", (left, right, *more), name)


minus = _binary("minus", "Minus")


def element_times(left: Any, right: Any, *more: Any, name: str = "") -> Function:
    return _associative("ElementTimes", (left, right, *more), name)


def element_divide(left: Any, right: Any, name: str = "") -> Function:
    return block("ElementDivide", lambda x, y: primitive("ElementTimes", x, reciprocal(y)), left, right, name=name)


def log_add_exp(left: Any, right: Any, *more: Any, name: str = "") -> Function:
    return _associative("LogPlus", (left, right, *more), name)


def pow(base: Any, exponent: Any, name: str = "") -> Function:
    return primitive("Pow", base, exponent, name=name)


def element_max(left: Any, right: Any, *more: Any, name: str = "") -> Function:
    return _extreme("ElementMax", "Greater", (left, right, *more), name)


def element_min(left: Any, right: Any, *more: Any, name: str = "") -> Function:
    return _extreme("ElementMin", "Less", (left, right, *more), name)


def _extreme(op_name: str, comparison: str, values: tuple[Any, ...], name: str) -> Function:
    first, *rest = values
    for other in rest:
        first = block(op_name, lambda x, y: element_select(primitive(comparison, x, y), x, y), first, other, name=name)
    return first  # type: ignore[no-any-return]


def mean(*operands: Any, name: str = "") -> Function:
    """The mean of all operands, element by element."""
    given = _several(operands)

    def averaged(*values: Any) -> Function:
        return element_times(sum(*values), 1.0 / len(values))

    return block("Mean", averaged, *given, name=name)


def sum(*operands: Any, name: str = "") -> Function:
    return block("Sum", lambda *values: _associative("Plus", values, ""), *_several(operands), name=name)


def _several(operands: tuple[Any, ...]) -> tuple[Any, ...]:
    """The operands, given one by one or in one list."""
    return tuple(operands[0]) if len(operands) == 1 and isinstance(operands[0], list | tuple) else operands


equal = _binary("equal", "Equal")
not_equal = _binary("not_equal", "NotEqual")
less = _binary("less", "Less")
less_equal = _binary("less_equal", "LessEqual")
greater = _binary("greater", "Greater")
greater_equal = _binary("greater_equal", "GreaterEqual")


def element_select(flag: Any, value_if_true: Any, value_if_false: Any, name: str = "") -> Function:
    return primitive("Select", flag, value_if_true, value_if_false, name=name)


def clip(x: Any, min_value: Any, max_value: Any, name: str = "") -> Function:
    return primitive("Clip", x, min_value, max_value, name=name)


def element_and(x: Any, y: Any, name: str = "") -> Function:
    def made(left: Any, right: Any) -> Function:
        return greater(element_times(greater(left, 0.0), greater(right, 0.0)), 0.0)

    return block("And", made, x, y, name=name)


def element_or(x: Any, y: Any, name: str = "") -> Function:
    def made(left: Any, right: Any) -> Function:
        return greater(plus(greater(left, 0.0), greater(right, 0.0)), 0.0)

    return block("Or", made, x, y, name=name)


def element_xor(x: Any, y: Any, name: str = "") -> Function:
    return block("Xor", lambda left, right: not_equal(greater(left, 0.0), greater(right, 0.0)), x, y, name=name)


def element_not(x: Any, name: str = "") -> Function:
    return primitive("Equal", x, 0, name=name)


# -- one operand ------------------------------------------------------------------------------------------------------


relu = _unary("relu", "ReLU")
sigmoid = _unary("sigmoid", "StableSigmoid")


def hard_sigmoid(x: Any, alpha: Any, beta: Any, name: str = "") -> Function:
    return block("HardSigmoid", lambda x: clip(plus(element_times(x, alpha), beta), 0.0, 1.0), x, name=name)


tanh = _unary("tanh", "Tanh")
exp = _unary("exp", "Exp")
log = _unary("log", "Log")
sqrt = _unary("sqrt", "Sqrt")


def square(x: Any, name: str = "") -> Function:
    return primitive("ElementTimes", x, x, name=name)


abs = _unary("abs", "Abs")
negate = _unary("negate", "Negate")
reciprocal = _unary("reciprocal", "Reciprocal")


def floor(arg: Any, name: str = "") -> Function:
    return primitive("Floor", arg, name=name)


def ceil(arg: Any, name: str = "") -> Function:
    return negate(floor(negate(arg)), name)


def round(arg: Any, name: str = "") -> Function:
    return floor(plus(arg, 0.5), name)


sin = _unary("sin", "Sin")
cos = _unary("cos", "Cos")
tan = _unary("tan", "Tan")
asin = _unary("asin", "Asin")
acos = _unary("acos", "Acos")
atan = _unary("atan", "Atan")
sinh = _unary("sinh", "Sinh")
cosh = _unary("cosh", "Cosh")
asinh = _unary("asinh", "Asinh")
acosh = _unary("acosh", "Acosh")
atanh = _unary("atanh", "Atanh")


def softplus(x: Any, steepness: float = 1, name: str = "") -> Function:
    if steepness == 1:
        return block("Softplus", lambda x: log_add_exp(x, 0.0), x, name=name)
    return element_divide(softplus(element_times(x, steepness)), steepness, name=name)


def softsign(x: Any, steepness: float = 1, name: str = "") -> Function:
    return block("Softsign", lambda x: element_divide(x, plus(1.0, abs(x))), element_times(x, steepness), name=name)


_plain_elu = _unary("_elu", "ELU")


def elu(x: Any, alpha: float = 1.0, name: str = "") -> Function:
    return block("ELU", lambda x: element_select(less(x, 0.0), element_times(alpha, _plain_elu(x)), x), x, name=name,
                 attributes={"alpha": float(alpha)})  # fmt: skip


def selu(x: Any, scale: float = 1.0507009873554804934193349852946, alpha: float = 1.6732632423543772848170429916717,
         name: str = "") -> Function:  # fmt: skip
    return block(
        "SELU",
        lambda x: element_times(scale, element_select(less(x, 0.0), element_times(alpha, _plain_elu(x)), x)),
        x,
        name=name,
    )


def leaky_relu(x: Any, alpha: float = 0.01, name: str = "") -> Function:
    return block("LeakyReLU", lambda x: element_select(less(x, 0.0), element_times(alpha, x), x), x, name=name,
                 attributes={"alpha": float(alpha)})  # fmt: skip


def param_relu(alpha: Any, x: Any, name: str = "") -> Function:
    return block(
        "PReLU", lambda alpha, x: element_select(less(x, 0.0), element_times(alpha, x), x), alpha, x, name=name
    )


straight_through_impl = _unary("straight_through_impl", "StraightThrough")


def stop_gradient(input: Any, name: str = "") -> Function:
    return primitive("StopGradient", input, name=name)


def dropout(x: Any, dropout_rate: float = 0.0, seed: int = seeds.SENTINEL, name: str = "") -> Function:
    if not 0 <= dropout_rate < 1:
        raise ValueError("dropout_rate must be in the interval [0,1)")
    return primitive("Dropout", x, name=name, dropoutRate=float(dropout_rate), rngSeed=seeds.taken(seed), rngOffset=0)


alias = _unary("alias", "NoOp")


def cast(node_input: Any, dtype: Any, name: str = "") -> Function:
    kind = wire_writer.DATA_TYPES.get(np.dtype(dtype))
    if kind is None:
        raise TypeError(f"cast: {dtype} must be float32, float64 or float16")
    return primitive("Cast", node_input, name=name, newDataType=kind)


def zeros_like(x: Any, name: str = "") -> Function:
    return primitive("ConstantOp", x, name=name, fillValue=0.0)


def ones_like(x: Any, name: str = "") -> Function:
    return primitive("ConstantOp", x, name=name, fillValue=1.0)


def per_dim_mean_variance_normalize(operand: Any, mean: Any, inv_stddev: Any, name: str = "") -> Function:
    return block(
        "PerDimMeanVarianceNormalize",
        lambda x, m, s: element_times(minus(x, m), s),
        operand,
        mean,
        inv_stddev,
        name=name,
    )


def assign(ref: Any, input: Any, name: str = "") -> Function:
    """Returns `input`, which becomes the value of the variable `ref` at the end of the pass."""
    return primitive("Assign", ref, input, name=name)
