"""XML from untrusted sources: entities and document types, which can keep a parser busy forever, are refused."""

from pathlib import Path
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from convolve.errors import FormatError


def parse_xml(path: str | Path, content: bytes, tag: str) -> Element:
    """The root element of `content`, which must have the name `tag`. Raises FormatError with line and column."""
    try:
        root: Element = fromstring(content, forbid_dtd=True)
    except ParseError as error:
        line, column = error.position
        raise FormatError(path, f"line {line}, column {column + 1}", f"not well-formed XML ({error.msg})") from None
    except (DefusedXmlException, ValueError, LookupError) as error:  # the last two: unknown encodings
        raise FormatError(path, "", f"an unsupported kind of XML ({error})") from None
    if root.tag != tag:
        raise FormatError(path, "", f"the outermost element must be {tag}, got {root.tag}")
    return root
