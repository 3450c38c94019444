"""XML from anywhere: entities and document types, which can keep a parser busy without end, are refused."""

from pathlib import Path
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from convolve.errors import FormatError


def parse_xml(path: str | Path, content: bytes, tag: str) -> Element:
    """The outermost element of `content`, which must be called `tag`. Raises FormatError with line and column."""
    try:
        root: Element = fromstring(content, forbid_dtd=True)
    except ParseError as error:
        line, column = error.position
        raise FormatError(path, f"line {line}, column {column + 1}", f"no well-formed XML ({error.msg})") from None
    except (DefusedXmlException, ValueError, LookupError) as error:  # the last two: encodings that nobody knows
        raise FormatError(path, "", f"XML of a kind that is not read ({error})") from None
    if root.tag != tag:
        raise FormatError(path, "", f"the outermost element must be {tag}, it is {root.tag}")
    return root
