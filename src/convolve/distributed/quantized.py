"""CNTK's quantized gradients: few bits for each element, with error feedback.

Frank Seide, Hao Fu, Jasha Droppo, Gang Li, Dong Yu: 1-Bit Stochastic Gradient Descent and its Application to
Data-Parallel Distributed Training of Speech DNNs, Interspeech 2014. With the quantizer Q, the gradient G(t) of step t
and the residual D(t):

    sent(t) = Q(G(t) + D(t-1))        D(t) = G(t) + D(t-1) - sent(t)

Each worker sums one stripe of the gradient over all workers, and sends the sum to all, quantized in the same way with a
residual of its own. So the bytes do not depend on the number of workers.

Q works on the rows of a gradient, one for each output of a layer. With one bit, an element becomes the mean of all
elements of its sign in the row. With b bits, there are 2^b - 1 equal intervals within 4 standard deviations of 0, and
one for values above (CNTK 2.7, ColumnQuantizer.h and ValueQuantizer.h). Two bits are then coarser than one.
"""

import math
from collections.abc import Mapping, Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed import GradBucket  # type: ignore[attr-defined]  # public, but not for mypy

from convolve.errors import ModelError
from convolve.training.workers import Workers, part

BITS = (1, 2, 4, 8)  # codes that fill bytes; CNTK also takes powers of two only
DEVIATIONS = 4.0  # a constant of CNTK's ColumnQuantizer
HEAD_BYTES = 8  # two fp32 in front of each row: the two values of one bit, or lower end and width of the intervals


def encode(values_RL: Tensor, bits: int) -> Tensor:
    """R rows of L elements -> R rows of bytes (uint8): the head, then the codes, from the lowest bits on."""
    values_RL = values_RL.float()
    if bits == 1:
        codes_RL = values_RL >= 0
        above_R = codes_RL.sum(1)
        high_R = values_RL.clamp(min=0).sum(1) / above_R.clamp(min=1)
        low_R = values_RL.clamp(max=0).sum(1) / (values_RL.shape[1] - above_R).clamp(min=1)
        head_R2 = torch.stack([low_R, high_R], 1)
    else:
        intervals = 2**bits - 1
        edge_R = DEVIATIONS * values_RL.square().mean(1).sqrt()
        width_R = 2 * edge_R / intervals
        head_R2 = torch.stack([-edge_R, width_R], 1)
        steps_RL = ((values_RL + edge_R[:, None]) / width_R.clamp(min=torch.finfo(torch.float32).tiny)[:, None]).floor()
        codes_RL = steps_RL.clamp(0, intervals)
    return torch.cat([head_R2.contiguous().view(torch.uint8), _pack(codes_RL.to(torch.uint8), bits)], 1)


def decode(coded_RB: Tensor, length: int, bits: int) -> Tensor:
    """The inverse of `encode`: fp32 values of `length` elements a row."""
    head_R8 = coded_RB[:, :HEAD_BYTES].clone(memory_format=torch.contiguous_format)
    head_R2 = head_R8.view(torch.float32)
    codes_RL = _unpack(coded_RB[:, HEAD_BYTES:], bits)[:, :length]
    if bits == 1:
        return torch.where(codes_RL.bool(), head_R2[:, 1:], head_R2[:, :1])
    return head_R2[:, :1] + (codes_RL + 0.5) * head_R2[:, 1:]


def bytes_per_row(length: int, bits: int) -> int:
    return HEAD_BYTES + math.ceil(length * bits / 8)


def _pack(codes_RL: Tensor, bits: int) -> Tensor:
    each = 8 // bits
    padded = nn.functional.pad(codes_RL, (0, -codes_RL.shape[1] % each)).unflatten(1, (-1, each))
    packed: Tensor = (padded << _shifts(bits, codes_RL.device)).sum(2, dtype=torch.uint8)
    return packed


def _unpack(bytes_RB: Tensor, bits: int) -> Tensor:
    codes_RLE: Tensor = (bytes_RB[:, :, None] >> _shifts(bits, bytes_RB.device)) & (2**bits - 1)
    return codes_RLE.flatten(1)


def _shifts(bits: int, device: torch.device) -> Tensor:
    return torch.arange(0, 8, bits, dtype=torch.uint8, device=device)


