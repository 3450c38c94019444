"""What preparations leave in their folder, and preparations that die in the middle, as after kill -9."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

_DIES = """
import os, sys
from importlib import import_module
from pathlib import Path

dataset, source, out, most = sys.argv[1:]
replace, calls = Path.replace, 0

def die_once(self, target):
    global calls
    calls += 1
    return replace(self, target) if calls < int(most) else os._exit(9)

Path.replace = die_once
list(getattr(import_module(f"convolve.prepare.{dataset}"), f"prepare_{dataset}")(Path(source), Path(out)))
"""


def state(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Every file of `folder` with its identity and its content."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): (path.stat().st_ino, path.read_bytes()) for path in files}


def prepare_and_die(dataset: str, source: Path, out: Path, files: int) -> None:
    """Run a preparation in a process that ends without a word when its file number `files` is to get its name."""
    words = [sys.executable, "-c", _DIES, dataset, str(source), str(out), str(files)]
    assert subprocess.run(words, check=False).returncode == 9
