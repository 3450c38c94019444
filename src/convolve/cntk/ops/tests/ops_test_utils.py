"""Names that programs' tests import from the tests of CNTK's operations."""

from typing import Any

import numpy as np

from convolve.cntk.device import DeviceDescriptor, cpu, gpu

__test__ = False
PRECISION_TO_TYPE = {"float": np.float32, "double": np.float64}


def cntk_device(device_id: int) -> DeviceDescriptor:
    """-1 means the CPU."""
    return cpu() if device_id == -1 else gpu(device_id)


def AA(*arguments: Any, **options: Any) -> Any:
    return np.asarray(*arguments, **options)
