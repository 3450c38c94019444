"""Read a pickle that holds nothing but lists, dicts, bytes, texts, whole numbers and numpy arrays of numbers.

Python's own unpickler runs what a file tells it to. This reader knows the opcodes that such values need (protocols 0
to 2, which Python 2 wrote) and a few names of numpy's and Python's, each with a fixed meaning here; it imports and
calls nothing. Memory stays within a small multiple of the file's size.

Source of the opcodes: `pickletools` of the Python library.
"""

from __future__ import annotations

import codecs
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NoReturn, TypeAlias

import numpy as np
from numpy.typing import NDArray

from convolve.errors import FormatError

Plain: TypeAlias = "bool | int | str | bytes | list[Plain] | dict[Any, Plain] | NDArray[Any] | None"

MAX_OPCODES = 4_000_000  # CIFAR-100 has 0.4 million; each makes at most an empty dict of 64 bytes
_NUMBER_TYPE = re.compile(r"(b1|[iu][1248]|f[248])\Z")
_GLOBALS = {
    "numpy.core.multiarray._reconstruct": "array",
    "numpy._core.multiarray._reconstruct": "array",
    "numpy.ndarray": "ndarray",
    "numpy.dtype": "dtype",
    "_codecs.encode": "encode",
    "__builtin__.bytes": "bytes",
}


def read_plain_pickle(content: bytes, name: object) -> Plain:
    """The value in `content`. Raises `FormatError` with the byte offset; `name` stands for the file in messages."""
    return _Reader(content, name).read()


@dataclass(frozen=True)
class _Global:
    """One of the names in `_GLOBALS`."""

    meaning: str


@dataclass(eq=False)
class _Type:
    """A numpy type before and after its byte order is known."""

    code: str
    order: str = "|"


@dataclass(eq=False)
class _Array:
    """An array whose content comes later; `slots` of the memo refer to it until then."""

    slots: list[int] = field(default_factory=list)


