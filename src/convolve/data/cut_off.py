"""Whether a crop hides too much of the pictures from a model."""

from statistics import median

from convolve.data.sources.files import FileSource
from convolve.data.sources.source import Source
from convolve.errors import DataError
from convolve.transforms.preprocess import Preprocess
from convolve.transforms.transform import Size

_ASKED = 20  # pictures, spread over the list
_MUCH = 0.5  # of a picture; a photograph of 16:9 loses 0.44 to a square


def cut_off_in_words(source: Source, preprocess: Preprocess) -> str:
    """A note if at least half of a typical picture of `source` is cut off; otherwise nothing."""
    if not isinstance(source, FileSource):
        return ""
    step = -(-len(source) // _ASKED)
    found = (_size(source, index, preprocess) for index in range(0, len(source), step))
    sizes = [size for size in found if size]
    cut = 1 - median(map(preprocess.seen, sizes)) if sizes else 0
    ways = "data.resize=letterbox or squash, or a data.image_size of their proportions, keeps more"
    return f"{cut:.0%} of a typical picture is cut off; {ways}" if cut >= _MUCH else ""


def _size(source: FileSource, index: int, preprocess: Preprocess) -> Size | None:
    try:
        return source.stored_size(index, preprocess.decoding())
    except DataError:
        return None
