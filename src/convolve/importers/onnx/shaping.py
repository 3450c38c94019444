"""ONNX's changes of shape -> the neutral graph. Axes are the file's own, the batch included; see `call.Tensor`."""

from collections.abc import Sequence
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np

from convolve.errors import UnsupportedError
from convolve.graph.shapes import axis_of, require
from convolve.importers.onnx.call import BATCH, Call, Tensor, Value
from convolve.importers.onnx.model import Constant
from convolve.importers.onnx.plain import Rule

_MOST_CELLS = 2**16  # of one axis; each becomes a number in the code


def _shape(call: Call) -> Constant:
    dims = call.dims(call.value())
    return Constant(np.array(dims[call.attributes.get("start", 0) : call.attributes.get("end")], np.int64))


# -- reshape and its kin ----------------------------------------------------------------------------------------------


def _reshape(call: Call) -> Tensor:
    return to_shape(call, call.tensor(), call.integers("shape", 1) or [], bool(call.attributes.get("allowzero", 0)))


def to_shape(call: Call, x: Tensor, target: Sequence[int], allow_zero: bool = False) -> Tensor:
    """A reshape in the file's terms: 0 keeps a size, -1 is inferred. Sizes that were written for a batch of one, or for
    the batch size that the file fixes, are read for batches of any size."""
    dims = call.dims(x)
    if not allow_zero:
        require(all(size or axis < len(dims) for axis, size in enumerate(target)), f"a reshape of {dims} to {target}")
        target = [size or dims[axis] for axis, size in enumerate(target)]
    require(list(target).count(-1) <= 1, f"a reshape to {target}")
    if x.axis is None and dims and any(size > 0 and size % BATCH == 0 for size in target) and call.batched(x):
        x = call.with_batch(x)  # a file for one sample that has a batch axis again from here on
        return call.shaped(x, _completed(target, prod(call.dims(x))))
    if x.axis is None:
        return call.shaped(x, _completed(target, prod(dims)))
    samples = _written_for(call, x, target)
    if samples is None:
        return call.shaped(x, _completed(target, prod(dims)))
    return _for_samples(call, x, target, samples)


def _written_for(call: Call, x: Tensor, target: Sequence[int]) -> int | None:
    """The batch size that the sizes of a reshape were written for; None: they hold for any."""
    if any(size > 0 and size % BATCH == 0 for size in target):
        return None
    if call.samples is not None or -1 not in target:
        return call.samples or 1  # where the code asked for the batch size, torch writes that of its example
    left = target.index(-1)
    baked = left > 0 and target[0] == 1 and _completed(target, prod(call.dims(x)))[left] != BATCH
    return 1 if baked else None


