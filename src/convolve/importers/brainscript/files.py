"""The files of a configuration, without comments and with what they include."""

import os
import re
from pathlib import Path

from convolve.atomic import is_there
from convolve.errors import FormatError
from convolve.importers.brainscript.text import Text, joined, of_lines, read_lines
from convolve.names import own_slashes

MAX_FILES = 50


def files_in(argument: str) -> list[str]:
    """The files that an argument of the command line names; none for `key=value`."""
    key, equals, value = argument.partition("=")
    return [] if equals and key.lower() != "configfile" else (value if equals else argument).split("+")


def load(path: Path, included: list[Path]) -> Text:
    """A file without its comments, and with those that it includes in their places."""
    parts: list[Text] = []
    lines: list[str] = []
    file, first = str(path), 1
    for number, raw in enumerate(read_lines(path), start=1):
        line = _without_comment(raw)
        names = re.match(r"\s*include=(.*)", line, re.IGNORECASE)
        if names is None:
            lines.append(line)
            continue
        parts.append(of_lines(file, [*lines, ""], first))
        here = of_lines(file, [line], number)
        parts += [_included(name.strip().strip('"'), path, here, included) for name in names[1].split("+")]
        lines, first = [""], number  # the line itself becomes empty
    return joined([*parts, of_lines(file, lines, first)], "\n")


def _included(name: str, path: Path, here: Text, included: list[Path]) -> Text:
    if "$" in name:
        raise here.error(here.string.index("$"), "an include cannot contain variables; write out the path")
    name = own_slashes(name)
    found = next((place for place in (Path(name), path.parent / name) if is_there(place, is_file=True)), None)
    if found is None:
        raise FormatError(
            path, f"line {here.place(0).line}, column 1", f"cannot find {name!r}, here or beside this file"
        )
    real = Path(os.path.realpath(found))
    if real in included:
        return Text("", here.pieces)
    included.append(real)
    if len(included) > MAX_FILES:
        raise here.error(0, f"the configuration has more than {MAX_FILES} files")
    return load(found, included)


def _without_comment(line: str) -> str:
    """CNTK looks at the first # of a line only, and quotes do not protect it."""
    at = line.find("#")
    return line[:at] if at >= 0 and (not line[:at].strip() or line[at - 1] in " \t") else line
