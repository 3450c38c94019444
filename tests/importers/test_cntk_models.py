"""Every CNTK model that the real CNTK wrote or read gives what the real CNTK gave."""

from __future__ import annotations

import os
from pathlib import Path

import bcn
import numpy as np
import pytest
import torch

import golden
from convolve.errors import UnsupportedError, UsageError
from convolve.formats.idx import read_idx
from convolve.graph.build import build
from convolve.graph.graph import Graph
from convolve.importers import cntk

INDEX = golden.oracle_index()
# CNTK's CPU code reads out of bounds for one cell of these: the last row, column 0.
DEFECTS = {name for name, case in INDEX.items() if "known_defect" in case}
# v1 does not store what these need: groups; the attributes of three operators.
NOT_IN_V1 = {"conv_groups2", "shape_one_hot", "shape_pad_const", "shape_pad_reflect", "shape_top_k"}
RECURRENT = {"past_value", "recurrent_refused", "gather"}


@pytest.fixture(autouse=True)
def vanishing_numbers_count() -> None:
    """CNTK keeps them; a training earlier in this process may have told torch not to."""
    torch.set_flush_denormal(False)


def parse(name: str, member: str, outputs: list[str] | None = None) -> Graph:
    return cntk.parse(golden.read(name, member), member, outputs)


def compare(graph: Graph, values: dict[str, np.ndarray], case: str) -> None:
    results = golden.evaluate(graph, values)
    assert len(results) == sum(key.startswith("out") for key in values)
    for index, got in enumerate(results):
        wanted = values[f"out{index}"]
        if case == "seq_input":  # 1 sequence of 2 elements: each element is a sample of its own
            wanted = wanted.reshape(2, 3)
        if case in DEFECTS:
            got[:, :, -1, 0] = wanted[:, :, -1, 0]
        golden.assert_close(got, wanted)


@pytest.mark.parametrize("case", sorted(INDEX))
def test_v2_oracle(case: str) -> None:
    compare(parse("oracle", f"v2/{case}.model"), golden.arrays("oracle", f"io/{case}.npz"), case)


@pytest.mark.parametrize("case", golden.cases("oracle", "v1"))
def test_v1_oracle(case: str) -> None:
    """Cases that CNTK itself cannot load back are loaded where the file holds what is needed, else refused by name."""
    if case in NOT_IN_V1:
        with pytest.raises(UnsupportedError, match=rf"{case}\.v1: node .*v1 file"):
            parse("oracle", f"v1/{case}.v1")
        return
    # v1 keeps the first of several outputs only; the others are still there by name.
    outputs = ["Plus5494", "Minus5505", "Minus5526"] if case == "net_combine" else None
    compare(parse("oracle", f"v1/{case}.v1", outputs), golden.arrays("oracle", f"io/{case}.npz"), case)


def test_every_v1_case_that_cntk_calls_good_is_compared() -> None:
    good = {name for name, case in INDEX.items() if case["v1"] == "ok"}
    assert good <= set(golden.cases("oracle", "v1")) - NOT_IN_V1
    assert len(good) == 138 and len(DEFECTS) == 2


@pytest.mark.parametrize("case", golden.cases("more", "v2"))
def test_v2_more(case: str) -> None:
    if case in RECURRENT:
        with pytest.raises(UnsupportedError, match=r"node .*: the operator (PastValue|Gather) is not supported"):
            parse("more", f"v2/{case}.model")
    else:
        compare(parse("more", f"v2/{case}.model"), golden.arrays("more", f"io/{case}.npz"), case)


@pytest.mark.parametrize("case", golden.cases("more", "v1"))
def test_v1_more(case: str) -> None:
    """The same values as in the v2 form; what v1 cannot say is refused by name."""
    not_in_v1 = {
        "cast",
        "one_hot_axis0",
        "pad_symmetric",
        "topk_axis0",
        "reduce_sum_batch",
        "depthwise",
        "depthwise_multiplier",
    }
    if case in RECURRENT | not_in_v1:
        with pytest.raises(UnsupportedError, match="node "):
            parse("more", f"v1/{case}.v1")
    elif case in ("comparisons", "round_ceil", "triple_outputs_of_block"):
        assert parse("more", f"v1/{case}.v1").outputs  # CNTK names the outputs of such a Combine wrongly, or none
    else:
        compare(parse("more", f"v1/{case}.v1"), golden.arrays("more", f"io/{case}.npz"), case)


@pytest.mark.parametrize("case", golden.cases("old", "v1"))
def test_v1_versions(case: str) -> None:
    """Files of versions 1 to 31. CNTK keeps axes of 1 that mean nothing, so that shapes are not compared."""
    values = golden.arrays("old", f"io/{case}.npz")
    if "out0" not in values:
        with pytest.raises(UnsupportedError):
            parse("old", f"v1/{case}.v1")
        return
    [got] = golden.evaluate(parse("old", f"v1/{case}.v1"), values)
    golden.assert_close(got.ravel(), values["out0"].ravel(), relative=1e-5)


def test_a_trained_network() -> None:
    """The convolutional network at the end of a trace: its answers in inference."""
    values = dict(np.load(golden.FOLDER.parent / "train" / "convnet.npz"))
    module = build(parse("oracle", "train/convnet_final.model"))
    golden.assert_close(module(torch.from_numpy(values["X"][:8])).detach().numpy(), values["eval8"], relative=1e-5)


