"""Damaged, hostile and foreign Caffe files: a named error with the place, never a crash or a wrong network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from caffe_cases import CASES
from caffe_files import UNUSED, blob, caffemodel, noise
from wire_bytes import field as message
from wire_bytes import varint

from convolve.errors import ConvolveError, FormatError, MissingDataError, ModelError, UnsupportedError, UsageError
from convolve.importers import caffe

CASE = CASES["conv"]
GOOD = caffemodel(CASE.blobs)


def refused(error: type[ConvolveError], words: str, text: str = CASE.text, model: bytes = GOOD) -> None:
    with pytest.raises(error, match=words) as caught:
        caffe.parse(text.encode(), model)
    assert str(caught.value).isprintable() and len(str(caught.value)) < 400


# -- prototxt: the grammar ---------------------------------------------------------------------------------------------

GRAMMAR = {
    "not closed": ("layer {\n  name: 'a'", r"line 1, column 7: this block is not closed: '}' is missing"),
    "closed twice": ("layer { }\n }", r"line 2, column 2: the name of a field is expected, not '}'"),
    "closed by another": ("layer < }", r"line 1, column 9: the name of a field is expected, not '}'"),
    "no colon": ('name "a"', r"line 1, column 6: ':' or '{' is expected after 'name'"),
    "no value": ("layer { name: }", r"line 1, column 15: a value is expected, not '}'"),
    "no value at the end": ("name:", r"line 1, column 6: a value is expected, not the end of the file"),
    "text not closed": ('name: "a\n"', r"line 1, column 7: unexpected character '\"'"),
    "list not closed": ("input_dim: [1, 2", r"line 1, column 17: ',' or '\]' is expected in a list"),
    "a mark": ("layer { ? }", r"line 1, column 9: unexpected character '\?'"),
    "number and word": ("input_dim: 12ab", r"line 1, column 12: unexpected character '1'"),
    "a control character": ("\x1b[2J", r"line 1, column 1: unexpected character '\\x1b'"),
    "nested": ("layer {" * 40, r"blocks are nested more than 30 deep"),
    "a value alone": ("12", r"line 1, column 1: the name of a field is expected, not '12'"),
    "in line 3": ("# a\nlayer { }\nlayer }", r"line 3, column 7: ':' or '{' is expected after 'layer'"),
}


@pytest.mark.parametrize("case", GRAMMAR)
def test_grammar(case: str) -> None:
    text, words = GRAMMAR[case]
    refused(FormatError, words, text)


# -- prototxt: fields and layers ---------------------------------------------------------------------------------------

HEAD = 'input: "x" input_dim: [1, 3, 9, 10]\n'


def layer(kind: str, settings: str = "", bottom: str = "x", name: str = "l") -> str:
    return f'{HEAD}layer {{ name: "{name}" type: "{kind}" bottom: "{bottom}" top: "y" {settings} }}'


CONV = "num_output: 4 kernel_size: 3 stride: 2 pad: 1"
FIELDS: dict[str, tuple[type[ConvolveError], str, str]] = {
    "nothing": (FormatError, "describes no layers", "# nothing"),
    "a solver": (FormatError, r"unknown fields \(net, base_lr\): is it a solver", 'net: "net.prototxt" base_lr: 0.1'),
    "a text for a number": (FormatError, r"line 2, .* num_output must be a whole number, not 'four'", layer(
        "Convolution", 'convolution_param { num_output: "four" }')),
    "half a cell": (FormatError, "kernel_size must be a whole number, not '2.5'", layer(
        "Pooling", "pooling_param { kernel_size: 2.5 }")),
    "too large a number": (FormatError, "num_output must be a whole number", layer(
        "Convolution", "convolution_param { num_output: 99999999999999999999 }")),
    "infinite": (FormatError, "alpha must be a number", layer("LRN", "lrn_param { alpha: 1e999 }")),
    "a word of another list": (FormatError, "pool must be MAX or AVE or STOCHASTIC, not 'SUM'", layer(
        "Pooling", "pooling_param { pool: SUM }")),
    "a number for a block": (FormatError, "pooling_param must be a block", layer("Pooling", "pooling_param: 3")),
    "twice": (FormatError, "name is given twice", layer("ReLU", 'name: "again"')),
    "a new word in an old layer": (FormatError, "type must be a type of the V1 syntax", HEAD
        + 'layers { name: "l" type: "ReLU" bottom: "x" top: "y" }'),
    "both syntaxes": (FormatError, r"has both `layers` \(V1\) and `layer`", layer("ReLU") + " layers { type: RELU }"),
    "both rules": (FormatError, "both include and exclude rules", layer("ReLU", "include { } exclude { }")),
    "version 0": (UnsupportedError, r"line 2, column 8: .*\(V0\); upgrade .* upgrade_net_proto_text", HEAD
        + 'layers { layer { name: "conv1" type: "conv" num_output: 96 } bottom: "x" top: "y" }'),
    "an unknown field that counts": (UnsupportedError, "unknown field 'kernal_size'; did you mean 'kernel_size'", layer(
        "Pooling", "pooling_param { kernal_size: 3 }")),
    "inputs without shapes": (FormatError, "2 inputs with 1 shapes", 'input: "a" input: "b" input_dim: [1, 1, 1, 1]'
        + 'layer { type: "ReLU" bottom: "a" top: "b" }'),
    "a blob from nowhere": (FormatError, r"layer 'l' \(ReLU\) reads 'z', which no earlier layer computes", layer(
        "ReLU", bottom="z")),
    "a blob made twice": (FormatError, "the blob 'y' is computed twice", layer("ReLU")
        + 'layer { name: "m" type: "ReLU" bottom: "x" top: "y" }'),
    "an unknown layer": (UnsupportedError, r"line 2, .* layer 'l' \(SPP\) is not supported; choose", layer("SPP")),
    "stochastic pooling": (UnsupportedError, "stochastic pooling", layer(
        "Pooling", "pooling_param { pool: STOCHASTIC }")),
    "statistics of the batch": (UnsupportedError, "not supported: .* statistics of the current batch", layer(
        "BatchNorm", "batch_norm_param { use_global_stats: false }")),
    "along the batch": (UnsupportedError, "works along the batch axis", layer("Softmax", "softmax_param { axis: 0 }")),
    "the batch reshaped": (UnsupportedError, "changes the batch axis", layer(
        "Reshape", "reshape_param { shape { dim: 3 dim: -1 } }")),
    "windows behind the image": (UnsupportedError, "the last window begins behind the image", layer(
        "Pooling", "pooling_param { kernel_size: 1 stride: 6 }")),
    "no kernel": (FormatError, r"layer 'l' \(Pooling\) is invalid: 0 values of kernel_size", layer("Pooling")),
    "a window of nothing": (FormatError, "the window 0", layer("Pooling", "pooling_param { kernel_size: 0 }")),
    "padding beyond the window": (FormatError, "padding 3", layer(
        "Pooling", "pooling_param { kernel_size: 3 pad: 3 }")),
    "an even response": (FormatError, "local_size is 4, but must be odd", layer("LRN", "lrn_param { local_size: 4 }")),
    "groups": (FormatError, "into 2 groups", layer("Convolution", f"convolution_param {{ {CONV} group: 2 }}")),
    "no groups": (FormatError, "3 channels cannot be split into 0 groups", layer(
        "Convolution", f"convolution_param {{ {CONV} group: 0 }}")),
    "a huge image": (FormatError, "numbers per sample are refused", 'input: "x" input_dim: [1, 3, 99999, 99999] '
        + 'layer { name: "l" type: "ReLU" bottom: "x" top: "y" }'),
    "no image": (FormatError, r"an input of shape \(0, 9, 10\)", layer("ReLU").replace("[1, 3, ", "[1, 0, ")),
    "huge padding": (FormatError, "numbers per sample are refused", layer(
        "Convolution", "convolution_param { num_output: 4 kernel_size: 3 stride: 2 pad: 100000 }")),
    "a reshape to many axes": (FormatError, "a reshape to 40 axes", layer(
        "Reshape", f"reshape_param {{ shape {{ dim: [{', '.join('1' * 40)}] }} }}")),
    "an image of many axes": (FormatError, "input 'x' is invalid: it has 39 axes", layer("ReLU").replace(
        "input_dim: [1, 3, 9, 10]", f"input_shape {{ dim: [{', '.join('1' * 40)}] }}")),
    "slices": (FormatError, "3 cells cannot be cut into 2 equal slices", layer("Slice", 'top: "z"')),
    "tops": (FormatError, "has 2 tops, but computes 1 blobs", layer("ReLU", 'top: "z"')),
    "bottoms": (FormatError, "SUM does not fit the shapes", layer("Eltwise")),
    "a crop beyond": (FormatError, r"slice 5:15:1 of 10", layer(
        "Crop", 'bottom: "x" crop_param { axis: 3 offset: 5 }')),
    "only labels": (FormatError, "that it computes needs labels", HEAD + 'layer { type: "Silence" bottom: "x" }'),
}  # fmt: skip


@pytest.mark.parametrize("case", FIELDS)
def test_fields_and_layers(case: str) -> None:
    error, words, text = FIELDS[case]
    refused(error, words, text)


def test_what_is_no_prototxt() -> None:
    with pytest.raises(
        FormatError, match=r"byte \d+: this is not text; give net\.prototxt\+net\.caffemodel, in this order"
    ):
        caffe.parse(GOOD, CASE.text.encode())
    with pytest.raises(FormatError, match="more than 4194304 bytes, too many for a prototxt"):
        caffe.parse(b" " * 2**22 + b" ", GOOD)


def test_numbers_of_things_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each limit with a smaller number than it has, for the sake of time."""
    monkeypatch.setattr("convolve.importers.caffe.text.MAX_FIELDS", 50)
    refused(FormatError, "more than 50 fields", "layer { }" * 60)
    refused(FormatError, "more than 50 fields", f"input_dim: [{', '.join('1' * 60)}]")
    monkeypatch.undo()
    monkeypatch.setattr("convolve.graph.draft.MAX_VALUES", 50)
    chain = "".join(layer("ReLU", bottom="x").replace(HEAD, "").replace('"y"', '"x"') for _ in range(60))
    refused(FormatError, "more than 50 operations", HEAD + chain)


