"""Random choices: each purpose has a generator of its own, a pure function of the numbers that name the moment."""

from enum import IntEnum

import numpy as np


class Purpose(IntEnum):
    """The first word of each seed: without it, the order of an epoch and the augmentation of its first batch, say,
    would come from one generator, since NumPy fills short seeds up with zeros.
    """

    ORDER = 1  # seed, epoch
    BATCH = 2  # seed, epoch, batch: augmentation of a whole batch
    SPLIT = 3  # seed: which training images are held out for validation
    IMAGE = 4  # seed, epoch, number of the sample: augmentation of one image
    TEST_PART = 5  # which images of a set without a test part are held out as one
    MIRROR = 6  # seed: which images alternating flips mirror first
    MIX = 7  # seed, epoch, batch: how its images are mixed


def generator(purpose: Purpose, *numbers: int) -> np.random.Generator:
    """The generator of `purpose` at the moment that `numbers` name, as listed there."""
    return np.random.default_rng([purpose, *numbers])
