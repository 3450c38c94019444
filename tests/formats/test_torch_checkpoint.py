"""PyTorch's checkpoints: what torch.save wrote comes back as it was; what nobody should write is one sentence."""

from __future__ import annotations

import argparse
import collections
import datetime
import io
import os
import pickle
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from convolve.errors import DataError, FormatError, MissingDataError
from convolve.formats import torch_checkpoint
from convolve.formats.torch_checkpoint import read_checkpoint

TYPES = ["float32", "float64", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool"]
NEWER_TYPES = ["uint16", "uint32", "uint64", "float8_e4m3fn", "float8_e5m2"]  # the older form ended before they began


def save(value, path, form="zip", **options):
    torch.save(value, path, _use_new_zipfile_serialization=form == "zip", **options)
    return path


def bits(tensor):
    return tensor.detach().contiguous().view(torch.uint8).numpy().tobytes()


@pytest.mark.parametrize(
    ("form", "dtype"),
    [*(("zip", dtype) for dtype in TYPES + NEWER_TYPES), *(("legacy", dtype) for dtype in TYPES)],
)
def test_tensors_of_each_type_come_back(tmp_path, form, dtype):
    kind = getattr(torch, dtype)
    tensors = {"a": torch.arange(6).reshape(2, 3).to(kind), "empty": torch.zeros(0, 3).to(kind)}
    read = read_checkpoint(save(tensors, tmp_path / "x.pth", form))
    assert list(read) == ["a", "empty"]
    for name, tensor in tensors.items():
        assert read[name].dtype == dtype
        assert read[name].values.shape == tuple(tensor.shape)
        assert read[name].values.tobytes() == bits(tensor)


@pytest.mark.parametrize("form", ["zip", "legacy"])
@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_a_training_comes_back_with_a_name_for_each_tensor(tmp_path, form, protocol):
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.randn(2, 3, 8, 8)).sum().backward()
    optimizer.step()
    value = {
        "state_dict": model.state_dict(),
        "weight": torch.nn.Parameter(torch.randn(3)),
        "turned": torch.randn(3, 4).t(),
        "part": torch.arange(12)[3:7],
        "number": torch.tensor(2.5),
        "optimizer": optimizer.state_dict(),
        "list": [torch.ones(2), {"inner": torch.zeros(1)}],
        "epoch": 3,
        "best": np.float64(0.5),
        "about": {"name": "net", "size": torch.Size([3, 8]), "device": torch.device("cpu"), "type": torch.float16},
    }
    read = read_checkpoint(save(value, tmp_path / "x.pth", form, pickle_protocol=protocol))
    for name, tensor in model.state_dict().items():
        assert np.array_equal(read[f"state_dict.{name}"].values, tensor.numpy())
    for name in ("weight", "turned", "part", "number"):
        assert np.array_equal(read[name].values, value[name].detach().numpy())
    assert np.array_equal(read["optimizer.state.0.exp_avg"].values, optimizer.state_dict()["state"][0]["exp_avg"])
    assert [name for name in read if name.startswith("list")] == ["list.0", "list.1.inner"]


@pytest.mark.parametrize("form", ["zip", "legacy"])
def test_arrays_are_views_of_the_file(tmp_path, form):
    path = save({"large": torch.ones(5_000_000), "same": torch.ones(2)}, tmp_path / "x.pth", form)
    tracemalloc.start()
    large = read_checkpoint(path)["large"].values
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000
    assert not large.flags.writeable
    assert large.sum() == 5_000_000


# Checkpoints that torch.save would not write.


class Claimed:
    """A tensor that is pickled with whatever it is said to be."""

    def __init__(self, offset=0, shape=(2, 3), strides=(3, 1), elements=6, key="0", kind=torch.FloatStorage):
        self.storage, self.layout = ("storage", kind, key, "cpu", elements), (offset, shape, strides)

    def __reduce__(self):
        return torch._utils._rebuild_tensor_v2, (Reference(self.storage), *self.layout, False, None)


class Reference:
    def __init__(self, claim):
        self.claim = claim


class Runs:
    def __reduce__(self):
        return os.system, ("echo never > /tmp/never",)


class Claims(pickle._Pickler):
    def persistent_id(self, value):
        return value.claim if isinstance(value, Reference) else None

    def save_global(self, value, name=None):  # Python's own looks the name up, where torch keeps it no longer
        if isinstance(value, type) and value.__name__.endswith("Storage"):
            return self.write(b"ctorch\n" + value.__name__.encode() + b"\n")
        return super().save_global(value, name)


