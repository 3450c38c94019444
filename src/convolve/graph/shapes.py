"""The output shape of each operation of the neutral graph, and its requirements on shapes.

Shapes are those of one sample, slowest axis first, without the batch: (C, H, W). Axes are counted as numpy counts
them: 0 is the slowest, -1 the fastest.
"""

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

Shape = tuple[int, ...]
Attributes = Mapping[str, Any]
ShapeRule = Callable[[Attributes, Sequence[Shape]], Shape]

# 1 GB of float32 for one sample: beyond any image network, and a bound on what a damaged file can ask for.
MAX_ELEMENTS = 2**28
# Values of a graph: twenty times a ResNet-152; a bound on the time that a hostile file can cost.
MAX_VALUES = 20_000


class GraphError(ValueError):
    """A node that does not fit its inputs. The reader of a file adds the file and the place."""


def require(holds: bool, what: str) -> None:
    if not holds:
        raise GraphError(what)


def bounded(shape: Shape) -> Shape:
    require(
        prod(shape) <= MAX_ELEMENTS,
        f"a value of shape {shape}; more than {MAX_ELEMENTS} numbers per sample are refused",
    )
    return shape


def axis_of(axis: int, rank: int) -> int:
    """`axis`, counted from either end, as 0 .. rank - 1."""
    require(-rank <= axis < rank, f"axis {axis} of a value with {rank} axes")
    return axis % rank


def axes_of(attributes: Attributes, rank: int) -> tuple[int, ...]:
    axes = tuple(axis_of(axis, rank) for axis in attributes["axes"])
    require(len(set(axes)) == len(axes), f"an axis twice in {axes}")
    return axes


def broadcasting(attributes: Attributes, shapes: Sequence[Shape]) -> Shape:
    """The common shape, aligned at the fastest axis as numpy does."""
    rank = max(map(len, shapes))
    result = []
    for sizes in zip(*((1,) * (rank - len(shape)) + shape for shape in shapes), strict=True):
        larger = {size for size in sizes if size != 1}
        require(len(larger) <= 1, f"shapes {' and '.join(map(str, shapes))} do not fit")
        result.append(larger.pop() if larger else 1)
    return tuple(result)


def same(attributes: Attributes, shapes: Sequence[Shape]) -> Shape:
    return shapes[0]


def number(attributes: Attributes, shapes: Sequence[Shape]) -> Shape:
    """One number for each sample."""
    return ()


def along_axes(attributes: Attributes, shapes: Sequence[Shape]) -> Shape:
    axes_of(attributes, len(shapes[0]))
    return shapes[0]


def over_the_batch(attributes: Attributes, shapes: Sequence[Shape]) -> Shape:
    require(len({*map(prod, shapes)}) == 1, f"samples of shapes {' and '.join(map(str, shapes))} compared")
    return ()


def prelu(attributes: Attributes, shapes: Sequence[Shape]) -> Shape:
    x, slopes = shapes
    require(len(x) >= 1 and prod(slopes) in (1, x[0]), f"slopes of shape {slopes} for an input of shape {x}")
    return x


def batch_normalization(attributes: Attributes, shapes: Sequence[Shape]) -> Shape:
    x = shapes[0]
    require(len(x) > 0, "batch normalization of a scalar")
    wanted = x[0] if attributes["spatial"] else prod(x)
    for statistic in shapes[1:5]:
        require(prod(statistic) == wanted, f"{prod(statistic)} statistics for an input of shape {x}")
    require(all(prod(count) == 1 for count in shapes[5:]), "a count of samples that is not one number")
    return x


def local_response_normalization(attributes: Attributes, shapes: Sequence[Shape]) -> Shape:
    require(len(shapes[0]) >= 2 and attributes["size"] >= 1, f"normalization across the channels of shape {shapes[0]}")
    return shapes[0]


def layer_normalization(attributes: Attributes, shapes: Sequence[Shape]) -> Shape:
    x, axes = shapes[0], attributes["axes"]
    require(1 <= axes <= len(x), f"normalization of the last {axes} axes of shape {x}")
    for own in shapes[1:]:
        require(own == x[len(x) - axes :], f"a scale or bias of shape {own} for an input of shape {x}")
    return x


def group_normalization(attributes: Attributes, shapes: Sequence[Shape]) -> Shape:
    x, groups = shapes[0], attributes["groups"]
    require(len(x) >= 1 and groups >= 1 and x[0] % groups == 0, f"{groups} groups of the channels of shape {x}")
    require(all(own == x[:1] for own in shapes[1:]), f"scale {shapes[1]}, bias {shapes[2]} for an input of shape {x}")
    return x


