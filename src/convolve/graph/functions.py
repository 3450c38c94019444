"""Operations of imported graphs for which torch has no single function.

N batch; tensors are samples or batches. Where CNTK guards an operation against undefined results, so do these: the
results are those of the real CNTK 2.7.
"""

from collections.abc import Sequence
from math import prod

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

Sizes = tuple[int, ...]


# -- elementwise ------------------------------------------------------------------------------------------------------


def log(x: Tensor) -> Tensor:
    """The natural logarithm; below 1e-37 CNTK returns -85.1."""
    return torch.where(x < 1e-37, -85.1, x.clamp(min=1e-37).log())


def sqrt(x: Tensor) -> Tensor:
    """The square root; 0 for negative numbers."""
    return x.clamp(min=0).sqrt()


def reciprocal(x: Tensor) -> Tensor:
    """1 / x; 0 for 0."""
    return torch.where(x == 0, 0.0, 1 / torch.where(x == 0, 1.0, x))


def log_add_exp(x: Tensor, y: Tensor) -> Tensor:
    """log(exp(x) + exp(y)), written so that exporters do not decompose it: exp overflows from 89 on."""
    return torch.maximum(x, y) + F.softplus(-(x - y).abs())


def gelu(x: Tensor, approximate: str) -> Tensor:
    return F.gelu(x, approximate=approximate)


def clip(x: Tensor, low: Tensor, high: Tensor) -> Tensor:
    return torch.where(x < low, low, torch.where(x > high, high, x))


def prelu(x: Tensor, slopes: Tensor) -> Tensor:
    return torch.where(x > 0, x, slopes * x)


def select(condition: Tensor, then: Tensor, otherwise: Tensor) -> Tensor:
    return torch.where(condition != 0, then, otherwise)


def straight_through(x: Tensor) -> Tensor:
    """1 for positive numbers, -1 for others; its gradient is the identity's."""
    return torch.where(x > 0, 1.0, -1.0) + (x - x.detach())


def compare(x: Tensor, y: Tensor, how: str) -> Tensor:
    """The result of torch's comparison `how`, as 0 or 1 for each element."""
    return getattr(torch, how)(x, y).to(x.dtype)  # type: ignore[no-any-return]


# -- along axes -------------------------------------------------------------------------------------------------------
# `dims` are negative, so that they hold with and without a batch axis in front.


def softmax(x: Tensor, dims: Sizes) -> Tensor:
    dims = _wide(x, dims)
    return torch.softmax(x, dims[0]) if len(dims) == 1 else torch.exp(log_softmax(x, dims))


def log_softmax(x: Tensor, dims: Sizes) -> Tensor:
    dims = _wide(x, dims)
    return torch.log_softmax(x, dims[0]) if len(dims) == 1 else x - torch.logsumexp(x, dims, keepdim=True)


def hardmax(x: Tensor, dims: Sizes) -> Tensor:
    """1 at the (first) largest element along `dims`, which is all axes of a sample or one; 0 elsewhere."""
    dims = _wide(x, dims)
    if len(dims) > 1:
        return hardmax(x.flatten(min(dims)), (-1,)).reshape(x.shape)
    places = torch.arange(x.shape[dims[0]], device=x.device).reshape(-1, *(1,) * (-1 - dims[0]))
    return (x.argmax(dims[0], keepdim=True) == places).to(x.dtype)


def _wide(x: Tensor, dims: Sizes) -> Sizes:
    """`dims` without those of length 1, which change nothing: exporters have an operator for a single axis."""
    return tuple(dim for dim in dims if x.shape[dim] > 1) or dims[:1]


def product_along(x: Tensor, dims: Sizes, keepdim: bool) -> Tensor:
    for dim in dims:
        x = x.prod(dim, keepdim=True)
    return x if keepdim else x.squeeze(dims)


def index_of_extreme(x: Tensor, largest: bool, dims: Sizes, keepdim: bool) -> Tensor:
    """The index of the extreme along `dims`, as a float; over several axes, its position in C order."""
    flat = x if len(dims) == 1 else x.flatten(min(dims))
    dim = dims[0] if len(dims) == 1 else -1
    index = (flat.argmax(dim, keepdim=True) if largest else flat.argmin(dim, keepdim=True)).to(x.dtype)
    if len(dims) > 1:
        index = index.reshape(*index.shape[:-1], *(1,) * len(dims))
    return index if keepdim else index.squeeze(dims)


