"""A few processes that meet in one run folder. `make attack` lets many meet."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="it has no fork")


def test_one_trains_and_the_others_are_refused() -> None:
    words = [sys.executable, str(Path(__file__).with_name("races.py")), "3"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert re.fullmatch(r"3 rounds: 3 trained, \d refused at work, \d finished\n", done.stdout)
