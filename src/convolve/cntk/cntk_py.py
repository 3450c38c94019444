"""The names of CNTK's binary module that programs use."""

from typing import Any

from convolve.cntk import seeds
from convolve.cntk.io.config import MinibatchSourceConfig  # noqa: F401  one of CNTK's own names
from convolve.cntk.logging.writer import ProgressWriter  # noqa: F401

DeviceKind_CPU, DeviceKind_GPU = 0, 1  # the values of a device's type()


def set_fixed_random_seed(seed: int) -> None:
    """From now on, everything random takes this one seed."""
    seeds.fixed(seed)


def force_deterministic_algorithms() -> None:
    """Algorithms are always deterministic here."""


def should_force_deterministic_algorithms() -> bool:
    return True


def to_dictionary(value: Any) -> Any:
    return value.as_dictionary() if hasattr(value, "as_dictionary") else dict(value)


def reset_random_seed(seed: int) -> None:
    """Seeds count up from this one from now on."""
    seeds.reset(seed)


def force_random_seed(seed: int) -> None:
    seeds.fixed(seed)


def get_random_seed() -> int:
    return seeds.last()


def is_random_seed_fixed() -> bool:
    return seeds.is_fixed()


def universal_learner(parameters: Any, gradients: Any, update_function: Any) -> Any:
    """`update_function` assigns to the parameters what it computes from the gradients, which are constants."""
    from convolve.cntk.learners import UniversalLearner

    return UniversalLearner(lambda *_: update_function, parameters, gradients)


def set_math_lib_threads(threads: int) -> None:
    import torch

    torch.set_num_threads(threads)


def set_computation_network_trace_level(level: int) -> None:
    """Does nothing: there is nothing to trace."""


def __getattr__(name: str) -> Any:
    from convolve.cntk import ops

    if name in ops.__all__:  # operations, too, under CNTK's names
        return getattr(ops, name)
    raise AttributeError(f"convolve does not have cntk_py.{name}; use the public function of cntk for it")
