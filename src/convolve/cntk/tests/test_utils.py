"""CNTK's examples let its tests choose a device by an environment variable."""

import os

from convolve.cntk.device import cpu, gpu, try_set_default_device

__test__ = False


def set_device_from_pytest_env() -> None:
    """`TEST_DEVICE`: cpu, or else the first GPU; nothing where it is not set."""
    if "TEST_DEVICE" in os.environ:
        try_set_default_device(cpu() if os.environ["TEST_DEVICE"] == "cpu" else gpu(0))
