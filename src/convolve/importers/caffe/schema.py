"""The names and types of a prototxt's fields; `schema.txt` is the table."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from convolve.errors import FormatError, UnsupportedError, legible, unknown_name
from convolve.importers.caffe.text import Block, Entry, Prototxt, Scalar

T = TypeVar("T")


class Schema(NamedTuple):
    """The values of each enum, the fields of each message with their types, and today's names of V1 layer types."""

    enums: dict[str, list[str]]
    messages: dict[str, dict[str, str]]
    v1_types: dict[str, str]


@cache
def schema() -> Schema:
    """The table in schema.txt, which says how it is written."""
    enums: dict[str, list[str]] = {}
    messages: dict[str, dict[str, str]] = {}
    fields: dict[str, str] = {}
    for line in Path(__file__).with_name("schema.txt").read_text(encoding="utf-8").splitlines():
        what, *names = line.split() or ["#"]
        if what == "enum":
            enums.setdefault(names[0], []).extend(names[1:])
        elif what == "message":
            fields = messages[names[0]] = {name: kind for base in names[1:] for name, kind in messages[base].items()}
        elif what != "#":
            fields |= dict.fromkeys(names, what)
    v1_types = dict(pair.split("=") for pair in enums["V1Type"])
    return Schema(enums | {"V1Type": [*v1_types]}, messages, v1_types)


@dataclass(frozen=True)
class Message:
    """A block with the values of its fields, checked; `unknown` has the fields that the schema lacks."""

    source: Prototxt
    kind: str
    offset: int
    values: dict[str, list[Any]] = field(default_factory=dict)
    unknown: tuple[Entry, ...] = ()

    def __contains__(self, name: str) -> bool:
        return name in self.values

    def error(self, what: str) -> FormatError:
        return self.source.error(self.offset, what)

    def unsupported(self, what: str) -> UnsupportedError:
        return UnsupportedError(f"{self.source.path}: {self.source.place(self.offset)}: {what}")

    def get(self, name: str, default: T) -> T:
        """The value of a field that occurs once, of the type of `default`."""
        value: T = self.values.get(name, [default])[0]
        return value

    def all(self, name: str) -> list[Any]:
        return self.values.get(name, [])

    def message(self, name: str) -> Message:
        """The block `name`; an empty one if it is absent."""
        kind = schema().messages[self.kind][name].rstrip("*")
        found: Message = self.values.get(name, [Message(self.source, kind, self.offset)])[0]
        return found

    def unknown_fields(self) -> Iterable[str]:
        """One sentence for each unknown field."""
        for entry in self.unknown:
            known = unknown_name("field", legible(entry.name), schema().messages[self.kind])
            yield f"{self.source.place(entry.offset)}: {known}"


def read_message(source: Prototxt, block: Block, kind: str) -> Message:
    """`block` as the schema's message `kind`. Raises FormatError for a value that a field cannot have."""
    values: dict[str, list[Any]] = {}
    unknown = []
    for entry in block.fields:
        wanted = schema().messages[kind].get(entry.name)
        if wanted is None:
            unknown.append(entry)
            continue
        if entry.name in values and not wanted.endswith("*") and wanted != "-":
            raise source.error(entry.offset, f"{entry.name} is given twice")
        values.setdefault(entry.name, []).append(_value(source, entry, wanted.rstrip("*")))
    return Message(source, kind, block.offset, values, tuple(unknown))


def _value(source: Prototxt, entry: Entry, kind: str) -> Any:
    value = entry.value
    if kind == "-":
        return None
    if kind in schema().messages:
        if isinstance(value, Block):
            return read_message(source, value, kind)
        raise source.error(value.offset, f"{entry.name} must be a block in braces, not {value}")
    result = _scalar(value, kind) if isinstance(value, Scalar) else None
    if result is None:
        wanted = _WORDS.get(kind) or " or ".join(schema().enums[kind])
        raise source.error(value.offset, f"{entry.name} must be {wanted}, not {value}")
    return result


_WORDS = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "text": "a text in quotes",
    "V1Type": "a type of the V1 syntax, such as CONVOLUTION",
}
_FLAGS = {"true": True, "True": True, "t": True, "1": True, "false": False, "False": False, "f": False, "0": False}


def _scalar(value: Scalar, kind: str) -> Any:
    """The value as one of `kind`; None if it is not one."""
    if kind == "text":
        return value.text if value.kind == "text" else None
    if kind == "bool":
        return _FLAGS.get(value.text) if value.kind != "text" else None
    if kind in schema().enums:
        names = dict(zip(map(str, range(len(schema().enums[kind]))), schema().enums[kind], strict=True))
        known = value.kind != "text" and (value.text in schema().enums[kind] or value.text in names)
        return names.get(value.text, value.text) if known else None
    if value.kind != "number":
        return None
    return _whole(value.text) if kind == "int" else _finite(value.text)


def _whole(text: str) -> int | None:
    digits = text.lstrip("+-")
    base = 16 if digits[:2] in ("0x", "0X") else 8 if digits[0] == "0" else 10
    try:
        number = int(text, base) if len(text) < 30 else 2**63
    except ValueError:
        return None
    return number if -(2**63) <= number < 2**63 else None


def _finite(text: str) -> float | None:
    hexadecimal = "x" in text.lower()
    number = float(_whole(text) or 0) if hexadecimal else float(text.rstrip("fF"))
    return number if math.isfinite(number) else None
