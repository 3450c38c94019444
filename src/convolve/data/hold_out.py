"""Which images are held out: as a test part if a set has none, and for validation.

Whether a unit (an image, or images that must stay together; see `relations.py`) is on the test side depends only on its
own key. So the held-out part stays the same when images are added. Exceptions are a unit that a new image with a
smaller key joins, and the one image that a class needs on either side: so a model stores the keys of the images it was
trained on, and `evaluate` uses these.
"""

from collections import Counter
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from convolve.data.relations import MOST_READ, Relations, Watch, relate, unwatched
from convolve.data.sources.files import FileSource
from convolve.data.sources.source import Source, strata
from convolve.data.streams import Purpose, generator
from convolve.errors import DataError, UsageError

# Legend: N images.

TEST_FRACTION = 0.2  # of each class, where there is no test part
VALIDATION_FRACTION = 0.1  # of the training part, where choices are to be made and nothing says by what

_NAMED = 3  # images that are named of many


@dataclass(frozen=True, eq=False)
class Membership:
    """The keys of the images that a model was trained on and tested on, sorted; see `Relations.key_N`.

    For a set whose images are identified `by_name`, the `MOST_READ` smallest of each. `group`: see `DataOptions`.
    """

    trained: NDArray[np.uint64]
    tested: NDArray[np.uint64]
    by_name: bool
    group: str = ""


@dataclass(frozen=True, eq=False)
class Learned:
    """What a model knows about its training set; `membership` only if part of it was held out."""

    fingerprint: str | None = None
    group: str = ""
    membership: Membership | None = None


@dataclass(frozen=True, eq=False)
class HeldOut:
    """A set in two parts, what a model must store about them, and how they were split, in words."""

    train: FileSource
    test: FileSource
    membership: Membership
    said: tuple[str, ...]


def hold_out_test(whole: FileSource, group: str = "", watch: Watch = unwatched) -> HeldOut:
    """About a fifth of `whole` as a test part, but not the only image of a class. `group`: what its groups are."""
    strata_N = strata(whole.labels_N)
    if max(Counter(strata_N.tolist()).values()) < 2:
        raise DataError(f"{whole.location(0)}: no class has two images, so none can be held out for testing")
    relations = relate(whole, watch=watch)
    is_test_N = held_out_side(strata_N, relations)
    if not is_test_N.any():
        raise DataError("each class is one group, so none can be held out for testing; leave data.group out")
    whole = whole.with_units(relations.unit_N)
    parts = [whole.take(np.flatnonzero(is_test_N == side)) for side in (False, True)]
    keys = [np.unique(relations.key_N[is_test_N == side])[:MOST_READ] for side in (False, True)]
    how = "class and file name" if relations.by_name else "bytes"
    said = f"{np.mean(is_test_N):.0%} of the images are held out for testing, by a hash of their {how}"
    membership = Membership(keys[0], keys[1], relations.by_name, group)
    return HeldOut(parts[0], parts[1], membership, (said, *relations.said))


def held_out_side(labels_N: NDArray[np.int64], relations: Relations) -> NDArray[np.bool_]:
    """Which images are held out.

    Each class keeps an image for training and, if it has two, one for testing: if chance gives it none, that with the
    smallest key. If groups leave nothing for testing, there is none.
    """
    is_test_N = mixed(relations.unit_key_N) < np.uint64(TEST_FRACTION * 2**64)
    of_class = _Members(labels_N, np.lexsort((relations.unit_key_N, labels_N)))
    of_unit = _Members(relations.unit_N, np.argsort(relations.unit_N, kind="stable"))
    for side in (False, True):
        for label in np.setdiff1d(labels_N, labels_N[is_test_N == side]).tolist():
            members_M = of_class[label] if side else of_class[label][::-1]
            if len(members_M) > side and not (is_test_N[members_M] == side).any():  # a single image is to learn from
                units = (of_unit[relations.unit_N[number]] for number in members_M)
                moved = (unit for unit in units if not side or _leaves_some(unit, labels_N, is_test_N, of_class))
                is_test_N[next(moved, [])] = side
    return is_test_N


@dataclass(frozen=True, eq=False)
class _Members:
    """The numbers of the images that have a value, from all `order_N`, in which equal values are adjacent."""

    values_N: NDArray[np.int64]
    order_N: NDArray[np.int64]

    @cached_property
    def _sorted_N(self) -> NDArray[np.int64]:
        return self.values_N[self.order_N]

    def __getitem__(self, value: int) -> NDArray[np.int64]:
        first, last = np.searchsorted(self._sorted_N, [value, value + 1])
        return self.order_N[first:last]


