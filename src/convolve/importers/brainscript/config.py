"""CNTK's configuration language: nested blocks of `key = value`, around a network in BrainScript.

Everything in it stays text until it is read. A block is parsed when it is entered, and `$name$` is replaced when a
value is read, so that later assignments, such as those on the command line, win everywhere.
"""

from __future__ import annotations

import difflib
import os
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from convolve.errors import FormatError, UsageError, unknown_name
from convolve.importers.brainscript.files import files_in, load
from convolve.importers.brainscript.text import (
    Place,
    Text,
    as_flag,
    as_integer,
    as_number,
    joined,
    of_lines,
    unquoted,
)
from convolve.names import own_slashes

_CLOSERS = {"{": "}", "[": "]", "(": ")"}
_MARK = re.compile(r'"[^"]*"?|[][{}()\n;,:]')  # a quoted text as a whole: nothing inside it closes or separates
_KEY_END = re.compile(r"[={[(\n;,]")
_VARIABLE = re.compile(r"\$([A-Za-z_]\w*)\$")
_REPEATED = re.compile(r"(.*?)\s*\*\s*(\d+)", re.DOTALL)

MAX_DEPTH = 50  # blocks inside blocks, variables inside variables
MAX_WARNINGS = 20
MAX_ITEMS = 100_000  # of an array, counting repetitions


@dataclass
class Entry:
    """`parts`: the last value that was assigned, and what later records in [...] add to it."""

    key: Text
    parts: list[Text]

    @cached_property
    def value(self) -> Text:
        return joined(self.parts, " ") if len(self.parts) > 1 else self.parts[0]


