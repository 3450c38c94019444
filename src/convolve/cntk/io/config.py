"""The settings of a minibatch source, as a value and as CNTK's dictionary."""

from typing import Any, Self

from convolve.cntk.schedules import FULL_DATA_SWEEP
from convolve.data.cntk_order import WINDOW_CHUNKS

__all__ = ["FULL_DATA_SWEEP", "INFINITELY_REPEAT", "MinibatchSourceConfig"]

INFINITELY_REPEAT = 2**64 - 1


class _Flag:
    """A setting that CNTK decides by the deserializers if it is not given."""

    def __init__(self) -> None:
        self.value: bool | None = None

    def set(self, value: bool) -> None:
        self.value = value

    def get(self) -> bool | None:
        return self.value


class MinibatchSourceConfig:
    """What a source reads, how often and in which order."""

    def __init__(self, deserializers: Any = (), randomize: bool = True) -> None:
        self.deserializers = list(deserializers)
        self.max_samples = self.max_sweeps = INFINITELY_REPEAT
        self.randomization_window_in_chunks = WINDOW_CHUNKS if randomize else 0
        self.randomization_window_in_samples = self.randomization_seed = 0
        self.trace_level: Any = 1
        self.is_multithreaded = _Flag()
        self.is_frame_mode_enabled, self.truncation_length = False, 0

    def add_deserializer(self, deserializer: Any) -> Self:
        self.deserializers.append(deserializer)
        return self

    @property
    def is_randomized(self) -> bool:
        return bool(self.randomization_window_in_chunks or self.randomization_window_in_samples)

    def check(self) -> None:
        """Raises `RuntimeError`, in CNTK's words, for settings that exclude each other."""
        excluded = "are mutually exclusive options"
        if INFINITELY_REPEAT not in (self.max_samples, self.max_sweeps):
            what = f"max samples and max sweeps {excluded} and cannot have non-default values at the same time."
        elif self.randomization_window_in_chunks and self.randomization_window_in_samples:
            what = (
                f"randomization window in chunks and randomization window in samples {excluded} and cannot have "
                "non-zero values at the same time."
            )
        elif self.is_frame_mode_enabled and self.truncation_length:
            what = f"truncation and frame mode {excluded}."
        else:
            return
        raise RuntimeError(f"MinibatchSourceConfig: {what}")

    def as_dictionary(self) -> dict[str, Any]:
        self.check()
        threads = self.is_multithreaded.get()
        configs = [each.config for each in self.deserializers]
        images = any("Image" in config["type"] for config in configs)
        found: dict[str, Any] = {
            "deserializers": configs, "randomize": self.is_randomized, "frameMode": self.is_frame_mode_enabled,
            "multiThreadedDeserialization": images if threads is None else threads,
            "traceLevel": int(getattr(self.trace_level, "value", self.trace_level)),
        }  # fmt: skip
        if self.is_randomized:
            by_samples = self.randomization_window_in_samples
            found["randomizationWindow"] = by_samples or self.randomization_window_in_chunks
            found["sampleBasedRandomizationWindow"] = bool(by_samples)
            found["randomizationSeed"] = self.randomization_seed
        if self.truncation_length:
            found |= {"truncated": True, "truncationLength": self.truncation_length}
        return found
