"""A few of the trials in one run folder. `make race` and `make kills` do them all."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="it has neither fork nor locks on folders")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["race", "3"], r"3 rounds: 3 trained, \d refused at work, \d finished\n"),
        (["kills", "3"], r"(train.* then train.*: 3 of \d+ events, the same bits \d times, the old run \d\n){3}"),
    ],
    ids=["race", "kills"],
)
def test_a_run_folder_outlives_races_and_kills(words: list[str], said: str) -> None:
    script = Path(__file__).with_name("run_folder_trials.py")
    done = subprocess.run([sys.executable, str(script), *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert re.fullmatch(said, done.stdout)
