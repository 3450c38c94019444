"""Devices: the CPU, or the GPU that a program chooses before it creates its first array."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from enum import Enum
from typing import Any

import torch


class DeviceKind(Enum):
    CPU = 0
    GPU = 1


class DeviceDescriptor:
    """A device; its static methods are the module's functions."""

    def __init__(self, kind: str, index: int = 0) -> None:
        self.kind, self._index = kind, index

    def id(self) -> int:
        return self._index

    def type(self) -> int:
        return 0 if self.kind == "cpu" else 1

    def as_string(self) -> str:
        return str(self)

    @staticmethod
    def cpu_device() -> DeviceDescriptor:
        return cpu()

    @staticmethod
    def gpu_device(device_id: int) -> DeviceDescriptor:
        return gpu(device_id)

    @staticmethod
    def all_devices() -> tuple[DeviceDescriptor, ...]:
        return all_devices()

    @staticmethod
    def use_default_device() -> DeviceDescriptor:
        return use_default_device()

    @staticmethod
    def try_set_default_device(new_default_device: Any, acquire_device_lock: bool = False) -> bool:
        return try_set_default_device(new_default_device, acquire_device_lock)

    def is_locked(self) -> bool:
        return False

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DeviceDescriptor) and (self.kind, self._index) == (other.kind, other._index)

    def __hash__(self) -> int:
        return hash((self.kind, self._index))

    def __repr__(self) -> str:
        return "CPU" if self.kind == "cpu" else f"GPU[{self._index}]"


@dataclass
class _Default:
    device: DeviceDescriptor
    is_used: bool = False


_default = _Default(DeviceDescriptor("cpu"))


def cpu() -> DeviceDescriptor:
    return DeviceDescriptor("cpu")


def gpu(device_id: int) -> DeviceDescriptor:
    if not torch.cuda.is_available() or device_id >= torch.cuda.device_count():
        raise ValueError(f"Specified GPU device id ({device_id}) is invalid.")
    return DeviceDescriptor("gpu", device_id)


def all_devices() -> tuple[DeviceDescriptor, ...]:
    return (*(gpu(index) for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0)), cpu())


def use_default_device() -> DeviceDescriptor:
    """The device for all computation, which from now on cannot change."""
    _default.is_used = True
    return _default.device


def used() -> torch.device:
    """PyTorch's name of the device in use."""
    device = use_default_device()
    return torch.device("cpu") if device == cpu() else torch.device("cuda", device.id())


def try_set_default_device(new_default_device: Any, acquire_device_lock: bool = False) -> bool:
    """Whether everything will be computed on this device; False once another device is in use."""
    if not isinstance(new_default_device, DeviceDescriptor):
        raise NotImplementedError(f"give a device from cpu() or gpu(0), not {new_default_device!r}")
    if new_default_device != _default.device:
        if _default.is_used:
            return False
        _default.device = new_default_device
        warnings.warn(f"computes on {torch.cuda.get_device_name(new_default_device.id())}: the last digits of "
            f"results differ from those of CNTK on a CPU", stacklevel=2)  # fmt: skip
    return True


def get_gpu_properties(device: DeviceDescriptor) -> Any:
    if device.type() == DeviceKind.CPU.value:
        raise ValueError("GPU properties cannot be obtained for a CPU device.")
    return torch.cuda.get_device_properties(device.id())


def set_excluded_devices(excluded_devices: Any) -> None:
    """Does nothing: no device can be excluded."""
