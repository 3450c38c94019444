"""CNTK's random numbers on a processor, bit for bit: the 64-bit Mersenne Twister and Boost's distributions.

A `Draws` is one stream of numbers. CNTK gives every random parameter and every dropout a stream of its own, and each
stream a seed. Checked against the real CNTK 2.7: 120,000 normal numbers, uniform and truncated ones, dropout masks
(tests/golden/cntk).
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal, localcontext

import numpy as np
from numpy.typing import DTypeLike, NDArray

Doubles = NDArray[np.float64]
Words = NDArray[np.uint64]

_WORD = (1 << 64) - 1
_UPPER, _LOWER = np.uint64(_WORD ^ 0x7FFFFFFF), np.uint64(0x7FFFFFFF)
_ONE, _TWIST = np.uint64(1), np.uint64(0xB5026F5AA96619E9)


class Draws:
    """C++'s std::mt19937_64, block by block; numpy has only 32 bits. Source: Nishimura, Matsumoto, mt19937-64.c."""

    def __init__(self, seed: int) -> None:
        words = [seed & _WORD]
        for i in range(1, 312):
            words.append((6364136223846793005 * (words[-1] ^ (words[-1] >> 62)) + i) & _WORD)
        self._state = np.array(words, np.uint64)
        self._words, self._next = np.empty(0, np.uint64), 0

    def words(self, count: int) -> Words:
        """The next `count` words."""
        missing = self._next + count - len(self._words)
        if missing > 0:
            blocks = [self._block() for _ in range(-(-missing // 312))]
            self._words, self._next = np.concatenate([self._words[self._next :], *blocks]), 0
        self._next += count
        return self._words[self._next - count : self._next]

    @property
    def place(self) -> Words:
        """The state of the stream, which `go_to` takes: 313 words."""
        return np.append(self._state, np.uint64(len(self._words) - self._next))

    def go_to(self, place: Words) -> None:
        """Continue from the `place` of another stream, or of this one earlier."""
        self._state, left = place[:312].copy(), int(place[312])
        self._words, self._next = _tempered(self._state)[312 - left :], 0

    def stream(self) -> Iterator[int]:
        """The words one by one, forever."""
        while True:
            yield from self.words(312).tolist()

    def fractions(self, count: int) -> Doubles:
        """Numbers in [0, 1]: Boost divides by 2^64, which includes 1."""
        return self.words(count).astype(np.float64) / 2.0**64

    def uniform(self, low: float, high: float, count: int) -> Doubles:
        """Boost's uniform_real_distribution."""
        return self.fractions(count) * (high - low) + low

    def normal(self, count: int) -> Doubles:
        """Numbers of mean 0 and deviation 1: Boost's normal_distribution since 1.56, a ziggurat of 128 layers
        (Marsaglia and Tsang 2000) whose tail takes two logarithms."""
        found, have = [np.empty(0)], 0
        while have < count:
            taken = self.words(count - have + (count - have) // 32 + 256)
            layers = (taken & np.uint64(255)).astype(np.int64)
            signs, layers = (layers & 1) * 2 - 1, layers >> 1
            x = (taken >> np.uint64(8)).astype(np.float64) / 2.0**56 * _EDGES[layers]
            rest_N, signed_N, at = taken.astype(np.float64) / 2.0**64, x * signs, 0
            for miss in [*np.flatnonzero(x >= _EDGES[layers + 1]).tolist(), len(x)]:
                if miss < at:
                    continue  # a word already used to decide about an earlier number
                good = min(miss - at, count - have)
                found.append(signed_N[at : at + good])
                have, at = have + good, at + good
                if have == count or len(x) - at < 200:
                    break
                rest = iter(rest_N[at + 1 : at + 200].tolist())
                before = rest.__length_hint__()
                single = _outside(float(x[at]), int(layers[at]), rest)
                at += 1 + before - rest.__length_hint__()
                if single is not None:
                    found.append(np.array([single * signs[miss]]))
                    have += 1
            self._next -= len(x) - at
        return np.concatenate(found)

    def truncated_normal(self, count: int) -> Doubles:
        """Normal numbers; those beyond 2 are drawn again."""
        found, have = [np.empty(0)], 0
        while have < count:
            drawn = self.normal(1) if count - have < 8 else self.normal(count - have)
            kept = drawn[np.abs(drawn) <= 2]
            found.append(kept)
            have += len(kept)
        return np.concatenate(found)

    def _block(self) -> Words:
        """The next 312 words. A new one needs the one 156 places later, so the state is renewed in two halves."""
        state = self._state
        first, second = state[:156], state[156:]
        _renew(first, state[1:157], second)
        _renew(second, np.append(state[157:], state[:1]), first)
        return _tempered(state)


@dataclass(frozen=True)
class Distribution:
    """The initial distribution of a parameter: the `kind` of numbers; `scale` and `mode` determine their spread.

    In CNTK's order, a parameter's last `output_rank` axes lead to outputs and its first `filter_rank` axes are those of
    a filter; the fans follow from these (Glorot and Bengio 2010, He et al. 2015).
    """

    kind: str
    scale: float = 1.0
    mode: str = ""
    output_rank: int | None = None
    filter_rank: int | None = None

    def drawn(self, shape: tuple[int, ...], seed: int, dtype: DTypeLike = np.float32) -> NDArray[np.floating]:
        """The numbers that `seed` gives for a parameter of `shape`, in numpy's order."""
        count, draws = math.prod(shape), Draws(seed)
        width = float(np.array(self._unit(shape), dtype) * np.array(self.scale, dtype))  # CNTK rounds each number
        if self.kind == "uniform":
            return draws.uniform(-width, width, count).reshape(shape).astype(dtype)
        numbers = draws.normal(count) if self.kind == "normal" else draws.truncated_normal(count)
        return (numbers * width).reshape(shape).astype(dtype)

    def _unit(self, shape: tuple[int, ...]) -> float:
        if not self.mode:
            return 1.0
        fan_in, fan_out = fans(shape, self.output_rank, self.filter_rank)
        if self.mode == "xavier":
            return math.sqrt(3 / fan_in)
        spread = 2 / fan_in if self.mode == "he" else 2 / (fan_in + fan_out)
        return math.sqrt(3 * spread) if self.kind == "uniform" else math.sqrt(spread)


UNSET = 2**31 - 1  # CNTK's SentinelValueForInferParamInitRank


def fans(shape: tuple[int, ...], output_rank: int | None, filter_rank: int | None) -> tuple[float, float]:
    """(fan in, fan out), by CNTK's count: `shape` in numpy's order."""
    output_rank = 1 if output_rank in (None, UNSET) else output_rank
    filter_rank = 0 if filter_rank in (None, UNSET) else filter_rank
    dims = shape[::-1]
    assert output_rank is not None and filter_rank is not None
    outputs = math.prod(dims[output_rank:] if output_rank < 0 else dims[:output_rank])
    filters = math.prod(dims[:filter_rank])
    return math.prod(dims) / outputs, outputs * filters


def _tempered(state: Words) -> Words:
    x = state ^ ((state >> np.uint64(29)) & np.uint64(0x5555555555555555))
    x ^= (x << np.uint64(17)) & np.uint64(0x71D67FFFEDA60000)
    x ^= (x << np.uint64(37)) & np.uint64(0xFFF7EEE000000000)
    words: Words = x ^ (x >> np.uint64(43))
    return words


def _renew(half: Words, behind: Words, opposite: Words) -> None:
    mixed = (half & _UPPER) | (behind & _LOWER)
    half[:] = opposite ^ (mixed >> _ONE) ^ ((mixed & _ONE) * _TWIST)


def _outside(x: float, layer: int, fractions: Iterator[float]) -> float | None:
    """The number for a point that is not clearly inside its layer; None: it is drawn again."""
    if layer == 0:
        while True:
            a, b = -math.log1p(-next(fractions)), -math.log1p(-next(fractions))
            if 2 * b > (a / _TAIL) ** 2:
                return a / _TAIL + _TAIL
    low, high = _HEIGHTS[layer], _HEIGHTS[layer + 1]
    y = low + next(fractions) * (high - low)
    return x if y < math.exp(-x * x / 2) else None


def _ziggurat() -> tuple[Doubles, Doubles]:
    """(right edges of the layers, heights at them): layers of equal area below exp(-x^2 / 2)."""
    first, tail = Decimal("3.7130862467403632609"), Decimal("3.4426198558966521214")  # Boost's value; the others follow
    with localcontext(prec=30):
        edges, heights = [first, tail], [Decimal(0), (-tail * tail / 2).exp()]
        area = first * heights[1]
        while len(edges) < 128:
            heights.append(area / edges[-1] + heights[-1])
            edges.append((-2 * heights[-1].ln()).sqrt())
    return np.array([*map(float, edges), 0.0]), np.array([*map(float, heights), 1.0])


_TAIL = 3.4426198558966521214
_EDGES, _HEIGHTS = _ziggurat()
