"""Trainer checkpoints, and the form of v2 files beyond 2 GB."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from wire_bytes import varint

import golden
from convolve.errors import FormatError
from convolve.formats.wire import BYTES, Field
from convolve.importers import cntk
from convolve.importers.cntk.wire import _Reader


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / "net.dnn.ckp"
    path.write_bytes(golden.read("oracle", "train/mom_nounit_mb.dnn.ckp"))
    return path


def test_checkpoint(checkpoint: Path) -> None:
    """Taken by CNTK after the first 6 minibatches of the trace: 8, 8, 8, 4, 8 and 8 samples at a rate of 0.05."""
    state = cntk.read_checkpoint(checkpoint)
    [learner] = state.learners
    trace = np.load(golden.FOLDER.parent / "train" / "mom_nounit_mb.npz")
    assert learner.samples_seen == 44 and learner.minibatches_seen == 6 and learner.sweeps_seen == 0
    assert learner.learning_rates == ((0, 0.05),) and learner.reference_batch_size == 0
    assert state.external == {"epoch": 3, "f": 1.5, "l": [1, 2], "note": "external"}
    # The velocity of momentum SGD is what the last step subtracted.
    for name, velocity in zip(("W1", "b1", "W2", "b2"), learner.smoothed_gradients, strict=True):
        history = trace[f"hist_{name}"]
        np.testing.assert_allclose(velocity, history[4] - history[5], atol=1e-7)


def test_a_model_is_no_checkpoint(checkpoint: Path) -> None:
    checkpoint.write_bytes(golden.read("oracle", "v2/ew_relu.model"))
    with pytest.raises(FormatError, match="not a trainer's checkpoint"):
        cntk.read_checkpoint(checkpoint)


def test_damaged_checkpoints(checkpoint: Path) -> None:
    good = checkpoint.read_bytes()
    for size in range(0, len(good), 7):
        checkpoint.write_bytes(good[:size])
        with pytest.raises(FormatError):
            cntk.read_checkpoint(checkpoint)


def split(data: bytes) -> bytes:
    """A v2 file as CNTK writes it beyond 2 GB: magic, length, the message without numbers, then the numbers.

    From the description of the format; no file of that size was there to compare.
    """
    tail: list[bytes] = []
    reader = _Reader(data, "")

    def stripped(item: Field, inside: str) -> bytes:
        """The message of kind `inside` again, without the payloads of its arrays."""
        result = b""
        for part in reader.fields(item.start, item.end):
            content = data[part.start : part.end]
            if inside == "array" and part.number in (4, 5):
                [numbers] = reader.fields(part.start, part.end)
                tail.append(data[numbers.start : numbers.end])
                continue
            following = _INSIDE.get((inside, part.number))
            if part.kind == BYTES:
                content = stripped(part, following) if following else content
                content = varint(len(content)) + content
            result += varint(part.number << 3 | part.kind) + content
        return result

    message = stripped(Field(0, BYTES, 0, 0, len(data)), "dictionary")
    return struct.pack("<II", 0x636E746B, len(message)) + message + b"".join(tail)


_INSIDE = {
    ("dictionary", 2): "entry",
    ("entry", 2): "value",
    ("value", 11): "vector",
    ("value", 12): "dictionary",
    ("value", 13): "array",
    ("vector", 1): "value",
}


def test_files_beyond_two_gigabytes() -> None:
    for case in ("net_lenet", "net_resnet", "dtype_double"):
        whole = golden.read("oracle", f"v2/{case}.model")
        values = golden.arrays("oracle", f"io/{case}.npz")
        [got] = golden.evaluate(cntk.parse(split(whole), case), values)
        golden.assert_close(got, values["out0"])
    with pytest.raises(FormatError, match="bytes of numbers in a file of"):
        cntk.parse(split(whole)[:-1], case)
    with pytest.raises(FormatError, match="belong to no array"):
        cntk.parse(split(whole) + b"\0", case)
    with pytest.raises(FormatError, match=r"byte 4: a message of \d+ bytes"):
        cntk.parse(split(whole)[:100], case)