class _Reader:
    """The stack machine of the pickle format."""

    def __init__(self, content: bytes, name: object) -> None:
        self.content, self.name = content, name
        self.position = 0
        self.opcode_at = 0
        self.stack: list[Any] = []
        self.marks: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        self.bytes_to_copy = 4 * len(content)

    def read(self) -> Plain:
        opcodes = 0
        while (opcode := self.take(1)) != b".":  # STOP
            self.step(opcode)
            self.opcode_at = self.position
            opcodes += 1
            if opcodes > MAX_OPCODES:
                self.refuse(f"more than {MAX_OPCODES} opcodes")
        return self.plain(self.pop())

    def step(self, opcode: bytes) -> None:
        if opcode in _INTEGERS:
            self.stack.append(self.number(_INTEGERS[opcode]))
        elif opcode in _STRINGS:
            self.stack.append(self.take(self.number(_STRINGS[opcode])))
        elif opcode in _PUTS:
            self.put(self.number(_PUTS[opcode]))
        elif opcode in _GETS:
            self.get(self.number(_GETS[opcode]))
        elif opcode in _CONSTANTS:
            self.stack.append(_CONSTANTS[opcode])
        elif opcode in _CONTAINERS:
            self.stack.append(_CONTAINERS[opcode]())
        elif opcode in _TUPLES:
            self.stack.append(tuple(reversed([self.pop() for _ in range(_TUPLES[opcode])])))
        elif opcode in _OTHERS:
            _OTHERS[opcode](self)
        else:
            self.refuse(f"opcode {opcode!r}, which plain values do not need")

    def refuse(self, what: str) -> NoReturn:
        place = f"byte {self.opcode_at}"
        raise FormatError(self.name, place, f"{what}: not a pickle of plain values (protocols 0 to 2)")

    # The file

    def take(self, count: int) -> bytes:
        taken = self.content[self.position : self.position + max(count, 0)]
        if len(taken) != count:
            self.refuse("the file ends too early")
        self.position += count
        return taken

    def number(self, form: str) -> int:
        value: int = struct.unpack(form, self.take(struct.calcsize(form)))[0]
        return value

    def line(self) -> bytes:
        end = self.content.find(b"\n", self.position)
        if end < 0:
            self.refuse("the file ends too early")
        line = self.content[self.position : end]
        self.position = end + 1
        return line.rstrip(b"\r")

    def slot(self) -> int:
        digits = self.line()
        if not re.fullmatch(rb"[0-9]{1,9}", digits):
            self.refuse("no whole number")
        return int(digits)

    # The stack and the memo

    def pop(self) -> Any:
        if not self.stack:
            self.refuse("a value is missing")
        return self.stack.pop()

    def pop_to_mark(self) -> list[Any]:
        if not self.marks:
            self.refuse("a mark is missing")
        items, self.stack = self.stack, self.marks.pop()
        return items

    def top(self, kind: type) -> Any:
        if not self.stack or type(self.stack[-1]) is not kind:
            self.refuse(f"no {kind.__name__} to put values into")
        return self.stack[-1]

    def put(self, slot: int) -> None:
        if not self.stack:
            self.refuse("a value is missing")
        self.memo[slot] = self.stack[-1]
        if isinstance(self.stack[-1], _Array):
            self.stack[-1].slots.append(slot)

    def get(self, slot: int) -> None:
        if slot not in self.memo:
            self.refuse("a reference to nothing")
        self.stack.append(self.memo[slot])

    def plain(self, value: Any) -> Plain:
        if type(value) not in _PLAIN:
            self.refuse(f"a {type(value).__name__.strip('_').lower()} in the place of a value")
        checked: Plain = value
        return checked

    def append(self, items: list[Any]) -> None:
        self.top(list).extend([self.plain(item) for item in items])

    def set_items(self, items: list[Any]) -> None:
        if len(items) % 2:
            self.refuse("a key without a value")
        target = self.top(dict)
        for key, value in zip(items[::2], items[1::2], strict=True):
            if type(key) not in (int, str, bytes):
                self.refuse("a key that is neither a text nor a number")
            target[key] = self.plain(value)

    # Opcodes with a name of their own, see `_OTHERS`

    def protocol(self) -> None:
        version = self.number("<B")
        if version > 2:
            self.refuse(f"pickle protocol {version}")

    def mark(self) -> None:
        self.marks.append(self.stack)
        self.stack = []

    def decimal(self) -> None:
        text = self.line()
        if text in (b"00", b"01"):  # how protocols 0 and 1 write False and True
            self.stack.append(text == b"01")
            return
        digits = text.removesuffix(b"L")
        if not re.fullmatch(rb"[+-]?[0-9]{1,40}", digits):
            self.refuse("no whole number")
        self.stack.append(int(digits))

    def long1(self) -> None:
        self.stack.append(int.from_bytes(self.take(self.number("<B")), "little", signed=True))

    def quoted(self) -> None:
        text = self.line()
        if len(text) < 2 or text[:1] not in (b"'", b'"') or text[:1] != text[-1:]:
            self.refuse("a text without quotes")
        try:
            self.stack.append(codecs.escape_decode(text[1:-1])[0])
        except ValueError:
            self.refuse("a text with a broken escape")

    def text(self, encoded: bytes, encoding: str) -> None:
        try:
            self.stack.append(encoded.decode(encoding))
        except UnicodeDecodeError:
            self.refuse(f"a text that is not {encoding}")

    def unicode(self) -> None:
        self.text(self.line(), "raw-unicode-escape")

    def binary_unicode(self) -> None:
        self.text(self.take(self.number("<I")), "utf-8")

    def tuple_to_mark(self) -> None:
        items = self.pop_to_mark()
        self.stack.append(tuple(items))

    def list_to_mark(self) -> None:
        items = self.pop_to_mark()
        self.stack.append([])
        self.append(items)

    def dict_to_mark(self) -> None:
        items = self.pop_to_mark()
        self.stack.append({})
        self.set_items(items)

    def append_one(self) -> None:
        self.append([self.pop()])

    def append_to_mark(self) -> None:
        self.append(self.pop_to_mark())

    def set_one(self) -> None:
        value, key = self.pop(), self.pop()
        self.set_items([key, value])

    def set_to_mark(self) -> None:
        self.set_items(self.pop_to_mark())

    def put_line(self) -> None:
        self.put(self.slot())

    def get_line(self) -> None:
        self.get(self.slot())

    def find_global(self) -> None:
        name = f"{self.line().decode('latin-1')}.{self.line().decode('latin-1')}"
        if name not in _GLOBALS:
            self.refuse(f"it refers to {name[:80]!r}, which is neither imported nor run")
        self.stack.append(_Global(_GLOBALS[name]))

    def reduce(self) -> None:
        match self.pop(), self.pop():
            case (_Global("ndarray"), tuple(), bytes() | str()), _Global("array"):
                self.stack.append(_Array())
            case (bytes() | str() as code, *_), _Global("dtype"):
                self.stack.append(_Type(_as_text(code)))
            case (str() as text, "latin1"), _Global("encode"):
                self.stack.append(self.encode(text))
            case (), _Global("bytes"):
                self.stack.append(b"")
            case _:
                self.refuse("a call")

    def build(self) -> None:
        match self.pop(), self.pop():
            case (3, "|" | "<" | ">" | b"|" | b"<" | b">" as order, None, None, None, *_), _Type() as kind:
                kind.order = _as_text(order)
                self.stack.append(kind)
            case (1, tuple() as shape, _Type() as kind, int() as by_column, bytes() as data), _Array() as array:
                values = self.array(shape, kind, by_column != 0, data)
                self.stack.append(values)
                self.memo.update(dict.fromkeys(array.slots, values))
            case _:
                self.refuse("the state of an object")

    def encode(self, text: str) -> bytes:
        """Python 3 writes bytes as a text to be encoded; the same long text could be asked for a million times."""
        self.bytes_to_copy -= len(text)
        if self.bytes_to_copy < 0:
            self.refuse("the same bytes again and again")
        try:
            return text.encode("latin-1")
        except UnicodeEncodeError:
            self.refuse("bytes beyond 255")

    def array(self, shape: tuple[Any, ...], kind: _Type, by_column: bool, data: bytes) -> NDArray[Any]:
        if not _NUMBER_TYPE.match(kind.code):
            self.refuse(f"an array of type {kind.code[:20]!r}")
        if not all(type(length) is int and length >= 0 for length in shape):
            self.refuse("an array without a proper shape")
        try:
            return np.frombuffer(data, np.dtype(kind.order + kind.code)).reshape(shape, order="F" if by_column else "C")
        except (ValueError, OverflowError):
            self.refuse(f"an array of shape {shape} in {len(data)} bytes")


