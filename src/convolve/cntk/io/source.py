"""Minibatch sources: sequences from one or several files, in CNTK's order."""

import warnings
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convolve.cntk.core import MinibatchData
from convolve.cntk.io import transforms
from convolve.cntk.io.config import FULL_DATA_SWEEP, INFINITELY_REPEAT, MinibatchSourceConfig
from convolve.cntk.io.deserializers import Deserializer, Moment
from convolve.cntk.io.sequences import Sequences
from convolve.cntk.io.streams import Stream, Streams, mapped
from convolve.data.cntk_order import WINDOW_CHUNKS, sweep_order

DEFAULT_RANDOMIZATION_WINDOW_IN_CHUNKS = WINDOW_CHUNKS

# Legend: N sequences of the first file, without those that have no partner in the other files.


@dataclass(frozen=True, eq=False)
class _Sweep:
    """One pass over the data: the order of the sequences, and how many samples come before each."""

    order_N: NDArray[np.int64]
    starts_N: NDArray[np.int64]
    is_own_N: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class _Plan:
    """A minibatch: its sequences, the sweep of each, and the position of the source after it."""

    numbers_N: NDArray[np.int64]
    sweeps_N: NDArray[np.int64]
    position: int
    sweep_end: bool


_Place = tuple[int, int, int, int]  # position, size of a minibatch, workers, rank
_Read = tuple[_Plan, dict[str, Sequences]]