class Block:
    """A block of a configuration. A key is looked for in it, then in the blocks around it, whatever its case.

    Readers ask for each key that they know; `unread` then lists the others.
    """

    def __init__(self, name: str, bodies: Sequence[Text], parent: Block | None = None) -> None:
        self.name, self.parent, self.bodies = name, parent, bodies
        self._depth: int = parent._depth + 1 if parent else 0
        # anywhere in the configuration: for each depth of blocks, the keys that somebody has looked for there
        self._asked: defaultdict[int, set[str]] = parent._asked if parent else defaultdict(set)
        self._read: set[str] = set()
        self._expanded: dict[str, Text] = {}
        self.entries: dict[str, Entry] = {}
        for body in bodies:
            for entry in _entries(body):
                self._add(entry)
        if name.count(".") >= MAX_DEPTH:
            raise bodies[0].error(0, f"blocks are nested more than {MAX_DEPTH} deep")

    def _add(self, entry: Entry) -> None:
        """A later value replaces an earlier one, but a record in [...] is merged into it."""
        key = entry.key.string.lower()
        if key in self.entries and entry.parts[0].string.startswith("["):
            self.entries[key].parts.extend(entry.parts)
        else:
            self.entries[key] = entry

    # -- reading ------------------------------------------------------------------------------------------------------

    def find(self, key: str, inherit: bool = True) -> Text | None:
        """The unexpanded value of `key`; None if it is absent or says `default`."""
        block: Block | None = self
        while block is not None:
            block._asked[block._depth].add(key)
            if key.lower() in block.entries:
                block._read.add(key.lower())
                value = block.entries[key.lower()].value
                return None if value.string.lower() == "default" else value
            block = block.parent if inherit else None
        return None

    def place(self, key: str) -> Place | None:
        """The place of the value of `key`."""
        value = self.find(key)
        return None if value is None else value.place(0)

    @property
    def here(self) -> Place:
        """The place where the block begins."""
        return self.bodies[0].place(0)

    def error(self, key: str, what: str) -> FormatError:
        """An error at the value of `key`, or where the block begins."""
        return (self.place(key) or self.here).error(what)

    def unsupported(self, key: str, what: str) -> str:
        """The sentence that says what is not supported at `key`."""
        return f"{self.place(key) or self.here}: {self.path(key)}: {what} is not supported"

    def text(self, key: str, default: str = "", inherit: bool = True) -> str:
        value = self.raw(key, inherit)
        return default if value is None else unquoted(value).string

    def file(self, key: str, inherit: bool = True) -> str:
        """A path, with this system's slashes."""
        return own_slashes(self.text(key, inherit=inherit))

    def flag(self, key: str, default: bool = False, inherit: bool = True) -> bool:
        value = self.raw(key, inherit)
        return default if value is None else as_flag(unquoted(value))

    def number(self, key: str, default: float, inherit: bool = True) -> float:
        value = self.raw(key, inherit)
        return default if value is None else as_number(unquoted(value))

    def integer(self, key: str, default: int, inherit: bool = True) -> int:
        value = self.raw(key, inherit)
        return default if value is None else as_integer(unquoted(value))

    def at_least(self, least: int, key: str, value: int) -> int:
        """`value`, the value of `key`, which must be `least` or more."""
        if value < least:
            raise self.error(key, f"{self.path(key)} must be at least {least}")
        return value

    def choice(self, key: str, choices: Sequence[str], default: str, inherit: bool = True) -> str:
        """One of `choices`; case does not matter."""
        value = self.raw(key, inherit)
        if value is None:
            return default
        word = unquoted(value)
        known = {choice.lower(): choice for choice in choices}
        if word.string.lower() not in known:
            raise word.error(0, f"{self.path(key)}: {unknown_name('value', word.string, choices)}")
        return known[word.string.lower()]

    def words(self, key: str, default: Sequence[str] = (), inherit: bool = True) -> tuple[str, ...]:
        """An array of texts."""
        value = self.raw(key, inherit)
        return tuple(default) if value is None else tuple(unquoted(item).string for item in items(unquoted(value)))

    def numbers(self, key: str, default: Sequence[float] = (), inherit: bool = True) -> tuple[float, ...]:
        value = self.raw(key, inherit)
        return (tuple(as_number(item) for item in items(unquoted(value))) if value else ()) or tuple(default)

    def integers(self, key: str, default: Sequence[int] = (), inherit: bool = True) -> tuple[int, ...]:
        value = self.raw(key, inherit)
        return (tuple(as_integer(item) for item in items(unquoted(value))) if value else ()) or tuple(default)

    def block(self, key: str, inherit: bool = True) -> Block | None:
        """The block called `key`; None if there is none."""
        value = self.find(key, inherit)
        return None if value is None else self._block(key, value)

    def blocks(self, key: str, inherit: bool = True) -> list[Block] | None:
        """An array of blocks."""
        value = self.find(key, inherit)
        if value is None:
            return None
        return [self._block(f"{key}[{number}]", item) for number, item in enumerate(items(value))]

    def inner_blocks(self) -> dict[str, Block]:
        """The entries that are blocks themselves, under their names as written."""
        found = {e.key.string: e.value for e in self.entries.values() if e.value.string.startswith(("{", "["))}
        return {name: self._block(name, value) for name, value in found.items()}

    def path(self, key: str) -> str:
        return f"{self.name}.{key}" if self.name else key

    def pass_over(self) -> None:
        """Count everything in this block as read."""
        self._read |= self.entries.keys()

    def unread(self) -> list[str]:
        """A sentence for each of the first entries that nobody has read."""
        others = {} if self.parent else {name.lower() for name in self.inner_blocks()}  # of commands that are not run
        # A command's block, and what surrounds it, may have keys that other commands read; variables are read when
        # pasted.
        known = {key.lower() for key in self._asked[1]} if self._depth < 2 else set()
        pasted = {name.lower() for body in self._top().bodies for name in _VARIABLE.findall(body.string)}
        passed = {*self._read, *others, *known, *pasted}
        unread = [entry.key for key, entry in self.entries.items() if key not in passed]
        sentences = [f"{key.place(0)}: {self._unknown(key.string)}" for key in unread[:MAX_WARNINGS]]
        more = [f"{len(unread) - MAX_WARNINGS} more keys are not known"] if len(unread) > MAX_WARNINGS else []
        return sentences + more

    def _unknown(self, name: str) -> str:
        nearest = difflib.get_close_matches(name, set().union(*self._asked.values()) - {name}, n=1, cutoff=0.7)
        return f"unknown key {name!r}; " + (f"did you mean {nearest[0]!r}?" if nearest else "nothing reads it")

    def _block(self, key: str, value: Text) -> Block:
        if value.string.startswith("$"):
            value = self.expand(value)
        return Block(self.path(key), _groups(value), self)

    def raw(self, key: str, inherit: bool = True) -> Text | None:
        """The value with its variables replaced and nothing else changed, such as the text of a network."""
        value = self.find(key, inherit)
        return None if value is None else self.expand(value)

    # -- variables ----------------------------------------------------------------------------------------------------

    def expand(self, text: Text, inside: tuple[str, ...] = ()) -> Text:
        """`text` with each $name$ replaced by what the name stands for here."""
        parts, end = [], 0
        for match in _VARIABLE.finditer(text.string):
            if match.start() < end:
                continue
            parts += [text.slice(end, match.start()), self._variable(match[1], text, match.start(), inside)]
            end = match.end()
        return joined([*parts, text.slice(end, len(text))]) if parts else text

    def _variable(self, name: str, text: Text, offset: int, inside: tuple[str, ...]) -> Text:
        key = name.lower()
        if key in inside or len(inside) >= MAX_DEPTH:
            chain = " -> ".join([*inside[-3:], key])
            raise text.error(offset, f"the variable ${name}$ refers to itself or is nested too deep ({chain})")
        if key not in self._expanded:
            value = self._from_outside(name)
            if value is None:
                raise text.error(
                    offset,
                    f"no variable is called {name!r}; set {name}=... in the file, or after it on the command line",
                )
            if "\n" in value.string:
                raise text.error(offset, f"${name}$ has a value of several lines, which cannot be pasted here")
            self._expanded[key] = self.expand(unquoted(value), (*inside, key))
        return self._expanded[key]

    def _from_outside(self, name: str) -> Text | None:
        """The value of a variable. CNTK replaces variables in the whole text of a block when it enters it, so that the
        outermost of several values wins, and `key = $key$` passes it on. Variables of this block alone are
        found, too."""
        outer = self.parent._from_outside(name) if self.parent else None
        return self.find(name, inherit=False) if outer is None else outer

    def _top(self) -> Block:
        return self.parent._top() if self.parent else self


