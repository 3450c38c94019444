"""Which class a name in the data stands for, and the sentences for names that stand for none."""

import difflib
import re
import unicodedata
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from convolve.data.sources.source import OnFault
from convolve.errors import DataError
from convolve.formats.labels import read_labels

LABEL_FILES = ("labels.txt", "classmappings.txt")  # beside a map file or table: the class names

NUMBER = re.compile(r"-?[0-9]{1,18}(\.[0-9]{1,18})?")

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_MOST_NAMED = 10  # classes
_SYNSET = re.compile(r"n[0-9]{8} ")


def spelling(name: str) -> str:
    """`name` in the Unicode form (NFC) in which names are compared: systems store "ä" in different forms."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def label_names(path: Path, on_fault: OnFault | None = None) -> tuple[str, ...] | None:
    """The class names in a file beside `path`."""
    found = next((path.parent / name for name in LABEL_FILES if (path.parent / name).is_file()), None)
    try:
        return read_labels(found) if found else None
    except DataError as error:
        if on_fault is None:
            raise
        on_fault("unreadable", str(path.parent), str(error), "correct it: one name per line, or number TAB name")
        return None


def in_order(names: Collection[str]) -> list[str]:
    """The order of the classes: numbers by value, `01` before `1`; anything else as text."""
    if all(map(NUMBER.fullmatch, names)):
        return sorted(names, key=lambda name: (float(name), name))
    return sorted(names)


def class_numbers(names: Sequence[str], classes: Sequence[str]) -> list[int] | None:
    """The number of each of `names` among `classes`, None if they do not fit together.

    ImageNet's folders are named by the synset with which the name of a class begins: n01440764 tench. If the classes
    have only numbers, the same number of synsets are numbered in their sorted order, as is usual.
    """
    synsets = [name.partition(" ")[0] for name in classes if _SYNSET.match(name)]
    for known in (classes, synsets if len(synsets) == len(classes) else []):
        number_of = {spelling(name): number for number, name in reversed([*enumerate(known)])}
        if number_of.keys() >= {*map(spelling, names)}:
            return [number_of[spelling(name)] for name in names]
    unnamed = all(name == str(number) for number, name in enumerate(classes))
    if unnamed and len(names) == len(classes) and all(_SYNSET.match(f"{name} ") for name in names):
        return list(range(len(names)))
    return None


def strangers(names: Iterable[str], classes: Sequence[str]) -> str:
    """The sentence about those of `names` that are not among the `classes`, each with its nearest class, if any."""
    known = {*map(spelling, classes), *(name.partition(" ")[0] for name in classes if _SYNSET.match(name))}
    said = []
    for name in names:
        if spelling(name) not in known:
            near = _near(name, classes)
            said.append(f"{name!r} (did you mean {near!r}?)" if near else repr(name))
    return f"{in_words(said)} {'are' if len(said) > 1 else 'is'} not among the classes {in_words(classes)}"


def _near(name: str, classes: Sequence[str]) -> str | None:
    alike = [each for each in classes if _without_care(each) == _without_care(name)]
    return next(iter(alike or difflib.get_close_matches(name, classes, n=1, cutoff=0.8)), None)


def difference(theirs: Sequence[str], ours: Sequence[str]) -> str:
    """The sentence that says in which classes some images and a model differ."""
    more, fewer = ([name for name in one if name not in other] for one, other in ((theirs, ours), (ours, theirs)))
    both = len(theirs) - len(more)
    besides = f", and {both} that both have" if both else ""
    return f"the images have the classes {in_words(more or theirs)}; the model has {in_words(fewer or ours)}{besides}"


def look_alikes(names: Iterable[str]) -> dict[str, str]:
    """Names that differ from another one only in capitals and blanks -> the sentence about it.

    Single letters do not count: `a` and `A` can well be two classes.
    """
    first: dict[str, str] = {}
    found: dict[str, str] = {}
    for name in map(spelling, names):
        other = first.setdefault(_without_care(name), name)
        if other != name and len(name) > 1:
            found[name] = f"{other!r} and {name!r} differ only in capitals or blanks"
    return found


def _without_care(name: str) -> str:
    return " ".join(spelling(name).casefold().split())


def in_words(names: Sequence[str]) -> str:
    """The first few of `names`."""
    return ", ".join(_CONTROL.sub("?", name) for name in names[:_MOST_NAMED]) + (
        ", ..." if len(names) > _MOST_NAMED else ""
    )
