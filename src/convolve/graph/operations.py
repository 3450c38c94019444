"""The operations of the neutral graph: the complete list, one row each in OPERATIONS. A row has an operation's effect
on shapes, the code for it, the number of operands, and its attributes with their types, which model folders are checked
against. The attributes:

    convolution            strides, dilation, lower, upper (a number for each spatial axis), groups
    convolution_transpose  strides, dilation, lower (cut off at the start), output (the spatial size), groups
    max_pool, average_pool window, strides, lower, upper; average_pool also divisor: "real" counts the cells inside
                           the image, "window" counts all
    max_unpool             those of the pooling that it reverses
    roi_pool               output (rows, columns), scale, kind
    linear                 contracted: how many of the last axes of x meet the first ones of the weight; transposed: the
                           weight is (out, in) instead of (in, out)

    layer_normalization    axes: how many of the last ones have statistics together
    layer                  layer: a torch module of the user's program, which returns a tuple
    item                   index and shape of one of these
    gather                 indices: the cells of an axis that are taken, in this order

prelu takes x and the slopes for negative numbers: one, or one for each channel. Padding (lower, upper) may be negative,
which cuts off.
"""

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import torch
from torch import fx
from torch.nn import functional as F

from convolve.graph import functions, layers, sequences, shapes
from convolve.graph.emit import Emitter
from convolve.graph.graph import Node, Value
from convolve.graph.shapes import MAX_ELEMENTS, Attributes, Shape, ShapeRule, bounded, require
from convolve.records import Between

Emit = Callable[[Emitter, Node], fx.Node]
Kind = Any  # type of an attribute, as in `records`: a number, a truth value, several whole numbers, one of some words

Integer = Annotated[int, Between(-MAX_ELEMENTS, MAX_ELEMENTS)]
Integers = tuple[Integer, ...]


class OneOf(frozenset[str]):
    """The words that an attribute can be."""

    holds = frozenset.__contains__

    def __str__(self) -> str:
        return f"one of {', '.join(sorted(self))}"


@dataclass(frozen=True)
class Operation:
    """`operands` lists the possible numbers of operands; empty: one or more. An `over_batch` operation also reduces
    over the samples: its value belongs to the batch, not to a sample; `to_batch` makes samples of a value without a
    batch."""

    shape: ShapeRule
    emit: Emit
    operands: tuple[int, ...] = (1,)
    attributes: Mapping[str, Kind] = field(default_factory=dict)
    over_batch: bool = False
    to_batch: bool = False


def outcome(op: str, attributes: Attributes, operands: Sequence[Value]) -> tuple[Shape, bool]:
    """(shape, batched) of the result of `op` on the operands. Raises GraphError if they do not fit."""
    row = OPERATIONS[op]
    require(len(operands) in row.operands if row.operands else bool(operands), f"{op} of {len(operands)} values")
    shape = bounded(row.shape(attributes, [operand.shape for operand in operands]))
    batched = any(operand.batched for operand in operands)
    require(batched or not row.over_batch, f"{op} of values that have no batch axis")
    return shape, (batched and not row.over_batch) or row.to_batch


# -- rows of one kind -------------------------------------------------------------------------------------------------


def _plain(function: Callable[..., Any], *names: str) -> Emit:
    """A function of the operands and of the attributes called `names`."""
    return lambda emitter, node: emitter.call(
        node.name, function, *map(emitter.value, node.inputs), *(node.attributes[name] for name in names)
    )


def _aligned(function: Callable[..., Any], *behind: Any, literals: bool = False) -> Emit:
    """A function of operands that broadcast, followed by `behind`; with `literals`, constants are written into the
    code."""
    return lambda emitter, node: emitter.call(node.name, function, *emitter.aligned(node, literals), *behind)


def _unary(function: Callable[..., Any], **attributes: Kind) -> Operation:
    return Operation(shapes.same, _plain(function, *attributes), attributes=attributes)


def _broadcasting(function: Callable[..., Any], *behind: Any, operands: int = 2, literals: bool = False) -> Operation:
    return Operation(shapes.broadcasting, _aligned(function, *behind, literals=literals), (operands,))


