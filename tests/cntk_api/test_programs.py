"""Programs for CNTK 2.7, unchanged: what they print and write is what the real CNTK printed and wrote.

tests/golden/cntk holds three programs and what they did there (one thread of a processor).
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

GOLDEN = Path(__file__).parents[1] / "golden/cntk"
OWN = Path(__file__).parents[1] / "golden/cntk_api/programs"
_RATE = re.compile(r" \d+\.\d+s \(.*samples/s\)")  # of an epoch's line: seconds differ


def ran(program: str | Path, *arguments: object) -> list[str]:
    """What `convolve run` prints of a program, line by line."""
    command = [sys.executable, "-m", "convolve", "run", str(GOLDEN / program), *map(str, arguments)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def in_numbers(line: str) -> tuple[str, list[float]]:
    """(the line without its numbers, its numbers)"""
    line = _RATE.sub("", line)
    pattern = r"-?\d+\.\d+(?:e-?\d+)?"
    return re.sub(pattern, "#", line), [float(number) for number in re.findall(pattern, line)]


def agree(ours: list[str], theirs: list[str], rtol: float) -> None:
    """Every line has the same words, and numbers that differ by so much at most."""
    assert [in_numbers(line)[0] for line in ours] == [in_numbers(line)[0] for line in theirs]
    for line, wanted in zip(ours, theirs, strict=True):
        assert np.allclose(in_numbers(line)[1], in_numbers(wanted)[1], rtol=rtol, atol=2e-6), (line, wanted)


def test_a_residual_network_is_trained_evaluated_and_saved_as_by_cntk(tmp_path: Path) -> None:
    agree(ran("residual_session.py", tmp_path), (GOLDEN / "residual_session.out").read_text().splitlines(), 1e-5)


def test_a_network_of_cntks_is_cut_frozen_and_given_another_head(tmp_path: Path) -> None:
    shutil.copy(GOLDEN / "final.model", tmp_path)
    agree(ran("transfer.py", tmp_path), (GOLDEN / "transfer.out").read_text().splitlines(), 1e-5)


@pytest.mark.parametrize("program", sorted(path.stem for path in OWN.glob("*.py")))
def test_a_program_prints_what_it_prints_with_cntk(
    program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    agree(ran(OWN / f"{program}.py"), (OWN / f"{program}.out").read_text().splitlines(), 1e-5)


def test_what_is_behind_the_program_is_its_own(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text("import sys, cntk\nprint(sys.argv[1:], cntk.__version__)\n")
    command = [sys.executable, "-m", "convolve", "run", str(program), "--help", "--debug", "-n", "3"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert done.stdout == "['--help', '--debug', '-n', '3'] 2.7\n"


def test_a_program_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "convolve", "run", str(tmp_path / "none.py")]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 2 and "does not exist" in done.stderr


@pytest.mark.parametrize("statement", ["import cntk.layers.typing", "from cntk.ops.functions import Function"])
def test_cntks_modules_are_there_under_their_names(statement: str, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(f"{statement}\nprint('here')\n")
    command = [sys.executable, "-m", "convolve.cntk", str(program)]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout == "here\n"