@pytest.mark.skipif("CONVOLVE_BRAINSCRIPT_MODEL" not in os.environ, reason="wants a model that may not be copied here")
def test_a_network_that_brainscript_trained() -> None:
    """CNTK's 01_OneHidden on MNIST: the logits of CNTK for the first 1,000 test images, and 2.25 % errors on all.

    CONVOLVE_BRAINSCRIPT_MODEL is the model file, with logits.npz beside it; $CONVOLVE_DATA/mnist has the images.
    """
    path = Path(os.environ["CONVOLVE_BRAINSCRIPT_MODEL"])
    data = Path(os.environ["CONVOLVE_DATA"]) / "mnist"
    pixels = read_idx(data / "t10k-images-idx3-ubyte.gz").reshape(10000, -1).astype(np.float32)
    labels = read_idx(data / "t10k-labels-idx1-ubyte.gz")
    logits = build(cntk.read(path).graph)(torch.from_numpy(pixels)).detach().numpy()
    golden.assert_close(logits[:1000], np.load(path.with_name("logits.npz"))["logits"])
    assert int((logits.argmax(1) != labels).sum()) == 225


def test_fine_tuning_follows_cntk() -> None:
    """20 minibatches with batch normalization, of an imported network and of the same network in CNTK."""
    trace = golden.arrays("more", "finetune.npz")
    images_NCHW, labels_N = torch.from_numpy(trace["images"]), torch.from_numpy(trace["labels"])
    module = build(parse("oracle", "v2/net_resnet.model")).train()
    optimizer = torch.optim.SGD(module.parameters(), lr=0.05, momentum=0.9)
    losses = []
    for step in range(20):
        batch = torch.arange(8 * step, 8 * step + 8) % 32
        loss = torch.nn.functional.cross_entropy(module(images_NCHW[batch]), labels_N[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    golden.assert_close(np.array(losses, dtype=np.float32), trace["loss"], relative=1e-5)
    golden.assert_close(module.eval()(images_NCHW[:8]).detach().numpy(), trace["logits"])


def test_inner_values_by_name() -> None:
    """`outputs` takes the author's names and CNTK's own; a named block's value is that of its last operation."""
    graph = parse("more", "v2/nested.model")
    assert graph.outputs == ("out",)
    assert {node.name for node in graph.nodes} >= {"a", "inner", "out"}
    inner = parse("more", "v2/nested.model", ["inner"])
    assert inner.outputs == graph.with_outputs(["inner"]).outputs == ("inner",)
    assert len(inner.nodes) < len(graph.nodes)
    lenet = parse("oracle", "v2/net_lenet.model", ["conv1"])
    assert lenet.nodes[-1].op == "relu" and lenet.nodes[-1].shape == (4, 12, 12)


def test_unknown_and_ambiguous_names() -> None:
    with pytest.raises(UsageError, match="unknown node 'conv9'; did you mean 'conv"):
        parse("oracle", "v2/net_lenet.model", ["conv9"])
    graph = parse("oracle", "v2/net_resnet.model")
    with pytest.raises(UsageError, match="6 nodes are called 'bn'; give one of bn_1, bn_2"):
        graph.with_outputs(["bn"])
    assert graph.with_outputs(["bn_2"]).outputs == ("bn_2",)
    with pytest.raises(UsageError, match="several nodes are called 'bn'"):
        parse("oracle", "v2/net_resnet.model", ["bn"])


def test_an_unsupported_branch_does_no_harm() -> None:
    nodes = [
        bcn.input_node(31, "features", 4),
        ("Exp", "e", b"", ("features",)),
        ("OutputMultiplexer", "c", b"", ("e", "features")),
    ]
    data = bcn.model(31, nodes, outputs=["c"])
    with pytest.raises(UnsupportedError, match=r"net\.dnn: node c: the operator OutputMultiplexer"):
        cntk.parse(data, "net.dnn")
    assert cntk.parse(data, "net.dnn", outputs=["e"]).outputs == ("e",)


def test_notes_say_what_a_file_does_not_hold() -> None:
    assert any("dropout rates" in note for note in parse("oracle", "v1/net_lenet.v1").notes)
    assert any("sequence" in note for note in parse("oracle", "v2/seq_input.model").notes)
    assert parse("oracle", "v2/net_lenet.model").notes == ()


def test_blocks_named_by_cntk_equal_what_is_inside_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Softmax and its kin become one operation; computing the inside of the block gives the same."""
    for case in ("ew_softmax_axis0", "ew_log_softmax", "ew_elu", "ew_leaky_relu"):
        values = golden.arrays("oracle", f"io/{case}.npz")
        assert len(parse("oracle", f"v2/{case}.model").nodes) == 1
        monkeypatch.setattr("convolve.importers.cntk.v2.BLOCKS", {})
        inside = parse("oracle", f"v2/{case}.model")
        monkeypatch.undo()
        assert len(inside.nodes) > 1
        compare(inside, values, case)


def test_files_are_known_by_content() -> None:
    assert cntk.is_cntk(golden.read("oracle", "v2/ew_relu.model")[:32])
    assert cntk.is_cntk(golden.read("oracle", "v1/ew_relu.v1")[:32])
    onnx = b"\x08\x04\x12\x04CNTK\x1a\x03" + b"2.7" + b"\x22"
    assert not cntk.is_cntk(onnx)
    with pytest.raises(UnsupportedError, match="looks like an ONNX model"):
        cntk.parse(onnx, "net.onnx")
