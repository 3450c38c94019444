"""ONNX's products, normalizations and resizing -> the neutral graph."""

from collections.abc import Sequence
from dataclasses import replace
from math import floor, prod
from typing import Any

import numpy as np

from convolve.errors import UnsupportedError
from convolve.graph.shapes import axis_of, require
from convolve.importers.onnx.call import Call, Tensor, Value
from convolve.importers.onnx.plain import Rule
from convolve.importers.onnx.resize import resize_matrix
from convolve.importers.onnx.shaping import transposed

# ONNX counts batches where CNTK counts samples; this is CNTK's default.
_TIME_CONSTANT_SAMPLES = 5000.0


# -- products ---------------------------------------------------------------------------------------------------------


def _gemm(call: Call) -> Tensor:
    """alpha * A B + beta * C"""
    a, alpha, beta = call.tensor(0), call.get("alpha", float, 1.0), call.get("beta", float, 1.0)
    if call.get("transA", int, 0):
        a = transposed(call, a, (1, 0))
    if a.axis == 1:
        raise UnsupportedError("a product over the samples of the batch")
    turned = bool(call.get("transB", int, 0))
    if isinstance(call.value(1), Tensor):
        b = call.tensor(1)
        key, where = _matrix_product(call, a, transposed(call, b, (1, 0)) if turned else b)
    else:
        where, key = a, call.add("linear", a.key, call.weights(1), contracted=1, transposed=turned)
    if alpha != 1:
        key = call.add("multiply", key, call.number_key(alpha))
    result = call.like(where, key)
    if not call.has(2) or beta == 0:
        return result
    c = call.tensor(2, learned=True)
    if c.axis is None and len(call.dims(c)) == 2 and call.dims(c)[0] == 1:
        c = Tensor(call.reshaped(c.key, call.dims(c)[1:]), None)
    if beta != 1:
        c = call.like(c, call.add("multiply", c.key, call.number_key(beta)))
    keys, where = call.aligned([result, c])
    return call.like(where, call.add("add", *keys))


def _matmul(call: Call) -> Tensor:
    a, b = call.tensor(0), call.value(1)
    if isinstance(b, Tensor) or b.array.ndim > 2 or len(call.dims(a)) == 1 or not call.batched(a):
        key, where = _matrix_product(call, a, call.tensor(1, learned=True))
        return call.like(where, key)
    if a.axis == len(call.dims(a)) - 1:
        raise UnsupportedError("a product over the samples of the batch")
    weight = call.weights(1)
    if b.array.ndim == 1:
        column = call.add("linear", a.key, call.reshaped(weight, (b.array.size, 1)), contracted=1, transposed=False)
        return call.shaped(call.like(a, column), call.dims(a)[:-1])
    return call.like(a, call.add("linear", a.key, weight, contracted=1, transposed=False))


def _matrix_product(call: Call, a: Tensor, b: Tensor) -> tuple[str, Tensor]:
    """The product along the last two axes, for each index of the others; the batch is one of them, or the rows."""
    ranks = [len(call.dims(value)) for value in (a, b)]
    require(min(ranks) >= 2, "both operands need two axes")
    if b.axis is None and a.axis == ranks[0] - 2:  # the batch axis is that of the rows
        *others, columns = call.draft.shape(a.key)
        rows = call.reshaped(a.key, (*others[: a.axis], prod(a.parts), columns))
        key, where = call.add("matmul", rows, b.key), replace(a, axis=max(ranks) - 2)
        *others, columns = call.draft.shape(key)
        return call.reshaped(key, (*others[:-1], *a.parts, columns)), where
    keys, where = call.aligned([_led(call, a, max(ranks)), _led(call, b, max(ranks))])
    if where.axis is not None and where.axis >= max(ranks) - 2:
        raise UnsupportedError("a product over the samples of the batch")
    return call.add("matmul", *keys), where


def _led(call: Call, value: Tensor, rank: int) -> Tensor:
    """`value` with axes of size 1 in front, so that it has `rank` axes."""
    missing = rank - len(call.dims(value))
    return call.shaped(value, (*(1,) * missing, *call.dims(value))) if missing else value


