"""How hard each training image has been, so that later epochs can dwell on the hard ones.

After a third of a training on digits most losses are as good as 0, and most of the work changes nothing. Katharopoulos
and Fleuret (2018) and Jiang et al. (2019, "selective backprop") spend it on the images with large losses;
docs/experiments.md has what it is worth here.
"""

from __future__ import annotations

import torch
from torch import Tensor

_KEPT = 0.5  # of the earlier losses of an image, when it is met again: augmentation makes a single one noisy
_NEVER_MET = 9.0  # more than any image that was met: such an image comes first


class Hardness:
    """`loss_N` is each image's recent loss; `at_start_N` is what it was when the epoch began, which sets its order.

    `order_N` are the numbers of the images in the order of the epoch at hand.
    """

    def __init__(self, samples: int, device: torch.device) -> None:
        self.loss_N = torch.full((samples,), _NEVER_MET, device=device)
        self.at_start_N = self.loss_N.clone()
        self.order_N = torch.empty(0, dtype=torch.int64)

    def note(self, first: int, losses_M: Tensor) -> None:
        """The images from place `first` of the order on have just had `losses_M`."""
        chosen_M = self.order_N[first : first + len(losses_M)].to(losses_M.device)
        self.loss_N[chosen_M] = torch.lerp(losses_M.clamp(max=_NEVER_MET), self.loss_N[chosen_M], _KEPT)

    def end_epoch(self) -> None:
        self.at_start_N = self.loss_N.clone()

    def state(self) -> dict[str, Tensor]:
        """All that a checkpoint needs; the order follows from it."""
        return {"loss_N": self.loss_N, "at_start_N": self.at_start_N}

    def load_state(self, state: dict[str, Tensor]) -> None:
        self.loss_N.copy_(state["loss_N"])
        self.at_start_N.copy_(state["at_start_N"])
