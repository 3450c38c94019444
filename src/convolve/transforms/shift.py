"""Shift: translation of a batch by whole pixels; zeros fill the border."""

from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from convolve.transforms.transform import Tensor, Transform, WholeBatch, require


@dataclass(frozen=True)
class Shift(Transform):
    """Move the image by up to `pixels` in each direction, by whole pixels; zeros fill the border."""

    pixels: int = 2

    def __post_init__(self) -> None:
        require(self.pixels >= 0, "shift.pixels", "at least 0", self.pixels)

    def draw_batch(self, rng: np.random.Generator, count: int) -> NDArray[np.int64]:
        """Offsets in pixels (down, right), each uniform over -pixels..pixels: shape (count, 2)."""
        return rng.integers(-self.pixels, self.pixels + 1, size=(count, 2), dtype=np.int64)

    def apply_batch(self, images_NCHW: Tensor, offsets_N2: NDArray[np.int64]) -> Tensor:
        """Each image moved down and right by its offset: one copy out of all the windows of the padded batch.

        The images are in the processor's memory, where NumPy gathers in a tenth of torch's time.
        """
        import torch
        from torch.nn import functional as F

        count, _, height, width = images_NCHW.shape
        border = int(np.abs(offsets_N2).max(initial=0))
        padded_NCHW = F.pad(images_NCHW, (border,) * 4).numpy()
        windows_NCYXHW = sliding_window_view(padded_NCHW, (height, width), (2, 3))  # Y, X: where a window starts
        down_N, right_N = (border - offsets_N2).T
        return torch.from_numpy(windows_NCYXHW[np.arange(count), :, down_N, right_N])

    def on_batch(self, images_NCHW: Tensor, whole: WholeBatch) -> Tensor:
        return self.apply_batch(images_NCHW, self.draw_batch(whole.rng, whole.count)[whole.part])