def _along(function: Callable[..., Any]) -> Operation:
    def emit(emitter: Emitter, node: Node) -> fx.Node:
        return emitter.call(node.name, function, emitter.value(node.inputs[0]), _dims(emitter, node))

    return Operation(shapes.along_axes, emit, attributes={"axes": Integers})


def _reduction(function: Callable[..., Any], *before: Any, shape: ShapeRule = shapes.reduce) -> Operation:
    """A reduction f(x, ..., dims, keepdim). Over no axes, a reduction changes nothing."""

    def emit(emitter: Emitter, node: Node) -> fx.Node:
        x, dims = emitter.value(node.inputs[0]), _dims(emitter, node)
        return emitter.call(node.name, function, x, *before, dims, keepdim=node.attributes["keep_dims"]) if dims else x

    return Operation(shape, emit, attributes={"axes": Integers, "keep_dims": bool})


def _top_k(indices: bool) -> Operation:
    def emit(emitter: Emitter, node: Node) -> fx.Node:
        x, k = emitter.value(node.inputs[0]), node.integer("k")
        return emitter.call(node.name, functions.top_k, x, k, _dim(node), indices=indices)

    return Operation(shapes.top_k, emit, attributes={"axis": Integer, "k": Integer})


def _over_batch(emit: Emit, operands: int = 2, **attributes: Kind) -> Operation:
    return Operation(shapes.over_the_batch, emit, (operands,), attributes, over_batch=True)


def _dims(emitter: Emitter, node: Node) -> tuple[int, ...]:
    """The axes of a node, counted from the end."""
    rank = len(emitter.shape(node.inputs[0]))
    return tuple(axis % rank - rank for axis in node.attributes["axes"])


def _dim(node: Node) -> int:
    rank = len(node.shape)
    return node.integer("axis") % rank - rank


# -- code of single rows ----------------------------------------------------------------------------------------------


def _reshape(emitter: Emitter, node: Node) -> fx.Node:
    x = emitter.value(node.inputs[0])
    if node.batched and not emitter.shape(node.inputs[0]):  # one number per sample, which cannot be flattened
        return emitter.call(node.name, torch.reshape, x, (-1, *node.shape))
    return emitter.reshaped(node.name, x, node.shape, node.batched)


def _transpose(emitter: Emitter, node: Node) -> fx.Node:
    order = node.integers("order")
    dims = (0, *(axis + 1 for axis in order)) if node.batched else order
    return emitter.call(node.name, torch.permute, emitter.value(node.inputs[0]), dims)


def _slice(emitter: Emitter, node: Node) -> fx.Node:
    x, ends = emitter.value(node.inputs[0]), node.settings("begin", "end", "step")
    return emitter.call(node.name, functions.take, x, _dim(node), **ends)


def _gather(emitter: Emitter, node: Node) -> fx.Node:
    x = emitter.value(node.inputs[0])
    rank = len(node.shape)
    return emitter.call(node.name, functions.gather, x, node.integer("axis") % rank - rank, node.integers("indices"))


def _expand(emitter: Emitter, node: Node) -> fx.Node:
    x = emitter.aligned(node)[0]
    return emitter.call(node.name, torch.Tensor.expand, x, (-1, *node.shape) if node.batched else node.shape)


def _concatenate(emitter: Emitter, node: Node) -> fx.Node:
    values = [emitter.value(name) for name in node.inputs]
    if len({emitter.batched(name) for name in node.inputs}) == 1:
        return emitter.call(node.name, torch.cat, values, _dim(node))
    return emitter.call(node.name, functions.concatenate, values, _dim(node), len(node.shape))


def _pad(emitter: Emitter, node: Node) -> fx.Node:
    x = emitter.value(node.inputs[0])
    if node.attributes["mode"] == "constant":
        return emitter.call(node.name, F.pad, x, emitter.padding(node), value=node.attributes["value"])
    return emitter.call(node.name, functions.pad_mirrored, x, **node.settings("lower", "upper", "mode"))


def _one_hot(emitter: Emitter, node: Node) -> fx.Node:
    x = emitter.value(node.inputs[0])
    return emitter.call(node.name, functions.one_hot, x, node.attributes["classes"], _dim(node))


_WINDOW: dict[str, Kind] = dict.fromkeys(("strides", "lower", "upper"), Integers)
_POOLING = _WINDOW | {"window": Integers}

