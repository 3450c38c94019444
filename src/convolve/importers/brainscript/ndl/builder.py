"""The NDLNetworkBuilder block of a configuration -> its network."""

import re
from collections.abc import Iterator
from pathlib import Path

from convolve.atomic import is_there
from convolve.importers.brainscript.config import Block
from convolve.importers.brainscript.files import load
from convolve.importers.brainscript.ndl.maker import Maker
from convolve.importers.brainscript.ndl.script import Ndl
from convolve.importers.brainscript.ndl.syntax import Statement, parse_script
from convolve.importers.brainscript.text import Text


def read_ndl(block: Block, minibatch_size: float) -> Maker:
    """The network of `block`: of the file networkDescription, or of the section of the configuration that `run` names.

    Raises FormatError with line and column.
    """
    ndl = Ndl(Maker(minibatch_size))
    for key in ("dumpFileName", "randomSeedOffset"):
        block.find(key)
    ndl.run(macros_of(block))
    description = block.file("networkDescription", inherit=False)
    if not description and block.find("run", inherit=False) is None:
        raise block.here.error(f"{block.name}: give networkDescription=FILE or run=SECTION")
    text = read_file(block, "networkDescription", description) if description else None
    for script in scripts_of(block, text, ("load", "run")):
        ndl.run(script)
    return ndl.maker


def macros_of(block: Block) -> list[Statement]:
    """The macros in the files that ndlMacros names."""
    names = filter(None, block.file("ndlMacros").split("+"))
    texts = [read_file(block, "ndlMacros", name.strip()) for name in names]
    return [each for text in texts for script in scripts_of(block, text, ("load", "run")) for each in script]


def read_file(block: Block, key: str, name: str) -> Text:
    """The file `name` that `key` names: here, or beside the configuration."""
    beside = Path(block.here.file).parent / name
    found = next((path for path in (Path(name), beside) if is_there(path, is_file=True)), None)
    if found is None:
        raise block.error(key, f"{block.path(key)}: cannot find {name!r}, neither here nor beside the configuration")
    return load(found, [])


def scripts_of(block: Block, text: Text | None, keys: tuple[str, str]) -> Iterator[tuple[Statement, ...]]:
    """The scripts that `keys` (such as load and run) name: sections of the file `text`, or of the configuration. A file
    without these keys is one script. What the configuration names wins over what the file names."""
    inner = block if text is None else Block(block.name, [text], block) if _has_sections(text, keys) else None
    if inner is None:
        assert text is not None
        yield parse_script(block.expand(text))
        return
    for key in keys:
        for name in block.words(key, inherit=False) or inner.words(key, inherit=False):
            section = inner.raw(name)
            if section is None:
                raise (inner.place(key) or block.here).error(f"{key} names {name!r}, but no section has this name")
            is_block = section.string.startswith(("[", "{"))
            yield parse_script(section.cut(1, len(section) - 1) if is_block else section)


def _has_sections(text: Text, keys: tuple[str, str]) -> bool:
    return re.search(rf"^\s*({'|'.join(keys)})\s*=", text.string, re.MULTILINE | re.IGNORECASE) is not None
