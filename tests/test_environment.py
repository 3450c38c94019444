"""How many cores there are to use: within limits, and beside other processes."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from convolve import environment
from convolve.environment import idle_cores, usable_cores

Ticks = dict[int, tuple[int, int]]


@pytest.mark.parametrize(
    ("busy", "own_seconds", "idle"),
    [
        ([0, 0, 0, 0], 0.0, 4),
        ([25, 0, 0, 0], 0.0, 3),  # one busy loop
        ([13, 12, 0, 0], 0.0, 3),  # one that moved to another core
        ([4, 4, 4, 4], 0.0, 4),  # the noise of an idle machine
        ([25, 25, 25, 25], 0.0, 1),
        ([25, 25, 0, 0], 0.25, 3),  # one of them is this process
    ],
)
def test_cores_that_others_leave_idle(
    busy: list[int], own_seconds: float, idle: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[Ticks] = [dict.fromkeys(range(4), (100, 1000)), {i: (100 + b, 1025) for i, b in enumerate(busy)}]
    clocks = {"process_time": [1.0, 1.0 + own_seconds], "perf_counter": [5.0, 5.25]}
    monkeypatch.setattr(environment, "_busy_ticks", lambda: looks.pop(0))
    monkeypatch.setattr(environment, "_allowed_cores", lambda: {0, 1, 2, 3})
    monkeypatch.setattr(environment, "_cgroup_limit", lambda: float("inf"))
    monkeypatch.setattr(environment.time, "sleep", lambda seconds: None)
    for name, values in clocks.items():
        monkeypatch.setattr(environment.time, name, lambda values=values: values.pop(0))
    assert idle_cores() == idle


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_system_that_does_not_say_has_all_cores_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    assert environment._busy_ticks()
    monkeypatch.setattr(environment, "_lines", lambda path: [])
    assert idle_cores() == usable_cores()


@pytest.mark.parametrize(
    ("files", "limit"),
    [
        ({"/proc/self/cgroup": "0::/a/b", "/sys/fs/cgroup/a/b/cpu.max": "max 100000"}, float("inf")),
        ({"/proc/self/cgroup": "0::/a/b", "/sys/fs/cgroup/a/cpu.max": "150000 100000"}, 1.5),
        ({"/proc/self/cgroup": "0::/", "/sys/fs/cgroup/cpu.max": "400000 100000"}, 4.0),
        ({"/proc/self/cgroup": "4:cpu,cpuacct:/x", "/sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1",
          "/sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000"}, float("inf")),
        ({"/proc/self/cgroup": "4:cpu,cpuacct:/x", "/sys/fs/cgroup/cpu/x/cpu.cfs_quota_us": "200000",
          "/sys/fs/cgroup/cpu/x/cpu.cfs_period_us": "100000"}, 2.0),
        ({}, float("inf")),
    ],
)  # fmt: skip
def test_limits_of_a_container(files: dict[str, str], limit: float, monkeypatch: pytest.MonkeyPatch) -> None:
    def lines(path: str | Path) -> list[str]:
        return files.get(str(path), "").splitlines()

    monkeypatch.setattr(environment, "_lines", lines)
    assert environment._cgroup_limit() == limit
    monkeypatch.setattr(environment, "_allowed_cores", lambda: set(range(8)))
    assert usable_cores() == min(8, limit // 1)