def _windows(attributes: Attributes, x: Shape, windows: Shape) -> Shape:
    """How many windows of the given (dilated) sizes fit along each spatial axis of x, a (C, ...) shape."""
    strides, lower, upper = attributes["strides"], attributes["lower"], attributes["upper"]
    sizes = x[1:]
    lengths = {len(sizes), len(windows), len(strides), len(lower), len(upper)}
    require(len(lengths) == 1, f"a window of {len(windows)} axes over {len(sizes)} spatial axes")
    counts = []
    for size, window, stride, low, high in zip(sizes, windows, strides, lower, upper, strict=True):
        require(window >= 1 and 1 <= stride <= MAX_ELEMENTS, f"a window of {window} with stride {stride}")
        padded = size + low + high
        require(window <= padded, f"a window of {window} over {size} cells padded to {padded}")
        counts.append((padded - window) // stride + 1)
    bounded((x[0], *(size + low + high for size, low, high in zip(sizes, lower, upper, strict=True))))
    return tuple(counts)


def convolution(attributes: Attributes, shapes: Sequence[Shape]) -> Shape:
    x, weight = shapes[:2]
    groups, dilation = attributes["groups"], attributes["dilation"]
    require(2 <= len(x) == len(weight) - 1, f"a weight of shape {weight} over an input of shape {x}")
    require(len(dilation) == len(x) - 1 and min(dilation) >= 1, f"dilation {dilation}")
    require(groups >= 1 and weight[1] * groups == x[0], f"{x[0]} channels for {groups} groups of {weight[1]}")
    require(weight[0] % groups == 0, f"{weight[0]} maps in {groups} groups")
    _require_bias(shapes, weight[0])
    kernel = tuple((k - 1) * d + 1 for k, d in zip(weight[2:], dilation, strict=True))
    return (weight[0], *_windows(attributes, x, kernel))


def convolution_transpose(attributes: Attributes, shapes: Sequence[Shape]) -> Shape:
    x, weight = shapes[:2]
    groups, spatial = attributes["groups"], len(shapes[0]) - 1
    require(2 <= len(x) == len(weight) - 1, f"a weight of shape {weight} over an input of shape {x}")
    require(
        groups >= 1 and weight[0] == x[0] and x[0] % groups == 0, f"{x[0]} channels, weight {weight}, {groups} groups"
    )
    for name in ("strides", "dilation", "lower", "output"):
        require(len(attributes[name]) == spatial, f"{name} {attributes[name]} for {spatial} spatial axes")
    require(
        min(*attributes["strides"], *attributes["dilation"], *attributes["output"]) >= 1, "a stride or size below 1"
    )
    full = zip(x[1:], weight[2:], attributes["strides"], attributes["dilation"], strict=True)
    bounded((weight[1] * groups, *((size - 1) * stride + (k - 1) * dilation + 1 for size, k, stride, dilation in full)))
    _require_bias(shapes, weight[1] * groups)
    return (weight[1] * groups, *attributes["output"])


def _require_bias(shapes: Sequence[Shape], channels: int) -> None:
    require(len(shapes) == 2 or prod(shapes[2]) == channels, f"a bias of shape {shapes[-1]} for {channels} channels")


def pool(attributes: Attributes, shapes: Sequence[Shape]) -> Shape:
    x = shapes[0]
    require(len(x) >= 2, f"pooling of shape {x}")
    return (x[0], *_windows(attributes, x, attributes["window"]))


def max_unpool(attributes: Attributes, shapes: Sequence[Shape]) -> Shape:
    pooled, original = shapes
    require(pooled == pool(attributes, [original]), f"unpooling of shape {pooled} to {original}")
    return original


def roi_pool(attributes: Attributes, shapes: Sequence[Shape]) -> Shape:
    x, regions = shapes
    require(len(x) == 3 and len(regions) == 2 and regions[1] == 4, f"regions of shape {regions} over {x}")
    require(len(attributes["output"]) == 2 and min(attributes["output"]) >= 1, f"output {attributes['output']}")
    return (regions[0], x[0], *attributes["output"])


def linear(attributes: Attributes, shapes: Sequence[Shape]) -> Shape:
    x, weight = shapes[:2]
    contracted = attributes["contracted"]
    require(0 <= contracted <= min(len(x), len(weight)), f"product of shapes {x} and {weight} over {contracted} axes")
    if attributes["transposed"]:
        require(len(weight) == 2 and contracted == 1, f"a transposed weight of shape {weight}")
        weight = weight[::-1]
    kept, inner = x[: len(x) - contracted], x[len(x) - contracted :]
    require(inner == weight[:contracted], f"product of shapes {x} and {weight} over {contracted} axes")
    if len(shapes) == 3:
        require(shapes[2] == weight[contracted:], f"a bias of shape {shapes[2]} on {weight[contracted:]}")
    return kept + weight[contracted:]


def matmul(attributes: Attributes, shapes: Sequence[Shape]) -> Shape:
    x, y = shapes
    require(min(len(x), len(y)) >= 2 and x[-1] == y[-2], f"a product of the shapes {x} and {y}")
    return (*broadcasting({}, [x[:-2], y[:-2]]), x[-2], y[-1])


def reduce(attributes: Attributes, shapes: Sequence[Shape]) -> Shape:
    axes = axes_of(attributes, len(shapes[0]))
    if attributes["keep_dims"]:
        return tuple(1 if axis in axes else size for axis, size in enumerate(shapes[0]))
    return tuple(size for axis, size in enumerate(shapes[0]) if axis not in axes)


def reduce_one(attributes: Attributes, shapes: Sequence[Shape]) -> Shape:
    axes, rank = attributes["axes"], len(shapes[0])
    require(len(axes) == 1 or len(axes) == rank, f"the index of an extreme over axes {axes} of shape {shapes[0]}")
    return reduce(attributes, shapes)


def reshape(attributes: Attributes, shapes: Sequence[Shape]) -> Shape:
    shape: Shape = attributes["shape"]
    require(prod(shape) == prod(shapes[0]) and min(shape, default=1) >= 1, f"shape {shapes[0]} does not fill {shape}")
    return shape


def transpose(attributes: Attributes, shapes: Sequence[Shape]) -> Shape:
    order = attributes["order"]
    require(sorted(order) == list(range(len(shapes[0]))), f"axes {order} of shape {shapes[0]}")
    return tuple(shapes[0][axis] for axis in order)


def slice_(attributes: Attributes, shapes: Sequence[Shape]) -> Shape:
    axis = axis_of(attributes["axis"], len(shapes[0]))
    begin, end, step, size = attributes["begin"], attributes["end"], attributes["step"], shapes[0][axis]
    require(0 <= begin < end <= size and step >= 1, f"slice {begin}:{end}:{step} of {size}")
    return (*shapes[0][:axis], (end - begin + step - 1) // step, *shapes[0][axis + 1 :])


def gather(attributes: Attributes, shapes: Sequence[Shape]) -> Shape:
    axis, indices = axis_of(attributes["axis"], len(shapes[0])), attributes["indices"]
    require(bool(indices) and 0 <= min(indices) <= max(indices) < shapes[0][axis], f"cells of {shapes[0]}, axis {axis}")
    return (*shapes[0][:axis], len(indices), *shapes[0][axis + 1 :])


def gather_rows(attributes: Attributes, shapes: Sequence[Shape]) -> Shape:
    require(bool(shapes[1]), "rows of a single number")
    return (*shapes[0], *shapes[1][1:])


def unpack_batch(attributes: Attributes, shapes: Sequence[Shape]) -> Shape:
    return (attributes["size"], *shapes[0])


def to_batch(attributes: Attributes, shapes: Sequence[Shape]) -> Shape:
    require(bool(shapes[0]), "samples of a single number")
    return shapes[0][1:]


def expand(attributes: Attributes, shapes: Sequence[Shape]) -> Shape:
    shape: Shape = attributes["shape"]
    require(broadcasting({}, [shapes[0], shape]) == shape, f"shape {shapes[0]} repeated to {shape}")
    return shape


def concatenate(attributes: Attributes, shapes: Sequence[Shape]) -> Shape:
    axis = axis_of(attributes["axis"], len(shapes[0]))
    others = {shape[:axis] + shape[axis + 1 :] for shape in shapes}
    require(len(others) == 1 and len({*map(len, shapes)}) == 1, f"shapes {' and '.join(map(str, shapes))} side by side")
    return (*shapes[0][:axis], sum(shape[axis] for shape in shapes), *shapes[0][axis + 1 :])


def pad(attributes: Attributes, shapes: Sequence[Shape]) -> Shape:
    lower, upper = attributes["lower"], attributes["upper"]
    require(len(lower) == len(upper) == len(shapes[0]), f"padding {lower}, {upper} of shape {shapes[0]}")
    require(min(*lower, *upper, 0) == 0, f"negative padding {lower}, {upper}")
    # A reflection excludes the outermost element, so it reaches one less than the axis is long.
    reach = {"constant": MAX_ELEMENTS, "reflect": -1, "symmetric": 0}[attributes["mode"]]
    for size, low, high in zip(shapes[0], lower, upper, strict=True):
        require(max(low, high) <= size + reach, f"padding {low} and {high} of {size} cells")
    return tuple(low + size + high for low, size, high in zip(lower, shapes[0], upper, strict=True))


def one_hot(attributes: Attributes, shapes: Sequence[Shape]) -> Shape:
    axis = axis_of(attributes["axis"], len(shapes[0]) + 1)
    require(attributes["classes"] >= 1, f"{attributes['classes']} classes")
    return (*shapes[0][:axis], attributes["classes"], *shapes[0][axis:])


def top_k(attributes: Attributes, shapes: Sequence[Shape]) -> Shape:
    axis = axis_of(attributes["axis"], len(shapes[0]))
    require(1 <= attributes["k"] <= shapes[0][axis], f"the {attributes['k']} largest of {shapes[0][axis]}")
    return (*shapes[0][:axis], attributes["k"], *shapes[0][axis + 1 :])