# -- caffemodels -------------------------------------------------------------------------------------------------------


def model(*blobs: bytes, name: str = "l") -> bytes:
    return message(100, message(1, name.encode()) + b"".join(message(7, content) for content in blobs))


def shape(*dims: int) -> bytes:
    return message(7, message(1, b"".join(map(varint, dims))))


WEIGHT, BIAS = map(blob, CASE.blobs["l"])
FLOATS = message(5, np.ones(4, "<f4").tobytes())
WEIGHTS: dict[str, tuple[type[ConvolveError], str, bytes]] = {
    "nothing": (FormatError, "holds no layers with weights", b""),
    "no layers": (FormatError, "holds no layers with weights", message(1, b"a net")),
    "text": (FormatError, r"net\.caffemodel: byte 0: ", CASE.text.encode()),
    "hdf5": (UnsupportedError, "stored as HDF5; .* BINARYPROTO", b"\x89HDF\r\n\x1a\n"),
    "version 0": (UnsupportedError, r"byte \d+: .*\(V0\); .* upgrade_net_proto_binary", message(2, message(1, b""))),
    "cut off": (FormatError, r"byte \d+: field \d+ needs \d+ bytes, but its message has \d+", GOOD[:-1]),
    "another net": (ModelError, r"no weights for layer 'l' \(Convolution\) of net\.prototxt, only for 'm'; do the two",
        model(WEIGHT, BIAS, name="m")),
    "a blob too few": (ModelError, r"byte \d+: layer 'l' \(Convolution\) has 1 blobs, the .* 2", model(WEIGHT)),
    "a blob too many": (ModelError, "has 3 blobs, the prototxt describes 2", model(WEIGHT, BIAS, BIAS)),
    "misshapen": (ModelError, r"has blob 1 of shape \(4, 3, 9\), the prototxt describes \(4, 3, 3, 3\)",
        model(blob(CASE.blobs["l"][0].reshape(4, 3, 9)), BIAS)),
    "other sizes": (ModelError, r"has blob 2 of shape \(5,\), the prototxt describes \(4,\)",
        model(WEIGHT, blob(np.ones(5, np.float32)))),
    "twice": (FormatError, r"byte \d+: two layers with weights are called 'l'", GOOD + GOOD),
    "a huge blob": (FormatError, r"byte \d+: a blob .* holds 4 numbers", model(shape(2**40, 2**20) + FLOATS)),
    "a huge legacy blob": (FormatError, "holds 4 numbers", model(b"\x08\xff\xff\xff\xff\x7f" + FLOATS)),
    "no numbers": (FormatError, "holds 0 numbers", model(shape(4, 3, 3, 3))),
    "no shape": (FormatError, r"a blob of shape \(0, 0, 0, 0\) holds 4 numbers", model(FLOATS)),
    "a negative size": (FormatError, r"a blob cannot have the shape \(-1,\)", model(shape(2**64 - 1) + FLOATS)),
    "many axes": (FormatError, "a blob has more than 32 axes", model(shape(*[1] * 40) + FLOATS)),
    "half a number": (FormatError, "5 bytes cannot hold numbers of 4 bytes", model(shape(1) + message(5, b"12345"))),
    "floats and doubles": (FormatError, "holds 4 numbers", model(shape(4) + FLOATS + message(8, bytes(32)))),
    "in pieces": (FormatError, "in more than 16 pieces", model(shape(80) + FLOATS * 20)),
    "a name in latin-1": (FormatError, "not UTF-8", model(WEIGHT, name="l") + message(100, message(1, b"\xe9"))),
    "a number as a layer": (FormatError, "field 100 has wire type 0, expected 2", varint(100 << 3) + b"\x01"),
}  # fmt: skip


