"""Damaged and hostile model files: a named error with the byte, never a crash, a hang or a wrong network."""

from __future__ import annotations

from pathlib import Path

import bcn
import numpy as np
import pytest
from wire_bytes import field, varint

import golden
from convolve.errors import FormatError, MissingDataError, UnsupportedError
from convolve.importers import cntk


def refused(data: bytes, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        cntk.parse(data, "damaged.model")


# -- v2 ---------------------------------------------------------------------------------------------------------------


def dictionary(entries: dict[str, bytes]) -> bytes:
    return b"\x08\x02" + b"".join(field(2, field(1, key.encode()) + field(2, value)) for key, value in entries.items())


def record(**entries: bytes) -> bytes:
    return b"\x10\x0a" + field(12, dictionary(entries))


def vector(*values: bytes) -> bytes:
    return b"\x10\x09" + field(11, b"".join(field(1, value) for value in values))


def text(value: str) -> bytes:
    return b"\x10\x06" + field(8, value.encode())


def number(value: int) -> bytes:
    return b"\x10\x03\x28" + varint(value)


def function(uid: str, op: int, *inputs: str) -> bytes:
    names = vector(*map(text, inputs))
    return record(uid=text(uid), op=number(op), inputs=names, attributes=record())


def v2_model(*functions: bytes, root: str) -> bytes:
    axis = b"\x10\x08" + field(10, b"\x08" + varint(2**31 - 1))
    shape = b"\x10\x07" + field(9, field(1, b"\x04"))
    leaf = record(uid=text("Input1"), kind=b"\x10\x03", name=text("x"), shape=shape, dynamic_axis=vector(axis))
    return dictionary({"root": text(root), "inputs": vector(leaf), "primitive_functions": vector(*functions)})


RELU, PLUS, COMBINE, BLOCK = 3, 19, 44, 57


def block(uid: str, root: str) -> bytes:
    return record(uid=text(uid), op=number(BLOCK), block_function_composite=record(root=text(root)))


def test_the_writer_of_these_tests_writes_models() -> None:
    graph = cntk.parse(v2_model(function("A", RELU, "Input1"), root="A"), "good.model")
    assert [node.op for node in graph.nodes] == ["relu"] and graph.inputs[0].shape == (4,)


def test_loops() -> None:
    refused(
        v2_model(function("A", PLUS, "B_Output_0", "Input1"), function("B", RELU, "A_Output_0"), root="A"),
        "depends on its own result",
    )
    refused(v2_model(function("A", RELU, "A_Output_0"), root="A"), "depends on its own result")
    refused(v2_model(function("A", COMBINE, "A_Output_0"), root="A"), "stands for itself")
    refused(v2_model(block("A", "B"), block("B", "A"), root="A"), "own root")


def test_ids() -> None:
    relu = function("A", RELU, "Input1")
    refused(v2_model(relu, relu, root="A"), r"byte \d+: 'A' is defined twice")
    refused(v2_model(relu, root="B"), "root 'B' is not defined")
    refused(v2_model(function("A", RELU, "Nowhere"), root="A"), r"byte \d+: 'Nowhere' is used but not defined")
    refused(v2_model(function("A", PLUS, "Input1"), root="A"), r"byte \d+: node A is invalid: add of 1 values")
    refused(v2_model(function("A", COMBINE), root="A"), "combines nothing")


def test_unknown_operators_are_named() -> None:
    with pytest.raises(UnsupportedError, match="node A: the operator OptimizedRNNStack"):
        cntk.parse(v2_model(function("A", 49, "Input1"), root="A"), "net.model")
    with pytest.raises(UnsupportedError, match="node A: the operator number 205"):
        cntk.parse(v2_model(function("A", 205, "Input1"), root="A"), "net.model")


def test_lengths_and_depth() -> None:
    good = v2_model(function("A", RELU, "Input1"), root="A")
    refused(good[:-1], r"byte \d+: field \d+ needs \d+ bytes, but its message has \d+")
    refused(good[:2] + b"\x12\xff\xff\xff\xff\x0f\x0a", "needs 4294967295 bytes")
    deep = text("bottom")
    for _ in range(1000):
        deep = vector(deep)
    refused(dictionary({"root": deep}), "nested more than 50 deep")


def test_numbers_of_things_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each limit with a smaller number than it has, for the sake of time."""
    chain: list[bcn.Node] = [("Exp", f"z{n}", b"", (f"z{n - 1}" if n else "features",)) for n in range(100)]
    monkeypatch.setattr("convolve.graph.draft.MAX_VALUES", 50)
    refused(v1_model(*chain), "more than 50 operations and parameters")
    monkeypatch.setattr("convolve.importers.cntk.v1_bytes.MAX_TEXTS", 200)
    refused(v1_model(*chain), "more than 200 texts")
    monkeypatch.setattr("convolve.formats.wire.MAX_FIELDS", 60)
    refused(dictionary({"root": vector(*[b""] * 60)}), "more than 60 fields")


def test_messages_stay_on_one_line() -> None:
    name = "bad\n\x1b[2Jname" + "x" * 1000
    with pytest.raises(FormatError) as caught:
        cntk.parse(v2_model(function("A", RELU, name), root="A"), "net.model")
    assert str(caught.value).isprintable() and len(str(caught.value)) < 200


# -- v1 ---------------------------------------------------------------------------------------------------------------


def v1_model(*nodes: bcn.Node) -> bytes:
    return bcn.model(31, [bcn.input_node(31, "features", 4), *nodes], outputs=[nodes[-1][1]])


def test_v1_damage() -> None:
    good = v1_model(("Exp", "z", b"", ("features",)))
    assert [node.op for node in cntk.parse(good, "good.dnn").nodes] == ["exp"]
    refused(good[:-8], "expected the marker ECN")
    refused(good + b"\0", "1 bytes behind the end")
    refused(good.replace(bcn.text("BNodeList"), bcn.text("BNodeLost")), r"byte \d+: expected the marker BNodeList")
    refused(v1_model(("Exp", "z", b"", ("nowhere",))), "'nowhere' is used but not defined")
    refused(v1_model(("Exp", "z", b"", ("z",))), "depends on its own result")
    refused(v1_model(("Exp", "z", b"", ("features",)), ("Exp", "z", b"", ("features",))), "'z' is defined twice")
    refused(bcn.text("BCN") + bcn.pack("Q", 2**60), "nodes, but the file has")
    refused(bcn.text("BCN") + b"\x41\0" * 4000, "expected the marker|nodes")


def test_v1_absurd_sizes() -> None:
    weight = bcn.parameter(31, "W", np.zeros((2, 4), np.float32))
    content = weight[2].replace(bcn.pack("QQ", 4, 2), bcn.pack("QQ", 2**40, 2**40))
    refused(v1_model((*weight[:2], content, ())), r"a matrix .* bytes, but the file has")
    content = weight[2].replace(bcn.pack("QQ", 4, 2), bcn.pack("QQ", 2, 2))
    refused(v1_model((*weight[:2], content, ())), "expected the marker EMAT")
    refused(v1_model(("LearnableParameter", "W", bcn.pack("fI", 1, 10**9), ())), "1000000000 axes")
    refused(
        v1_model(("InputValue", "z", bcn.pack("QQ", 0, 0) + bcn.shape(2**31, 2**31) + bcn.pack("If", 0, 0), ())),
        "numbers per sample",
    )


def test_v1_limits() -> None:
    with pytest.raises(UnsupportedError, match="version 32 are not supported; known are 1 to 31"):
        cntk.parse(bcn.model(32, [], outputs=[]), "net.dnn")
    with pytest.raises(UnsupportedError, match=r"byte \d+: node z: the operator PastValue .* read past"):
        cntk.parse(v1_model(("PastValue", "z", b"", ("features",))), "net.dnn")


# -- neither ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [b"", b"\0", b"PK\x03\x04", b"\x80\x02}q\0.", bytes(100)])
def test_what_is_no_model(data: bytes) -> None:
    refused(data, "byte 0: this is no CNTK model")


def test_a_checkpoint_is_no_model() -> None:
    refused(golden.read("oracle", "train/mom_nounit_mb.dnn.ckp"), "trainer's checkpoint; give the model file")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match="give a model file"):
        cntk.read(tmp_path / "nothing.model")
