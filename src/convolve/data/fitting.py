"""Images brought to the size that a network takes, by the model's own description."""

from __future__ import annotations

import numpy as np
import torch

from convolve.data.table import Table
from convolve.transforms.preprocess import Preprocess, fit_image


def fit_table(table: Table, want: Preprocess) -> Table:
    """`table` with each image as `fit_image` makes it; itself where nothing is to be done."""
    if table.shape_CHW == want.shape_CHW and (want.resize == "cover" or want.side_ratio == 1):
        return table
    images_NCHW = np.empty((len(table), *want.shape_CHW), np.uint8)
    for fitted_CHW, image_CHW in zip(images_NCHW, table.images_NCHW.numpy(), strict=True):
        bgr_HWC = np.ascontiguousarray(image_CHW[::-1].transpose(1, 2, 0))
        fitted_CHW[:] = fit_image(bgr_HWC, want)[0]
    return Table(torch.from_numpy(images_NCHW), table.labels_N, table.chunk_N)


def mean_image(table: Table) -> np.ndarray:
    """The mean of all images, float32 (C, H, W) in the order of the table's planes, to the last bit."""
    total_CHW = sum(part.to(torch.int64).sum(0) for part in table.images_NCHW.split(1000))
    return (np.asarray(total_CHW, np.float64) / len(table)).astype(np.float32)