def top_k(x: Tensor, k: int, dim: int, indices: bool) -> Tensor:
    values, places = x.topk(k, dim)
    return places.to(x.dtype) if indices else values


def one_hot(x: Tensor, classes: int, dim: int) -> Tensor:
    """A new axis at `dim` (negative, in the result) with 1 at the class x."""
    shape = [1] * (x.dim() + 1)
    shape[dim] = classes
    return (x.unsqueeze(dim) == torch.arange(classes, device=x.device).reshape(shape)).to(x.dtype)


def take(x: Tensor, dim: int, begin: int, end: int, step: int) -> Tensor:
    """x[begin:end:step] along one axis."""
    return (
        x.index_select(dim, torch.arange(begin, end, step, device=x.device))
        if step > 1
        else x.narrow(dim, begin, end - begin)
    )


def gather(x: Tensor, dim: int, indices: Sizes) -> Tensor:
    return x.index_select(dim, torch.tensor(indices, device=x.device))


def gather_rows(indices: Tensor, table: Tensor) -> Tensor:
    """The rows of `table` at `indices`: the shape of `indices`, then that of a row."""
    return table[indices.long()]


def eye_like(x: Tensor) -> Tensor:
    """The identity matrix, in the shape of a matrix or of a batch of vectors."""
    return torch.eye(x.shape[0], x.shape[1], dtype=x.dtype, device=x.device)


def over_batch(x: Tensor, how: str) -> Tensor:
    """A reduction over all samples: their sum, mean, and so on."""
    found: Tensor = getattr(torch, how)(x, 0)
    return found


def concatenate(tensors: Sequence[Tensor], dim: int, rank: int) -> Tensor:
    """Concatenate; samples of `rank` axes without a batch axis are repeated for each sample."""
    batch = max(tensors, key=Tensor.dim)
    size = batch.shape[0]  # `len` would become a constant in an exported graph
    return torch.cat([x.expand(size, *x.shape) if x.dim() == rank < batch.dim() else x for x in tensors], dim)


def pad_mirrored(x: Tensor, lower: Sizes, upper: Sizes, mode: str) -> Tensor:
    """Pad by mirroring; "reflect" excludes the outermost element, "symmetric" repeats it."""
    for dim, (low, high) in enumerate(zip(lower, upper, strict=True), start=-len(lower)):
        if low or high:
            places = np.pad(np.arange(x.shape[dim]), (low, high), mode)  # type: ignore[call-overload]
            x = x.index_select(dim, torch.from_numpy(places).to(x.device))
    return x


# -- windows ----------------------------------------------------------------------------------------------------------


def convolution_transpose(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    strides: Sizes,
    dilation: Sizes,
    groups: int,
    lower: Sizes,
    output: Sizes,
) -> Tensor:
    """The elements lower .. lower + output of the full transposed convolution; beyond it there is only the bias."""
    convolve = _CONVOLVE_TRANSPOSED[len(strides)]
    full = convolve(x, weight, None, strides, groups=groups, dilation=dilation)
    ends = zip(full.shape[2:], lower, output, strict=True)
    padding = [end for size, low, out in reversed([*ends]) for end in (-low, out + low - size)]
    result = F.pad(full, padding)
    return result if bias is None else result + bias.reshape(-1, *(1,) * len(strides))


_CONVOLVE_TRANSPOSED = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


def average_pool_real_cells(x: Tensor, window: Sizes, strides: Sizes, padding: Sizes) -> Tensor:
    """Averages over the elements inside the image; `padding` is in torch's order, the last axis first."""
    pool = _AVERAGE_POOLS[len(window)]
    cells = F.pad(torch.ones_like(x[:1]), padding)
    return pool(F.pad(x, padding), window, strides) / pool(cells, window, strides)


_AVERAGE_POOLS = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}


