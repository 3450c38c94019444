"""Damages models at random and opens them: each must give a named error or an intact model, at little cost.

    python tests/importers/fuzz.py [cntk|caffe|onnx] --count 20000 --seed 0 [--keep FOLDER]

Exits with 1 if a file crashed the reader with anything but an error of convolve's own, took more than 2 seconds of
processor time, or more memory than 4 times the file and 200 MB; FOLDER receives such files.
"""

from __future__ import annotations

import argparse
import random
import re
import resource
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from caffe_cases import CASES
from caffe_files import UNUSED, Form, caffemodel
from caffe_nets import squeezenet
from onnx import ModelProto
from onnx_cases import CASES as ONNX_CASES
from onnx_cases import GRAPHS
from onnx_files import case_bytes, graph_bytes
from wire_bytes import varint

import golden
from convolve.errors import ConvolveError
from convolve.graph.build import build
from convolve.graph.graph import Graph
from convolve.importers import caffe, cntk
from convolve.importers import onnx as onnx_importer
from convolve.importers.onnx.lower import RULES

SECONDS, EXTRA_MEMORY = 2.0, 200 * 2**20

# Varints that say: a huge length, a huge number, a negative one, nothing.
ABSURD = [b"\xff\xff\xff\xff\x0f", b"\xff" * 9 + b"\x01", b"\xfe" * 9 + b"\x01", b"\x80" * 12, b"\0"]
NUMBERS = [b"\xff" * 8, b"\0" * 8, b"\xff\xff\xff\x7f", b"\0\0\0\x80", b"\0\0\0\0\x01\0\0\0", b"\x10\0\0\0"]

Mutation = Callable[[random.Random, bytearray], None]


def flip_bits(rng: random.Random, data: bytearray) -> None:
    for _ in range(rng.randint(1, 8)):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def set_bytes(rng: random.Random, data: bytearray) -> None:
    for _ in range(rng.randint(1, 4)):
        data[rng.randrange(len(data))] = rng.choice([0, 1, 2, 0x7F, 0x80, 0xFF, rng.randrange(256)])


def truncate(rng: random.Random, data: bytearray) -> None:
    del data[rng.randrange(len(data)) :]


def absurd_number(rng: random.Random, data: bytearray) -> None:
    at, value = rng.randrange(len(data)), rng.choice(ABSURD + NUMBERS)
    data[at : at + rng.choice([0, 1, len(value)])] = value


def remove(rng: random.Random, data: bytearray) -> None:
    at = rng.randrange(len(data))
    del data[at : at + rng.randint(1, 40)]


def repeat(rng: random.Random, data: bytearray) -> None:
    start, at = rng.randrange(len(data)), rng.randrange(len(data))
    data[at:at] = data[start : start + rng.randint(1, 300)] * rng.choice([1, 2, 50])


def rename(rng: random.Random, data: bytearray) -> None:
    """One name instead of another of the same length, as often as it comes: loops and duplicates of ids."""
    numbers = [at for at in range(len(data) - 4) if data[at : at + 4].isdigit()]
    if not numbers:  # v1 has a zero behind each digit
        numbers = [
            at for at in range(len(data) - 8) if data[at : at + 8 : 2].isdigit() and not any(data[at + 1 : at + 8 : 2])
        ]
    if numbers:
        step = 4 if data[numbers[0] + 1] else 8
        source, target = rng.choice(numbers), rng.choice(numbers)
        data[target : target + step] = data[source : source + step]


def nest(rng: random.Random, data: bytearray) -> None:
    """A value inside a value inside a value, put in at random."""
    inner = b""
    for _ in range(rng.choice([3, 60, 2000])):
        inner = (
            b"\x10\x09\x5a" + varint(len(inner) + 1 + len(varint(len(inner)))) + b"\x0a" + varint(len(inner)) + inner
        )
    data[rng.randrange(len(data)) : 0] = b"\x12" + varint(len(inner)) + inner


MUTATIONS: list[Mutation] = [flip_bits, set_bytes, truncate, absurd_number, remove, repeat, rename, nest]


Damaged = tuple[str, tuple[bytes, ...]]  # how it came about, the files


def damaged_cntk(rng: random.Random) -> Damaged:
    archive = rng.choice(["oracle", "oracle", "more", "old"])
    folder = "v1" if archive == "old" else rng.choice(["v1", "v2"])
    members = [name for name in golden.archive(archive).namelist() if name.startswith(f"{folder}/")]
    member = rng.choice(members)
    data = bytearray(golden.read(archive, member))
    return f"{member}, {damage(rng, data, MUTATIONS)}", (bytes(data),)


