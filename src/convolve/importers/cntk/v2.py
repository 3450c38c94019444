"""CNTK v2 model files (.model, .dnn, .cmf): a protobuf Dictionary, as `Function.save` writes it."""

from collections.abc import Iterator
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np

from convolve.errors import FormatError, UnsupportedError, brief, legible
from convolve.graph.graph import Array
from convolve.importers.cntk.model import Attributes, CntkModel, Function, Variable
from convolve.importers.cntk.wire import MAX_DEPTH, Axis, Record, StoredArray, read_message

SPLIT_MAGIC = (0x636E746B).to_bytes(4, "little")

# By their numbers in the file.
_NAMES = (
    "Negate Sigmoid Tanh ReLU Exp Log Sqrt Floor Abs Reciprocal Softmax Hardmax TransposeAxes Where Slice Dropout "
    "Reshape Pooling SumAll Plus Minus ElementTimes Equal NotEqual Less LessEqual Greater GreaterEqual "
    "PackedIndex GatherPacked ScatterPacked Times TransposeTimes Convolution SquaredError CrossEntropyWithSoftmax "
    "ClassificationError PastValue FutureValue ReduceElements BatchNormalization Clip Select Splice Combine "
    "RandomSample RandomSampleInclusionFrequency ROIPooling Logistic OptimizedRNNStack ReconcileDynamicAxis "
    "LogSoftmax LogPlus CosDistance Sin Cos Pass Block Unpooling LambdaRank NDCG EditDistanceError NoOp "
    "LabelsToGraph StopGradient ELU ForwardBackward CosDistanceWithNegativeSamples OneHot Pow ToSequence "
    "ToSequenceLike UnpackSequence Assign Gather StableSigmoid RandomDistribution Sinh Cosh UnpackBatch ToBatch "
    "Asin Acos Pad Crop Atanh Asinh TopK Squeeze ConstantOp LatticeSequenceWithSoftmax Cast EyeLikeOp "
    "CustomProxyOp StraightThrough Tan Atan ConvolutionSequenceShape"
)
OPERATORS = _NAMES.split()

# Blocks that become one operation, and the attributes that CNTK's own blocks of that name carry. A user's block may
# have any name, but has no attributes. Every other block is computed by what is inside it.
BLOCKS = {"Softmax": {"axis"}, "LogSoftmax": {"axis"}, "ELU": {"alpha"}, "LeakyReLU": {"alpha"}}

_KINDS = {0: "input", 2: "parameter", 3: "constant", 4: "placeholder"}


def read(data: bytes, path: object) -> CntkModel:
    """The model in the bytes of a v2 file."""
    top = read_top(data, path)
    if "Learners" in top.values:
        raise FormatError(path, "byte 0", "this is a trainer's checkpoint; give the model file beside it, without .ckp")
    return _Model(top).read()


def read_top(data: bytes, path: object) -> Record:
    """The Dictionary that a v2 file holds. One of more than 2 GB keeps the numbers of its arrays behind the message."""
    if not data.startswith(SPLIT_MAGIC):
        return read_message(data, path, 0, len(data))
    end = 8 + int.from_bytes(data[4:8], "little")
    if len(data) < end:
        raise FormatError(path, "byte 4", f"a message of {end - 8} bytes in a file of {len(data)}; copy the file again")
    top = read_message(data, path, 8, end)
    for holder, key in _arrays_in_order(top):
        array = holder[key]
        size = array.dtype.itemsize * prod(array.shape)
        if end + size > len(data):
            raise FormatError(
                path, f"byte {end}", f"{size} bytes of numbers in a file of {len(data)}; copy the file again"
            )
        holder[key] = replace(array, values=np.frombuffer(data, array.dtype, prod(array.shape), end))
        end += size
    if end != len(data):
        raise FormatError(path, f"byte {end}", f"{len(data) - end} bytes that belong to no array; copy the file again")
    return top


