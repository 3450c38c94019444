"""Readers."""

from types import ModuleType

from convolve.cntk.core import MinibatchData, Value
from convolve.cntk.io import transforms
from convolve.cntk.io.config import FULL_DATA_SWEEP, INFINITELY_REPEAT
from convolve.cntk.io.deserializers import CTFDeserializer, UserDeserializer
from convolve.cntk.io.images import Base64ImageDeserializer, ImageDeserializer
from convolve.cntk.io.memory import MinibatchSourceFromData, UserMinibatchSource
from convolve.cntk.io.source import DEFAULT_RANDOMIZATION_WINDOW_IN_CHUNKS, MinibatchSource
from convolve.cntk.io.streams import StreamConfiguration, StreamDef, StreamDefs, StreamInformation
from convolve.cntk.io.text import _is_tensor, sequence_to_cntk_text_format

__all__ = [
    name for name, value in list(globals().items()) if not (name.startswith("_") or isinstance(value, ModuleType))
]

from convolve.cntk import refused as _refused

__getattr__ = _refused.attribute(__name__)
