"""ONNX files whole: operators of several operands, batches that move, what is refused, what is said beside them."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from onnx_cases import GRAPHS, weights, whole
from onnx_files import graph_bytes, imported, off, onnx_bytes, run_graph, run_onnx
from torch import nn
from torch.nn import functional as F

from command_line import Convolve, assert_refused
from convolve.data.open import open_data
from convolve.errors import FormatError, ModelError, UnsupportedError, UsageError
from convolve.importers import onnx as importer
from convolve.loading import load
from convolve.network import load_graph

rng = np.random.default_rng(3)
node = helper.make_node


# -- operators of several operands or results -------------------------------------------------------------------------


@pytest.mark.parametrize("name", GRAPHS)
def test_several_operators(name: str) -> None:
    inputs = GRAPHS[name][1]
    assert off(graph_bytes(name), *((rng.normal(size=(2, *s))).astype(np.float32) for s in inputs.values())) < 1e-5


RESIZES = [
    {"mode": mode, "coordinate_transformation_mode": how, **more}
    for mode, more in (("nearest", {"nearest_mode": "floor"}), ("nearest", {}), ("linear", {}), ("cubic", {}),
                       ("cubic", {"cubic_coeff_a": -0.5, "exclude_outside": 1}))
    for how in ("half_pixel", "align_corners", "asymmetric", "pytorch_half_pixel")
]  # fmt: skip


@pytest.mark.parametrize("attributes", RESIZES, ids=lambda attributes: "-".join(map(str, attributes.values())))
@pytest.mark.parametrize("sizes", [(9, 12), (3, 2)])
def test_resize_to_sizes(attributes: dict[str, Any], sizes: tuple[int, int]) -> None:
    nodes = [node("Shape", ["x"], ["s"]), node("Slice", ["s", "b", "e"], ["n"]),
             node("Concat", ["n", "c", "to"], ["sizes"], axis=0),
             node("Resize", ["x", "", "", "sizes"], ["y"], **attributes)]  # fmt: skip
    constants = {"b": whole(0), "e": whole(1), "c": whole(3), "to": whole(*sizes)}
    assert off(onnx_bytes(nodes, {"x": ("N", 3, 5, 6)}, constants, opset=13), weights(2, 3, 5, 6)) < 1e-5


@pytest.mark.parametrize("opset", [13, 18])
@pytest.mark.parametrize("factors", [(2.0, 3.0), (0.6, 1.5)])
def test_resize_by_factors(factors: tuple[float, float], opset: int) -> None:
    constants = {"f": np.array([1, 1, *factors], np.float32)}
    made = [node("Resize", ["x", "", "f"], ["y"], mode="linear")]
    assert off(onnx_bytes(made, {"x": ("N", 3, 5, 6)}, constants, opset=opset), weights(2, 3, 5, 6)) < 1e-5


@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_resize_by_factors_that_float32_rounds(mode: str) -> None:
    constants = {"f": np.array([1, 1, 0.7, 2.3], np.float32)}
    made = [node("Resize", ["x", "", "f"], ["y"], mode=mode)]
    assert off(onnx_bytes(made, {"x": ("N", 3, 10, 10)}, constants, opset=13), weights(2, 3, 10, 10)) < 1e-5


@pytest.mark.parametrize("how", ["half_pixel", "asymmetric", "tf_half_pixel_for_nn"])
@pytest.mark.parametrize("nearest", ["round_prefer_ceil", "round_prefer_floor", "floor"])
def test_resize_at_ties(nearest: str, how: str) -> None:
    """Halves that float32 misses by its last digit are halves, as in onnxruntime."""
    made = [node("Resize", ["x", "", "", "to"], ["y"], mode="nearest", coordinate_transformation_mode=how,
                 nearest_mode=nearest)]  # fmt: skip
    for size, wanted in ((7, 4), (14, 1), (10, 12), (7, 8), (6, 9)):
        content = onnx_bytes(made, {"x": (1, 1, 2, size)}, {"to": whole(1, 1, 2, wanted)}, opset=13)
        assert off(content, weights(1, 1, 2, size)) == 0


@pytest.mark.parametrize("pad", ["SAME_UPPER", "SAME_LOWER", "NOTSET"])
@pytest.mark.parametrize("asked", [None, -1, 0])
@pytest.mark.parametrize(("side", "stride"), [(1, 2), (2, 3), (3, 2), (4, 3)])
def test_padding_of_a_transposed_convolution(side: int, stride: int, asked: int | None, pad: str) -> None:
    """Windows that do not touch give less than SAME promises; the sizes asked for may be those."""
    size = stride * 5 + (asked or 0)
    if size > 4 * stride + side:
        asked = None  # onnxruntime refuses it
    more = {} if asked is None else {"output_shape": [size, size]}
    made = [node("ConvTranspose", ["x", "w"], ["y"], strides=[stride, stride], auto_pad=pad, **more)]
    content = onnx_bytes(made, {"x": ("N", 2, 5, 5)}, {"w": weights(2, 3, side, side)})
    assert off(content, weights(2, 2, 5, 5)) < 1e-5


@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_upsample(mode: str) -> None:
    made = [node("Upsample", ["x", "f"], ["y"], mode=mode)]
    constants = {"f": np.array([1, 1, 2, 3], np.float32)}
    assert off(onnx_bytes(made, {"x": ("N", 3, 5, 6)}, constants, opset=9), weights(2, 3, 5, 6)) < 1e-5


# -- batches that move ------------------------------------------------------------------------------------------------


class Attention(nn.Module):
    """As timm writes it: the batch becomes the second axis, and merges with the heads in other versions."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.patches, self.qkv, self.head = nn.Conv2d(3, width, 8, 8), nn.Linear(width, 3 * width), nn.Linear(width, 5)
        self.token, self.norm = nn.Parameter(torch.rand(1, 1, width)), nn.LayerNorm(width)

    def forward(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        x = self.patches(images_NCHW).flatten(2).transpose(1, 2)
        x = self.norm(torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1))
        N, L, C = x.shape
        q, k, v = self.qkv(x).reshape(N, L, 3, 2, C // 2).permute(2, 0, 3, 1, 4).unbind(0)
        x = x + F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(N, L, C)
        return self.head(F.gelu(x)[:, 0])


class Windows(nn.Module):
    """As Swin has it: windows of all images are one axis, and are taken apart again."""

    def __init__(self, width: int = 8, side: int = 4) -> None:
        super().__init__()
        self.patches, self.side, self.head = nn.Conv2d(3, width, 4, 4), side, nn.Linear(width, 5)
        self.register_buffer("mask", torch.rand(4, side * side, side * side))

    def forward(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        x = torch.roll(self.patches(images_NCHW).permute(0, 2, 3, 1), (-2, -2), (1, 2))
        N, H, W, C = x.shape
        s = self.side
        x = x.view(N, H // s, s, W // s, s, C).permute(0, 1, 3, 2, 4, 5).reshape(-1, s * s, C)
        scores = x @ x.transpose(-2, -1)
        scores = (scores.view(-1, 4, s * s, s * s) + self.mask[None]).view(-1, s * s, s * s).softmax(-1)
        x = (scores @ x).view(N, H // s, W // s, s, s, C).permute(0, 1, 3, 2, 4, 5).reshape(N, H, W, C)
        return self.head(x.mean((1, 2)))


class SequenceFirst(nn.Module):
    """nn.MultiheadAttention of before batch_first: the batch is the second axis, merged with the heads."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.patches, self.head = nn.Conv2d(3, width, 8, 8), nn.Linear(width, 5)
        self.attention = nn.MultiheadAttention(width, 2)

    def forward(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        x = self.patches(images_NCHW).flatten(2).permute(2, 0, 1)
        x, _ = self.attention(x, x, x, need_weights=False)
        return self.head(x.mean(0))


class Shuffled(nn.Module):
    """Channels in groups, squeeze and excitation, a bilinear resize, rounding up: as mobile networks have them."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.gate = nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 1)
        self.group, self.head = nn.GroupNorm(4, 8), nn.Linear(8, 5)

    def forward(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        x = F.silu(self.norm(self.conv(images_NCHW)))
        x = x * torch.sigmoid(self.gate(x.mean((2, 3), keepdim=True)))
        N, C, H, W = x.shape
        x = self.group(x.view(N, 2, C // 2, H, W).transpose(1, 2).reshape(N, C, H, W))
        x = F.relu6(F.interpolate(F.hardswish(x), scale_factor=2, mode="bilinear"))
        return self.head(F.adaptive_avg_pool2d(F.max_pool2d(x, 3, 2, 1, ceil_mode=True), 1).flatten(1))


def exported(module: nn.Module, dynamo: bool, fixed: bool, path: Path) -> Path:
    """By torch's exporter, or by its old one, for any number of images or for one."""
    images = torch.rand(1 if fixed else 2, 3, 32, 32)
    how: dict[str, Any] = {"dynamo": dynamo, "opset_version": 18, "verbose": False}
    if dynamo:
        how |= {"dynamic_shapes": None if fixed else ({0: torch.export.Dim("N")},), "external_data": False}
    else:
        how |= {"input_names": ["x"], "dynamic_axes": None if fixed else {"x": {0: "N"}}}
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        torch.onnx.export(module.eval(), (images,), str(path), **how)
    return path


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("network", [Attention, Windows, SequenceFirst, Shuffled])
@pytest.mark.parametrize("dynamo", [True, False])
@pytest.mark.parametrize("fixed", [True, False])
def test_networks_from_torch(network: Callable[[], nn.Module], dynamo: bool, fixed: bool, tmp_path: Path) -> None:
    """What comes back answers as torch does, for any number of images, and can be trained."""
    torch.manual_seed(0)
    module = network()
    graph = imported(exported(module, dynamo, fixed, tmp_path / "net.onnx").read_bytes())
    images = rng.normal(size=(3, 3, 32, 32)).astype(np.float32)
    with torch.no_grad():
        expected = module(torch.from_numpy(images)).numpy()
    np.testing.assert_allclose(run_graph(graph, images)[0], expected, atol=2e-6 * max(1, np.abs(expected).max()))
    assert any(parameter.learning_rate_multiplier for parameter in graph.parameters)


# -- inputs -----------------------------------------------------------------------------------------------------------


def dense(shape: tuple[Any, ...], count: int, **rest: Any) -> bytes:
    nodes = [node("Flatten", ["x"], ["f"]), node("MatMul", ["f", "w"], ["y"])]
    return onnx_bytes(nodes, {"x": shape}, {"w": weights(count, 4)}, **rest)


def test_images_stored_pixel_by_pixel() -> None:
    """As Keras has them: (N, H, W, C), turned at once; two turns are none."""
    nodes = [node("Transpose", ["x"], ["t"], perm=[0, 3, 1, 2]), node("Conv", ["t", "w"], ["y"])]
    content = onnx_bytes(nodes, {"x": ("N", 6, 7, 3)}, {"w": weights(4, 3, 3, 3)})
    graph, images = imported(content), weights(2, 6, 7, 3)
    assert graph.inputs[0].shape == (3, 6, 7) and [node.op for node in graph.nodes] == ["convolution"]
    np.testing.assert_allclose(
        run_graph(graph, images.transpose(0, 3, 1, 2))[0], run_onnx(content, images)[0], atol=1e-5
    )


def test_pixels_with_the_preprocessing_inside(tmp_path: Path) -> None:
    nodes = [node("Cast", ["x"], ["c"], to=1), node("Transpose", ["c"], ["t"], perm=[0, 3, 1, 2]),
             node("Sub", ["t", "mean"], ["s"]), node("Div", ["s", "std"], ["d"]), node("Flatten", ["d"], ["f"]),
             node("MatMul", ["f", "w"], ["y"])]  # fmt: skip
    constants = {"mean": weights(1, 3, 1, 1) + 100, "std": weights(3, 1, 1) + 60, "w": weights(48, 4)}
    content = onnx_bytes(nodes, {"x": ("N", 4, 4, 3)}, constants, type=TensorProto.UINT8, out=TensorProto.FLOAT)
    (tmp_path / "net.onnx").write_bytes(content)
    model = load(tmp_path / "net.onnx")
    images = rng.integers(0, 256, (2, 4, 4, 3), dtype=np.uint8)
    scores = torch.from_numpy(run_onnx(content, images)[0])
    torch.testing.assert_close(
        model.probabilities(images.transpose(0, 3, 1, 2)), scores.softmax(1), atol=1e-5, rtol=1e-4
    )
    assert "takes pixels as they are" in model.preprocess.known_from and not model.preprocess_warning


def test_a_size_that_is_left_open(tmp_path: Path, convolve: Convolve) -> None:
    nodes = [node("Conv", ["x", "w"], ["c"]), node("GlobalAveragePool", ["c"], ["p"]), node("Flatten", ["p"], ["y"])]
    path = tmp_path / "net.onnx"
    path.write_bytes(onnx_bytes(nodes, {"x": ("N", 3, "height", "width")}, {"w": weights(4, 3, 3, 3)}))
    assert_refused(convolve("show", path), 2, "leaves the size of its images open", "--image-shape")
    assert "3x32x40" in convolve("show", path, "--image-shape", "3x32x40").out.replace(" ", "")


# -- what is said beside the model ------------------------------------------------------------------------------------


def test_metadata_of_the_image(tmp_path: Path) -> None:
    """ONNX's own words, as Custom Vision and Windows ML write them."""
    words = {"Image.BitmapPixelFormat": "Bgr8", "Image.NominalPixelRange": "Normalized_1_1"}
    (tmp_path / "net.onnx").write_bytes(dense(("N", 3, 4, 4), 48, metadata=words))
    said = load(tmp_path / "net.onnx").preprocess
    assert (said.channel_order, said.mean, said.scale) == ("bgr", 127.5, 1 / 127.5) and said.known_from


def test_an_archive_of_custom_vision(tmp_path: Path, convolve: Convolve) -> None:
    path = tmp_path / "export.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model.onnx", dense(("N", 3, 4, 4), 48))
        archive.writestr("labels.txt", "ant\nbee\ncat\ndog\n")
        archive.writestr("cvexport.manifest", "{}")
    model = load(path)
    assert model.class_names == ("ant", "bee", "cat", "dog") and model.preprocess.scale == 1 / 255
    assert "Custom Vision" in model.preprocess.known_from
    assert convolve("show", path).code == 0


def test_scores_that_are_paired_with_names(tmp_path: Path) -> None:
    """As Custom Vision's older exports and Windows ML end: the name of the likeliest class, and pairs."""
    made = onnx.load_model_from_string(dense(("N", 3, 4, 4), 48, opset=11))
    made.opset_import.add(domain="ai.onnx.ml", version=1)
    made.graph.node.extend([
        node("Softmax", ["y"], ["p"]),
        node("ZipMap", ["p"], ["loss"], domain="ai.onnx.ml", classlabels_strings=list("abcd")),
        node("ArgMax", ["p"], ["index"], axis=1),
        node("LabelEncoder", ["index"], ["classLabel"], domain="ai.onnx.ml", classes_strings=list("abcd")),
    ])  # fmt: skip
    del made.graph.output[:]
    made.graph.output.append(helper.make_tensor_value_info("classLabel", TensorProto.STRING, ["N", 1]))
    pairs = helper.make_sequence_type_proto(
        helper.make_map_type_proto(TensorProto.STRING, helper.make_tensor_type_proto(TensorProto.FLOAT, []))
    )
    made.graph.output.append(helper.make_value_info("loss", pairs))
    onnx.save(made, tmp_path / "net.onnx")
    model = load(tmp_path / "net.onnx")
    assert model.class_names == tuple("abcd") and "softmax" in str(model.architecture.notes)  # type: ignore[union-attr]


def test_an_onnx_file_is_trained_further(tmp_path: Path, convolve: Convolve) -> None:
    """The weights learn, and constants before the first layer stay."""
    nodes = [
        node("Sub", ["x", "m"], ["s"]), node("Conv", ["s", "w"], ["c"], strides=[4, 4]), node("Relu", ["c"], ["r"]),
        node("Flatten", ["r"], ["f"]), node("Gemm", ["f", "v", "b"], ["z"]), node("Sigmoid", ["z"], ["y"]),
    ]  # fmt: skip
    constants = {"m": np.float32(30), "w": weights(4, 1, 4, 4) / 100, "v": weights(196, 10) / 10, "b": weights(10)}
    path, run = tmp_path / "net.onnx", tmp_path / "run"
    path.write_bytes(onnx_bytes(nodes, {"x": ("N", 1, 28, 28)}, constants))
    words = ["--from", path, "--data", "sample", "--epochs", "1", "--out", run, "--threads", "1"]
    outcome = convolve("train", "mnist-fast", *words)
    assert outcome.code == 0, outcome.err
    before, after = load(path), load(run)
    assert [node.op for node in after.architecture.nodes][-1] == "linear"  # type: ignore[union-attr]
    moved = {name: float((value - after.module.state_dict()[name]).abs().max())
             for name, value in before.module.state_dict().items() if name in after.module.state_dict()}  # fmt: skip
    assert len(moved) >= 3 and all(distance > 0 for distance in moved.values())
    assert sum(after.evaluate(after.dataset(open_data("sample", "mnist").test)).wrong_N) < 600


def test_a_folder_of_lobe(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(dense(("N", 4, 4, 3), 48))
    (tmp_path / "signature.json").write_text(json.dumps({"classes": {"Label": list("abcd")}, "filename": "model.onnx"}))
    model = load(tmp_path)
    assert model.class_names == tuple("abcd")
    assert (model.preprocess.resize, model.preprocess.scale, model.preprocess.channel_order) == (
        "square",
        1 / 255,
        "rgb",
    )


def test_names_by_ultralytics(tmp_path: Path) -> None:
    words = {"names": "{0: 'a', 1: 'b', 2: 'c', 3: 'd'}", "stride": "1", "task": "classify", "imgsz": "[4, 4]"}
    (tmp_path / "net.onnx").write_bytes(dense(("N", 3, 4, 4), 48, metadata=words))
    model = load(tmp_path / "net.onnx")
    assert model.class_names == tuple("abcd") and model.preprocess.scale == 1 / 255


@pytest.mark.parametrize("tool", ["timm", "transformers"])
def test_a_configuration_beside_the_model(tool: str, tmp_path: Path) -> None:
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    (tmp_path / "model.onnx").write_bytes(dense(("N", 3, 4, 4), 48))
    if tool == "timm":
        said: dict[str, Any] = {
            "pretrained_cfg": {"mean": mean, "std": std, "crop_pct": 0.875},
            "label_names": list("abcd"),
        }
    else:
        said = {"id2label": {str(k): "abcd"[k] for k in (0, 2, 1, 3)}}
        config = {"image_mean": mean, "image_std": std, "rescale_factor": 1 / 255}
        (tmp_path / "preprocessor_config.json").write_text(json.dumps(config))
    (tmp_path / "config.json").write_text(json.dumps(said))
    model = load(tmp_path)
    np.testing.assert_allclose(model.preprocess.mean, 255 * np.array(mean))
    np.testing.assert_allclose(model.preprocess.scale, 1 / (255 * np.array(std)))
    assert model.class_names == tuple("abcd")
    assert model.preprocess.resize == ("cover" if tool == "timm" else "squash")


@pytest.mark.parametrize("number", ["1" + "0" * 400, "NaN", "1e400", "1e-320"])
def test_numbers_beside_the_model_that_are_none(number: str, tmp_path: Path) -> None:
    """They count as not said; so do names whose numbers are none."""
    (tmp_path / "model.onnx").write_bytes(dense(("N", 3, 4, 4), 48))
    normal = f'"image_mean": [0.5, 0.5, 0.5], "image_std": [{number}, 0.5, 0.5]'
    for said in (
        f"{{{normal}}}",
        f'{{"image_mean": [0.5, 0.5, 0.5], "image_std": [1, 1, 1], "rescale_factor": {number}}}',
    ):
        (tmp_path / "preprocessor_config.json").write_text(said)
        (tmp_path / "config.json").write_text(json.dumps({"id2label": {"9" * 5000: "a"}}))
        model = load(tmp_path)
        assert not model.preprocess.known_from and model.class_names == tuple("0123")


@pytest.mark.parametrize(
    ("said", "resize", "ratio"),
    [
        ({"size": {"height": 224, "width": 224}}, "squash", 1),  # ViT
        ({"size": {"shortest_edge": 256}, "do_center_crop": True, "crop_size": {"height": 224, "width": 224}},
         "cover", 0.875),  # ResNet, MobileNet, DINOv2
        ({"size": 224, "do_center_crop": True, "crop_size": 224}, "cover", 1),  # CLIP, the older form
        ({"size": {"shortest_edge": 224}, "crop_pct": 0.875}, "cover", 0.875),  # ConvNeXt
        ({"size": {"shortest_edge": 384}, "crop_pct": 1.0}, "squash", 1),
        ({"do_resize": False, "do_center_crop": True, "crop_size": 224}, "cover", 1),
    ],
)  # fmt: skip
def test_the_resize_of_transformers(said: dict[str, Any], resize: str, ratio: float, tmp_path: Path) -> None:
    """Beside the model, or, as in repositories for transformers.js, above the folder onnx."""
    config = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "rescale_factor": 1 / 255, **said}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(config))
    (tmp_path / "onnx").mkdir()
    (tmp_path / "onnx" / "model.onnx").write_bytes(dense(("N", 3, 4, 4), 48))
    preprocess = load(tmp_path / "onnx" / "model.onnx").preprocess
    assert (preprocess.resize, preprocess.crop_ratio) == (resize, ratio)


def test_names_that_are_too_few_are_those_of_the_file_that_has_them(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(dense(("N", 3, 4, 4), 48))
    (tmp_path / "labels.txt").write_text("a\nb\n")
    with pytest.raises(ModelError, match=r"labels\.txt: it names 2 classes, the network has 4; .*--labels"):
        load(tmp_path)


@pytest.mark.parametrize(
    "end", ["Sigmoid", "Softmax", "Hardmax", "Sigmoid Log", "Sigmoid GlobalAveragePool", "LogSoftmax"]
)
def test_probabilities_stay_what_they_are_in_an_exported_file(end: str, tmp_path: Path) -> None:
    """Saturated ones too: a sigmoid of -30 is 1e-13. As a classifier, and as a network with what it ends in."""
    names = ["z", *(f"e{k}" for k in range(len(end.split())))]
    made = [node("Conv", ["x", "w"], ["z"], kernel_shape=[4, 4] if "Pool" not in end else [3, 3])]
    made += [
        node(op, [names[k]], [names[k + 1]], **({"axis": 1} if "max" in op else {})) for k, op in enumerate(end.split())
    ]
    made.append(node("Flatten", [names[-1]], ["y"]))
    constants = {"w": weights(4, 3, *((3, 3) if "Pool" in end else (4, 4))) / 20}
    (tmp_path / "net.onnx").write_bytes(onnx_bytes(made, {"x": ("N", 3, 4, 4)}, constants))
    model = load(tmp_path / "net.onnx")
    images_NCHW = rng.integers(0, 256, (8, 3, 4, 4)).astype(np.uint8)
    [answers] = run_onnx((tmp_path / "net.onnx").read_bytes(), images_NCHW.astype(np.float32))
    expected_NK = torch.from_numpy(np.exp(answers) if "Log" in end else answers)
    torch.testing.assert_close(model.probabilities(images_NCHW), expected_NK, atol=1e-6, rtol=1e-4)
    model.export(tmp_path / "again.onnx")
    load_graph(tmp_path / "net.onnx").export(tmp_path / "network.onnx")
    for copy in ("again", "network"):
        found_NK = load(tmp_path / f"{copy}.onnx").probabilities(images_NCHW)
        torch.testing.assert_close(found_NK, expected_NK, atol=1e-6, rtol=1e-4)


# -- refused ----------------------------------------------------------------------------------------------------------


def test_unknown_operators_are_named_all_at_once(tmp_path: Path, convolve: Convolve) -> None:
    nodes = [node("NonMaxSuppression", ["x", "x"], ["a"], name="boxes"), node("Det", ["x"], ["b"], name="/d"),
             node("Add", ["a", "b"], ["y"])]  # fmt: skip
    path = tmp_path / "net.onnx"
    path.write_bytes(onnx_bytes(nodes, {"x": ("N", 3, 4, 4)}))
    assert_refused(convolve("show", path), 4, "NonMaxSuppression (boxes)", "Det (/d)")


def test_an_unused_branch_does_no_harm() -> None:
    content = onnx_bytes([node("Det", ["x"], ["d"]), node("Relu", ["x"], ["y"])], {"x": ("N", 3, 4, 4)})
    assert [node.op for node in imported(content).nodes] == ["relu"]


@pytest.mark.parametrize("place", ["../secret.bin", "{absolute}", "link.bin"])
def test_weights_outside_of_the_folder(place: str, tmp_path: Path) -> None:
    """By a path or a link: the answers of such a model would tell what stands in a file of the user's."""
    (tmp_path / "secret.bin").write_bytes(weights(4).tobytes())
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "link.bin").symlink_to(tmp_path / "secret.bin")
    path = folder / "net.onnx"
    path.write_bytes(with_external(place.format(absolute=tmp_path / "secret.bin"), 16))
    with pytest.raises(FormatError, match="outside of the model's folder"):
        load(path)


def test_a_model_of_links_to_one_folder(tmp_path: Path) -> None:
    """The cache of Hugging Face: both files are links into a folder of contents."""
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "0123" / "onnx"
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    (blobs / "4f3a").write_bytes(with_external("model.onnx_data", 16))
    (blobs / "99c1").write_bytes(weights(4).tobytes())
    (snapshot / "model.onnx").symlink_to(Path("../../../blobs/4f3a"))
    (snapshot / "model.onnx_data").symlink_to(Path("../../../blobs/99c1"))
    assert len(load(snapshot / "model.onnx").class_names) == 4
    (blobs / "4f3a").write_bytes(with_external("../../../blobs/99c1", 16))
    with pytest.raises(FormatError, match="outside of the model's folder"):
        load(snapshot / "model.onnx")


def with_external(place: str, length: int) -> bytes:
    made = onnx.load_model_from_string(dense(("N", 3, 4, 4), 48))
    made.graph.node.append(node("Add", ["y", "b"], ["z"]))
    tensor = TensorProto(name="b", data_type=1, dims=[4], data_location=TensorProto.EXTERNAL)
    for key, value in (("location", place), ("offset", "0"), ("length", str(length))):
        tensor.external_data.add(key=key, value=value)
    made.graph.initializer.append(tensor)
    made.graph.output[0].name = "z"
    content: bytes = made.SerializeToString()
    return content


def test_weights_in_a_file_beside(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    values = weights(4)
    (tmp_path / "data" / "w.bin").write_bytes(values.tobytes())
    content = with_external("data/w.bin", 16)
    (tmp_path / "net.onnx").write_bytes(content)
    images = weights(2, 3, 4, 4)
    graph = importer.parse(content, tmp_path / "net.onnx")
    made = onnx.load(tmp_path / "net.onnx")
    np.testing.assert_allclose(run_graph(graph, images)[0], run_onnx(made.SerializeToString(), images)[0], atol=1e-5)
    for wrong in (with_external("data/w.bin", 12), with_external("none.bin", 16)):
        with pytest.raises(FormatError):
            importer.parse(wrong, tmp_path / "net.onnx")
    (tmp_path / "data" / "w.bin").write_bytes(values.tobytes()[:8])
    with pytest.raises(FormatError, match="holds 8 of the 16 bytes"):
        importer.parse(content, tmp_path / "net.onnx")


def port(name: str, kind: int) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, None)


def test_endless_and_enormous_ones() -> None:
    body = helper.make_graph(
        [node("Identity", ["c"], ["d"]), node("Identity", ["v"], ["w"])], "body",
        [port("i", TensorProto.INT64), port("c", TensorProto.BOOL), port("v", TensorProto.FLOAT)],
        [port("d", TensorProto.BOOL), port("w", TensorProto.FLOAT)],
    )  # fmt: skip
    loop = [node("Loop", ["n", "t", "x"], ["y"], body=body)]
    constants = {"n": np.int64(2**62), "t": np.bool_(True)}
    with pytest.raises(UnsupportedError, match="Loop"):
        imported(onnx_bytes(loop, {"x": ("N", 3, 4, 4)}, constants))
    huge = [node("ConstantOfShape", ["s"], ["c"]), node("ReduceSum", ["c"], ["r"]), node("Add", ["x", "r"], ["y"])]
    with pytest.raises(FormatError, match="numbers"):
        imported(onnx_bytes(huge, {"x": ("N", 3, 4, 4)}, {"s": whole(6 * 2**28)}))
    with pytest.raises(UsageError, match="--image-shape"):
        imported(onnx_bytes([node("Relu", ["x"], ["y"])], {"x": ("N", 3, "H", "W")}))


@pytest.mark.parametrize(
    ("depth", "words"), [(40, "more than 20000 operators"), (120, "local functions call each other")]
)
def test_functions_that_multiply(depth: int, words: str) -> None:
    """Each one calls the next one twice."""
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("own", 1)]
    inner = [(f"F{k + 1}", "own") for k in range(depth)] + [("Relu", "")]
    functions = [
        helper.make_function(
            "own", f"F{k}", ["a"], ["c"], [node(op, [x], [y], domain=domain) for x, y in ("ab", "bc")], opsets
        )
        for k, (op, domain) in enumerate(inner)
    ]
    graph = helper.make_graph(
        [node("F0", ["x"], ["y"], domain="own")], "g", [port("x", TensorProto.FLOAT)], [port("y", TensorProto.FLOAT)]
    )
    made = helper.make_model(graph, functions=functions, opset_imports=opsets)
    with pytest.raises(UnsupportedError, match=words):
        imported(made.SerializeToString())


def test_samples_are_never_mixed() -> None:
    for made in (node("Softmax", ["x"], ["y"], axis=0), node("ReduceMean", ["x"], ["y"], axes=[0]),
                 node("Concat", ["x", "x"], ["y"], axis=0)):  # fmt: skip
        with pytest.raises(UnsupportedError, match=r"batch|samples"):
            imported(onnx_bytes([made], {"x": ("N", 3, 4, 4)}, opset=13))