def damage(rng: random.Random, data: bytearray, choice: list[Mutation]) -> str:
    """What was done to the data."""
    mutations = rng.choices(choice, k=rng.choice([1, 1, 1, 2, 3]))
    for mutation in mutations:
        if data:
            mutation(rng, data)
    return ", ".join(mutation.__name__ for mutation in mutations)


# -- prototxt files ----------------------------------------------------------------------------------------------------

VALUES = ["-1", "0", "1", "2", "3", "7", "64", "0.5", "1e30", "268435456", "4294967296", "99999999999999999999"]
TYPES = ["BatchNorm", "Scale", "Bias", "Pooling", "Deconvolution", "InnerProduct", "Crop", "Reshape", "Slice", "LRN"]
TYPES += ["PReLU", "Eltwise", "Data", "Split"]
MARKS = ["{", "}", "[", "]", "<", ">", ":", ";", "'", "#", "dim", "layers"]


def _replace_one(rng: random.Random, data: bytearray, pattern: bytes, other: Callable[[list[bytes]], bytes]) -> None:
    """One match of `pattern` becomes what `other` makes of all of them."""
    found = list(re.finditer(pattern, data))
    if found:
        start, end = rng.choice(found).span()
        data[start:end] = other([match.group() for match in found])


def change_number(rng: random.Random, data: bytearray) -> None:
    _replace_one(rng, data, rb"(?<=: )-?[0-9.]+", lambda _: rng.choice(VALUES).encode())


def exchange_texts(rng: random.Random, data: bytearray) -> None:
    _replace_one(rng, data, rb'"[^"]*"', rng.choice)


def change_type(rng: random.Random, data: bytearray) -> None:
    _replace_one(rng, data, rb'(?<=type: )"[^"]*"', lambda _: f'"{rng.choice(TYPES)}"'.encode())


def exchange_blocks(rng: random.Random, data: bytearray) -> None:
    _replace_one(rng, data, rb"\w+ \{[^{}]*\}", rng.choice)


def insert_mark(rng: random.Random, data: bytearray) -> None:
    at = rng.randrange(len(data))
    data[at:at] = b" " + rng.choice(MARKS).encode() + b" "


def nest_blocks(rng: random.Random, data: bytearray) -> None:
    depth = rng.choice([2, 40, 5000])
    data[rng.randrange(len(data)) : 0] = b" layer { " * depth + b" } " * rng.choice([0, depth])


TEXT_MUTATIONS: list[Mutation] = [change_number, exchange_texts, change_type, exchange_blocks] * 3
TEXT_MUTATIONS += [insert_mark, nest_blocks, flip_bits, truncate, remove, repeat]


def damaged_caffe(rng: random.Random) -> Damaged:
    """One of the two files or both."""
    name = rng.choice([*CASES, "squeezenet"])
    writer = squeezenet(8) if name == "squeezenet" else CASES[name]
    form = Form(*(rng.random() < 0.5 for _ in range(4)))
    text, model = bytearray(writer.text.encode()), bytearray(caffemodel(writer.blobs or UNUSED, form))
    which = rng.choice(["prototxt", "caffemodel", "both"]) if writer.blobs else "prototxt"
    story = damage(rng, text, TEXT_MUTATIONS) if which != "caffemodel" else ""
    if which != "prototxt":
        story += " " + damage(rng, model, MUTATIONS)
    return f"{name} {form}: {which}, {story}", (bytes(text), bytes(model))


# -- ONNX --------------------------------------------------------------------------------------------------------------

INTEGERS = [-(2**63), -1000003, -100, -2, -1, 0, 1, 2, 3, 5, 64, 1000003, 2000006, 2**31, 2**62]


def damaged_onnx(rng: random.Random) -> Damaged:
    """Bytes changed, or words: operators, operands, attributes, whole numbers of constants."""
    if rng.random() < 0.3:
        name = rng.choice([*GRAPHS])
        content = graph_bytes(name)
    else:
        case = rng.choice([case for case in ONNX_CASES if case[4]])
        name, content = case[0], case_bytes(case, rng.choice(case[4]))
    if rng.random() < 0.4:
        data = bytearray(content)
        return f"{name}, {damage(rng, data, MUTATIONS)}", (bytes(data),)
    model = ModelProto.FromString(content)
    for _ in range(rng.choice([1, 1, 2, 3])):
        rng.choice(WORD_MUTATIONS)(rng, model)
    return f"{name}, other words", (model.SerializeToString(),)


def other_operator(rng: random.Random, model: ModelProto) -> None:
    rng.choice(model.graph.node).op_type = rng.choice([*RULES])


