"""Readers."""

from types import ModuleType

from convolve.cntk.core import MinibatchData
from convolve.cntk.io import transforms
from convolve.cntk.io.deserializers import CTFDeserializer, StreamDef, StreamDefs
from convolve.cntk.io.source import (
    DEFAULT_RANDOMIZATION_WINDOW_IN_CHUNKS,
    FULL_DATA_SWEEP,
    INFINITELY_REPEAT,
    MinibatchSource,
    MinibatchSourceFromData,
    StreamInformation,
    UserMinibatchSource,
)

__all__ = [
    name for name, value in list(globals().items()) if not (name.startswith("_") or isinstance(value, ModuleType))
]

from convolve.cntk import refused as _refused

__getattr__ = _refused.attribute(__name__)
