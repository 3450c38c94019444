"""200 damaged images in a process of their own: a decoder that crashes fails one test. `make fuzz` tries 2,000."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.skipif(sys.platform == "win32", reason="no limits of memory for a process")
def test_damaged_images_decode_or_are_named():
    script = Path(__file__).with_name("fuzz_images.py")
    done = subprocess.run(
        [sys.executable, str(script), "200"], capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert re.fullmatch(r"200 files: \d+ decoded, \d+ refused by name; at most \d+ MB\n", done.stdout)