def other_operand(rng: random.Random, model: ModelProto) -> None:
    node, names = (
        rng.choice(model.graph.node),
        [name for node in model.graph.node for name in (*node.input, *node.output)],
    )
    at = rng.randrange(len(node.input) + 1)
    node.input[at : at + rng.choice([0, 1])] = [rng.choice([*names, ""])] * rng.choice([0, 1, 1])


def other_attribute(rng: random.Random, model: ModelProto) -> None:
    attributes = [attribute for node in model.graph.node for attribute in node.attribute]
    if attributes:
        chosen = rng.choice(attributes)
        chosen.i, chosen.f = rng.choice(INTEGERS), rng.choice([0.0, -1.0, 1e30, float("nan"), float("inf")])
        chosen.ints[:] = [rng.choice(INTEGERS) if rng.random() < 0.5 else number for number in chosen.ints]
        chosen.type = rng.choice([chosen.type, chosen.type, chosen.type, 1, 2, 3, 6, 7])


def other_numbers(rng: random.Random, model: ModelProto) -> None:
    tensors = [tensor for tensor in model.graph.initializer if tensor.data_type == 7]
    if tensors:
        chosen = rng.choice(tensors)
        numbers = [rng.choice(INTEGERS) for _ in range(rng.choice([1, 2, 4, 8]))]
        chosen.raw_data, chosen.dims[:] = (
            b"".join(n.to_bytes(8, "little", signed=True) for n in numbers),
            [len(numbers)],
        )


def other_sizes(rng: random.Random, model: ModelProto) -> None:
    dims = rng.choice(model.graph.input).type.tensor_type.shape.dim
    rng.choice(dims).dim_value = rng.choice(INTEGERS)


def other_opset(rng: random.Random, model: ModelProto) -> None:
    model.opset_import[0].version = rng.choice([1, 7, 9, 11, 13, 18, 23, 99])


WORD_MUTATIONS: list[Callable[[random.Random, ModelProto], None]] = [
    other_operator, other_operand, other_attribute, other_numbers, other_sizes, other_opset
]  # fmt: skip


# -- opening -----------------------------------------------------------------------------------------------------------

KINDS: dict[str, tuple[Callable[[random.Random], Damaged], Callable[..., Graph]]] = {
    "cntk": (damaged_cntk, lambda data: cntk.parse(data, "damaged.model")),
    "onnx": (damaged_onnx, lambda data: onnx_importer.parse(data, Path("damaged.onnx"))),
    "caffe": (damaged_caffe, lambda text, model: caffe.parse(text, model).graph),
}


def mutated(kind: str, seed: int) -> Damaged:
    """A damaged model and how it came about; the same for the same seed."""
    story, files = KINDS[kind][0](random.Random(seed))
    return f"seed {seed}: {story}", files


def open_model(kind: str, files: tuple[bytes, ...]) -> str:
    """The name of what comes of it: an error of convolve's own, or an intact model."""
    try:
        build(KINDS[kind][1](*files))
    except ConvolveError as error:
        if "\n" in str(error):
            raise AssertionError(f"an error of more than one line: {error}") from None
        return type(error).__name__
    return "intact"


@contextmanager
def limits(size: int) -> Iterator[None]:
    """Processor time and memory for files of `size` bytes."""

    def stop(_signal: int, _frame: FrameType | None) -> None:
        raise TimeoutError(f"more than {SECONDS} s of processor time")

    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[0])
    before, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 4 * size + EXTRA_MEMORY, hard))
    previous = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, previous)
        resource.setrlimit(resource.RLIMIT_AS, (before, hard))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=KINDS, nargs="?", default="cntk")
    parser.add_argument("--count", type=int, default=20000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path)
    arguments = parser.parse_args()
    outcomes: Counter[str] = Counter()
    kind = arguments.kind
    open_model(kind, mutated(kind, 0)[1])  # what torch loads on first use is not counted
    for seed in range(arguments.seed, arguments.seed + arguments.count):
        story, files = mutated(kind, seed)
        try:
            with limits(sum(map(len, files))):
                outcomes[open_model(kind, files)] += 1
        except Exception as error:
            outcomes["FAILED"] += 1
            print(f"{story}: {type(error).__name__}: {error}")
            if arguments.keep:
                arguments.keep.mkdir(parents=True, exist_ok=True)
                for number, data in enumerate(files):
                    (arguments.keep / f"{seed}-{number}.model").write_bytes(data)
    print(", ".join(f"{count} {name}" for name, count in outcomes.most_common()))
    return 1 if outcomes["FAILED"] else 0


if __name__ == "__main__":
    sys.exit(main())
