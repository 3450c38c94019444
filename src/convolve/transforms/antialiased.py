"""Antialiased linear resizing, as ONNX's Resize (opset 18) defines it; docs/explanation/photos.md has it in words.

The attributes are mode="linear", antialias=1, coordinate_transformation_mode="half_pixel" and exclude_outside=1: each
pixel that comes out is the mean of those within a triangle around its center, whose half width is one pixel, or where
the image shrinks one over the scale. Pillow's BILINEAR and torch's `interpolate` have this filter, too.
"""

import numpy as np

from convolve.transforms.transform import Image, Size

_ROWS = 512  # at a time: in floats, an image of 50 megapixels takes 600 MB


def resize_antialiased(image_HWC: Image, size: Size) -> Image:
    """The image in that (height, width). It is computed in floats; uint8 is rounded once, at the end, halves to even.

    torch's arithmetic on uint8 rounds in between, too, by which one pixel in five comes out one level off.
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
