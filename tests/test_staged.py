"""What `convert` writes, killed before each of its events: the same command then ends as if undisturbed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

WRITES = """
import os, sys
from pathlib import Path
from convolve.atomic import staged

left, kind = int(sys.argv[1]), sys.argv[2]

def hook(event, arguments):
    global left
    if event.startswith(("os.", "shutil.", "open", "fcntl.")):
        left -= 1
        if not left:
            os._exit(9)

sys.addaudithook(hook)
with staged("net") as path:
    if kind == "folder":
        path.mkdir()
    (path / "weights" if kind == "folder" else path).write_text("weights")
    path.with_name("net-card").write_text("card")
"""


def written(folder: Path, before: int, kind: str) -> int:
    """The exit code of a process that ends before its event of that number."""
    command = [sys.executable, "-c", WRITES, str(before), kind]
    return subprocess.run(command, cwd=folder, check=False, timeout=60).returncode


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_killed_at_any_time_it_ends_as_if_undisturbed(kind: str, tmp_path: Path) -> None:
    code, event = 9, 0
    while code:
        event += 1
        folder = tmp_path / str(event)
        folder.mkdir()
        code = written(folder, event, kind)
        net = folder / "net"
        whole = (net / "weights" if kind == "folder" else net).exists()
        assert whole <= (folder / "net-card").exists()  # what counts comes last
        if not whole:
            assert written(folder, 0, kind) == 0
            assert sorted(path.name for path in folder.iterdir()) == ["net", "net-card"]
    assert event > 10