def max_unpool(pooled: Tensor, original: Tensor, window: Sizes, strides: Sizes, padding: Sizes) -> Tensor:
    """Each value of `pooled` at the position in `original` from which the pooling took its maximum, 0 elsewhere."""
    pool = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}[len(window)]
    padded = F.pad(original, padding, value=float("-inf"))
    _, places = pool(padded, window, strides, return_indices=True)
    flat = torch.zeros_like(padded).flatten(2).scatter(2, places.flatten(2), pooled.flatten(2))
    return F.pad(flat.reshape(padded.shape), [-cells for cells in padding])


def roi_pool(images_NCHW: Tensor, regions_NR4: Tensor, output: Sizes, scale: float, kind: str) -> Tensor:
    """Caffe's pooling of regions (x1, y1, x2, y2) in pixels: (N, R, C, rows, columns). An empty bin gives 0."""
    rows, columns = output
    N, C, H, W = images_NCHW.shape
    result = images_NCHW.new_zeros(N, regions_NR4.shape[1], C, rows, columns)
    corners = torch.floor(regions_NR4 * scale + 0.5).long()
    for n, r in np.ndindex(*corners.shape[:2]):
        x1, y1, x2, y2 = corners[n, r].tolist()
        for row, column in np.ndindex(rows, columns):
            top, bottom = _bin(y1, y2, row, rows, H)
            left, right = _bin(x1, x2, column, columns, W)
            cells = images_NCHW[n, :, top:bottom, left:right]
            if cells.shape[1] and cells.shape[2]:
                result[n, r, :, row, column] = cells.amax((1, 2)) if kind == "max" else cells.mean((1, 2))
    return result


def _bin(start: int, end: int, index: int, count: int, size: int) -> tuple[int, int]:
    """The elements [first, last) of one of `count` bins that divide start .. end."""
    length = max(end - start + 1, 1)
    first, last = start + index * length // count, start - (-(index + 1) * length // count)
    return min(max(first, 0), size), min(max(last, 0), size)


def normalize(
    x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, variance: Tensor, epsilon: float, shape: Sizes
) -> Tensor:
    """Batch normalization by given statistics, each reshaped to `shape`."""
    scale, bias, mean, variance = (value.reshape(shape) for value in (scale, bias, mean, variance))
    return (x - mean) * torch.rsqrt(variance + epsilon) * scale + bias


# -- products and criteria --------------------------------------------------------------------------------------------


def contract(x: Tensor, weight: Tensor, axes: int, x_batched: bool, weight_batched: bool) -> Tensor:
    """Contract the last `axes` axes of x with the first of the weight; sample by sample if each has its own weight."""
    kind = torch.promote_types(x.dtype, weight.dtype)  # a frozen constant stays float32 beside values of 16 bits
    x, weight = x.to(kind), weight.to(kind)
    if not weight_batched:
        product: Tensor = torch.tensordot(x, weight, axes)
        return product
    inner = prod(weight.shape[1 : 1 + axes])
    kept, made = x.shape[x_batched : x.dim() - axes], weight.shape[1 + axes :]
    left = x.reshape(*x.shape[:x_batched], prod(kept), inner)
    product = left @ weight.reshape(weight.shape[0], inner, prod(made))
    return product.reshape(-1, *kept, *made)


def cross_entropy_with_softmax(logits: Tensor, targets: Tensor) -> Tensor:
    """The sum over the samples; a target is a distribution over all elements of a sample."""
    return -(targets.flatten(1) * F.log_softmax(logits.flatten(1), dim=1)).sum()


def classification_error(scores: Tensor, targets: Tensor, top: int) -> Tensor:
    """How many samples have at least `top` classes that score higher than the target's."""
    scores, targets = scores.flatten(1), targets.flatten(1)
    right = scores.gather(1, targets.argmax(1, keepdim=True))
    return ((scores > right).sum(1) >= top).sum().to(scores.dtype)


def squared_error(x: Tensor, y: Tensor) -> Tensor:
    return ((x - y) ** 2).sum()


def logistic(probabilities: Tensor, targets: Tensor) -> Tensor:
    """The sum of -y log p - (1 - y) log (1 - p)."""
    return -(targets * log(probabilities) + (1 - targets) * log(1 - probabilities)).sum()