class MinibatchSource(Streams):
    """Sequences of one or several files, matched by their keys or line by line."""

    def __init__(
        self, deserializers: Any, max_samples: int = INFINITELY_REPEAT, max_sweeps: int = INFINITELY_REPEAT,
        randomization_window_in_chunks: int = DEFAULT_RANDOMIZATION_WINDOW_IN_CHUNKS,
        randomization_window_in_samples: int = 0, randomization_seed: int = 0, trace_level: Any = None,
        multithreaded_deserializer: Any = None, frame_mode: bool = False, truncation_length: int = 0,
        randomize: bool = True, max_errors: int = 0,
    ) -> None:  # fmt: skip
        config = MinibatchSourceConfig(deserializers if isinstance(deserializers, list | tuple) else [deserializers])
        config.max_samples, config.max_sweeps = max_samples, max_sweeps
        config.randomization_window_in_chunks = randomization_window_in_chunks if randomize else 0
        config.randomization_window_in_samples = randomization_window_in_samples if randomize else 0
        config.randomization_seed = randomization_seed
        config.is_frame_mode_enabled, config.truncation_length = frame_mode, truncation_length
        config.check()
        if truncation_length:
            raise NotImplementedError("truncation_length cuts sequences for recurrence; leave it out for images")
        if not config.deserializers:
            raise ValueError("Could not find deserializers in the reader config.")
        self.config, self._files, self.position = config, config.deserializers, 0
        super().__init__(_infos(self._files))
        self._sweeps: dict[tuple[int, int, int], _Sweep] = {}
        self._begun: tuple[_Place, Future[_Read]] | None = None  # the next minibatch is read while this one is used
        for file in self._files:
            file.max_errors = max_errors
            file.check()
            if transforms.is_random(getattr(file, "transforms", ())):
                warnings.warn("the random draws of cntk.io.transforms are convolve's, not CNTK's", stacklevel=2)

    @cached_property
    def _matches(self) -> list[NDArray[np.int64]]:
        """For each file, its sequences that have partners in all others."""
        keys = [np.arange(len(file), dtype=np.uint64) if file.keys_N is None else file.keys_N for file in self._files]
        kept = np.logical_and.reduce([np.isin(keys[0], other) for other in keys])
        if not kept.all():
            count = int((~kept).sum())
            warnings.warn(f"{count} sequences are left out: not every deserializer has them", stacklevel=2)
        found = [np.flatnonzero(kept)]
        for other in keys[1:]:
            order = np.argsort(other, kind="stable")
            found.append(order[np.searchsorted(other[order], keys[0][kept])])
        return found

    @cached_property
    def _counts_N(self) -> NDArray[np.int64]:
        """How many samples each sequence counts as: those of the stream that defines it, or the largest number."""
        mains = [any(stream.defines_mb_size for stream in file.shapes.values()) for file in self._files]
        counted = [
            file.counts_N[numbers_N]
            for file, numbers_N, main in zip(self._files, self._matches, mains, strict=True)
            if main or not any(mains)
        ]
        counts_N: NDArray[np.int64] = np.max(counted, axis=0)
        if self.config.is_frame_mode_enabled and (counts_N != 1).any():
            raise RuntimeError(f"Detected a non-frame sequence of size {counts_N.max()} in frame mode.")
        if not len(counts_N):
            raise RuntimeError("no sequence is in all deserializers; their keys do not fit together")
        return counts_N

    @cached_property
    def _total(self) -> int:
        return int(self._counts_N.sum())

    def _limit(self) -> int:
        """The number of samples after which the source ends."""
        config = self.config
        if FULL_DATA_SWEEP in (config.max_samples, config.max_sweeps):
            return self._total
        if config.max_sweeps != INFINITELY_REPEAT:
            return config.max_sweeps * self._total
        return config.max_samples

    def _sweep(self, sweep: int, workers: int, rank: int) -> _Sweep:
        if (sweep, workers, rank) not in self._sweeps:
            count, config = len(self._counts_N), self.config
            order_N = np.arange(count)
            is_own_N = (sweep * count + order_N) % workers == rank
            if config.is_randomized:
                options: dict[str, Any] = {
                    "seed": config.randomization_seed, "window_chunks": config.randomization_window_in_chunks,
                    "window_samples": config.randomization_window_in_samples, "sample_counts_N": self._counts_N,
                }  # fmt: skip
                chunk_N = self._files[0].chunk_N[self._matches[0]]
                order_N = sweep_order(chunk_N, sweep, **options)
                own_N = sweep_order(chunk_N, sweep, workers=workers, rank=rank, **options) if workers > 1 else order_N
                is_own_N = np.isin(order_N, own_N)
            starts_N = np.cumsum(self._counts_N[order_N]) - self._counts_N[order_N]
            last = {key: kept for key, kept in self._sweeps.items() if key == (sweep - 1, workers, rank)}
            self._sweeps = last | {(sweep, workers, rank): _Sweep(order_N, starts_N, is_own_N)}
        return self._sweeps[sweep, workers, rank]

    def _plan(self, position: int, size: int, workers: int, rank: int) -> _Plan:
        """The sequences that follow: as many as fit, but at least one; a minibatch may reach into the next sweep."""
        limit, total, at = self._limit(), self._total, position
        left = min(max(1, size // workers + (rank < size % workers)), limit - position)
        numbers, sweeps = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
        sweep_end, full, taken = False, False, 0
        while not full and at < limit and (taken or at - position <= total):
            number, within = divmod(at, total)
            sweep = self._sweep(number, workers, rank)
            first, last = np.searchsorted(sweep.starts_N, (within, min(limit - number * total, total)))
            if workers == 1:
                last = min(last, first + left - taken)
            counts_N, is_own_N = self._counts_N[sweep.order_N[first:last]], sweep.is_own_N[first:last]
            used, full = _fitting(counts_N, is_own_N, left, taken)
            own_N = sweep.order_N[first : first + used][is_own_N[:used]]
            numbers.append(own_N)
            sweeps.append(np.full(len(own_N), number))
            at, taken = at + int(counts_N[:used].sum()), taken + int(self._counts_N[own_N].sum())
            sweep_end = sweep_end or bool(used and first + used == len(sweep.order_N))
        return _Plan(np.concatenate(numbers), np.concatenate(sweeps), at, sweep_end)

    def next_minibatch(
        self, minibatch_size_in_samples: int, input_map: Mapping[Any, Stream] | None = None, device: Any = None,
        num_data_partitions: int | None = None, partition_index: int | None = None,
    ) -> dict[Any, MinibatchData]:  # fmt: skip
        """Up to this many samples; an empty dictionary at the end. With several partitions, this worker's part."""
        if minibatch_size_in_samples <= 0:
            raise ValueError("GetNextMinibatch: Requested minibatch size must be > 0.")
        if self.config.max_samples == 0:
            raise RuntimeError("Epoch size cannot be 0.")
        workers, rank = num_data_partitions or 1, partition_index or 0
        if not 0 <= rank < workers:
            return {}
        plan, found = self._taken((self.position, minibatch_size_in_samples, workers, rank))
        self.position = plan.position
        if not found:
            return {}
        self._begin((self.position, minibatch_size_in_samples, workers, rank))
        data = {
            self._infos[name]: MinibatchData(each, len(each.lengths_N), len(each.rows_T), plan.sweep_end)
            for name, each in found.items()
        }
        return mapped(data, input_map)

    def _taken(self, place: _Place) -> _Read:
        """The minibatch read ahead, if it is the one at `place`; else one read now."""
        if self._begun is None:
            return self._read(place)
        (begun, reading), self._begun = self._begun, None
        wait([reading])  # a file is read by one thread at a time
        return reading.result() if begun == place else self._read(place)

    def _begin(self, place: _Place) -> None:
        """Read the next minibatch ahead, in the same size."""
        if place[0] < self._limit() and all(file.is_read_ahead for file in self._files):
            self._begun = place, self._reader.submit(self._read, place)

    @cached_property
    def _reader(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(1)

    def _read(self, place: _Place) -> _Read:
        plan, found = self._plan(*place), dict[str, Sequences]()
        for file, (numbers_N, moments) in self._of_files(plan) if len(plan.numbers_N) else ():
            found |= file.read(numbers_N, moments)
        return plan, found

    def _of_files(self, plan: _Plan) -> list[tuple[Deserializer, tuple[NDArray[np.int64], list[Moment]]]]:
        """Each file with its sequence numbers for `plan`, and the moments that decide everything random."""
        seed = self.config.randomization_seed
        moments = [(seed, *moment) for moment in zip(plan.sweeps_N.tolist(), plan.numbers_N.tolist(), strict=True)]
        pairs = zip(self._files, self._matches, strict=True)
        return [(file, (numbers_N[plan.numbers_N], moments)) for file, numbers_N in pairs]

    def get_checkpoint_state(self) -> dict[str, Any]:
        return {"minibatchSourcePosition": self.position}

    def restore_from_checkpoint(self, checkpoint: Mapping[str, Any]) -> None:
        if "minibatchSourcePosition" not in checkpoint:
            raise ValueError("Checkpoint misses required field minibatchSourcePosition")
        self.position = int(checkpoint["minibatchSourcePosition"])

    @property
    def current_position(self) -> dict[str, Any]:
        return self.get_checkpoint_state()

    @current_position.setter
    def current_position(self, state: Any) -> None:
        self.restore_from_checkpoint(state)

    def is_infinite(self) -> bool:
        return INFINITELY_REPEAT == self.config.max_samples == self.config.max_sweeps


def _fitting(counts_N: NDArray[np.int64], is_own_N: NDArray[np.bool_], left: int, taken: int) -> tuple[int, bool]:
    """How many of these sequences are passed, so that this worker's own have at most `left` samples, including those
    `taken`; and whether the minibatch is then full. A larger sequence is a minibatch by itself."""
    sums_N = taken + np.cumsum(counts_N * is_own_N)
    place = int(np.searchsorted(sums_N, left))
    if place == len(sums_N):
        return place, False
    is_too_large = sums_N[place] > left and sums_N[place] > counts_N[place]
    return place + (not is_too_large), True


def _infos(files: list[Deserializer]) -> list[Stream]:
    infos: dict[str, Stream] = {}
    defining = 0
    for file in files:
        defining += sum(stream.defines_mb_size for stream in file.shapes.values())
        for name, stream in file.shapes.items():
            if name in infos:
                what = f"Two streams with the same name '{name}' have been found"
                raise RuntimeError(f"{what}. Please rename the duplicate.")
            form = "sparse" if stream.is_sparse else "dense"
            main = stream.defines_mb_size
            infos[name] = Stream(name, len(infos), form, np.float32, stream.shape, defines_mb_size=main)
    if defining > 1:
        raise RuntimeError("Only a single stream is allowed to define the minibatch size.")
    return list(infos.values())