# -- the parts of a text ----------------------------------------------------------------------------------------------


def _entries(body: Text) -> list[Entry]:
    """The `key = value` entries in a block's text; a key alone means `key = true`."""
    string, entries, begin = body.string, [], 0
    while begin < len(string):
        if string[begin] in " \t\n;,":
            begin += 1
            continue
        match = _KEY_END.search(string, begin)
        stop = match.start() if match else len(string)
        key = body.cut(begin, stop)
        if not key.string or key.string[0] in "}])":
            raise body.error(begin, f"a key is expected, not {string[begin]!r}")
        if match is None or match[0] in "\n;,":
            entries.append(Entry(key, [Text("true", ((0, key.place(0)),))]))
            begin = stop
            continue
        begin = stop + (match[0] == "=")
        begin += _blanks_before_value(string, begin)
        end = _value_end(body, begin)
        entries.append(Entry(key, [body.cut(begin, end)]))
        begin = end
    return entries


def _blanks_before_value(string: str, begin: int) -> int:
    """Blanks; also line ends, if an opening brace follows on a later line."""
    rest = re.compile(r"\s*").match(string, begin)
    assert rest is not None  # it matches the empty string at least
    if string[rest.end() : rest.end() + 1] in ("{", "[", "("):
        return len(rest[0])
    return 0