_UNARY_OF_TORCH = (
    "abs exp floor ceil round trunc sign sin cos tan asin acos atan sinh cosh asinh acosh atanh sigmoid tanh relu erf"
)
_OVER_BATCH = ["sum", "mean", "amax", "amin", "logsumexp", "prod"]
_COMPARISONS = "not_equal less less_equal greater greater_equal"

OPERATIONS: dict[str, Operation] = {
    "convolution": Operation(
        shapes.convolution, layers.convolution, (2, 3), _WINDOW | {"dilation": Integers, "groups": Integer}
    ),
    "convolution_transpose": Operation(
        shapes.convolution_transpose, layers.convolution_transpose, (2, 3),
        {"strides": Integers, "dilation": Integers, "lower": Integers, "output": Integers, "groups": Integer},
    ),
    "max_pool": Operation(shapes.pool, layers.max_pool, attributes=_POOLING),
    "average_pool": Operation(
        shapes.pool, layers.average_pool, attributes=_POOLING | {"divisor": Annotated[str, OneOf(["real", "window"])]}
    ),
    "max_unpool": Operation(shapes.max_unpool, layers.max_unpool, (2,), _POOLING),
    "roi_pool": Operation(
        shapes.roi_pool, _plain(functions.roi_pool, "output", "scale", "kind"), (2,),
        {"output": Integers, "scale": float, "kind": Annotated[str, OneOf(["max", "average"])]},
    ),
    "linear": Operation(shapes.linear, layers.linear, (2, 3), {"contracted": Integer, "transposed": bool}),
    "prelu": Operation(shapes.prelu, layers.prelu, (2,)),
    "batch_normalization": Operation(
        shapes.batch_normalization, layers.batch_normalization, (5, 6),
        {"epsilon": float, "spatial": bool, "time_constant_samples": float, "blend_time_constant_samples": float},
    ),
    "local_response_normalization": Operation(
        shapes.local_response_normalization, layers.local_response_normalization,
        attributes={"size": Integer, "alpha": float, "beta": float, "k": float},
    ),
    "layer_normalization": Operation(
        shapes.layer_normalization, layers.layer_normalization, (1, 2, 3), {"axes": Integer, "epsilon": float}
    ),
    "group_normalization": Operation(
        shapes.group_normalization, layers.group_normalization, (3,), {"groups": Integer, "epsilon": float}
    ),
    "dropout": Operation(shapes.same, layers.dropout, attributes={"rate": float}),
    **{name: _unary(getattr(torch, name)) for name in _UNARY_OF_TORCH.split()},
    "negate": _unary(operator.neg),
    "reciprocal": _unary(functions.reciprocal),
    "log": _unary(functions.log),
    "sqrt": _unary(functions.sqrt),
    "ieee_log": _unary(torch.log),  # the three above are CNTK's, defined also where there is no result
    "ieee_sqrt": _unary(torch.sqrt),
    "clamp": _unary(torch.clamp, low=float, high=float),
    "log_sigmoid": _unary(F.logsigmoid),
    "gelu": _unary(functions.gelu, approximate=Annotated[str, OneOf(["none", "tanh"])]),
    "elu": _unary(F.elu, alpha=float),
    "leaky_relu": _unary(F.leaky_relu, alpha=float),
    "stop_gradient": _unary(torch.detach),
    "straight_through": _unary(functions.straight_through),
    "add": _broadcasting(operator.add, literals=True),
    "subtract": _broadcasting(operator.sub, literals=True),
    "multiply": _broadcasting(operator.mul, literals=True),
    "divide": _broadcasting(operator.truediv, literals=True),
    "power": _broadcasting(torch.pow, literals=True),
    "maximum": _broadcasting(torch.maximum),
    "minimum": _broadcasting(torch.minimum),
    "matmul": Operation(shapes.matmul, _aligned(torch.matmul), (2,)),
    "log_add_exp": _broadcasting(functions.log_add_exp),
    "equal": _broadcasting(functions.compare, "eq"),
    **{name: _broadcasting(functions.compare, name) for name in _COMPARISONS.split()},
    "select": _broadcasting(functions.select, operands=3),
    "clip": _broadcasting(functions.clip, operands=3),
    "layer": Operation(
        lambda attributes, operands: (),
        lambda emitter, node: emitter.layer(node.name, node.attributes["layer"], *map(emitter.value, node.inputs)),
        (),
    ),
    "item": Operation(
        lambda attributes, operands: attributes["shape"], _plain(operator.getitem, "index"),
        attributes={"index": Integer, "shape": Integers},
    ),
    "softmax": _along(functions.softmax),
    "log_softmax": _along(functions.log_softmax),
    "hardmax": _along(functions.hardmax),
    "reduce_sum": _reduction(torch.sum),
    "reduce_mean": _reduction(torch.mean),
    "reduce_max": _reduction(torch.amax),
    "reduce_min": _reduction(torch.amin),
    "reduce_log_sum_exp": _reduction(torch.logsumexp),
    "reduce_product": _reduction(functions.product_along),
    "argmax": _reduction(functions.index_of_extreme, True, shape=shapes.reduce_one),
    "argmin": _reduction(functions.index_of_extreme, False, shape=shapes.reduce_one),
    "reshape": Operation(shapes.reshape, _reshape, attributes={"shape": Integers}),
    "transpose": Operation(shapes.transpose, _transpose, attributes={"order": Integers}),
    "slice": Operation(
        shapes.slice_, _slice, attributes={"axis": Integer, "begin": Integer, "end": Integer, "step": Integer}
    ),
    "gather": Operation(shapes.gather, _gather, attributes={"axis": Integer, "indices": Integers}),
    "eye_like": Operation(shapes.same, _plain(functions.eye_like)),
    "gather_rows": Operation(shapes.gather_rows, _plain(functions.gather_rows), (2,)),
    "over_batch": Operation(
        shapes.same, _plain(functions.over_batch, "how"), attributes={"how": Annotated[str, OneOf(_OVER_BATCH)]},
        over_batch=True,
    ),
    "unpack_batch": Operation(shapes.unpack_batch, _plain(operator.pos), attributes={"size": Integer}, over_batch=True),
    "to_batch": Operation(shapes.to_batch, _plain(operator.pos), to_batch=True),
    "expand": Operation(shapes.expand, _expand, attributes={"shape": Integers}),
    "concatenate": Operation(shapes.concatenate, _concatenate, (), {"axis": Integer}),
    "pad": Operation(
        shapes.pad, _pad,
        attributes={
            "lower": Integers, "upper": Integers, "value": float,
            "mode": Annotated[str, OneOf(["constant", "reflect", "symmetric"])],
        },
    ),
    "one_hot": Operation(shapes.one_hot, _one_hot, attributes={"axis": Integer, "classes": Integer}),
    "top_k_values": _top_k(indices=False),
    "top_k_indices": _top_k(indices=True),
    "cross_entropy_with_softmax": _over_batch(_plain(functions.cross_entropy_with_softmax)),
    "classification_error": _over_batch(_plain(functions.classification_error, "top"), top=Integer),
    "squared_error": _over_batch(_aligned(functions.squared_error)),
    "logistic": _over_batch(_aligned(functions.logistic)),
    # along sequences, concatenated in the batch, with their lengths as the last operand
    "sequence_window": Operation(
        shapes.number, _plain(sequences.window, "begin", "end"), (2,), {"begin": Integer, "end": Integer}
    ),
    "sequence_index": Operation(shapes.number, _plain(sequences.index), (2,)),
    "sequence_repetitions": Operation(shapes.number, _plain(sequences.repetitions), (2,)),
    "sequence_repeat": Operation(shapes.same, _plain(sequences.repeat), (2,)),
    "sequence_reduce": Operation(
        shapes.same, _plain(sequences.reduce, "how"), (2,), {"how": Annotated[str, OneOf(["sum", "max"])]}
    ),
    "sequence_scatter": Operation(shapes.same, _plain(sequences.scatter), (2,)),
    "sequence_shift": Operation(shapes.same, _plain(sequences.shift, "steps"), (3,), {"steps": Integer}),
    "sequence_pad": Operation(
        shapes.unpack_batch, _plain(sequences.pad, "size", "value"), (2,), {"size": Integer, "value": float}
    ),
    "sequence_unpad": Operation(shapes.to_batch, _plain(sequences.unpad), (2,)),
    "sequence_full": Operation(shapes.number, _plain(sequences.full)),
    "sum_all": _over_batch(_plain(torch.sum), operands=1),
}  # fmt: skip
