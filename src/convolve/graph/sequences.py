"""Operations on the sequences of a batch, which are concatenated; the lengths say how many samples each has.

Legend: T samples of all sequences, N sequences.
"""

import torch
from torch import Tensor


def numbers(lengths_N: Tensor) -> Tensor:
    """For each sample, the number of its sequence."""
    return torch.repeat_interleave(torch.arange(len(lengths_N), device=lengths_N.device), lengths_N.long())


def places(lengths_N: Tensor) -> Tensor:
    """For each sample, its position in its sequence."""
    counts_N = lengths_N.long()
    starts_N = counts_N.cumsum(0) - counts_N
    return torch.arange(int(counts_N.sum()), device=lengths_N.device) - starts_N[numbers(lengths_N)]


def window(x_T: Tensor, lengths_N: Tensor, begin: int, end: int) -> Tensor:
    """1 for the samples from `begin` up to `end` of their sequence, otherwise 0; negative values count from the end,
    and an `end` of 0 is the end."""
    at_T, size_T = places(lengths_N), lengths_N.long()[numbers(lengths_N)]
    first_T = begin if begin >= 0 else (size_T + begin).clamp(min=0)
    last_T = end if end > 0 else size_T + end
    return ((at_T >= first_T) & (at_T < last_T)).to(x_T.dtype)


def repeat(x_T: Tensor, counts_T: Tensor) -> Tensor:
    """Each row, repeated as its count says."""
    return x_T.repeat_interleave(counts_T.long(), 0)


def reduce(x_T: Tensor, lengths_N: Tensor, how: str) -> Tensor:
    """The sum or the maximum over each sequence."""
    if how == "max":
        return pad(x_T, lengths_N, int(lengths_N.max()), -torch.inf).amax(1)
    found = x_T.new_zeros((len(lengths_N), *x_T.shape[1:]))
    return found.index_add(0, numbers(lengths_N), x_T)


def repetitions(x_T: Tensor, lengths_N: Tensor) -> Tensor:
    """How often each sample is repeated for its factor x: rounded up, with the excess deducted from the next ones."""
    sums_T = x_T.detach().double().cumsum(0)
    before_N = torch.cat([sums_T.new_zeros(1), sums_T[lengths_N.long().cumsum(0) - 1]])[:-1]
    # 1e-6: sums of fractions such as 1.2 come out a little above whole numbers
    ends_T = (sums_T - before_N[numbers(lengths_N)] - 1e-6).ceil()
    starts_T = torch.where(places(lengths_N) == 0, 0.0, ends_T.roll(1))
    return (ends_T - starts_T).to(x_T.dtype)


def index(x_T: Tensor, lengths_N: Tensor) -> Tensor:
    return places(lengths_N).to(x_T.dtype)


def scatter(x_T: Tensor, mask_T: Tensor) -> Tensor:
    """Zeros, with the rows of x where the mask is not 0."""
    found = x_T.new_zeros((len(mask_T), *x_T.shape[1:]))
    return found.index_put((mask_T.nonzero().squeeze(1),), x_T)


def shift(x_T: Tensor, initial: Tensor, lengths_N: Tensor, steps: int) -> Tensor:
    """The sample this many steps before (after, if `steps` is negative), otherwise the initial value."""
    at_T, number_T = places(lengths_N), numbers(lengths_N)
    is_inside_T = (at_T >= steps) & (at_T - steps < lengths_N.long()[number_T])
    from_T = (torch.arange(len(x_T), device=x_T.device) - steps).clamp(0, len(x_T) - 1)
    else_T = initial[number_T] if initial.dim() == x_T.dim() else initial
    return torch.where(is_inside_T.reshape(-1, *(1,) * (x_T.dim() - 1)), x_T[from_T], else_T)


def pad(x_T: Tensor, lengths_N: Tensor, size: int, value: float) -> Tensor:
    """(N, size, ...), each sequence padded with `value`."""
    found = x_T.new_full((len(lengths_N), size, *x_T.shape[1:]), value)
    return found.index_put((numbers(lengths_N), places(lengths_N)), x_T)


def unpad(x_N: Tensor, lengths_N: Tensor) -> Tensor:
    """The first samples of each row, concatenated."""
    return x_N[numbers(lengths_N), places(lengths_N)]


def full(x_N: Tensor) -> Tensor:
    """The lengths of rows that are taken whole."""
    return torch.full((len(x_N),), x_N.shape[1], device=x_N.device)
