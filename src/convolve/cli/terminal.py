"""stdout and stderr of the commands.

File names are untrusted: no terminal command in them reaches the terminal. A failed write to stdout is an error;
nothing waits or fails because nobody reads stderr.
"""

import codecs
import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import TextIOWrapper
from typing import Any, TextIO

from convolve.errors import ConvolveError, escaped, plain

_ESCAPING = "convolve.escaping"  # for characters that a stream cannot encode; JSON stays valid
_NAMES = "convolve.names"  # the same, except for the bytes of file names


def _escape(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    return escaped(error.object[error.start : error.end]), error.end


def _unescape_names(error: UnicodeError) -> tuple[str | bytes, int]:
    try:
        return codecs.lookup_error("surrogateescape")(error)
    except UnicodeError:
        return _escape(error)


class Screen:
    """A text stream whose `write` escapes control characters. `bare` writes text unchanged: for what rich draws."""

    def __init__(self, stream: TextIO | None, name: str, must_arrive: bool) -> None:
        self.stream, self._name, self._must_arrive = stream, name, must_arrive
        self.encoding, self.errors = getattr(stream, "encoding", "utf-8"), _ESCAPING  # typer looks at both
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors=_ESCAPING)

    def write(self, text: str) -> int:
        return self.put(plain(text))

    def writelines(self, lines: Iterator[str]) -> None:
        for line in lines:
            self.write(line)

    def put(self, text: str) -> int:
        with self._telling():
            if self.stream is None:
                raise OSError("it is closed")
            if text:  # typer probes the stream by writing nothing and ignores errors
                self.stream.write(text)
        return len(text)

    def flush(self) -> None:
        with self._telling():
            if self.stream is not None:
                self.stream.flush()

    def isatty(self) -> bool:
        return self.stream is not None and self.stream.isatty()

    @property
    def bare(self) -> Any:
        return _Bare(self)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    @contextmanager
    def _telling(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError) as error:  # ValueError: the stream was closed elsewhere
            self._give_up()
            if self._must_arrive and _is_unread(error):
                raise BrokenPipeError from None
            if self._must_arrive:
                reason = getattr(error, "strerror", None) or error
                raise ConvolveError(f"cannot write to {self._name}: {reason}; what was to be printed is lost") from None

    def _give_up(self) -> None:
        """Redirect to nowhere: at exit Python tries to write the rest again, and would report a failure."""
        if self.stream is not None:
            with suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), self.stream.fileno())


def _is_unread(error: Exception) -> bool:
    """Whether the reader of a pipe has gone, of which Windows says no more than EINVAL."""
    is_vague = sys.platform == "win32" and getattr(error, "errno", None) == errno.EINVAL
    return isinstance(error, BrokenPipeError) or is_vague


class _Bare:
    def __init__(self, screen: Screen) -> None:
        self._screen, self.write = screen, screen.put

    def __getattr__(self, name: str) -> Any:
        return getattr(self._screen, name)


@contextmanager
def screens() -> Iterator[None]:
    """Replace stdout and stderr by screens within the block."""
    codecs.register_error(_ESCAPING, _escape)
    codecs.register_error(_NAMES, _unescape_names)
    before = sys.stdout, sys.stderr
    sys.stdout = Screen(before[0], "the standard output", must_arrive=True)
    sys.stderr = Screen(before[1], "the standard error", must_arrive=False)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def hold_closed() -> None:
    """Open those of descriptors 0, 1 and 2 that are closed; otherwise the next opened file would receive the output."""
    while (handle := os.open(os.devnull, os.O_RDWR)) < 3:
        pass
    os.close(handle)


def for_tables() -> TextIO:
    """stdout for CSV: a terminal gets escaped text; files and pipes get file names byte for byte, so that other tools
    find them."""
    screen = sys.stdout
    if not isinstance(screen, Screen) or screen.isatty():
        return screen
    if isinstance(screen.stream, TextIOWrapper):
        screen.stream.reconfigure(encoding=sys.getfilesystemencoding(), errors=_NAMES)
    bare: TextIO = screen.bare
    return bare