@pytest.mark.parametrize("case", WEIGHTS)
def test_weights(case: str) -> None:
    error, words, data = WEIGHTS[case]
    refused(error, words, model=data)


def test_a_blob_in_two_pieces_is_one() -> None:
    halves = b"".join(message(5, half.astype("<f4").tobytes()) for half in np.split(CASE.blobs["l"][0].ravel(), 2))
    graph = caffe.parse(CASE.text.encode(), model(shape(4, 3, 3, 3) + halves, BIAS)).graph
    np.testing.assert_array_equal(graph.parameters[0].array, CASE.blobs["l"][0])


def test_a_layer_of_the_same_name_finds_no_weights() -> None:
    text = CASE.text + 'layer { name: "l" type: "PReLU" bottom: "y" top: "y" }'
    refused(FormatError, "an earlier layer has the same name", text)


def test_a_branch_out_of_scope_does_no_harm() -> None:
    text = (
        CASE.text + 'layer { name: "s" type: "SPP" bottom: "y" top: "s" } layer { type: "Python" bottom: "s" top: "p" }'
    )
    refused(UnsupportedError, r"layer 's' \(SPP\) is not supported", text)
    assert caffe.parse(text.encode(), GOOD, outputs=["y"]).graph.outputs == ("l",)


def test_unknown_fields_elsewhere_are_noted() -> None:
    text = "default_forward_type: FLOAT16 cool { deep { x: 1 } }" + CASE.text
    notes = caffe.parse(text.encode(), GOOD).graph.notes
    assert len(notes) == 2 and "line 1, column 1: unknown field 'default_forward_type'" in notes[0]