def written(path, value, data=None, packed=zipfile.ZIP_STORED, **members):
    """A zip archive as torch.save writes it, whatever is in it; `data`: key -> bytes of a storage."""
    buffer = io.BytesIO()
    Claims(buffer, 2).dump(value)
    with zipfile.ZipFile(path, "w", packed) as archive:
        archive.writestr("x/data.pkl", buffer.getvalue())
        for name, content in members.items():
            archive.writestr(f"x/{name}", content)
        for key, content in ({"0": bytes(24)} if data is None else data).items():
            archive.writestr(f"x/data/{key}", content)
    return path


def test_the_other_byte_order(tmp_path):
    content = np.arange(6, dtype=">f4").tobytes()
    path = written(tmp_path / "x.pth", {"a": Claimed()}, {"0": content}, byteorder=b"big")
    assert read_checkpoint(path)["a"].values.tolist() == [[0, 1, 2], [3, 4, 5]]
    path = written(tmp_path / "y.pth", {"a": Claimed()}, {"0": content}, byteorder=b"middle")
    with pytest.raises(FormatError, match=r"y\.pth: byteorder: little or big"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    ("claim", "message"),
    [
        ({"offset": 1}, "a: it reaches beyond its storage"),
        ({"strides": (4, 1)}, "a: it reaches beyond"),
        ({"strides": (1 << 61, 1)}, "a: it reaches beyond"),
        ({"offset": -1}, r"byte \d+ of data.pkl: a size that is no whole number"),
        ({"strides": (3, -1)}, "a size that is no whole number"),
        ({"shape": (2.0, 3)}, "a size that is no whole number"),
        ({"shape": (True, 3)}, "a size that is no whole number"),
        ({"shape": (1 << 70, 3)}, "a size that is no whole number"),
        ({"shape": (1,) * 40, "strides": (1,) * 40}, "a tensor of 40 dimensions"),
        ({"strides": (1,)}, "a tensor of 2 dimensions with 1 strides"),
        ({"shape": (1 << 40, 1 << 40), "strides": (0, 0)}, "elements, which is more than its storage holds"),
        ({"shape": (0, 1 << 61), "strides": (1, 1)}, "a: "),
        ({"elements": 7}, "a: its storage has 24 bytes in the file, but 28 are claimed"),
        ({"elements": 1 << 50}, "are claimed"),
        ({"elements": -6}, "no whole number"),
        ({"kind": torch.HalfStorage}, "but 12 are claimed"),
        ({"kind": torch.ComplexFloatStorage}, "a storage of a kind that is not known"),
        ({"key": "1"}, "a: its storage '1' is missing"),
        ({"key": 0}, "a storage of a kind that is not known"),
    ],
    ids=str,
)
def test_claims_that_the_file_does_not_hold(tmp_path, claim, message):
    path = written(tmp_path / "x.pth", {"a": Claimed(**claim)})
    with pytest.raises(FormatError, match=rf"x\.pth: .*{message}"):
        read_checkpoint(path)


@pytest.mark.parametrize("value", [Runs(), {"a": [Runs()]}, eval, slice(3)], ids=["call", "in", "name", "builtin"])
@pytest.mark.parametrize("form", ["zip", "legacy"])
def test_what_would_run_is_refused_by_name(tmp_path, form, value):
    with pytest.raises(FormatError, match=r"byte \d+.*: it names '.*', which is neither imported nor executed"):
        read_checkpoint(save(value, tmp_path / "x.pth", form))


class Holder:
    def __init__(self, **attributes):
        vars(self).update(attributes)


@pytest.mark.parametrize("form", ["zip", "legacy"])
@pytest.mark.parametrize("protocol", [2, 4])
def test_objects_of_other_classes_are_skipped_and_a_whole_network_has_its_names(tmp_path, form, protocol):
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Sequential(torch.nn.BatchNorm2d(4)))
    read = read_checkpoint(save(network, tmp_path / "x.pth", form, pickle_protocol=protocol))
    assert list(read) == list(network.state_dict())
    assert np.array_equal(read["0.weight"].values, network.state_dict()["0.weight"].numpy())
    value = {
        "arguments": argparse.Namespace(lr=0.1, out=Path("x"), tags={"a"}, kinds=frozenset([1])),
        "counts": [collections.Counter("aab"), collections.defaultdict(list, a=[1]), datetime.datetime(2020, 1, 1)],
        "averaged": Holder(module=network, decay=0.9),
        "weight": torch.ones(2),
    }
    read = read_checkpoint(save(value, tmp_path / "y.pth", form, pickle_protocol=protocol))
    assert list(read) == [*(f"averaged.module.{name}" for name in network.state_dict()), "weight"]


