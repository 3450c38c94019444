"""A user's own numbers in CTF text: features with labels, in two files or with a held-out test part."""

from pathlib import Path

from convolve.data.hold_out import TEST_FRACTION, Learned, hold_out_validation
from convolve.data.layout import Layout
from convolve.data.options import DataOptions
from convolve.data.sources.classes import in_words
from convolve.data.sources.ctf import first_streams, image_shape, is_ctf, open_ctf
from convolve.data.sources.source import ArraySource, Source
from convolve.data.splits import Splits
from convolve.errors import DataError, FormatError
from convolve.formats.ctf import StreamSpec

_SPLIT_SEED = 0  # of the held-out part: the same in every training, and in every evaluation after it


def is_ctf_set(layout: Layout) -> bool:
    return layout.training.is_file() and is_ctf(layout.training)


def open_ctf_set(where: Path, layout: Layout, options: DataOptions) -> Splits:
    """The lines of the parts in `layout`; a fifth of those of a single file is held out for testing."""
    streams = _streams(layout.training)
    parts: dict[str, Source] = {role: _opened(path, streams, options) for role, path in layout.parts}
    names = tuple(map(str, range(streams[0].dim)))
    said = [f"{where}, {len(names)} {'numbers' if options.target == 'number' else 'classes'} ({in_words(names)})"]
    said += filter(None, [str(layout)])
    if "test" not in parts:
        if len(parts["training"]) < 2:
            raise DataError(f"{layout.training} has only one line, so none can be held out for testing; add others")
        parts["training"], parts["test"] = hold_out_validation(parts["training"], TEST_FRACTION, _SPLIT_SEED)
        said.append(f"{len(parts['test']):,} of the lines are held out for testing")
    return Splits(
        parts["training"], parts["test"], names, (where if where.is_dir() else where.parent).resolve().name,
        "; ".join(said), numbered=True, validation=parts.get("validation"), target=options.target,
    )  # fmt: skip


def open_ctf_test(place: Path, layout: Layout, learned: Learned, options: DataOptions) -> tuple[Source, str]:
    """The part on which a model that has `learned` from some set is tested: the part held out there, or the
    whole file."""
    splits = open_ctf_set(place, layout, options)
    if layout.test or splits.fingerprint() == learned.fingerprint:
        return splits.test, splits.description
    path = layout.training
    return _opened(path, _streams(path), options), str(path)


def _opened(path: Path, streams: list[StreamSpec], options: DataOptions) -> ArraySource:
    labels, features = streams
    shape_CHW = image_shape(features.dim)
    try:
        return open_ctf(path, labels.dim, shape_CHW, features, labels, one_class=options.target == "class")
    except FormatError as error:
        if "one 1 and otherwise zeros" not in error.what:
            raise
        what = f"{error.what}, or learn numbers with --set data.target=number, several classes with data.target=classes"
        raise FormatError(path, error.place, what) from None


def _streams(path: Path) -> list[StreamSpec]:
    found = first_streams(path)
    if found is None:
        raise FormatError(
            path, "line 1", "no streams called labels and features; name them so: |labels 0 1 |features 5 7"
        )
    return found