class QuantizedSum:
    """Sums buckets of DistributedDataParallel over the workers, quantized; called as its communication hook."""

    def __init__(self, parameters: Sequence[nn.Parameter], workers: Workers, bits: int) -> None:
        self._workers, self._bits = workers, bits
        self._index = {id(parameter): i for i, parameter in enumerate(parameters)}
        # Residuals: of this worker's gradients, and of the sums of its stripe.
        self._residuals = [torch.zeros_like(_rows(p), memory_format=torch.contiguous_format) for p in parameters]
        self._residual_sums = [residual[self._stripe(residual)].clone() for residual in self._residuals]

    def __call__(self, bucket: GradBucket) -> tuple[torch.futures.Future[Tensor], int]:
        indices = [self._index[id(parameter)] for parameter in bucket.parameters()]
        gradients, size = [_rows(gradient) for gradient in bucket.gradients()], self._workers.size
        coded = [self._quantize(g, self._residuals[i]) for i, g in zip(indices, gradients, strict=True)]
        stripes = [self._stripe_bytes(coded, rank) for rank in range(size)]
        received, sent_stripes = self._to_all(stripes, [len(stripes[self._workers.rank])] * size)
        added = zip(*[self._decoded(stripe, gradients, self._workers.rank) for stripe in received], strict=True)
        sums = [torch.stack(values).sum(0) for values in added]
        coded_sums = [self._quantize(values, self._residual_sums[i]) for i, values in zip(indices, sums, strict=True)]
        mine = torch.cat([coded_sum.flatten() for coded_sum in coded_sums])
        received, sent_sums = self._to_all([mine] * size, [len(stripe) for stripe in stripes])
        whole = zip(*[self._decoded(stripe, gradients, rank) for rank, stripe in enumerate(received)], strict=True)
        for gradient, values in zip(bucket.gradients(), whole, strict=True):
            gradient.copy_(torch.cat(values).view(gradient.shape))
        return _done(bucket.buffer()), sent_stripes + sent_sums

    def _quantize(self, values_RL: Tensor, residual_RL: Tensor) -> Tensor:
        """`values_RL` plus `residual_RL`, quantized; `residual_RL` becomes the new residual."""
        residual_RL += values_RL
        coded_RB = encode(residual_RL, self._bits)
        residual_RL -= decode(coded_RB, residual_RL.shape[1], self._bits)
        return coded_RB

    def _stripe(self, rows: Tensor) -> slice:
        return part(len(rows), self._workers.rank, self._workers.size)

    def _stripe_bytes(self, coded: Sequence[Tensor], rank: int) -> Tensor:
        """The rows that `rank` sums, one parameter after the other."""
        return torch.cat([coded_RB[part(len(coded_RB), rank, self._workers.size)].flatten() for coded_RB in coded])

    def _decoded(self, stripe: Tensor, whole: Sequence[Tensor], rank: int) -> list[Tensor]:
        """The values in a stripe that holds the rows of `rank`; `whole` has the shapes of the whole parameters."""
        lengths = [tensor.shape[1] for tensor in whole]
        row_bytes = [bytes_per_row(length, self._bits) for length in lengths]
        rows = [len(tensor[part(len(tensor), rank, self._workers.size)]) for tensor in whole]
        coded = stripe.split([count * size for count, size in zip(rows, row_bytes, strict=True)])
        return [
            decode(each.view(count, size), length, self._bits).to(whole[0].dtype)
            for each, count, size, length in zip(coded, rows, row_bytes, lengths, strict=True)
        ]

    def _to_all(self, parts: Sequence[Tensor], received_lengths: list[int]) -> tuple[Sequence[Tensor], int]:
        """Send part k to worker k. Returns what all workers sent to this one, and the bytes that it sent to others."""
        lengths = [len(part) for part in parts]
        received = parts[0].new_empty(sum(received_lengths))
        dist.all_to_all_single(received, torch.cat(list(parts)), received_lengths, lengths)
        return received.split(received_lengths), sum(lengths) - lengths[self._workers.rank]

    def state(self) -> dict[str, Tensor]:
        """All residuals: of each parameter "own.i", shape (workers, R, L), and "sums.i", shape (R, L)."""
        own = {f"own.{i}": self._workers.gather(residual[None].cpu()) for i, residual in enumerate(self._residuals)}
        sums = {f"sums.{i}": self._workers.gather(residual.cpu()) for i, residual in enumerate(self._residual_sums)}
        return own | sums

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Go on from `state()`. With another number of workers, worker 0 takes the sum of the residuals.

        A checkpoint without residuals, such as a single process's, changes nothing.
        """
        if not any(name.startswith("own.") for name in state):
            return
        rank, size = self._workers.rank, self._workers.size
        for i, (own, sums) in enumerate(zip(self._residuals, self._residual_sums, strict=True)):
            kept, whole = state.get(f"own.{i}"), state.get(f"sums.{i}")
            if kept is None or whole is None or kept.shape[1:] != own.shape or whole.shape != own.shape:
                raise ModelError(f"the checkpoint's residuals do not fit parameter {i} of this network")
            if len(kept) == size:
                own.copy_(kept[rank])
            elif rank == 0:
                own.copy_(kept.sum(0))
            else:
                own.zero_()
            sums.copy_(whole[self._stripe(whole)])


def _rows(tensor: Tensor) -> Tensor:
    """A gradient or weight as rows: one for each output, or a single one if it is a vector.

    The elements of a row are in the order of memory, as in torch's buckets; Q does not depend on their order.
    """
    tensor = tensor.detach()
    return tensor.flatten(1) if tensor.dim() > 1 else tensor.reshape(1, -1)


def _done(tensor: Tensor) -> torch.futures.Future[Tensor]:
    future: torch.futures.Future[Tensor] = torch.futures.Future(
        devices=[tensor.device] if tensor.device.type == "cuda" else None
    )
    future.set_result(tensor)
    return future