def test_one_storage_of_two_types(tmp_path):
    value = [Claimed(), Claimed(kind=torch.IntStorage)]
    with pytest.raises(FormatError, match="a storage of a kind that is not known"):
        read_checkpoint(written(tmp_path / "x.pth", value))


def test_packed_members_are_refused(tmp_path):
    path = written(tmp_path / "x.pth", {"a": Claimed(elements=1 << 24)}, {"0": bytes(1 << 26)}, zipfile.ZIP_DEFLATED)
    with pytest.raises(FormatError, match="it is compressed"):
        read_checkpoint(path)


def directory_entry(content, name):
    """Where the archive's directory speaks of the member: its fixed 46 bytes."""
    return content.rindex(b"PK\x01\x02", 0, content.rindex(name))


def altered(path, name, field, value):
    """The checkpoint, with another number of 4 bytes in the archive's directory."""
    content = bytearray(path.read_bytes())
    at = directory_entry(content, name) + field
    content[at : at + 4] = value.to_bytes(4, "little")
    path.write_bytes(content)
    return path


PACKED_SIZE, SIZE, OFFSET = 20, 24, 42


def test_members_that_lie_over_each_other_or_outside(tmp_path):
    value = [Claimed(), Claimed(key="1")]
    path = written(tmp_path / "x.pth", value, {"0": bytes(24), "1": bytes(24)})
    first = int.from_bytes(path.read_bytes()[directory_entry(path.read_bytes(), b"x/data/0") + OFFSET :][:4], "little")
    for offset in (first, first + 1, 1 << 31):
        with pytest.raises(FormatError, match=r"x\.pth: x/data/[01]: it (overlaps another|is not where)"):
            read_checkpoint(altered(path, b"x/data/1", OFFSET, offset))
    path = written(tmp_path / "y.pth", {"a": Claimed()})
    with pytest.raises(FormatError, match="it is compressed"):
        read_checkpoint(altered(path, b"x/data/0", SIZE, 28))
    with pytest.raises(FormatError, match=r"is not where|28 bytes in the file|its checksum differs"):
        read_checkpoint(altered(path, b"x/data/0", PACKED_SIZE, 28))
    altered(path, b"x/data/0", SIZE, 1 << 31)
    with pytest.raises(FormatError, match="is not where"):
        read_checkpoint(altered(path, b"x/data/0", PACKED_SIZE, 1 << 31))


def test_a_large_directory_is_not_read(tmp_path, monkeypatch):
    path = written(tmp_path / "x.pth", {"a": Claimed()})
    assert list(read_checkpoint(path)) == ["a"]
    monkeypatch.setattr(torch_checkpoint, "MAX_DIRECTORY_BYTES", 100)
    with pytest.raises(FormatError, match=r"a damaged zip archive .its directory has 1[0-9][0-9] bytes"):
        read_checkpoint(path)


def test_values_without_end(tmp_path, monkeypatch):
    monkeypatch.setattr(torch_checkpoint, "MAX_NAMING", 10_000)
    doubled = {"a": Claimed()}
    for _ in range(40):
        doubled = {"left": doubled, "right": doubled}
    itself = {}
    itself["again"] = itself
    for number, value in enumerate((doubled, itself, {"x" * 20_000: Claimed()})):
        with pytest.raises(FormatError, match="endless names"):
            read_checkpoint(written(tmp_path / f"{number}.pth", value))


def test_two_tensors_of_one_name(tmp_path):
    with pytest.raises(FormatError, match=r"a\.b: two tensors have this name"):
        read_checkpoint(written(tmp_path / "x.pth", {"a.b": Claimed(), "a": {"b": Claimed()}}))


@pytest.mark.parametrize(
    "content", [b"", b"text", b"PK\x03\x04", b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.", b"\x80\x02}."]
)
def test_what_is_no_checkpoint(tmp_path, content):
    path = tmp_path / "x.pth"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"x\.pth: "):
        read_checkpoint(path)


def test_an_archive_of_other_things(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("x/readme", "")
    with pytest.raises(FormatError, match=r"without data\.pkl"):
        read_checkpoint(tmp_path / "x.zip")


def test_no_file(tmp_path):
    with pytest.raises(MissingDataError, match="a checkpoint of PyTorch is expected"):
        read_checkpoint(tmp_path / "nothing.pth")
    with pytest.raises(DataError, match="a folder, not a file"):
        read_checkpoint(tmp_path)
