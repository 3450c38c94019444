"""Sixty damaged run folders in a process of their own. `make fuzz` tries 2,000."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path


def test_damaged_run_folders_are_reported_or_named() -> None:
    script = Path(__file__).with_name("fuzz_report.py")
    done = subprocess.run([sys.executable, str(script), "60"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert re.fullmatch(r"60 folders: \d+ reported, \d+ refused by name\n", done.stdout)
