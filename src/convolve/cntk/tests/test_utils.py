"""CNTK's examples let an environment variable choose the device of their tests."""

import os

from convolve.cntk.device import cpu, gpu, try_set_default_device

__test__ = False


def set_device_from_pytest_env() -> None:
    """`TEST_DEVICE`: cpu, or anything else for the first GPU; if it is not set, nothing is done."""
    if "TEST_DEVICE" in os.environ:
        try_set_default_device(cpu() if os.environ["TEST_DEVICE"] == "cpu" else gpu(0))
