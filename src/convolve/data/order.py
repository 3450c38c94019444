"""The order in which an epoch visits its samples: a pure function of the recipe, the seed and the epoch."""

import numpy as np
from numpy.typing import NDArray

from convolve.data.balance import balanced_order
from convolve.data.cntk_order import sweep_order
from convolve.data.sources.source import Source
from convolve.data.streams import Purpose, generator
from convolve.errors import UsageError

# Of a lane two shards are in use and two are fetched ahead; all lanes together use no more than an eighth of a set.
_MOST_LANES, _SHARDS_OF_LANE = 16, 32
_AT_RANDOM = 0.1  # of all images in each pass over the hard ones, so that none is forgotten and its loss stays known


def epoch_order(
    kind: str, source: Source, epoch: int, seed: int, weights_K: tuple[float, ...] = (), batch: int = 1
) -> NDArray[np.int64]:
    """Sample numbers of pass `epoch` (from 0) over `source`.

    "shuffled" is a full permutation for each pass; "cntk" the order of CNTK 2.7's reader in that sweep (independent of
    our seed: its own starts at 0); "file" the order of the files. With `weights_K`, "shuffled" draws an image
    as often as they say of its class. Of shards that lie elsewhere, see `streamed_order`, in batches of `batch`.
    """
    if kind == "file":
        return np.arange(len(source))
    if kind == "cntk":
        if source.chunk_N is None:
            raise UsageError(
                "data.order=cntk follows the chunks of a CTF or map file, but this data has none; write one with "
                "`convolve prepare mnist` or `convolve prepare cifar10` and give its folder to --data"
            )
        return sweep_order(source.chunk_N, epoch)
    rng = generator(Purpose.ORDER, seed, epoch)
    if (shard_N := getattr(source, "stream_N", None)) is not None and not weights_K:
        return streamed_order(shard_N, batch, rng)
    return balanced_order(source.labels_N.numpy(), weights_K, rng) if weights_K else rng.permutation(len(source))


def streamed_order(shard_N: NDArray[np.int64], batch: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """A shuffle of shards and a buffer: few shards are in use at a time.

    The shards, shuffled, are one line, which is cut into equally long lanes. Each lane gives the same rows of every
    batch, so that a worker reads its own lanes only, however many workers there are (the idea is MosaicML Streaming's,
    its canonical nodes). In a lane an image moves by at most the images of a usual shard, as in a buffer.
    """
    count, (shards, inverse_N) = len(shard_N), np.unique(shard_N, return_inverse=True)
    line_N = np.argsort(rng.permutation(len(shards))[inverse_N], kind="stable")
    row_N = np.arange(count) % batch
    size_N = np.minimum(batch, count - (np.arange(count) - row_N))  # the last batch may be short
    lanes = min(_MOST_LANES, max(1, len(shards) // _SHARDS_OF_LANE))
    lane_N = row_N * lanes // size_N
    order_N = np.empty(count, np.int64)
    pieces = np.split(line_N, np.cumsum(np.bincount(lane_N, minlength=lanes))[:-1])
    for lane, piece_M in enumerate(pieces):
        moved_M = np.arange(len(piece_M)) + rng.random(len(piece_M)) * (count / len(shards))
        order_N[lane_N == lane] = piece_M[np.argsort(moved_M, kind="stable")]
    return order_N


def hard_order(hardness_N: NDArray[np.float32], fraction: float, rng: np.random.Generator) -> NDArray[np.int64]:
    """Hard-example mining: as many sample numbers as there are samples, from passes over the hardest `fraction`, and
    some of all at random."""
    samples = len(hardness_N)
    hard_M = np.argsort(-hardness_N, kind="stable")[: max(1, round(fraction * samples))]
    passes: list[NDArray[np.int64]] = []
    while sum(map(len, passes)) < samples:
        some = rng.permutation(samples)[: round(_AT_RANDOM * samples)]
        passes.append(rng.permutation(np.concatenate([hard_M, some])))
    return np.concatenate(passes)[:samples]
