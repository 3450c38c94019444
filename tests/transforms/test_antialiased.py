"""The antialiased resize is what onnxruntime computes as Resize, opset 18, and within rounding what Pillow computes."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from convolve.transforms.antialiased import resize_antialiased
from convolve.transforms.preprocess import Preprocess, fit_image
from convolve.transforms.scale import Scale

# (size before, size after), each height and width: smaller, larger, one of each, by much, in several strips, one pixel.
SIZES = [
    ((60, 80), (24, 31)),
    ((20, 30), (33, 47)),
    ((20, 90), (41, 16)),
    ((37, 500), (224, 9)),
    ((1100, 40), (50, 30)),
    ((1, 1), (5, 3)),
    ((17, 23), (17, 23)),
]


def _onnx_resize(image_HWC: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    onnxruntime = pytest.importorskip("onnxruntime")
    from onnx import TensorProto, helper

    node = helper.make_node(
        "Resize", ["image", "", "", "sizes"], ["resized"], mode="linear", antialias=1, exclude_outside=1,
        coordinate_transformation_mode="half_pixel",
    )  # fmt: skip
    image_1CHW = image_HWC.transpose(2, 0, 1)[None].astype(np.float32)
    shapes = {"image": list(image_1CHW.shape), "resized": [1, image_1CHW.shape[1], *size]}
    ports = {name: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()}
    sizes = helper.make_tensor("sizes", TensorProto.INT64, [4], shapes["resized"])
    graph = helper.make_graph([node], "resize", [ports["image"]], [ports["resized"]], [sizes])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"image": image_1CHW})[0][0].transpose(1, 2, 0)


def _noise(size: tuple[int, int], channels: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (*size, channels), dtype=np.uint8)


@pytest.mark.parametrize(("size", "wanted"), SIZES)
@pytest.mark.parametrize("channels", [1, 3])
def test_it_is_what_onnx_defines(size, wanted, channels):
    image_HWC = _noise(size, channels)
    expected = _onnx_resize(image_HWC, wanted)
    floats = resize_antialiased(image_HWC.astype(np.float32), wanted)
    assert floats.dtype == np.float32
    assert np.abs(floats - expected).max() <= 0.02  # both compute in float32, places of the pixels too
    pixels = resize_antialiased(image_HWC, wanted)
    assert pixels.dtype == np.uint8
    assert np.abs(pixels - expected).max() <= 0.52  # rounded


@pytest.mark.parametrize(("size", "wanted"), SIZES)
def test_pillow_has_the_same_filter(size, wanted):
    image_HWC = _noise(size)
    theirs = np.asarray(Image.fromarray(image_HWC).resize(wanted[::-1], Image.Resampling.BILINEAR))
    assert np.abs(resize_antialiased(image_HWC, wanted).astype(int) - theirs).max() <= 1  # it rounds in between, too


def test_a_mirrored_view_of_an_image_is_read_as_it_is_seen():
    image_HWC = _noise((30, 40))
    mirrored = resize_antialiased(image_HWC[:, ::-1], (11, 13))
    assert np.array_equal(mirrored, resize_antialiased(np.ascontiguousarray(image_HWC[:, ::-1]), (11, 13)))


def test_a_transform_and_a_model_ask_for_it_by_name():
    image_HWC = _noise((60, 80))
    expected = resize_antialiased(image_HWC, (30, 40))
    assert np.array_equal(Scale(40, 30, "linear_antialiased").apply(image_HWC), expected)
    preprocess = Preprocess(3, 30, 30, interpolation="linear_antialiased")
    fit_CHW, _ = fit_image(image_HWC, preprocess)
    assert np.array_equal(fit_CHW, expected[:, 5:35, ::-1].transpose(2, 0, 1))
    assert preprocess.mapping()["interpolation"] == "linear_antialiased"
