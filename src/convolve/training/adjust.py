"""A learning rate that adjusts itself after epochs: it falls where they improved too little, and may take them back.

Source: autoAdjustLR=adjustAfterEpoch of CNTK 2.7's SGD, with its defaults.
"""

from __future__ import annotations

from typing import NamedTuple

from convolve.recipe import AdjustSpec
from convolve.training.state import TrainingState
from convolve.training.workers import Workers


class Adjusted(NamedTuple):
    """What an epoch's end led to: the factor of the schedule's rate before and now, whether the interval is undone."""

    before: float
    now: float
    went_back: bool


def adjust(state: TrainingState, spec: AdjustSpec, listed_epochs: int, figure: float, workers: Workers) -> Adjusted:
    """Take note of the `figure` of the epoch that has ended; at the end of an interval, move the rate.

    The first `listed_epochs`, for which the schedule names a rate each, are only noted.
    """
    own, was = state.adjustment, state.adjustment.factor
    own.total, own.epochs = own.total + figure, own.epochs + 1
    if own.epochs < spec.every_epochs:
        return Adjusted(was, was, False)
    mean, before = own.total / own.epochs, own.figure
    own.total, own.epochs = 0.0, 0
    acts = before is not None and state.position.epoch > listed_epochs
    if acts and before is not None:
        if before - mean <= spec.lower_below * before:
            own.factor *= spec.lower_by
        elif spec.raise_above is not None and before - mean > spec.raise_above * before:
            own.factor *= spec.raise_by
    went_back = acts and spec.goes_back and before is not None and mean > before
    if went_back:
        state.go_back(workers.rank)
    else:
        own.figure = mean
        if spec.goes_back:
            state.remember(workers)
    return Adjusted(was, own.factor, went_back)
