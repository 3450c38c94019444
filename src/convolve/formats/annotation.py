"""Annotations of ILSVRC2012's validation images: XML in PASCAL VOC's form, one file per image, a box for each object.

<annotation><filename>ILSVRC2012_val_00000001</filename> <object><name>n01751748</name> ...</object> </annotation>
"""

from pathlib import Path

from convolve.atomic import open_ordinary
from convolve.errors import FormatError, MissingDataError
from convolve.formats.safe_xml import parse_xml

MAX_BYTES = 1 << 20  # a box takes 300 bytes


def read_object_names(path: str | Path) -> tuple[str, ...]:
    """The name of each object in the annotation `path`, each name once, in file order.

    Raises `MissingDataError`, or `FormatError` with line and column for any other kind of file.
    """
    try:
        with open_ordinary(path) as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise MissingDataError(f"{path}: cannot be read ({error.strerror}); it should be an annotation") from None
    if len(content) > MAX_BYTES:
        raise FormatError(path, "", f"more than {MAX_BYTES} bytes, too large for an annotation")
    names = [(node.findtext("name") or "").strip() for node in parse_xml(path, content, "annotation").iter("object")]
    if "" in names:
        raise FormatError(path, "", f"object {names.index('') + 1} has no name")
    return tuple(dict.fromkeys(names))
