"""The suite as other processors would run it: with fewer instructions, fewer threads, other rounding, less time.

    make processors                                   everything, which takes hours
    make processors SETTINGS="avx2-1 busy" TESTS="tests/training tests/faults" TIMES=3
    make processors PYTHONS="/opt/py311/bin/python /opt/py313/bin/python"

An interpreter of a virtual environment is used with what is installed there; for another one an environment is made in
build/processors, with what constraints.txt says. Logs and the table are left beside it.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

ROOT = Path(__file__).parents[1]
PLACE = ROOT / "build" / "processors"

# What oneDNN (convolutions) and ATen (the rest) may use, and the flag in /proc/cpuinfo without which they cannot.
INSTRUCTIONS = {
    "native": ({}, ""),
    "avx512": ({"ONEDNN_MAX_CPU_ISA": "AVX512_CORE", "ATEN_CPU_CAPABILITY": "avx512"}, "avx512f"),
    "avx2": ({"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}, "avx2"),
    "sse41": ({"ONEDNN_MAX_CPU_ISA": "SSE41", "ATEN_CPU_CAPABILITY": "default"}, "sse4_1"),
}
SETTINGS = {
    f"{name}-{threads}": environ | {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
    for name, (environ, _) in INSTRUCTIONS.items()
    for threads in ("1", "2")
}
SETTINGS["rounding"] = {"CONVOLVE_TEST_ROUNDING": "1e-6", "PYTHONPATH": str(ROOT / "tests" / "rounding")}
SETTINGS["busy"] = {}


class Row(NamedTuple):
    """What a run of the suite left."""

    setting: str
    python: str
    passed: int
    failed: list[str]
    seconds: float
    code: int

    def __str__(self) -> str:
        result = "passed" if self.code == 0 else f"FAILED: {', '.join(self.failed) or f'pytest ended with {self.code}'}"
        return f"{self.setting:12} {self.python:42} {self.passed:6} {self.seconds:7.0f} s  {result}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", nargs="+", default=[sys.executable], help="interpreters")
    parser.add_argument("--settings", nargs="*", default=[], choices=list(SETTINGS), help="only these")
    parser.add_argument("--tests", nargs="*", default=[], help="only these files, folders or tests")
    parser.add_argument("--times", type=int, default=1)
    asked = parser.parse_args()
    PLACE.mkdir(parents=True, exist_ok=True)
    rows = []
    for python in [environment(python) for python in asked.python]:
        for setting in asked.settings or possible_settings():
            for number in range(asked.times):
                rows.append(run(python, setting, asked.tests, number))
                print(rows[-1], flush=True)
    table = "\n".join(map(str, rows))
    (PLACE / "table.txt").write_text(f"{table}\n", encoding="utf-8")
    print(f"\n{table}")
    return int(any(row.code for row in rows))


def possible_settings() -> list[str]:
    """All but those that need instructions that this processor does not have."""
    flags = Path("/proc/cpuinfo").read_text(encoding="utf-8").split()
    missing = [name for name, (_, flag) in INSTRUCTIONS.items() if flag and flag not in flags]
    return [setting for setting in SETTINGS if setting.rpartition("-")[0] not in missing]


def environment(python: str) -> str:
    """The interpreter to run: `python` itself in a virtual environment, otherwise that of one made for it."""
    version, is_virtual = output(
        python, "import sys; print('%d.%d' % sys.version_info[:2], sys.prefix != sys.base_prefix)"
    ).split()
    if is_virtual == "True":
        return shutil.which(python) or python
    place = PLACE / f"python{version}"
    inside = str(place / "bin" / "python")
    if not place.exists():
        subprocess.run([python, "-m", "venv", place], check=True)
    subprocess.run(
        [inside, "-m", "pip", "install", "-q", "-c", "constraints.txt", "-e", ".[test]"], cwd=ROOT, check=True
    )
    return inside


def run(python: str, setting: str, tests: list[str], number: int) -> Row:
    """The suite once, with its log in a file of its own."""
    name = output(
        python, "import platform, torch; print(f'Python {platform.python_version()}, torch {torch.__version__}')"
    )
    log = PLACE / f"{setting}-{name.split()[1].rstrip(',')}-{number}.log"
    report = log.with_suffix(".xml")
    report.unlink(missing_ok=True)
    words = [python, "-m", "pytest", "-n", "2", "-q", "-p", "no:cacheprovider", f"--junitxml={report}", *tests]
    environ = os.environ | SETTINGS[setting]
    paths = [SETTINGS[setting].get("PYTHONPATH"), str(ROOT / "src"), os.environ.get("PYTHONPATH")]
    environ["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
    began = time.monotonic()
    with log.open("wb") as file, busy_loops(os.cpu_count() or 1 if setting == "busy" else 0):
        code = subprocess.run(words, cwd=ROOT, env=environ, stdout=file, stderr=file, check=False).returncode
    cases = list(ElementTree.parse(report).iter("testcase")) if report.exists() else []
    failed = [
        f"{case.get('classname')}::{case.get('name')}"
        for case in cases
        if case.find("failure") is not None or case.find("error") is not None
    ]
    skipped = sum(case.find("skipped") is not None for case in cases)
    return Row(setting, name, len(cases) - len(failed) - skipped, failed, time.monotonic() - began, code)


def output(python: str, source: str) -> str:
    return subprocess.run([python, "-c", source], check=True, capture_output=True, text=True).stdout.strip()


@contextmanager
def busy_loops(count: int) -> Iterator[None]:
    """Beside it, so many processes that want a core each all the time."""
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


if __name__ == "__main__":
    sys.exit(main())
