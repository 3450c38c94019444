"""A few of the trials in which commands are killed, or fail, at an event of the file system. `make faults` does all."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are forked, and their files found in /proc")

FEW = 2  # trials of each command
QUICK = (
    "train", "train --restart, then without", "report", "predict --csv", "prepare mnist", "prepare shards",
    "convert to convolve",
)  # fmt: skip


def test_commands_go_on_where_they_were_killed_or_failed() -> None:
    words = [word for name in QUICK for word in ("--only", name)]
    command = [sys.executable, str(Path(__file__).with_name("sweeps.py")), str(FEW), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    assert done.stdout.count("\n") >= len(QUICK)
