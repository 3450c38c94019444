"""Antialiased linear resizing, as ONNX's Resize (opset 18) defines it; docs/explanation/photos.md describes it.

The attributes are mode="linear", antialias=1, coordinate_transformation_mode="half_pixel" and exclude_outside=1: each
output pixel is the mean of input pixels, weighted by a triangle around its center whose half width is one pixel, or 1 /
scale if the image shrinks. Pillow's BILINEAR and torch's `interpolate` use the same filter.
"""

import numpy as np

from convolve.transforms.transform import Image, Size

_ROWS = 512  # rows at a time: in floats, an image of 50 megapixels takes 600 MB


def resize_antialiased(image_HWC: Image, size: Size) -> Image:
    """The image resized to that (height, width). Computed in floats; uint8 is rounded once, at the end, half to even.

    torch's uint8 arithmetic also rounds in between, which puts one pixel in five off by one level.
    """
    import torch
    from torch.nn.functional import interpolate

    def resized(rows_HWC: torch.Tensor, height: int) -> torch.Tensor:
        rows_1CHW = rows_HWC.permute(2, 0, 1)[None].float()
        return interpolate(rows_1CHW, (height, size[1]), mode="bilinear", antialias=True)[0].permute(1, 2, 0)

    strips = torch.from_numpy(np.array(image_HWC)).split(_ROWS)
    scaled_HWC = resized(torch.cat([resized(strip_HWC, len(strip_HWC)) for strip_HWC in strips]), size[0]).contiguous()
    if image_HWC.dtype == np.uint8:
        scaled_HWC = scaled_HWC.round_().to(torch.uint8)
    scaled: Image = scaled_HWC.numpy()
    return scaled