def _leaves_some(
    unit_M: NDArray[np.int64], labels_N: NDArray[np.int64], is_test_N: NDArray[np.bool_], of_class: _Members
) -> bool:
    """Whether each class still has an image for training without those of the unit."""
    classes = (np.setdiff1d(of_class[label], unit_M) for label in np.unique(labels_N[unit_M]).tolist())
    return all((~is_test_N[rest]).any() for rest in classes)


def mixed(keys_N: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Numbers unrelated to the order of the keys, so that the smallest key of several is not more likely on one side.

    The last steps of SplitMix64 (Steele et al. 2014).
    """
    keys_N = (keys_N ^ (keys_N >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    keys_N = (keys_N ^ (keys_N >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return keys_N ^ (keys_N >> np.uint64(31))


def hold_out_validation(source: Source, fraction: float, seed: int) -> tuple[Source, Source]:
    """(training, validation): a random `fraction` of the samples is held out; the same for the same seed.

    Images that must stay together do; related ones are searched for in image files only, as published sets have none.
    """
    order_N = generator(Purpose.SPLIT, seed).permutation(len(source))
    held_out = max(1, round(fraction * len(source)))
    if isinstance(source, FileSource):
        units = source.units_N if source.units_N is not None else relate(source).unit_N
        _, first_N, unit_N, size_N = np.unique(
            units[order_N], return_index=True, return_inverse=True, return_counts=True
        )
        by_chance = np.argsort(first_N)  # units in the order of the first image of each
        before = np.cumsum(size_N[by_chance]) - size_N[by_chance]
        chosen = np.isin(unit_N, by_chance[before < held_out])
        order_N, held_out = np.concatenate([order_N[chosen], order_N[~chosen]]), int(chosen.sum())
    if held_out == len(source):
        raise UsageError(f"data.validation_fraction={fraction:g} leaves nothing of {len(source)} images to train on")
    return source.take(np.sort(order_N[held_out:])), source.take(np.sort(order_N[:held_out]))


def find_held_out(whole: FileSource, known: Membership, watch: Watch = unwatched) -> tuple[FileSource, str] | None:
    """(the part of `whole` to test a model on, in words), if it is the set that the model was trained on, possibly with
    additions.

    That is the part held out in training, and those new images that would be held out too, without images that the
    model was trained on, or that are related to these. None for another set.
    """
    relations = relate(whole, known.by_name, watch)
    trained_N = np.isin(relations.key_N, known.trained)
    is_same = 2 * len(np.unique(relations.key_N[trained_N])) >= len(known.trained)
    if not trained_N.any() or (known.by_name and not is_same):  # other images may have the same names
        return None
    if not is_same:
        counted_N, said = ~trained_N, f"without {trained_N.sum():,} images that the model was trained on"
    elif known.by_name:  # nobody remembers all of their names
        counted_N = held_out_side(strata(whole.labels_N), relations) & ~trained_N
        said = "the part held out in training"
    else:
        counted_N, said = _of_grown(whole, relations, trained_N, np.isin(relations.key_N, known.tested) & ~trained_N)
    if not counted_N.any():
        return whole, "all of which the model was trained on"
    return whole.take(np.flatnonzero(counted_N)), said


def _of_grown(
    whole: FileSource, relations: Relations, trained_N: NDArray[np.bool_], tested_N: NDArray[np.bool_]
) -> tuple[NDArray[np.bool_], str]:
    """(which images count, in words) for the set that a model was trained and tested on, with new images."""
    new_N = ~(trained_N | tested_N)
    near_trained_N, near_tested_N = (_near(relations, side_N, new_N) for side_N in (trained_N, tested_N))
    by_rule_N = held_out_side(strata(whole.labels_N), relations)
    both_N = near_trained_N & near_tested_N
    counted_N = tested_N | (new_N & ~near_trained_N & (near_tested_N | by_rule_N))
    said = "the part held out in training"
    if new_N.any():
        said += f", and {np.sum(counted_N & new_N):,} of the images added since ({new_N.sum():,})"
    if both_N.any():
        said += f"; left out, since they resemble images of both parts: {_named(whole, np.flatnonzero(both_N))}"
    return counted_N, said


def _near(relations: Relations, side_N: NDArray[np.bool_], new_N: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which of the new images are related to one of `side_N`, directly or through other new ones."""
    one_P, other_P = relations.pairs_P2.T
    near_N = side_N.copy()
    while True:
        count = near_N.sum()
        for begin_P, end_P in ((one_P, other_P), (other_P, one_P)):
            reached_P = end_P[near_N[begin_P]]
            near_N[reached_P[new_N[reached_P]]] = True
        if near_N.sum() == count:
            return near_N & new_N


def _named(source: FileSource, numbers_N: NDArray[np.int64]) -> str:
    more = f" and {len(numbers_N) - _NAMED:,} more" if len(numbers_N) > _NAMED else ""
    return ", ".join(source.location(int(number)) for number in numbers_N[:_NAMED]) + more
