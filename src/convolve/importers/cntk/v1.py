"""CNTK v1 ("BCN") model files: what BrainScript, NDL and `save_as_legacy_model` write. Versions 1 to 31."""

import re
from collections.abc import Mapping
from dataclasses import replace
from math import prod

from convolve.errors import UnsupportedError, brief
from convolve.importers.cntk.model import Attributes, CntkModel, Function, Variable, vectors_among
from convolve.importers.cntk.v1_bytes import Cursor, encoded
from convolve.importers.cntk.v1_nodes import Node, read_node

MAGIC = encoded("BCN")
NEWEST_VERSION = 31

# The root groups in file order: marker, marker in old files, whether a file may lack it.
_GROUPS = (
    ("FeatureNodes", "FeatureNodes", False),
    ("LabelNodes", "LabelNodes", False),
    ("CriterionNodes", "CriteriaNodes", False),
    ("NodesReqMultiSeqHandling", "NodesReqMultiSeqHandling", True),
    ("EvalNodes", "EvalNodes", False),
    ("OutputNodes", "OutputNodes", False),
    ("PairNodes", "PairNodes", True),
)

# Operands come in another order than in v2 files: there (z, labels) and (x, min, max).
_ORDER = {
    "CrossEntropyWithSoftmax": (1, 0),
    "ClassificationError": (1, 0, 2),
    "SquaredError": (1, 0),
    "Logistic": (1, 0),
    "Clip": (2, 0, 1),
}


def read(data: bytes, path: object) -> CntkModel:
    """The model in the bytes of a v1 file."""
    cursor = Cursor(data, path)
    cursor.marker("BCN")
    version = _version(cursor)
    nodes = _nodes(cursor, version)
    operands = _relations(cursor, nodes)
    groups = _groups(cursor)
    cursor.marker("ECN")
    if cursor.offset != len(data):
        raise cursor.error(f"{len(data) - cursor.offset} bytes behind the end of the model")
    columns = {uid for uid, node in nodes.items() if node.name == uid and node.is_column}
    columns = vectors_among(columns, ((nodes[uid].op, inputs) for uid, inputs in operands.items()))
    variables = {
        node.uid: _variable(cursor, node, node.uid in columns) for node in nodes.values() if node.shape is not None
    }
    functions = {node.uid: _function(node, operands[node.uid]) for node in nodes.values() if node.shape is None}
    used = {name for inputs in operands.values() for name in inputs}
    last = [uid for uid in functions if uid not in used and functions[uid].op != "DynamicAxis"]
    return CntkModel(
        path=path,
        origin=f"CNTK v1, version {version}",
        variables=variables,
        functions=functions,
        outputs=tuple(groups["OutputNodes"] or last),
        roles=groups,
    )


def _version(cursor: Cursor) -> int:
    if not cursor.next_is("BVersion"):
        return 1
    cursor.marker("BVersion")
    version = cursor.u64()
    cursor.marker("EVersion")
    if not 1 <= version <= NEWEST_VERSION:
        raise UnsupportedError(
            f"{cursor.path}: v1 files of version {version} are not supported; known are 1 to {NEWEST_VERSION}"
        )
    return version


def _nodes(cursor: Cursor, version: int) -> dict[str, Node]:
    count = cursor.count("nodes", 6)
    cursor.marker("BNodeList")
    nodes: dict[str, Node] = {}
    for _ in range(count):
        start = cursor.offset
        if version >= 7:
            cursor.text()  # float or double; each matrix says it too
        kind = cursor.text()
        uid, name = _uid_and_name(cursor.text())
        if uid in nodes:
            raise cursor.error(f"the node {brief(uid)} is defined twice", start)
        nodes[uid] = replace(read_node(cursor, kind, uid, version), uid=uid, name=name, offset=start)
    cursor.marker("ENodeList")
    return nodes


def _uid_and_name(text: str) -> tuple[str, str]:
    """`save_as_legacy_model` packs uid and name into one text; other writers store only a name."""
    packed = re.fullmatch(r"__v2libuid__(.+)__v2libname__(.*)", text, re.DOTALL)
    return (packed[1], packed[2]) if packed else (text, text)


def _relations(cursor: Cursor, nodes: Mapping[str, Node]) -> dict[str, tuple[str, ...]]:
    """The operands of each node."""
    cursor.marker("BRelation")
    operands: dict[str, tuple[str, ...]] = {}
    for _ in nodes:
        start = cursor.offset
        uid, _name = _uid_and_name(cursor.text())
        names = [_uid_and_name(cursor.text())[0] for _ in range(cursor.count("operands", 2))]
        for name in (uid, *names):
            if name not in nodes:
                raise cursor.error(f"{brief(name)} is used but not defined in the file", start)
        operands[uid] = tuple(names)
    cursor.marker("ERelation")
    if len(operands) < len(nodes):
        raise cursor.error(f"the file lists operands for {len(operands)} of {len(nodes)} nodes")
    return operands


def _groups(cursor: Cursor) -> dict[str, list[str]]:
    cursor.marker("BRootNodes")
    groups: dict[str, list[str]] = {}
    for name, old_name, optional in _GROUPS:
        if optional and not cursor.next_is(f"B{name}"):
            continue
        cursor.marker(f"B{name}", f"B{old_name}")
        groups[name] = [_uid_and_name(cursor.text())[0] for _ in range(cursor.count("names", 2))]
        cursor.marker(f"E{name}", f"E{old_name}")
    cursor.marker("ERootNodes")
    return groups


def _variable(cursor: Cursor, node: Node, column: bool) -> Variable:
    shape, array = node.shape or (), node.array
    if array is not None:
        if array.size != prod(shape):
            raise cursor.error(f"{brief(node.uid)} has {array.size} numbers for the shape {shape}", node.offset)
        array = array.reshape(shape[::-1])  # the slowest axis first: CNTK's order is that of numpy, reversed
        shape, array = (shape[:1], array[0]) if column else (shape, array)
    multiplier = node.learning_rate_multiplier
    return Variable(node.uid, node.name, shape, node.offset, array, learning_rate_multiplier=multiplier)


def _function(node: Node, operands: tuple[str, ...]) -> Function:
    order = _ORDER.get(node.op, range(len(operands)))
    operands = tuple(operands[index] for index in order if index < len(operands))
    attributes = dict(node.attributes)
    if node.array is not None:
        attributes["values"] = node.array
    return Function(
        node.uid, node.name, node.op, operands, (node.uid,), attributes=Attributes(attributes), offset=node.offset
    )
