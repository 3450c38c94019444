"""Names that CNTK's modules import for themselves, and that programs find there, above all by `from cntk.layers import
*` (as in CNTK 2.7, without what is purely internal)."""

import collections
import ctypes
import enum
import importlib
import numbers
import os
import platform
import sys
import time
import uuid
import warnings
from types import ModuleType
from typing import Any

import numpy as np

NAMES = {
    "": "C Enum Evaluator INFINITELY_REPEAT all_devices ctypes enum functions is_default_override numbers os platform "
    "set_excluded_devices sys trainer try_set_default_device unique utils warnings",
    "axis": "cntk_py",
    "core": "cntk_py numbers use_default_device user_function warnings",
    "debugging": "CloneMethod UserFunction cntk_py defaultdict output_variable sys user_function",
    "debugging.debug": "CloneMethod UserFunction cntk_py defaultdict output_variable sys user_function",
    "debugging.profiler": "cntk_py",
    "device": "Enum cntk_py unique",
    "eval": "MinibatchData cntk_py use_default_device",
    "eval.evaluator": "MinibatchData cntk_py use_default_device",
    "initializer": "cntk_py",
    "internal": "Axis C cntk cntk_py collections numbers utils",
    "internal.utils": "NDArrayView cntk_py",
    "io": "Record TraceLevel cntk cntk_py get_trace_level np transforms use_default_device uuid warnings",
    "io.transforms": "cntk_py",
    "layers": "Axis BlockFunction C Constant Function InferredDimension Parameter Record Variable alias "
    "batch_normalization blocks combine convolution convolution_transpose default_override_or dropout "
    "get_default_override glorot_uniform is_default_override layers np placeholder pooling reduce_mean reshape "
    "sequence sigmoid slice softplus splice sqrt tanh times typing unpooling Sequence tensor",
    "layers.blocks": "Constant Function InferredDimension alias combine default_override_or get_default_override "
    "glorot_uniform placeholder sigmoid slice softplus tanh times",
    "layers.layers": "Activation C Label Record dropout get_default_override identity is_default_override reshape "
    "splice",
    "layers.typing": "Record Variable np",
    "learners": "Enum NDArrayView asarray cntk_py np unique utils warnings",
    "logging": "Enum Variable cntk_py core cpu os progress_print sys time unique",
    "logging.graph": "Variable os sys",
    "logging.progress_print": "TensorBoardProgressWriter cntk_py core cpu log_number_of_parameters sys",
    "losses": "C CloneMethod Constant Parameter Variable np parameter softmax times",
    "ops": "INFINITELY_REPEAT cntk_py default_override_or functions get_default_override load_model np numbers "
    "use_default_device",
    "ops.functions": "DeviceDescriptor Record UserFunction Value cntk cntk_py collections cpu np sys user_function "
    "warnings",
    "train": "Enum MinibatchData cntk_py ctypes distributed enum platform sys trainer unique use_default_device",
    "train.distributed": "cntk_py ctypes platform trainer",
    "train.trainer": "MinibatchData cntk_py use_default_device",
    "train.training_session": "Enum cntk_py enum sys unique use_default_device",
    "variables": "DeviceDescriptor NDArrayView cntk_py default_override_or get_default_override use_default_device",
}
# The modules that define them, in this order.
_SOURCES = (
    "", "default_options", "ops", "ops.functions", "ops.user_functions", "layers", "layers.typing", "device",
    "internal", "io", "io.config", "train", "logging", "eval",
)  # fmt: skip
_COMMON: dict[str, Any] = {
    "Enum": enum.Enum, "collections": collections, "ctypes": ctypes, "defaultdict": collections.defaultdict,
    "enum": enum, "np": np, "numbers": numbers, "os": os, "platform": platform, "sys": sys, "time": time,
    "unique": enum.unique, "uuid": uuid, "warnings": warnings,
}  # fmt: skip


def lend() -> None:
    """Add to each module the names that it lacks."""
    package = importlib.import_module("convolve.cntk")
    common = _COMMON | {
        "C": package,
        "cntk": package,
        "trainer": package.train.trainer,
        "utils": _module("internal.utils"),
    }
    sources = [_module(name) for name in _SOURCES]
    for name, names in NAMES.items():
        module = _module(name)
        for each in names.split():
            if each not in vars(module):
                setattr(module, each, common[each] if each in common else _found(each, sources))
        if hasattr(module, "__all__"):
            vars(module)["__all__"] += [each for each in names.split() if each not in vars(module)["__all__"]]


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"convolve.cntk.{name}".rstrip("."))


def _found(name: str, sources: list[ModuleType]) -> Any:
    return next(vars(source)[name] for source in sources if name in vars(source))