def _as_text(text: bytes | str) -> str:
    return text if isinstance(text, str) else text.decode("latin-1")


_PLAIN = (type(None), bool, int, str, bytes, list, dict, np.ndarray)

# What an opcode reads and pushes; `pickletools` gives their names.
_INTEGERS = {b"J": "<i", b"K": "<B", b"M": "<H"}
_STRINGS = {b"T": "<i", b"U": "<B"}  # the length before the bytes
_PUTS = {b"q": "<B", b"r": "<I"}
_GETS = {b"h": "<B", b"j": "<I"}
_CONSTANTS = {b"N": None, b"\x88": True, b"\x89": False}
_CONTAINERS: dict[bytes, Callable[[], Any]] = {b"]": list, b"}": dict, b")": tuple}
_TUPLES = {b"\x85": 1, b"\x86": 2, b"\x87": 3}
_OTHERS: dict[bytes, Callable[[_Reader], None]] = {
    b"\x80": _Reader.protocol,
    b"(": _Reader.mark,
    b"I": _Reader.decimal,
    b"L": _Reader.decimal,
    b"\x8a": _Reader.long1,
    b"S": _Reader.quoted,
    b"V": _Reader.unicode,
    b"X": _Reader.binary_unicode,
    b"t": _Reader.tuple_to_mark,
    b"l": _Reader.list_to_mark,
    b"d": _Reader.dict_to_mark,
    b"a": _Reader.append_one,
    b"e": _Reader.append_to_mark,
    b"s": _Reader.set_one,
    b"u": _Reader.set_to_mark,
    b"p": _Reader.put_line,
    b"g": _Reader.get_line,
    b"c": _Reader.find_global,
    b"R": _Reader.reduce,
    b"b": _Reader.build,
}