def _value_end(text: Text, begin: int, separators: str = "\n;,") -> int:
    """Where the value from `begin` on ends: at a separator outside of braces and quotes, or with the text."""
    opened: list[tuple[str, int]] = []
    for match in _MARK.finditer(text.string, begin):
        mark = match[0]
        if mark in _CLOSERS:
            opened.append((mark, match.start()))
        elif mark in "}])":
            if not opened or _CLOSERS[opened.pop()[0]] != mark:
                raise text.error(match.start(), f"unexpected {mark!r}, which closes nothing")
        elif mark[0] == '"' and (mark[-1] != '"' or len(mark) == 1):
            raise text.error(match.start(), "this quote is never closed")
        elif mark in separators and not opened:
            return match.start()
    if opened:
        raise text.error(opened[-1][1], f"this {opened[-1][0]!r} is never closed")
    return len(text)


def _groups(value: Text) -> list[Text]:
    """The insides of the {...} and [...], one after the other, of which a record consists."""
    groups, begin = [], 0
    while begin < len(value):
        if value.string[begin].isspace():
            begin += 1
            continue
        if value.string[begin] not in "{[":
            raise value.error(begin, "a block in {...} or [...] is expected")
        end = _closed(value, begin)
        groups.append(value.cut(begin + 1, end - 1))
        begin = end
    if not groups:
        raise value.error(0, "a block in {...} or [...] is expected, but there is nothing")
    return groups


def _closed(text: Text, begin: int) -> int:
    """The offset after the brace that closes the one at `begin`."""
    depth = 0
    for match in _MARK.finditer(text.string, begin):
        depth += (match[0] in _CLOSERS) - (match[0] in "}])")
        if not depth:
            return match.end()
    raise text.error(begin, f"this {text.string[begin]!r} is never closed")


def items(value: Text) -> list[Text]:
    """The elements of an array: `a:b*3:c`, in parentheses or not; `(;a;b)` names another separator."""
    separator = ":"
    if value.string.startswith("(") and _closed(value, 0) == len(value):
        value = value.cut(1, len(value) - 1)
        if value.string[:1] in (";", ",", ":", "|"):
            separator, value = value.string[0], value.cut(1, len(value))
    found: list[Text] = []
    begin = 0 if value.string else 1  # () has none
    while begin <= len(value):
        end = _next(value, begin, separator)
        item = value.cut(begin, end)
        repeated = _REPEATED.fullmatch(item.string)
        count = int(repeated[2]) if repeated and len(repeated[2]) < 10 else 1
        if not count or len(found) + count > MAX_ITEMS:
            raise item.error(0, f"an array must have 1 to {MAX_ITEMS} elements")
        found += [item.cut(0, len(repeated[1])) if repeated else item] * count
        begin = end + 1
    return found


def _next(value: Text, begin: int, separator: str) -> int:
    if separator in "|":
        end = value.string.find(separator, begin)
        return len(value) if end < 0 else end
    return _value_end(value, begin, separator)


# -- command lines ----------------------------------------------------------------------------------------------------


def read_config(arguments: Sequence[str]) -> tuple[Block, tuple[Path, ...]]:
    """The configuration of a command line, and the folders of its files.

    An argument is `key=value`, or one or more files joined by `+`; all of them together are one text, in which the
    later assignment wins.
    """
    texts, files = [], []
    for argument in arguments:
        names = files_in(argument)
        if not names:
            texts.append(of_lines("command line", [argument]))
        for name in names:
            file = Path(os.path.realpath(name))  # `resolve` fails for links in a circle before 3.13
            if file in files:
                raise UsageError(f"{name} is given twice; name each file once")
            files.append(file)
            texts.append(load(Path(name), [files[-1]]))
    if not files:
        raise UsageError("no configuration is given; name a .cntk file")
    root = Block("", [joined(texts, "\n")])
    return root, tuple(dict.fromkeys(file.parent for file in files))