def _einsum(call: Call) -> Tensor:
    """Two operands, each letter once in each, as one matrix product: (both, rows, sum) by (both, sum, columns)."""
    sides, _, result = call.get("equation", str).replace(" ", "").partition("->")
    first, _, second = sides.partition(",")
    letters = {*first, *second, *result}
    simple = result and second and all(len({*word}) == len(word) for word in (first, second, result))
    if not simple or "." in letters or letters - {*result} - ({*first} & {*second}) or "," in second:
        raise UnsupportedError(f"the equation {call.get('equation', str)!r}")
    a, b = call.tensor(0), call.tensor(1, learned=True)
    size = dict(zip(first + second, call.dims(a) + call.dims(b), strict=True))
    both = [x for x in result if x in first and x in second]
    rows, columns = ([x for x in result if x in word and x not in both] for word in (first, second))
    summed = [x for x in first if x not in result]

    def matrices(value: Tensor, word: str, left: list[str], right: list[str]) -> Tensor:
        turned = transposed(call, value, [word.index(x) for x in (*both, *left, *right)])
        sides = [prod(size[x] for x in part) for part in (left, right)]
        return call.shaped(turned, [*(size[x] for x in both), *sides])

    key, where = _matrix_product(call, matrices(a, first, rows, summed), matrices(b, second, summed, columns))
    spread = call.shaped(call.like(where, key), [size[x] for x in (*both, *rows, *columns)])
    return transposed(call, spread, [[*both, *rows, *columns].index(x) for x in result])


# -- normalization ----------------------------------------------------------------------------------------------------


def _batch_normalization(call: Call) -> tuple[Value, ...]:
    if call.get("training_mode", int, 0):
        raise UnsupportedError("it normalizes by the statistics of the current batch (training mode)")
    if call.tensor().axis == 0 and call.tensor().parts:
        return (_of_merged_batch(call),)
    x, shape = call.image(), call.constant(1).shape
    spatial = bool(call.get("spatial", int, 1))
    statistics = [call.weights(index, shape) for index in (1, 2)]
    statistics += [call.number_key(call.constant(index).reshape(shape)) for index in (3, 4)]
    key = call.add(
        "batch_normalization", x.key, *statistics, call.number_key(1.0), spatial=spatial,
        epsilon=call.get("epsilon", float, 1e-5), time_constant_samples=_TIME_CONSTANT_SAMPLES,
        blend_time_constant_samples=0.0,
    )  # fmt: skip
    return (call.like(x, key),)


def _of_merged_batch(call: Call) -> Tensor:
    """Where patches and samples share one axis, the patches are moved to the last axis for the normalization."""
    x = call.tensor()
    patches, others = prod(x.parts), call.dims(x)[1:]
    turned = call.add("transpose", call.reshaped(x.key, (patches, *others)), order=(*range(1, len(others) + 1), 0))
    [result, *_] = _batch_normalization(replace(call, operands=(Tensor(turned), *call.operands[1:])))
    assert isinstance(result, Tensor)
    back = call.add("transpose", result.key, order=(len(others), *range(len(others))))
    return call.like(x, call.reshaped(back, (*x.parts, *others)))


def _layer_normalization(call: Call) -> tuple[Value, ...]:
    x = call.tensor()
    rank = len(call.dims(x))
    axis = axis_of(call.get("axis", int, -1), rank)
    if x.axis is not None and x.axis >= axis:
        raise UnsupportedError("statistics over the samples of the batch")
    own = [call.weights(index, call.dims(x)[axis:]) for index in (1, 2) if call.has(index)]
    key = call.add("layer_normalization", x.key, *own, axes=rank - axis, epsilon=call.get("epsilon", float, 1e-5))
    return (call.like(x, key),)


def _instance_normalization(call: Call) -> Tensor:
    x = call.image()
    return _in_groups(call, x, call.draft.shape(x.key)[0], [call.weights(1), call.weights(2)])


