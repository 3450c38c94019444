"""Which images were hard, and that later epochs dwell on them."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import torch

from convolve.data.order import hard_order
from convolve.training.extras.hard_examples import HardExamples


def test_the_recent_losses_of_an_image_are_averaged_and_new_ones_count_half() -> None:
    hard = HardExamples(4, 0, torch.device("cpu"))
    hard.order_N = torch.tensor([2, 0, 2, 1])
    hard.note(0, torch.tensor([1.0, 3.0]))
    hard.note(2, torch.tensor([2.0]))
    assert hard.loss_N.tolist() == [6.0, 9.0, 3.5, 9.0]  # 9: never met; (9 + 3) / 2; ((9 + 1) / 2 + 2) / 2


def test_the_order_of_an_epoch_goes_by_what_was_known_when_it_began() -> None:
    hard = HardExamples(2, 0, torch.device("cpu"))
    hard.order_N = torch.tensor([0, 1])
    hard.note(0, torch.tensor([1.0, 3.0]))
    assert hard.at_start_N.tolist() == [9.0, 9.0]
    hard.on_epoch_end(*cast("Any", (None, None)))
    assert hard.at_start_N.tolist() == [5.0, 6.0]


def test_passes_go_over_the_hard_images_and_a_tenth_of_all() -> None:
    hardness_N = np.random.default_rng(0).permutation(1000).astype(np.float32)
    order_N = hard_order(hardness_N, 0.3, np.random.default_rng(1))
    assert len(order_N) == 1000
    times_N = np.bincount(order_N, minlength=1000)
    hard_N = hardness_N >= 700
    assert times_N[hard_N].min() >= 2  # 300 hard ones and 100 at random: two whole passes and a half
    assert 100 <= times_N[~hard_N].sum() <= 250  # seven tenths of the random tenth, in each pass
    first_pass_N = order_N[:400]
    assert np.isin(np.flatnonzero(hard_N), first_pass_N).all()
    assert (np.diff(first_pass_N) > 0).mean() < 0.6  # shuffled


def test_an_image_that_was_never_met_comes_first() -> None:
    hard = HardExamples(10, 0, torch.device("cpu"))
    hard.order_N = torch.arange(9)
    hard.note(0, torch.full((9,), 5.0))
    assert 9 in hard_order(hard.loss_N.numpy(), 0.1, np.random.default_rng(0))[:2]
