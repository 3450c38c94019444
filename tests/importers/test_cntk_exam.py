"""Operators, input shapes and number types of CNTK beside the common ones; CNTK 2.7's own answers (exam.zip)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import golden
from convolve import load
from convolve.errors import FormatError, UsageError
from convolve.formats.ctf import StreamSpec, read_ctf
from convolve.graph import functions
from convolve.graph.build import build
from convolve.graph.stored import graph_from_mapping, graph_to_mapping
from convolve.importers import cntk
from convolve.importers.loader import PreprocessOverrides

NAMES = golden.archive("exam").namelist()
MODELS = [name for name in NAMES if name.rpartition("/")[2] in ("net.model", "net.v1")]
ANSWERED = [name for name in MODELS if f"{name.rpartition('/')[0]}/io.npz" in NAMES]


def at_7x7(name: str, values: dict[str, np.ndarray]) -> tuple[int, ...] | None:
    return values["in__features"].shape[1:] if name.startswith("free_dimension") else None


@pytest.mark.parametrize("name", ANSWERED)
def test_answers_are_cntks(name: str) -> None:
    values = golden.arrays("exam", f"{name.rpartition('/')[0]}/io.npz")
    graph = cntk.parse(golden.read("exam", name), name, None, at_7x7(name, values))
    [got] = golden.evaluate(graph, {key: value.astype(np.float32) for key, value in values.items()})
    golden.assert_close(got, values["out0"].astype(np.float32), 1e-3 if "float16" in name else 1e-5)
    stored = graph_from_mapping(graph_to_mapping(graph), weights_bytes=1 << 20)
    assert [node.op for node in stored.nodes] == [node.op for node in graph.nodes]


def test_a_dilated_transposed_convolution_has_the_size_that_cntk_infers() -> None:
    """CNTK leaves the dilation out; its processor code cannot run one."""
    graph = cntk.parse(golden.read("exam", "convtrans_dilated_shape/net.model"), "x")
    assert graph.nodes[-1].shape == (3, 8, 9)
    assert build(graph)(torch.zeros(1, 2, 6, 7)).shape == (1, 3, 8, 9)


def written(tmp_path: Path, name: str) -> Path:
    path = tmp_path / "net.model"
    path.write_bytes(golden.read("exam", name))
    return path


def test_channels_may_come_last_and_sizes_be_free(tmp_path: Path) -> None:
    """Keras on CNTK takes (rows, columns, channels)."""
    model = load(written(tmp_path, "keras/hwc.model"))
    assert model.preprocess.shape_CHW == (1, 28, 28)
    direct = build(cntk.parse(golden.read("exam", "keras/hwc.model"), "x"))
    image = torch.rand(2, 1, 28, 28)
    with torch.no_grad():
        scores, probabilities = model.module(image), direct(image.permute(0, 2, 3, 1))
    np.testing.assert_allclose(scores.softmax(1), probabilities, atol=1e-6)
    free = written(tmp_path, "keras/free.model")
    assert load(free, PreprocessOverrides(image_shape_CHW=(3, 24, 20))).preprocess.shape_CHW == (3, 24, 20)
    with pytest.raises(UsageError, match=r"input image has no fixed size, 3x\?x\?; .*--image-shape, for example 3x224"):
        load(free)
    with pytest.raises(UsageError, match="which --image-shape 1x24x24 does not fit"):
        load(free, PreprocessOverrides(image_shape_CHW=(1, 24, 24)))


def test_the_gradient_goes_straight_through() -> None:
    x = torch.tensor([-2.0, 0.0, 3.0], requires_grad=True)
    y = functions.straight_through(x)
    y.backward(torch.tensor([1.0, 2.0, 3.0]))
    assert y.tolist() == [-1, -1, 1] and x.grad is not None and x.grad.tolist() == [1, 2, 3]


def test_a_constant_weight_meets_values_of_16_bits() -> None:
    x, weight = torch.rand(2, 3, 4).bfloat16(), torch.rand(4, 5)
    product = functions.contract(x, weight, 1, x_batched=True, weight_batched=False)
    np.testing.assert_allclose(product, torch.tensordot(x.float(), weight, 1), rtol=1e-6)


def test_an_id_of_more_than_64_bits_is_no_sequence(tmp_path: Path) -> None:
    path, streams = tmp_path / "x.ctf", [StreamSpec("f", 2)]
    path.write_text("18446744073709551615 |f 1 2\n18446744073709551616 |f 3 4\n")
    with pytest.raises(FormatError, match=r"x\.ctf: line 2, column 1: a sequence id of more than 64 bits"):
        read_ctf(path, streams)
    path.write_text("000018446744073709551615 |f 1 2\n1 |f 3 4\n")
    assert read_ctf(path, streams).samples["f"].tolist() == [[1, 2], [3, 4]]
