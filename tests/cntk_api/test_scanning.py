"""What a program names of CNTK and convolve does not have is listed before anything runs."""

import subprocess
import sys
from pathlib import Path

import pytest

from convolve.cntk.scanning import unsupported

PROGRAM = """\
import cntk as C, cntk
from cntk.layers import LSTM, Dense, Recurrence
from cntk.nothing import foo
try:
    from cntk.contrib import crosstalkcaffe
except ImportError:
    pass
import helper
net = C.layers.Recurrence(
    LSTM(3))
C.layers.typing.Tensor
C.ops.made_up(3)
cntk.cntk_py.set_fixed_random_seed(1)
print("ran")
"""


def test_a_program_is_not_started_and_all_is_listed_with_lines(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    (tmp_path / "helper.py").write_text("from cntk.layers import *\n\ndef GRU(x):\n    return x\nz = GRU(LSTM(2))\n")
    command = [sys.executable, "-m", "convolve", "run", str(tmp_path / "program.py")]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (4, "")
    sequences = "recurrence is not supported, and sequences only through `cntk.sequence`; convolve is for images"
    lacks = "convolve does not have it; write it with what docs/reference/cntk-python.md lists"
    *lines, last = done.stderr.splitlines()
    assert lines == [
        f"program.py: line 3: cntk.nothing: {lacks}",
        f"program.py: line 9: Recurrence: {sequences}",
        f"program.py: line 10: LSTM: {sequences}",
        f"program.py: line 12: cntk.ops.made_up: {lacks}",
        f"helper.py: line 5: LSTM: {sequences}",
    ]
    assert last.endswith("program.py uses 5 names of CNTK that convolve does not have, so it was not started")


def test_packages_beside_a_program_are_read_too(tmp_path: Path) -> None:
    (tmp_path / "net").mkdir()
    (tmp_path / "net/__init__.py").write_text("from . import parts\n")
    (tmp_path / "net/parts.py").write_text("from .inner import *\nfrom cntk.layers import GRU\nz = GRU(3)\n")
    (tmp_path / "net/inner.py").write_text("import cntk\ncntk.made_up\n")
    (tmp_path / "program.py").write_text("from net import parts\n")
    assert [line.partition(": ")[0] for line in unsupported(tmp_path / "program.py")] == [
        "net/parts.py",
        "net/inner.py",
    ]


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("old.py", 'import cntk\nprint "old"\n', "old.py: line 2: Missing parentheses"),
        ("book.ipynb", "{}", "book.ipynb is a notebook; write `import convolve.cntk as C` in it"),
    ],
)
def test_what_is_no_program_is_said_so_in_a_sentence(name: str, text: str, says: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    command = [sys.executable, "-m", "convolve", "run", name]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"convolve: {says}") and len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "program",
    [
        "from cntk.layers import *\nfrom cntk.layers import LSTM\nimport cntk.train.training_session\n",
        "import numpy as np\nnp.nothing\n",
        "import cntk\ncntk.learners.sgd.nothing\nx = cntk.input_variable(1).nothing\n",
        "this is no Python\n",
    ],
)
def test_what_is_here_or_not_cntks_is_no_reason(program: str, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(program)
    assert unsupported(tmp_path / "program.py") == []