def _completed(target: Sequence[int], total: int) -> list[int]:
    known = prod(size for size in target if size != -1)
    require(
        known > 0 and total % known == 0 if -1 in target else known == total, f"{total} numbers do not fill {target}"
    )
    return [total // known if size == -1 else size for size in target]


def _for_samples(call: Call, x: Tensor, target: Sequence[int], samples: int) -> Tensor:
    """A reshape whose sizes were written for `samples` samples."""
    one = [size // BATCH * samples if size % BATCH == 0 else size for size in call.dims(x)]
    full, before = _completed(target, prod(one)), prod(one[: x.axis]) * x.outer
    if samples == 1:
        # A first axis of size 1 is the batch axis; otherwise the file has no batch axis from here on.
        has_batch = full[:1] == [1] and before == 1
        return call.shaped(x, [BATCH, *full[1:]]) if has_batch else Tensor(call.reshaped(x.key, tuple(full)), None)
    for axis, size in enumerate(full):
        ahead = prod(full[:axis])
        if before % ahead == 0 and size % (samples * (before // ahead)) == 0:
            return call.shaped(x, [*full[:axis], size // samples * BATCH, *full[axis + 1 :]])
    raise UnsupportedError("a reshape that mixes samples")


def _flatten(call: Call) -> Tensor:
    x = call.tensor()
    dims = call.dims(x)
    axis = call.get("axis", int, 1)
    axis += len(dims) * (axis < 0)
    require(0 <= axis <= len(dims), f"axis {axis} of shape {dims}")
    return call.shaped(x, [prod(dims[:axis]), prod(dims[axis:])])


def _squeeze(call: Call) -> Tensor:
    x = call.tensor()
    dims, axes = call.dims(x), call.integers("axes", 1)
    if axes is None:
        axes = [axis for axis, size in enumerate(dims) if size == 1 or (axis == x.axis and call.samples == 1)]
    axes = [axis_of(axis, len(dims)) for axis in axes]
    for axis in axes:
        is_batch = axis == x.axis and call.samples == 1 and not x.parts
        require(dims[axis] == 1 or is_batch, f"axis {axis} of shape {dims} is not of size 1")
    kept = [size for axis, size in enumerate(dims) if axis not in axes]
    if x.axis in axes:
        return Tensor(call.reshaped(x.key, tuple(kept)), None)
    return call.shaped(x, kept)


def _unsqueeze(call: Call) -> Tensor:
    x, axes = call.tensor(), call.integers("axes", 1) or []
    rank = len(call.dims(x)) + len(axes)
    axes = [axis_of(axis, rank) for axis in axes]
    sizes = iter(call.dims(x))
    return call.shaped(x, [1 if axis in axes else next(sizes) for axis in range(rank)])


def _transpose(call: Call) -> Tensor:
    x = call.tensor()
    rank = len(call.dims(x))
    order = call.integers("perm") or list(range(rank))[::-1]
    require(sorted(order) == list(range(rank)), f"the order {order} for {rank} axes")
    return transposed(call, x, order)


def transposed(call: Call, x: Tensor, order: Sequence[int]) -> Tensor:
    places = tuple(place for axis in order for place in call.places(x, axis))
    axis = None if x.axis is None else list(order).index(x.axis)
    key, before = x.key, call.draft.node(x.key)
    if before is not None and before.op == "transpose":  # two become one, or cancel out: images stored HWC
        places, key = tuple(before.integers("order")[place] for place in places), before.inputs[0]
    if places != tuple(range(len(places))):
        key = call.add("transpose", key, order=places)
    return replace(x, key=key, axis=axis)


def _expand(call: Call) -> Tensor:
    """To the shape that both shapes broadcast to; a value without a batch axis is repeated for each sample."""
    x, target = call.tensor(), call.integers("shape", 1) or []
    rank = max(len(target), len(call.dims(x)))
    dims = (1,) * (rank - len(call.dims(x))) + call.dims(x)
    sizes = [
        max(size, wanted) if 1 in (size, wanted) else size
        for size, wanted in zip(dims, [1] * (rank - len(target)) + list(target), strict=True)
    ]
    x = call.shaped(x, dims)
    if x.axis is None and any(size % BATCH == 0 for size in sizes):
        axis = next(axis for axis, size in enumerate(sizes) if size % BATCH == 0)
        require(dims[axis] == 1, f"shape {dims} cannot be expanded to the batch size")
        parts = (sizes[axis] // BATCH,) if sizes[axis] != BATCH else ()
        key = call.reshaped(x.key, (*dims[:axis], *(1,) * len(parts), *dims[axis + 1 :]))
        x = Tensor(key, axis, inner=sizes[axis] // BATCH)
        shape = (*sizes[:axis], *parts, *sizes[axis + 1 :])
    else:
        shape = tuple(sizes) if x.axis is None else (*sizes[: x.axis], *x.parts, *sizes[x.axis + 1 :])
    return x if call.draft.shape(x.key) == shape else call.like(x, call.add("expand", x.key, shape=shape))


def _constant_of_shape(call: Call) -> Tensor:
    """One number, for each sample; fold.py computes shapes without a batch axis."""
    sizes = [int(size) for size in call.constant(0).reshape(-1)]
    value = call.attributes.get("value")
    axis = next(axis for axis, size in enumerate(sizes) if size % BATCH == 0)
    require(sizes[axis] == BATCH, f"a constant of shape {sizes}")
    number = call.number_key(0.0 if value is None else float(value.reshape(-1)[0]))
    shape = (*sizes[:axis], *sizes[axis + 1 :])
    return Tensor(call.add("expand", call.reshaped(number, (1,) * len(shape)), shape=shape), axis)


def _tile(call: Call) -> Tensor:
    x, repeats = call.tensor(), [int(number) for number in call.constant(1).reshape(-1)]
    if x.axis is None and any(count % BATCH == 0 for count in repeats):
        axis = next(axis for axis, count in enumerate(repeats) if count % BATCH == 0)
        dims = call.dims(x)
        require(dims[axis] == 1 and repeats[axis] == BATCH, f"shape {dims} repeated {repeats} times")
        x = Tensor(call.reshaped(x.key, (*dims[:axis], *dims[axis + 1 :])), axis)
        repeats[axis] = 1
    for axis, count in enumerate(repeats):
        if count != 1:
            require(1 <= count <= 4096, f"an axis repeated {count} times")
            x = call.like(x, call.add("concatenate", *[x.key] * count, axis=call.place(x, axis)))
    return x


# -- parts ------------------------------------------------------------------------------------------------------------


def _concat(call: Call) -> Tensor:
    tensors = [call.tensor(index) for index in range(len(call.operands))]
    axis = axis_of(call.get("axis", int), len(call.dims(tensors[0])))
    keys, where = call.aligned(tensors)
    if axis == where.axis:
        raise UnsupportedError("it concatenates samples")
    place = axis if where.axis is None or axis < where.axis else axis + len(where.parts) - 1
    return call.like(where, call.add("concatenate", *keys, axis=place))


def _split(call: Call) -> tuple[Value, ...]:
    x = call.tensor()
    axis, sizes = call.get("axis", int, 0), call.integers("split", 1)
    place, count = call.place(x, axis), call.outputs
    whole = call.draft.shape(x.key)[place]
    if sizes is None:
        each = -(-whole // count)
        sizes = [min(each, whole - begin) for begin in range(0, whole, each)]
    require(sum(sizes) == whole and len(sizes) == count, f"{whole} cells cannot be split into {sizes}")
    ends = np.cumsum(sizes).tolist()
    return tuple(_part(call, x, place, end - size, end) for size, end in zip(sizes, ends, strict=True))


def _part(call: Call, x: Tensor, place: int, begin: int, end: int) -> Tensor:
    whole = (begin, end) == (0, call.draft.shape(x.key)[place])
    return x if whole else call.like(x, call.add("slice", x.key, axis=place, begin=begin, end=end, step=1))


def _slice(call: Call) -> Tensor:
    x = call.tensor()
    starts, ends = call.integers("starts", 1) or [], call.integers("ends", 2) or []
    axes, steps = call.integers("axes", 3) or list(range(len(starts))), call.integers("steps", 4) or [1] * len(starts)
    require(
        len(starts) == len(ends) == len(axes) == len(steps), "it has different numbers of starts, ends, axes and steps"
    )
    for axis, begin, end, step in zip(axes, starts, ends, steps, strict=True):
        require(step != 0, "a slice of step 0")
        size = call.dims(x)[axis_of(axis, len(call.dims(x)))]
        cells = range(*slice(begin, end if step > 0 or end >= -size else None, step).indices(size))
        x = _cut(call, x, axis_of(axis, len(call.dims(x))), cells)
    return x


def _cut(call: Call, x: Tensor, axis: int, cells: range) -> Tensor:
    if axis == x.axis and (len(cells) == call.dims(x)[axis] or (call.samples == 1 and cells[:1] == range(1))):
        return x
    place = call.place(x, axis)
    require(len(cells) >= 1, f"the slice is empty along axis {axis}")
    if cells.step < 0:
        return call.like(x, call.add("gather", x.key, axis=place, indices=tuple(cells)))
    if cells == range(call.draft.shape(x.key)[place]):
        return x
    return call.like(x, call.add("slice", x.key, axis=place, begin=cells.start, end=cells[-1] + 1, step=cells.step))


def _gather(call: Call) -> Tensor:
    """By constant indices: a single number drops its axis; an array of indices puts its own axes in the place."""
    x, indices = call.tensor(), call.constant(1)
    dims = call.dims(x)
    axis = axis_of(call.get("axis", int, 0), len(dims))
    if axis == x.axis and call.samples == 1 and not x.parts and indices.size == 1:
        kept = (*dims[:axis], *indices.shape, *dims[axis + 1 :])
        return Tensor(call.reshaped(x.key, kept), None)
    place, size = call.place(x, axis), dims[axis]
    cells = [int(index) + size * (int(index) < 0) for index in indices.reshape(-1)]
    require(
        0 < len(cells) <= _MOST_CELLS and all(0 <= cell < size for cell in cells),
        f"indices beyond the {size} cells of axis {axis}",
    )
    if len(cells) == 1:
        taken = _part(call, x, place, cells[0], cells[0] + 1)
    else:
        taken = call.like(x, call.add("gather", x.key, axis=place, indices=tuple(cells)))
    return call.shaped(taken, (*dims[:axis], *indices.shape, *dims[axis + 1 :]))


def _pad(call: Call) -> Tensor:
    x, pads = call.tensor(), call.integers("pads", 1) or []
    rank, mode = len(call.dims(x)), call.get("mode", str, "constant")
    axes = [axis_of(axis, rank) for axis in call.integers("axes", 3) or range(rank)]
    require(len(pads) == 2 * len(axes), f"{len(pads)} pad sizes for {len(axes)} axes")
    value = call.number("value", 2, 0.0)
    lower, upper = [0] * len(call.draft.shape(x.key)), [0] * len(call.draft.shape(x.key))
    for index, axis in enumerate(axes):
        low, high = pads[index], pads[index + len(axes)]
        if low or high:
            lower[call.place(x, axis)], upper[call.place(x, axis)] = low, high
    if mode in ("edge", "wrap"):
        return _padded_by_cells(call, x, lower, upper, mode)
    require(mode in ("constant", "reflect"), f"padding mode {mode}")
    for place, (low, high) in enumerate(zip(lower, upper, strict=True)):
        if min(low, high) < 0:
            size = call.draft.shape(x.key)[place]
            x = _part(call, x, place, max(0, -low), size - max(0, -high))
    ends = {"lower": tuple(max(0, low) for low in lower), "upper": tuple(max(0, high) for high in upper)}
    if not any((*ends["lower"], *ends["upper"])):
        return x
    return call.like(x, call.add("pad", x.key, mode=mode, value=value, **ends))


def _padded_by_cells(call: Call, x: Tensor, lower: Sequence[int], upper: Sequence[int], mode: str) -> Tensor:
    how: Any = mode
    for place, (low, high) in enumerate(zip(lower, upper, strict=True)):
        size = call.draft.shape(x.key)[place]
        require(min(low, high) >= 0 and max(low, high) <= 4096, f"padding {low} and {high}")
        if low or high:
            cells = tuple(np.pad(np.arange(size), (low, high), how).tolist())
            x = call.like(x, call.add("gather", x.key, axis=place, indices=cells))
    return x


# -- cells between depth and space ------------------------------------------------------------------------------------


def _depth_to_space(call: Call) -> Tensor:
    x, block, mode = call.image(), call.get("blocksize", int), call.get("mode", str, "DCR")
    channels, height, width = call.draft.shape(x.key)
    require(block >= 1 and channels % block**2 == 0, f"{channels} channels in blocks of {block}x{block}")
    inner = channels // block**2
    split = (block, block, inner, height, width) if mode == "DCR" else (inner, block, block, height, width)
    order = (2, 3, 0, 4, 1) if mode == "DCR" else (0, 3, 1, 4, 2)
    key = call.add("transpose", call.add("reshape", x.key, shape=split), order=order)
    return call.like(x, call.add("reshape", key, shape=(inner, height * block, width * block)))


def _space_to_depth(call: Call) -> Tensor:
    x, block = call.image(), call.get("blocksize", int)
    channels, height, width = call.draft.shape(x.key)
    require(block >= 1 and height % block == width % block == 0, f"{height}x{width} cells in blocks of {block}x{block}")
    split = (channels, height // block, block, width // block, block)
    key = call.add("transpose", call.add("reshape", x.key, shape=split), order=(2, 4, 0, 1, 3))
    return call.like(x, call.add("reshape", key, shape=(channels * block**2, height // block, width // block)))


SHAPE_RULES: dict[str, Rule] = {
    "Shape": _shape,
    "Size": lambda call: Constant(np.array(prod(call.dims(call.value())), np.int64)),
    "Reshape": _reshape,
    "Flatten": _flatten,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Transpose": _transpose,
    "Expand": _expand,
    "ConstantOfShape": _constant_of_shape,
    "Tile": _tile,
    "Concat": _concat,
    "Split": _split,
    "Slice": _slice,
    "Gather": _gather,
    "Pad": _pad,
    "DepthToSpace": _depth_to_space,
    "SpaceToDepth": _space_to_depth,
}
