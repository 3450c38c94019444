"""A seeded share of `make attack`: mutants of every format, from a process that forks one for each."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

COUNT = 74  # of all formats alike, two each

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="fork, limits and /proc as Linux has them")


def test_damaged_files_are_answered_or_refused(tmp_path: Path) -> None:
    script, found = Path(__file__).with_name("mutants.py"), tmp_path / "found.json"
    command = [sys.executable, str(script), str(COUNT), "--json", str(found)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]
    rows = json.loads(found.read_text(encoding="utf-8"))
    assert len(rows) >= 37 and sum(row["n"] for row in rows) == COUNT
    assert sum(row["outcomes"].get("refused", 0) for row in rows) > COUNT / 4, "a damage that is none"
