"""The format block of a write action: how the values of a node become text."""

import re
from dataclasses import dataclass

from convolve.importers.brainscript.config import Block
from convolve.importers.brainscript.sgd import Refuse

_ESCAPES = {r"\n": "\n", r"\t": "\t", r"\s": " ", r"\r": "\r", r"\\": "\\"}
_PRECISION = re.compile(r"\d{0,2}(\.\d{1,2})?")
# What surrounds whole minibatches, sequences and files; an image is a sequence of one sample.
_FRAMES = ("prologue", "epilogue", "sequenceSeparator", "sequencePrologue")


@dataclass(frozen=True)
class OutputFormat:
    """One line for each sample: its values, as C's printf writes `%<precision>f`, or the index of the largest one.

    `label_file` names the classes, one per line, which are then written in place of the index.
    """

    is_category: bool = False
    label_file: str = ""
    precision: str = ""
    between_elements: str = " "
    prologue: str = ""
    epilogue: str = ""
    between_samples: str = ""
    before_sample: str = ""
    after_sample: str = "\n"


def read_format(block: Block, refuse: Refuse) -> OutputFormat:
    """The format in `block`. Raises FormatError for an invalid precision."""
    kind = block.choice("type", ("real", "category", "sparse"), "real", inherit=False)
    if kind == "sparse":
        refuse(block, "type", "sparse output")
    if not block.flag("transpose", True):
        refuse(block, "transpose", "a column for each sample")
    precision = block.text("precisionFormat")
    if not _PRECISION.fullmatch(precision):
        raise block.error("precisionFormat", f"a precision such as .4 is expected, not {precision}")
    block.find("sampleSeparator")  # between the samples of a sequence
    frames = {key: _unescaped(block.text(key)) for key in _FRAMES}
    for key, frame in frames.items():
        if "%" in frame:
            refuse(block, key, "a number of the sequence or a shape in the text")
    return OutputFormat(
        is_category=kind == "category",
        label_file=block.file("labelMappingFile"),
        precision=precision,
        between_elements=_unescaped(block.text("elementSeparator", " ")),
        prologue=frames["prologue"],
        epilogue=frames["epilogue"],
        between_samples=frames["sequenceSeparator"],
        before_sample=frames["sequencePrologue"],
        after_sample=_unescaped(block.text("sequenceEpilogue", r"\n")),
    )


def _unescaped(text: str) -> str:
    return re.sub(r"\\[ntsr\\]", lambda match: _ESCAPES[match[0]], text)
