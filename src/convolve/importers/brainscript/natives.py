"""The functions that BrainScript's own library is built on: on plain values, with their arguments evaluated."""

import math
import re
from collections.abc import Callable
from typing import Any

from convolve.errors import FormatError
from convolve.importers.brainscript.operators import MAX_LETTERS
from convolve.importers.brainscript.values import Array, Function, Node, Nothing, Record, Value, kind_of

Fail = Callable[[str], FormatError]  # makes an error at the place of the call
Native = Callable[[Fail, list[Value]], Value]

# What `Format` takes: the conversions of C's printf that mean something for a number or a text.
_CONVERSION = re.compile(r"[^%]*%[-+0 ]?\d{0,2}(\.\d{1,2})?(l?s|[dfge])[^%]*")


def _length(fail: Fail, values: list[Value]) -> Value:
    value = values[0]
    if isinstance(value, Array):
        return float(len(value.items))
    if isinstance(value, Nothing):  # CNTK's None is an empty array
        return 0.0
    if isinstance(value, str):
        return float(len(value))
    raise fail(f"{kind_of(value)} has no length")


def _fail(fail: Fail, values: list[Value]) -> Value:
    raise fail(_text(fail, values[0]))


def _replace(fail: Fail, values: list[Value]) -> Value:
    text, what, by = (_text(fail, value) for value in values)
    if not what:
        return text
    if len(text) + text.count(what) * len(by) > MAX_LETTERS:
        raise fail(f"a string has more than {MAX_LETTERS:,} characters")
    return text.replace(what, by)


def _substring(fail: Fail, values: list[Value]) -> Value:
    """Substr (text, begin, count): a negative `begin` counts from the end, a negative `count` means the rest."""
    text = _text(fail, values[0])
    begin, count = (int(value) if type(value) is float and value.is_integer() else None for value in values[1:])
    if begin is None or count is None:
        raise fail("Substr takes a string and two whole numbers")
    begin = max(0, begin + len(text)) if begin < 0 else begin
    return text[begin:] if count < 0 else text[begin : begin + count]


def _character(fail: Fail, values: list[Value]) -> Value:
    code = values[0]
    if type(code) is not float or not code.is_integer() or not 1 <= code < 0xD800:
        raise fail("Chr takes the code of a character")
    return chr(int(code))


def _format(fail: Fail, values: list[Value]) -> Value:
    """Format (value, '%d'), as printf."""
    value, how = values[0], _text(fail, values[1])
    match = _CONVERSION.fullmatch(how)
    if not match or (match[2][-1] == "s") is not isinstance(value, str) or not isinstance(value, str | float):
        raise fail(f"{kind_of(value)} cannot be written as {how[:40]!r}")
    try:
        return how.replace("%ls", "%s") % value
    except (ValueError, OverflowError):
        raise fail(f"{value} cannot be written as {how[:40]!r}") from None


def _is(*kinds: type) -> Native:
    return lambda fail, values: type(values[0]) in kinds


def _numeric(function: Callable[..., float]) -> Native:
    def native(fail: Fail, values: list[Value]) -> Value:
        numbers: list[Any] = [value for value in values if type(value) is float]
        if len(numbers) < len(values):
            raise fail(f"a number is expected, not {kind_of(next(v for v in values if v not in numbers))}")
        try:
            return float(function(*numbers))
        except (ArithmeticError, ValueError):
            raise fail(f"not defined for {', '.join(f'{number:g}' for number in numbers)}") from None

    return native


def _text(fail: Fail, value: Value) -> str:
    if not isinstance(value, str):
        raise fail(f"a string is expected, not {kind_of(value)}")
    return value


def _compute(fail: Fail, values: list[Value]) -> Value:
    """_Number ('Exp', x): a function of the network, of a plain number."""
    name = _text(fail, values[0])
    return _numeric(_OF_A_NUMBER[name])(fail, values[1:])


_OF_A_NUMBER: dict[str, Callable[[float], float]] = {
    "Abs": abs,
    "Exp": math.exp,
    "Log": math.log,
    "Sqrt": math.sqrt,
    "Floor": math.floor,
    "Ceil": math.ceil,
    "Round": lambda x: math.floor(x + 0.5),
}

# name -> its parameters and what it does
NATIVES: dict[str, tuple[tuple[str, ...], Native]] = {
    "Length": (("x",), _length),
    "Fail": (("what",), _fail),
    "Replace": (("text", "what", "by"), _replace),
    "Format": (("value", "how"), _format),
    "Substr": (("text", "begin", "count"), _substring),
    "Chr": (("code",), _character),
    "Min": (("a", "b"), _numeric(min)),
    "Max": (("a", "b"), _numeric(max)),
    "Mod": (("n", "d"), _numeric(math.fmod)),
    "IntDiv": (("n", "d"), _numeric(lambda n, d: math.trunc(n / d))),
    "Sign": (("x",), _numeric(lambda x: (x > 0) - (x < 0))),
    "IsSameObject": (("a", "b"), lambda fail, values: values[0] is values[1]),
    "IsNumber": (("x",), _is(float)),
    "IsDouble": (("x",), _is(float)),
    "IsString": (("x",), _is(str)),
    "IsBool": (("x",), _is(bool)),
    "IsArray": (("x",), _is(Array, Nothing)),
    "IsRecord": (("x",), _is(Record)),
    "IsFunction": (("x",), _is(Function)),
    "IsNode": (("x",), _is(Node)),
    "_IsNone": (("x",), _is(Nothing)),
    "_Number": (("name", "x"), _compute),
}
