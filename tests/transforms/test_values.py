"""Values are checked where they are made."""

from __future__ import annotations

import pytest

from convolve.errors import UsageError
from convolve.transforms.color import Color
from convolve.transforms.crop import Crop
from convolve.transforms.flip import Flip
from convolve.transforms.intensity import Intensity
from convolve.transforms.scale import Scale


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Crop(crop_type="centr"), "crop.crop_type: unknown value 'centr'; did you mean 'center'?"),
        (lambda: Crop(jitter_type="unirato"), "crop.jitter_type: unknown value 'unirato'; did you mean 'uniratio'?"),
        (lambda: Crop(crop_width=5), "both 0 or both positive, got (5, 0)"),
        (lambda: Crop(crop_width=-5, crop_height=-5), "both 0 or both positive"),
        (lambda: Crop(side_ratio=(0.5,), area_ratio=(0.5,)), "exclude each other"),
        (lambda: Crop(side_ratio=(0.0,)), "crop.side_ratio must be one number or min:max, in (0, 1], got (0.0,)"),
        (lambda: Crop(side_ratio=(0.9, 0.5)), "crop.side_ratio must be"),
        (lambda: Crop(area_ratio=(0.1, 1.5)), "crop.area_ratio must be"),
        (lambda: Crop(area_ratio=(0.1, float("nan"))), "crop.area_ratio must be"),
        (lambda: Crop(aspect_ratio=(0.1, 0.2, 0.3)), "crop.aspect_ratio must be"),
        (lambda: Crop(aspect_ratio=()), "crop.aspect_ratio must be"),
        (lambda: Flip(1.5), "flip.probability must be in [0, 1], got 1.5"),
        (Scale, "scale.width must be in 1..8192, got 0"),
        (lambda: Scale(10, 10_000), "scale.height must be in 1..8192"),
        (lambda: Scale(10, 10, "bilinear"), "scale.interpolation: unknown value 'bilinear'"),
        (lambda: Scale(10, 10, scale_mode="Fill"), "scale.scale_mode: unknown value 'Fill'; did you mean 'fill'?"),
        (lambda: Scale(10, 10, pad_value=-2), "scale.pad_value must be -1"),
        (lambda: Color(brightness_radius=1.1), "color.brightness_radius must be in [0, 1], got 1.1"),
        (lambda: Color(saturation_radius=-0.1), "color.saturation_radius must be"),
        (Intensity, "intensity.file must be the path"),
        (lambda: Intensity("a.xml", -1.0), "intensity.standard_deviation must be at least 0, got -1.0"),
    ],
)
def test_wrong_values_are_refused_with_their_path(make, message):
    with pytest.raises(UsageError) as caught:
        make()
    assert message in str(caught.value)


def test_defaults_are_cntks():
    crop = Crop()
    assert (crop.crop_type, crop.side_ratio, crop.area_ratio, crop.aspect_ratio) == ("center", (), (), (1.0,))
    assert (crop.jitter_type, crop.hflip) == ("none", None)
    scale = Scale(4, 4)
    assert (scale.interpolation, scale.scale_mode, scale.pad_value) == ("linear", "fill", -1)
    assert Color() == Color(0.0, 0.0, 0.0)
