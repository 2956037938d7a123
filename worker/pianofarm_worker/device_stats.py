"""How full and how busy the device of a worker is: NVIDIA's library for a GPU, the kernel's figures of this process else.

The library (libnvidia-ml, part of the driver) is called by ctypes, so that no CUDA context is made and no package is needed.
"""

from __future__ import annotations

import ctypes
import os
import time
from dataclasses import dataclass
from typing import Any, Protocol

_LIBRARY = "libnvidia-ml.so.1"


@dataclass(frozen=True)
class DeviceStats:
    """One look at a device."""

    used_bytes: int
    total_bytes: int  #: 0 where it is not known
    utilization: float  #: 0..1


class Meter(Protocol):
    """What can be asked how a device is doing."""

    def read(self) -> DeviceStats:
        """A fresh look; cheap enough for every scrape."""


class _Memory(ctypes.Structure):
    _fields_ = (("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong))


class _Utilization(ctypes.Structure):
    _fields_ = (("gpu", ctypes.c_uint), ("memory", ctypes.c_uint))


class GpuMeter:
    """One NVIDIA GPU, by index or UUID as `CUDA_VISIBLE_DEVICES` names it."""

    def __init__(self, name: str, library: Any = None) -> None:
        """Args: name; library: libnvidia-ml, loaded here by default.

        Raises:
            OSError: there is no such library or device.
        """
        self._nvml = library or ctypes.CDLL(_LIBRARY)
        self._handle = ctypes.c_void_p()
        self._check(self._nvml.nvmlInit_v2(), "nvmlInit_v2")
        if name.isdecimal():
            status = self._nvml.nvmlDeviceGetHandleByIndex_v2(ctypes.c_uint(int(name)), ctypes.byref(self._handle))
        else:
            status = self._nvml.nvmlDeviceGetHandleByUUID(name.encode(), ctypes.byref(self._handle))
        self._check(status, f"device {name}")

    @staticmethod
    def _check(status: int, what: str) -> None:
        if status != 0:
            raise OSError(f"libnvidia-ml refuses {what} (code {status})")

    def read(self) -> DeviceStats:
        """Memory and utilisation of the whole device, whoever uses it.

        Raises:
            OSError: the driver gives no answer. A slice of a partitioned GPU has no utilisation of its own: 0.0.
        """
        memory, utilization = _Memory(), _Utilization()
        self._check(self._nvml.nvmlDeviceGetMemoryInfo(self._handle, ctypes.byref(memory)), "memory")
        known = self._nvml.nvmlDeviceGetUtilizationRates(self._handle, ctypes.byref(utilization)) == 0
        return DeviceStats(int(memory.used), int(memory.total), utilization.gpu / 100.0 if known else 0.0)


class ProcessMeter:
    """This process, where the device is a CPU: resident memory, and CPU time since the last look over wall time and cores."""

    def __init__(self, n_cores: int) -> None:
        self._n_cores = max(1, n_cores)
        self._last = (time.monotonic(), time.process_time())

    def read(self) -> DeviceStats:
        """Memory of the process, of the host, and how busy the cores that the process may use were kept by it."""
        now = (time.monotonic(), time.process_time())
        wall_s, cpu_s = now[0] - self._last[0], now[1] - self._last[1]
        self._last = now
        page_bytes = os.sysconf("SC_PAGE_SIZE")
        with open("/proc/self/statm") as statm:
            used_bytes = int(statm.read().split()[1]) * page_bytes
        busy = min(1.0, cpu_s / (wall_s * self._n_cores)) if wall_s > 0 else 0.0
        return DeviceStats(used_bytes, os.sysconf("SC_PHYS_PAGES") * page_bytes, busy)


def meter_of(device: str, n_cores: int) -> Meter:
    """The meter of a worker's device ("cpu", "gpu:NAME"); the process' own where the GPU cannot be asked."""
    kind, _, name = device.partition(":")
    if kind == "gpu":
        try:
            return GpuMeter(name)
        except OSError:
            pass
    return ProcessMeter(n_cores)
