"""Views of a test image: cut where CNTK cuts them, and exactly the fitted image in their middle."""

from __future__ import annotations

import numpy as np
import pytest

from convolve.errors import UsageError
from convolve.transforms.preprocess import Preprocess, fit_image
from convolve.transforms.tta import require_views, views_of

IMAGE_HWC = np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8)
FILL = Preprocess(3, 24, 24, resize="square", crop_ratio=0.6)
LARGE = Preprocess(3, 64, 80)
PADDED = Preprocess(3, 32, 32, padding=4, padding_value=128)


@pytest.mark.parametrize("want", [FILL, PADDED, Preprocess(1, 20, 30, padding=3), Preprocess(3, 32, 32)])
@pytest.mark.parametrize("count", [1, 2])
def test_the_image_and_its_mirror(want: Preprocess, count: int) -> None:
    views_VCHW = views_of(IMAGE_HWC, want, count)
    assert len(views_VCHW) == count
    np.testing.assert_array_equal(views_VCHW[0], fit_image(IMAGE_HWC, want)[0])
    np.testing.assert_array_equal(views_VCHW[-1], views_VCHW[0][:, :, ::-1] if count == 2 else views_VCHW[0])


@pytest.mark.parametrize(("want", "by"), [(PADDED, 1), (FILL, 1), (Preprocess(1, 20, 30, padding=3), 1), (LARGE, 2)])
def test_six_views_move_the_image_along_its_diagonal(want: Preprocess, by: int) -> None:
    views_VCHW = views_of(IMAGE_HWC, want, 6)
    place_CHW, down_right_CHW, up_left_CHW = views_VCHW[:3]
    np.testing.assert_array_equal(place_CHW, fit_image(IMAGE_HWC, want)[0])
    np.testing.assert_array_equal(down_right_CHW[:, by:, by:], place_CHW[:, :-by, :-by])
    np.testing.assert_array_equal(down_right_CHW[:, 0, by:], place_CHW[:, 0, :-by])
    np.testing.assert_array_equal(up_left_CHW[:, :-by, :-by], place_CHW[:, by:, by:])
    np.testing.assert_array_equal(views_VCHW[3:], views_VCHW[:3, :, :, ::-1])


def test_ten_views_with_a_side_ratio_are_cut_from_the_image() -> None:
    """Squares of 0.6 x 40 = 24 pixels, which need no scaling, in CNTK's order."""
    views_VCHW = views_of(IMAGE_HWC, FILL, 10)
    planes = IMAGE_HWC[:, :, ::-1].transpose(2, 0, 1)
    for view, (top, left) in enumerate([(0, 0), (0, 32), (16, 0), (16, 32), (8, 16)]):
        np.testing.assert_array_equal(views_VCHW[view], planes[:, top : top + 24, left : left + 24])
        np.testing.assert_array_equal(views_VCHW[view + 5], views_VCHW[view][:, :, ::-1])
    np.testing.assert_array_equal(views_VCHW[4], fit_image(IMAGE_HWC, FILL)[0])


def test_ten_views_with_padding_are_cut_from_the_padded_image() -> None:
    image_HWC = IMAGE_HWC[4:36, :32]
    views_VCHW = views_of(image_HWC, PADDED, 10)
    padded = np.pad(image_HWC[:, :, ::-1].transpose(2, 0, 1), ((0, 0), (4, 4), (4, 4)), constant_values=128)
    for view, (top, left) in enumerate([(0, 0), (0, 8), (8, 0), (8, 8), (4, 4)]):
        np.testing.assert_array_equal(views_VCHW[view], padded[:, top : top + 32, left : left + 32])
        np.testing.assert_array_equal(views_VCHW[view + 5], views_VCHW[view][:, :, ::-1])


def test_views_are_scaled_to_the_size_of_the_network() -> None:
    views_VCHW = views_of(IMAGE_HWC, Preprocess(3, 12, 18, resize="square", crop_ratio=0.6), 10)
    assert views_VCHW.shape == (10, 3, 12, 18)


def test_what_cannot_be_cut_is_refused() -> None:
    with pytest.raises(UsageError, match="views can be 1, 2, 6 or 10, not 5"):
        require_views(FILL, 5)
    with pytest.raises(UsageError, match="try --views 6"):
        require_views(Preprocess(3, 32, 32), 10)
    for want in (FILL, PADDED):
        require_views(want, 10)