def _group_normalization(call: Call) -> Tensor:
    """Group normalization; before opset 21, scale and bias have one number per group."""
    x, groups = call.image(), call.get("num_groups", int)
    channels = call.draft.shape(x.key)[0]
    require(groups >= 1 and channels % groups == 0, f"{channels} channels in {groups} groups")
    by_channel = call.constant(1).size == channels
    arrays = [call.constant(index).reshape(-1) for index in (1, 2)]
    weights = [
        call.weights(index) if by_channel else call.number_key(np.repeat(array, channels // groups))
        for index, array in zip((1, 2), arrays, strict=True)
    ]
    return _in_groups(call, x, groups, weights)


def _in_groups(call: Call, x: Tensor, groups: int, weights: Sequence[str]) -> Tensor:
    epsilon = call.get("epsilon", float, 1e-5)
    return call.like(x, call.add("group_normalization", x.key, *weights, groups=groups, epsilon=epsilon))


def _lrn(call: Call) -> Tensor:
    x = call.image()
    alpha, beta, bias = (
        call.get(name, float, default) for name, default in (("alpha", 1e-4), ("beta", 0.75), ("bias", 1.0))
    )
    size = call.get("size", int)
    require(size >= 1, f"response normalization over {size} channels")
    if size % 2 == 0:
        raise UnsupportedError(f"response normalization over {size} channels, an even number")
    return call.like(x, call.add("local_response_normalization", x.key, size=size, alpha=alpha, beta=beta, k=bias))


def _lp_normalization(call: Call) -> Tensor:
    x, p = call.tensor(), call.get("p", int, 2)
    axis = call.place(x, call.get("axis", int, -1))
    require(p in (1, 2), f"a norm of p = {p}")
    powers = call.add("abs", x.key) if p == 1 else call.add("multiply", x.key, x.key)
    total = call.add("reduce_sum", powers, axes=(axis,), keep_dims=True)
    return call.like(x, call.add("divide", x.key, total if p == 1 else call.add("ieee_sqrt", total)))


# -- resizing ---------------------------------------------------------------------------------------------------------


def _resize(call: Call) -> Tensor:
    """Each axis by itself is a product with a matrix, whatever the interpolation."""
    x = call.tensor()
    dims = call.dims(x)
    sizes, scales = _resized(call, x)
    for axis, (size, wanted, scale) in enumerate(zip(dims, sizes, scales, strict=True)):
        if axis == x.axis or (size == wanted and scale == 1):
            continue
        require(1 <= wanted <= 4096 and size <= 4096, f"{size} cells resized to {wanted}")
        matrix = resize_matrix(size, wanted, scale, _resize_settings(call))
        x = _along(call, x, axis, matrix)
    return x


def _resized(call: Call, x: Tensor) -> tuple[list[int], list[float]]:
    """(sizes, scales) for all axes of the file."""
    dims = call.dims(x)
    rank = len(dims)
    given = call.integers("axes")
    axes = [axis_of(axis, rank) for axis in given] if given else [*range(rank)]
    sizes, scales = list(dims), [1.0] * rank
    at = {"Upsample": 1}.get(call.op, 1 if call.opset < 11 else 2)
    wanted = call.constant(at + 1).reshape(-1) if call.has(at + 1) else None
    factors = call.attributes.get("scales") if call.opset < 9 else None
    if factors is None and wanted is None:
        factors = call.constant(at).reshape(-1).tolist()
    count = len(wanted if wanted is not None else factors or ())
    require(count == len(axes), f"{count} sizes or scales for {len(axes)} axes")
    for index, axis in enumerate(axes):
        if wanted is not None:
            sizes[axis], scales[axis] = int(wanted[index]), float(wanted[index]) / dims[axis]
        elif factors is not None:
            scales[axis] = float(factors[index])
            exact = np.float32(dims[axis]) * np.float32(factors[index])  # as runtimes do: 10 * 0.7 is 7
            sizes[axis] = floor(exact) if scales[axis] != 1 else dims[axis]
    if x.axis is not None and scales[x.axis] != 1 and sizes[x.axis] not in (dims[x.axis], call.samples):
        raise UnsupportedError("works along the batch axis")
    if call.get("keep_aspect_ratio_policy", str, "stretch") != "stretch":
        raise UnsupportedError("it keeps the aspect ratio")
    return sizes, scales


def _resize_settings(call: Call) -> dict[str, Any]:
    old = call.op == "Upsample" or call.opset < 11
    if call.get("coordinate_transformation_mode", str, "") == "tf_crop_and_resize":
        raise UnsupportedError("it resizes a part of the image (tf_crop_and_resize)")
    return {
        "mode": call.get("mode", str, "nearest"),
        "coordinates": "asymmetric" if old else call.get("coordinate_transformation_mode", str, "half_pixel"),
        "nearest": "floor" if old else call.get("nearest_mode", str, "round_prefer_floor"),
        "cubic": call.get("cubic_coeff_a", float, -0.75),
        "exclude_outside": bool(call.get("exclude_outside", int, 0)),
        "antialias": bool(call.get("antialias", int, 0)),
    }


def _along(call: Call, x: Tensor, axis: int, matrix: np.ndarray) -> Tensor:
    """The (wanted, size) matrix times x, along an axis of the file. If it only picks cells, it is a gather."""
    place, rank = call.place(x, axis), len(call.draft.shape(x.key))
    if np.array_equal(np.sort(matrix, axis=1)[:, :-1], np.zeros_like(matrix[:, 1:])) and np.all(matrix.max(1) == 1):
        return call.like(x, call.add("gather", x.key, axis=place, indices=tuple(matrix.argmax(1).tolist())))
    last = [*range(place), *range(place + 1, rank), place]
    key = x.key if place == rank - 1 else call.add("transpose", x.key, order=tuple(last))
    key = call.add("linear", key, call.number_key(matrix.T), contracted=1, transposed=False)
    back = tuple(last.index(axis) for axis in range(rank))
    return call.like(x, key if place == rank - 1 else call.add("transpose", key, order=back))


LAYER_RULES: dict[str, Rule] = {
    "Gemm": _gemm,
    "MatMul": _matmul,
    "Einsum": _einsum,
    "BatchNormalization": _batch_normalization,
    "LayerNormalization": _layer_normalization,
    "InstanceNormalization": _instance_normalization,
    "GroupNormalization": _group_normalization,
    "LRN": _lrn,
    "LpNormalization": _lp_normalization,
    "Resize": _resize,
    "Upsample": _resize,
}
