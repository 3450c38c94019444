"""Runs a program that was written for CNTK: this package answers its `import cntk`."""

import importlib
import importlib.abc
import importlib.machinery
import os
import runpy
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from convolve.cntk import precision
from convolve.cntk.scanning import unsupported
from convolve.environment import idle_cores
from convolve.errors import UnsupportedError, UsageError

_OURS = "convolve.cntk"


class _Answer(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """`cntk.x.y` is `convolve.cntk.x.y`, the same module under two names."""

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> Any:
        if fullname.partition(".")[0] not in ("cntk", "_cntk_py"):
            return None
        ours = _ours(fullname)
        try:
            importlib.import_module(ours)
            _alias_modules()
        except ModuleNotFoundError as error:
            if error.name and error.name.startswith(_OURS):
                return None
            raise
        return importlib.machinery.ModuleSpec(fullname, self, is_package=hasattr(sys.modules[ours], "__path__"))

    def create_module(self, spec: Any) -> ModuleType:
        return sys.modules[_ours(spec.name)]

    def exec_module(self, module: ModuleType) -> None:
        """Does nothing: the module has already run, under our name."""


def _alias_modules() -> None:
    """All of our loaded modules under CNTK's names. Python does not bind a module that it finds there in the package
    again, where a function may have the module's name (`train.training_session`)."""
    for name, module in list(sys.modules.items()):
        if name.startswith(f"{_OURS}."):
            sys.modules.setdefault(f"cntk{name.removeprefix(_OURS)}", module)


def _ours(name: str) -> str:
    return f"{_OURS}.cntk_py" if name == "_cntk_py" else _OURS + name[4:]


def install() -> None:
    """From now on, `import cntk` imports this package."""
    if "cntk" in sys.modules and sys.modules["cntk"].__name__ != _OURS:
        raise UsageError("the real cntk is already imported; start the program with `convolve run`")
    if not any(isinstance(finder, _Answer) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Answer())


class UnsupportedProgramError(UnsupportedError):
    """`lines`: every name of CNTK that the program uses and convolve does not have."""

    def __init__(self, program: Path, lines: Sequence[str]) -> None:
        self.lines = tuple(lines)
        count = "a name" if len(lines) == 1 else f"{len(lines)} names"
        super().__init__(f"{program} uses {count} of CNTK that convolve does not have, so it was not started")


def _require_python(program: Path) -> None:
    if program.suffix == ".ipynb":
        raise UsageError(
            f"{program} is a notebook; write `import convolve.cntk as C` in it, or convert it with `jupyter "
            f"nbconvert --to script {program}` and run the script"
        )
    try:
        compile(program.read_bytes(), str(program), "exec")
    except (SyntaxError, ValueError) as error:
        where = f"line {error.lineno}: {error.msg}" if isinstance(error, SyntaxError) else str(error)
        raise UsageError(f"{program}: {where}; it is not Python 3 (`2to3 -w` translates older programs)") from None


def run(program: Path, arguments: Sequence[str], steps_in: str = "fp32") -> None:
    """Run the program as `python program arguments...` would, if convolve has everything that it names."""
    if not program.is_file():
        raise UsageError(f"{program} does not exist; give a Python program or a CNTK configuration")
    _require_python(program)
    if lines := unsupported(program):
        raise UnsupportedProgramError(program, lines)
    install()
    precision.ask(steps_in)
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(idle_cores())  # more threads would wait for each other where other programs compute
    sys.argv[:] = [str(program), *arguments]
    sys.path.insert(0, str(program.resolve().parent))
    runpy.run_path(str(program), run_name="__main__")
