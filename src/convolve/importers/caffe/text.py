"""Protobuf's text format, in which prototxt files are written -> a tree of fields, whatever they mean.

    message  =  { field }
    field    =  name ( ":" value | [ ":" ] block | [ ":" ] list ) [ ";" | "," ]
    block    =  "{" message "}"  |  "<" message ">"
    list     =  "[" [ item { "," item } ] "]"          where an item is a value or a block
    value    =  word  |  number  |  text { text }
    text     =  "..." or '...' on one line, with C's escapes; a comment runs from # to the end of its line

Numbers are finite: no network computes anything useful from `inf` and `nan`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from convolve.errors import FormatError, brief

# A ResNet-152 has 130 kB, 7,000 fields and blocks 4 deep; a file beyond these limits is no network's description.
MAX_CHARACTERS = 2**22
MAX_FIELDS = 200_000
MAX_DEPTH = 30

_BLANK = re.compile(r"(?:[ \t\r\n\f\v]+|#[^\n]*)*")
_TOKEN = re.compile(
    r"""(?P<word>  [A-Za-z_]\w*)
      | (?P<number>[-+]?(?:0[xX][0-9A-Fa-f]+ | (?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?[fF]?)(?![\w.]))
      | (?P<text>  "(?:[^"\\\n]|\\.)*" | '(?:[^'\\\n]|\\.)*')
      | (?P<mark>  [{}<>:;,\[\]])""",
    re.VERBOSE | re.ASCII,
)
_ESCAPE = re.compile(r"\\(x[0-9A-Fa-f]{1,2}|[0-7]{1,3}|.)", re.DOTALL)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "f": "\f", "v": "\v"}
_CLOSING = {"{": "}", "<": ">"}


@dataclass(frozen=True)
class Prototxt:
    """A file's text. Places in it are offsets, of which `place` makes line and column."""

    path: object
    text: str

    def place(self, offset: int) -> str:
        """Line and column, counted from 1."""
        line = self.text.count("\n", 0, offset) + 1
        return f"line {line}, column {offset - self.text.rfind(chr(10), 0, offset)}"

    def error(self, offset: int, what: str) -> FormatError:
        return FormatError(self.path, self.place(offset), what)


@dataclass(frozen=True)
class Scalar:
    """`kind` is "word", "number" or "text"; a text comes without its quotes and escapes."""

    kind: str
    text: str
    offset: int

    def __str__(self) -> str:
        return brief(self.text)


@dataclass(frozen=True)
class Block:
    fields: tuple[Entry, ...]
    offset: int

    def __str__(self) -> str:
        return "a block"


@dataclass(frozen=True)
class Entry:
    name: str
    value: Scalar | Block
    offset: int


def decode(data: bytes, path: object) -> Prototxt:
    """The text of a file. Raises FormatError if it is not text."""
    if len(data) > MAX_CHARACTERS:
        raise FormatError(
            path, "", f"more than {MAX_CHARACTERS} bytes, too many for a prototxt; give net.prototxt+net.caffemodel"
        )
    try:
        return Prototxt(path, data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        way_out = "give net.prototxt+net.caffemodel, in this order"
        raise FormatError(path, f"byte {error.start}", f"this is not text; {way_out}") from None


def parse(source: Prototxt) -> Block:
    """The fields of the whole file. Raises FormatError with line and column."""
    parser = _Parser(source)
    return Block(tuple(parser.message("", 0, 0)), 0)


class _Parser:
    """`kind`, `word` and `start` are the next token; at the end of the file, "" and the file's length."""

    def __init__(self, source: Prototxt) -> None:
        self.source = source
        self.kind, self.word, self.start, self._behind = "", "", 0, 0
        self.fields_left = MAX_FIELDS
        self.advance()

    def error(self, what: str) -> FormatError:
        return self.source.error(self.start, what)

    def advance(self) -> None:
        text = self.source.text
        blank = _BLANK.match(text, self._behind)
        self.start = blank.end() if blank else self._behind
        if self.start == len(text):
            self.kind = self.word = ""
            return
        token = _TOKEN.match(text, self.start)
        if token is None:
            raise self.error(f"unexpected character {brief(text[self.start])}")
        self.kind, self.word, self._behind = str(token.lastgroup), token.group(), token.end()

    def take(self, mark: str) -> bool:
        """Whether `mark` comes next; if so, it is skipped."""
        found = self.word == mark
        if found:
            self.advance()
        return found

    def message(self, closing: str, opened: int, depth: int) -> Iterator[Entry]:
        """The fields up to `closing`, which is skipped; an empty `closing` means the end of the file."""
        while self.word != closing:
            if not self.kind:
                raise self.source.error(opened, f"this block is not closed: {closing!r} is missing")
            yield from self.field(depth)
        if closing:
            self.advance()

    def field(self, depth: int) -> Iterator[Entry]:
        name, offset = self.word, self.start
        if self.kind != "word":
            raise self.error(f"the name of a field is expected, not {brief(name)}")
        self.fields_left -= 1
        if self.fields_left < 0:
            raise self.error(f"more than {MAX_FIELDS} fields")
        self.advance()
        has_colon = self.take(":")
        if self.word not in (*_CLOSING, "[") and not has_colon:
            raise self.error(f"':' or '{{' is expected after {brief(name)}")
        for value in self.values(depth):
            yield Entry(name, value, offset)
        _ = self.take(";") or self.take(",")

    def values(self, depth: int) -> Iterator[Scalar | Block]:
        if not self.take("["):
            yield self.value(depth)
            return
        if self.take("]"):
            return
        yield self.value(depth)
        while not self.take("]"):
            if not self.take(","):
                raise self.error("',' or ']' is expected in a list")
            self.fields_left -= 1
            if self.fields_left < 0:
                raise self.error(f"more than {MAX_FIELDS} fields")
            yield self.value(depth)

    def value(self, depth: int) -> Scalar | Block:
        kind, word, offset = self.kind, self.word, self.start
        if word in _CLOSING:
            if depth == MAX_DEPTH:
                raise self.error(f"blocks are nested more than {MAX_DEPTH} deep")
            self.advance()
            return Block(tuple(self.message(_CLOSING[word], offset, depth + 1)), offset)
        if kind not in ("word", "number", "text"):
            raise self.error(f"a value is expected, not {brief(word) if kind else 'the end of the file'}")
        self.advance()
        if kind != "text":
            return Scalar(kind, word, offset)
        word = _unescaped(word)
        while self.kind == "text":
            word += _unescaped(self.word)
            self.advance()
        return Scalar(kind, word, offset)


def _unescaped(quoted: str) -> str:
    return _ESCAPE.sub(_character, quoted[1:-1])


def _character(escape: re.Match[str]) -> str:
    code = escape[1]
    if code[0] == "x":
        return chr(int(code[1:], 16))
    return chr(int(code, 8)) if code[0] in "01234567" else _ESCAPES.get(code, code)