# -- mean images and pairs of paths ------------------------------------------------------------------------------------


def test_mean_images(tmp_path: Path) -> None:
    mean_CHW, path = noise("mean", (3, 4, 5), 128.0), tmp_path / "mean.binaryproto"
    path.write_bytes(b"\x08\x01\x10\x03\x18\x04\x20\x05" + message(5, mean_CHW.astype("<f4").tobytes()))
    np.testing.assert_array_equal(caffe.read_mean_image(path), mean_CHW)
    path.write_bytes(blob(mean_CHW))
    np.testing.assert_array_equal(caffe.read_mean_image(path), mean_CHW)
    for damaged, words in (
        (blob(noise("m", (2, 3, 4, 5))), r"a shape \(1, C, H, W\), not \(2, 3, 4, 5\)"),
        (blob(np.full((3, 4, 5), np.nan)), "must have finite numbers"),
        (b"", "holds 0 numbers"),
        (blob(mean_CHW)[:-9], "but its message has"),
    ):
        path.write_bytes(damaged)
        with pytest.raises(FormatError, match=words):
            caffe.read_mean_image(path)
    with pytest.raises(MissingDataError, match="give a binaryproto file"):
        caffe.read_mean_image(tmp_path / "nothing.binaryproto")


def test_pairs_of_paths(tmp_path: Path) -> None:
    """The first half is a file that is there: names with a + in them are fine."""
    odd = tmp_path / "a+b"
    odd.mkdir()
    (odd / "net.prototxt").write_text(CASE.text)
    (odd / "net.caffemodel").write_bytes(GOOD)
    pair = (odd / "net.prototxt", odd / "net.caffemodel")
    assert caffe.pair_of(f"{pair[0]}+{pair[1]}") == pair
    assert caffe.read(Path(f"{pair[0]}+{pair[1]}")).graph.outputs == ("l",)
    assert caffe.pair_of("net.prototxt+net.caffemodel") == (Path("net.prototxt"), Path("net.caffemodel"))
    assert caffe.pair_of("base.cntk+more.cntk") is caffe.pair_of("net.prototxt") is caffe.pair_of(odd) is None
    with pytest.raises(MissingDataError, match=r"cannot read .*other\.caffemodel: .*; give a caffemodel file"):
        caffe.read(Path(f"{pair[0]}+{odd / 'other.caffemodel'}"))
    with pytest.raises(MissingDataError, match="give a prototxt file"):
        caffe.read(Path(f"{odd / 'other.prototxt'}+{pair[1]}"))
    with pytest.raises(UsageError, match="unknown blob or layer 'z'"):
        caffe.parse(CASE.text.encode(), caffemodel(CASE.blobs | UNUSED), outputs=["z"])
