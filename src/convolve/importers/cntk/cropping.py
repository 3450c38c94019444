"""CNTK's Crop: a map is cropped to another one's size, at the file's offset, or where both show the same place."""

from collections.abc import Sequence
from fractions import Fraction

from convolve.errors import UnsupportedError
from convolve.graph.graph import Node
from convolve.graph.shapes import require
from convolve.importers.cntk.call import Call

# Along rows and columns: cell i of a map lies at position scale * i + shift of another one.
_Places = tuple[tuple[Fraction, Fraction], ...]
_HERE: _Places = ((Fraction(1), Fraction(0)),) * 2


def crop(call: Call) -> str:
    """The first operand, cropped to the rows and columns of the second. Without an offset in the file, the two are
    aligned at a map from which both were computed; two further operands, if given, are taken to be that map."""
    image, like = call.shape(0), call.shape(1)
    require(len(image) == len(like) == 3, f"shape {image} cannot be cropped to {like}")
    if "offset" in call.attributes:
        columns, rows = call.attributes.items("offset", int)
        offsets = [rows, columns]
    else:
        offsets = _aligned(call)
    value = call.operand(0)
    for axis, offset in enumerate(offsets, start=1):
        if (offset, like[axis]) != (0, image[axis]):
            value = call.add("slice", value, axis=axis, begin=offset, end=offset + like[axis], step=1)
    return value


def _aligned(call: Call) -> list[int]:
    ours, theirs = _origins(call, call.operand(0)), _origins(call, call.operand(1))
    pairs = [(key, key) for key in ours if key in theirs]
    if len(call.operands) == 4:
        pairs = [(call.operand(2), call.operand(3))] if {*call.operands[2:]} <= {*ours, *theirs} else []
    if not pairs or pairs[0][0] not in ours or pairs[0][1] not in theirs:
        raise UnsupportedError("the two maps do not come from one map by convolution and pooling")
    offsets = []
    for (scale, shift), (other_scale, other_shift) in zip(ours[pairs[0][0]], theirs[pairs[0][1]], strict=True):
        offset = (other_shift - shift) / scale
        if scale != other_scale or offset.denominator != 1:
            raise UnsupportedError(
                f"the two maps lie {offset} cells apart, and their cells differ in size by {other_scale / scale}"
            )
        offsets.append(int(offset))
    return offsets


def _origins(call: Call, key: str) -> dict[str, _Places]:
    """The maps that a map was computed from, one after the other, and where its cells lie in each."""
    found, places = {key: _HERE}, _HERE
    while (node := call.draft.node(key)) is not None:
        step = _step(call, node)
        batched = [name for name in node.inputs if call.draft.batched(name)]
        if step is None or not batched:
            return found
        key = batched[0]
        # A cell of this map lies at scale * i + shift of the previous one, and that one at outer * j + offset of ...
        places = tuple(
            (scale * inner, inner_shift + inner * shift)
            for (scale, shift), (inner, inner_shift) in zip(places, step, strict=True)
        )
        found[key] = places
    return found


def _step(call: Call, node: Node) -> _Places | None:
    """Where the cells of a node's value lie in its operand; None if they have no place there."""
    if node.op in ("convolution", "max_pool", "average_pool"):
        return _of_windows(call, node)
    if node.op == "convolution_transpose":
        # Cell o of the result is at cell (o + lower - (k - 1) / 2) / stride of the operand. CNTK 2.7 rounds the half
        # down, here and below, as 23 crops by the real one showed.
        kernel = [(k - 1) * d for k, d in zip(_kernel(call, node), node.integers("dilation"), strict=True)]
        rows = zip(node.integers("strides"), node.integers("lower"), kernel, strict=True)
        return tuple((Fraction(1, stride), Fraction(lower - reach // 2, stride)) for stride, lower, reach in rows)
    if node.op == "slice" and len(node.shape) == 3:
        axis = node.integer("axis") % 3
        moved = Fraction(node.integer("step")), Fraction(node.integer("begin"))
        return tuple(moved if axis == at + 1 else _HERE[at] for at in range(2))
    same = [name for name in node.inputs if call.draft.shape(name)[1:] == node.shape[1:] and call.draft.batched(name)]
    return _HERE if len(node.shape) == 3 and same and same[0] == node.inputs[0] else None


def _kernel(call: Call, node: Node) -> Sequence[int]:
    return call.draft.shape(node.inputs[1])[2:]


def _of_windows(call: Call, node: Node) -> _Places:
    if node.op == "convolution":
        reach = [(k - 1) * d for k, d in zip(_kernel(call, node), node.integers("dilation"), strict=True)]
    else:
        reach = [window - 1 for window in node.integers("window")]
    rows = zip(node.integers("strides"), node.integers("lower"), reach, strict=True)
    return tuple((Fraction(stride), Fraction(cells // 2 - lower)) for stride, lower, cells in rows)
