"""200 damaged images among good ones, in a process of their own. `make fuzz` tries 2,000."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.skipif(sys.platform == "win32", reason="no limits of memory for a process")
def test_the_loader_names_what_is_damaged() -> None:
    script = Path(__file__).with_name("fuzz_loader.py")
    finished = subprocess.run(
        [sys.executable, str(script), "200"], capture_output=True, text=True, timeout=600, check=False
    )
    assert finished.returncode == 0, finished.stderr[-3000:]
    assert finished.stdout.startswith("400 files")
