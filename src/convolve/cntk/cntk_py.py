"""The names of CNTK's own binary module that programs use."""

from __future__ import annotations

from typing import Any

from convolve.cntk import seeds
from convolve.cntk.io.config import MinibatchSourceConfig  # noqa: F401  one of CNTK's own names


def set_fixed_random_seed(seed: int) -> None:
    """All that is random from now on takes this one seed."""
    seeds.fixed(seed)


def force_deterministic_algorithms() -> None:
    """They are, always."""


def should_force_deterministic_algorithms() -> bool:
    return True


def to_dictionary(value: Any) -> Any:
    return value.as_dictionary() if hasattr(value, "as_dictionary") else dict(value)


def reset_random_seed(seed: int) -> None:
    """Seeds are counted from this one on."""
    seeds.reset(seed)


def force_random_seed(seed: int) -> None:
    seeds.fixed(seed)


def get_random_seed() -> int:
    return seeds.last()


def is_random_seed_fixed() -> bool:
    return seeds.is_fixed()


def universal_learner(parameters: Any, gradients: Any, update_function: Any) -> Any:
    """`update_function` assigns to the parameters what it makes of the gradients, which are constants."""
    from convolve.cntk.learners import UniversalLearner

    return UniversalLearner(lambda *_: update_function, parameters, gradients)


def set_math_lib_threads(threads: int) -> None:
    import torch

    torch.set_num_threads(threads)


def set_computation_network_trace_level(level: int) -> None:
    """There is nothing to trace."""


class ProgressWriter:
    """What a program's own writer is derived from: it may define on_write_training_update and the like."""

    def __init__(self, *frequencies: int) -> None:
        numbers = [*frequencies, 0, 0, 0, 0, 0, 0][:6]
        self._training_freq, self._training_first, self._test_freq, self._test_first = numbers[:4]
        self._trained, self._tested = (0, 0.0, 0.0, 0), (0, 0.0, 0.0, 0)
        self._rates_shown: dict[tuple[Any, str], float] = {}

    def __disown__(self) -> None:
        """Of CNTK's binding to C++."""

    def on_write_training_update(
        self, samples: Any, updates: Any, aggregate_loss: Any, aggregate_metric: Any
    ) -> None: ...

    def on_write_test_update(self, samples: Any, updates: Any, aggregate_metric: Any) -> None: ...

    def on_write_training_summary(
        self, samples: Any, updates: Any, summaries: Any, loss: Any, metric: Any, time: Any
    ) -> None: ...

    def on_write_test_summary(self, samples: Any, updates: Any, summaries: Any, metric: Any, time: Any) -> None: ...

    def write(self, key: Any, value: Any) -> None: ...

    def note_rate(self, learner: Any, what: str, value: float) -> None:
        """Write a rate or a momentum of `learner` where it is another one than before."""
        if self._rates_shown.get((learner, what)) != value:
            self._rates_shown[learner, what] = value
            self.write(what, value)

    def update_training(self, samples: int, loss: float, metric: float | None) -> None:
        seen, losses, metrics, updates = self._trained
        after = (seen + samples, losses + loss, metrics + (metric or 0.0), updates + 1)
        self.on_write_training_update((seen, after[0]), (updates, after[3]), (losses, after[1]), (metrics, after[2]))
        self._trained = after

    def update_test(self, samples: int, metric: float) -> None:
        seen, _, metrics, updates = self._tested
        after = (seen + samples, 0.0, metrics + metric, updates + 1)
        self.on_write_test_update((seen, after[0]), (updates, after[3]), (metrics, after[2]))
        self._tested = after

    def on_training_summary(self) -> None:
        samples, loss, metric, updates = self._trained
        self.on_write_training_summary(samples, updates, 1, loss, metric, time=0)
        self._trained = (0, 0.0, 0.0, 0)

    def on_test_summary(self) -> None:
        samples, _, metric, updates = self._tested
        self.on_write_test_summary(samples, updates, 1, metric, 0)
        self._tested = (0, 0.0, 0.0, 0)


def __getattr__(name: str) -> Any:
    raise AttributeError(f"cntk_py.{name} is not there in convolve; use what cntk itself has for it")