def _arrays_in_order(top: Record) -> Iterator[tuple[Any, Any]]:
    """The arrays of a model or checkpoint, in the order in which a split file stores their numbers."""
    for variable in top.list("inputs", Record):
        if isinstance(variable.values.get("value"), StoredArray):
            yield variable.values, "value"
    for learner in top.list("Learners", Record):
        gradients = learner.list("smoothed_gradients", StoredArray)
        yield from ((gradients, index) for index in range(len(gradients)))


def to_numpy(stored: StoredArray, path: object) -> Array:
    """The numbers with the slowest axis first: CNTK's order is that of numpy with the shape reversed."""
    values = np.empty(0, stored.dtype) if stored.values is None else stored.values
    if values.size != prod(stored.shape):
        raise FormatError(path, f"byte {stored.offset}", f"{values.size} numbers in an array of shape {stored.shape}")
    return values.reshape(stored.shape[::-1])


class _Model:
    def __init__(self, top: Record) -> None:
        self.top = top
        self.records = self.by_uid(top.list("primitive_functions", Record))
        self.notes: list[str] = []
        self.aliases: dict[str, str] = {}
        self.functions: dict[str, Function] = {}
        self.owners = self.find_owners()

    def by_uid(self, records: list[Record]) -> dict[str, Record]:
        found: dict[str, Record] = {}
        for record in records:
            uid = record.get("uid", str)
            if uid in found:
                raise record.error(f"{brief(uid)} is defined twice")
            found[uid] = record
        return found

    def read(self) -> CntkModel:
        leaves = [record for record in self.top.list("inputs", Record) if self.kind(record) != "placeholder"]
        variables = {uid: self.variable(uid, record) for uid, record in self.by_uid(leaves).items()}
        for uid, record in self.records.items():
            self.function(uid, record)
        for uid in variables.keys() & self.functions.keys():
            raise FormatError(
                self.top.path, f"byte {variables[uid].offset}", f"{brief(uid)} is the output of a function too"
            )
        return CntkModel(
            path=self.top.path,
            origin="CNTK v2",
            variables=variables,
            functions=self.functions,
            outputs=self.outputs(self.top.get("root", str)),
            aliases=self.aliases,
            names=self.block_names(),
            notes=tuple(self.notes),
        )

    # -- leaves -------------------------------------------------------------------------------------------------------

    def kind(self, record: Record) -> str:
        number = record.get("kind", int)
        if number not in _KINDS:
            raise record.error(f"a variable has the unknown kind {number}")
        return _KINDS[number]

    def variable(self, uid: str, record: Record) -> Variable:
        kind, name = self.kind(record), record.get("name", str, "")
        if kind == "input":
            axes = len(record.list("dynamic_axis", Axis))
            if axes == 0:
                raise UnsupportedError(f"{self.top.path}: input {legible(name or uid)} has no batch axis")
            if axes > 1:
                self.notes.append(
                    f"input {legible(name or uid)} is a sequence; each element is taken as a sample of its own"
                )
            return Variable(uid, name, record.get("shape", tuple), record.offset)
        array = to_numpy(record.get("value", StoredArray), self.top.path)
        multiplier = float(kind == "parameter")
        return Variable(uid, name, array.shape[::-1], record.offset, array, learning_rate_multiplier=multiplier)

    # -- functions ----------------------------------------------------------------------------------------------------

    def op(self, record: Record) -> str:
        if record.get("type", str, "") == "UserDefinedFunction":
            return "UserDefinedFunction"
        number = record.get("op", int)
        return OPERATORS[number] if 0 <= number < len(OPERATORS) else f"number {number}"

    def function(self, uid: str, record: Record) -> None:
        """Block and Combine only pass values on; everything else is a function."""
        op, name = self.op(record), record.get("name", str, "")
        inputs = tuple(record.list("inputs", str))
        attributes = record.get("attributes", Record, Record(self.top.path, record.offset))
        if op == "Combine":
            self.aliases |= {f"{uid}_Output_{index}": source for index, source in enumerate(inputs)}
            return
        if op == "Block":
            op, inputs = self.block(uid, record, attributes)
        if op:
            outputs = tuple(f"{uid}_Output_{index}" for index in range(_OUTPUT_COUNTS.get(op, 1)))
            path = "/".join(self.named_blocks_around(uid)[::-1])
            settings, at = Attributes(attributes.values), record.offset
            function = Function(uid, name, op, inputs, outputs, attributes=settings, offset=at, block=path)
            self.functions |= dict.fromkeys(outputs, function)

    def block(self, uid: str, record: Record, attributes: Record) -> tuple[str, tuple[str, ...]]:
        """The operation that stands for the whole block, and its operands; "" if its inside is computed."""
        keys, values = self.arguments(record)
        name = record.get("block_function_op_name", str, "")
        if name in BLOCKS and len(values) == 1 and BLOCKS[name] <= attributes.values.keys():
            return name, tuple(values)
        root = self.root(record)
        count = len(self.outputs(root))
        self.aliases |= {key: value for key, value in zip(keys, values, strict=True) if key != value}
        self.aliases |= {f"{uid}_Output_{index}": f"{root}_Output_{index}" for index in range(count)}
        return "", ()

    def arguments(self, record: Record) -> tuple[list[str], list[str]]:
        """The placeholders inside a block, and the values outside that they stand for."""
        keys = record.list("block_function_composite_arguments_map_keys", str)
        values = record.list("block_function_composite_arguments_map_values", str)
        if len(keys) != len(values):
            raise record.error(f"a block with {len(keys)} arguments and {len(values)} values for them")
        return keys, values

    def root(self, record: Record) -> str:
        return record.get("block_function_composite", Record).get("root", str)

    def outputs(self, uid: str) -> tuple[str, ...]:
        """The uids of the outputs of the function `uid`; a block has as many as its root."""
        outer, seen = uid, {uid}
        while (record := self.records.get(uid)) and self.op(record) == "Block":
            uid = self.root(record)
            if uid in seen or len(seen) > MAX_DEPTH:
                raise record.error("a block is its own root, or nested too deep")
            seen.add(uid)
        if record is None:
            raise self.top.error(f"the root {brief(uid)} is not defined in the file")
        op = self.op(record)
        count = len(record.list("inputs", str)) if op == "Combine" else _OUTPUT_COUNTS.get(op, 1)
        if count == 0:
            raise record.error(f"{brief(uid)} combines nothing")
        return tuple(f"{outer}_Output_{index}" for index in range(count))

    # -- names of blocks ----------------------------------------------------------------------------------------------

    def find_owners(self) -> dict[str, str]:
        """Function -> the block that it is a part of. The inside of a block ends at its placeholders."""
        owners: dict[str, str] = {}
        for uid, record in self.records.items():
            stack = [self.root(record)] if self.op(record) == "Block" else []
            while stack:
                member = stack.pop()
                if member in self.records and member not in owners:
                    owners[member] = uid
                    inside = self.records[member]
                    sources = self.arguments(inside)[1] if self.op(inside) == "Block" else inside.list("inputs", str)
                    stack += [source.rpartition("_Output_")[0] for source in sources]
        return owners

    def named_blocks_around(self, uid: str) -> list[str]:
        """The names of the blocks around a function, the innermost first."""
        names, seen = [], {uid}
        while (uid := self.owners.get(uid, "")) and uid not in seen and len(seen) <= MAX_DEPTH:
            seen.add(uid)
            if name := self.records[uid].get("name", str, ""):
                names.append(name)
        return names

    def block_names(self) -> list[tuple[str, str]]:
        """(name, uid of the first output) of the named blocks, inner ones first, and of the whole model."""
        blocks = [uid for uid, record in self.records.items() if self.op(record) == "Block"]
        blocks.sort(key=lambda uid: len(self.named_blocks_around(uid)), reverse=True)
        named = [(self.records[uid].get("name", str, ""), self.outputs(uid)[0]) for uid in blocks]
        named.append((self.top.get("name", str, ""), self.outputs(self.top.get("root", str))[0]))
        return [(name, uid) for name, uid in named if name]


_OUTPUT_COUNTS = {"TopK": 2}
