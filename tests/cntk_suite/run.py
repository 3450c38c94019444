"""CNTK's own tests of its Python API, run on `convolve.cntk`: `make cntk-suite`.

The tests come out of the wheel cntk==2.7.post2 (MIT), which pip downloads and nobody installs; nothing of it is kept.
They are for Python 3.6 and numpy 1: what they use of these that is gone is put in the place of its successor. The areas
are those of operators, values and variables, losses and metrics, random numbers, layers, learners, readers.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import zipfile
from collections import Counter
from pathlib import Path

WHEEL = "cntk==2.7.post2"
FROM_PIP = [
    "download", "--no-deps", "--only-binary=:all:", "--python-version", "3.6", "--implementation", "cp", "--abi",
    "cp36m", "--platform", "manylinux1_x86_64",
]  # fmt: skip
OPERATORS = [
    "assign", "combine", "comparison", "evaluation", "fp16", "free_static_axis", "kernel", "linear", "non_diff",
    "non_linear", "random_sample", "reduction", "reshaping", "sparse", "stop_gradient", "transpose",
]  # fmt: skip
CONFTEST = """
import numpy as np
import pytest

from convolve.cntk.launcher import install

install()
np.product, np.alltrue, np.lib.pad = np.prod, np.all, np.pad  # numpy 1


@pytest.fixture(params=[-1])
def device_id(request):
    return request.param


@pytest.fixture(params=["float", "double"])
def precision(request):
    return request.param


@pytest.fixture(autouse=True)
def seeds():
    from cntk import cntk_py

    cntk_py.reset_random_seed(1)
"""


def wanted(name: str) -> str:
    """The area of a file in the wheel; empty: it is none of those that are run."""
    match = re.fullmatch(r"cntk/(?:(\w+)/)?tests/(\w+)\.py", name)
    if not match or match.group(2) == "__init__":
        return ""
    area, file = match.group(1) or "values", match.group(2)
    if area == "ops":
        return area if file in ("ops_test_utils", *(f"{each}_test" for each in OPERATORS)) else ""
    if area == "values":
        return area if file in ("test_utils", "value_test", "variables_test") else ""
    return area if area in ("losses", "metrics", "random", "layers", "io") or file == "learner_test" else ""


def moved(text: str, package: str) -> str:
    """The test as it stands outside of the package: relative imports are absolute."""

    def absolute(match: re.Match[str]) -> str:
        parts = package.split(".")
        base = parts[: len(parts) - len(match.group(1)) + 1]
        return f"from {'.'.join([*base, *filter(None, [match.group(2)])])} import"

    text = re.sub(r"from (\.+)([\w.]*) import", absolute, text)
    text = text.replace("cntk.ops.tests.", "suite.ops.").replace("cntk.tests.", "suite.values.")
    return text.replace("res[ax_slices] = x[ax_slices]", "res[tuple(ax_slices)] = x[tuple(ax_slices)]")  # numpy 1


def unpack(wheel: Path, folder: Path) -> None:
    (folder / "suite").mkdir()
    (folder / "suite/__init__.py").touch()
    (folder / "suite/conftest.py").write_text(CONFTEST, encoding="utf-8")
    with zipfile.ZipFile(wheel) as archive:
        for name in filter(wanted, archive.namelist()):
            target = folder / "suite" / wanted(name) / Path(name).name
            target.parent.mkdir(exist_ok=True)
            (target.parent / "__init__.py").touch()
            package = ".".join(Path(name).parts[:-1])
            target.write_text(moved(archive.read(name).decode(), package), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--wheel", type=Path, help="the wheel, where it is there already")
    parser.add_argument("--areas", nargs="*", default=[], help="for example ops losses")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        wheel = options.wheel
        if wheel is None:
            subprocess.run([sys.executable, "-m", "pip", *FROM_PIP, "--dest", scratch, WHEEL], check=True)
            wheel = next(folder.glob("cntk-*.whl"))
        unpack(wheel.resolve(), folder)
        areas = [f"suite/{area}" for area in options.areas] or ["suite"]
        pattern = "python_files=*_test.py *_tests.py"
        command = [sys.executable, "-m", "pytest", "-q", "-W", "ignore", "-o", pattern, "--tb=no", "-rA", *areas]
        command.append("--continue-on-collection-errors")
        said = subprocess.run(command, cwd=folder, check=False, capture_output=True, text=True).stdout
    print(said if "passed" not in said else summary(said))


def summary(said: str) -> str:
    """How many pass by area, and the tests that do not."""
    results = re.findall(r"^(PASSED|FAILED|ERROR) suite/(\w+)/\S+?::(\w+)", said, re.M)
    areas = Counter((area, result) for result, area, _ in results)
    failing: Counter[tuple[str, str]] = Counter()
    for result, area, test in results:
        failing[area, test] += result != "PASSED"
    lines = [f"{area:10} {areas[area, 'PASSED']:5} of {sum(n for (a, _), n in areas.items() if a == area):5} pass"
             for area in sorted({area for area, _ in areas})]  # fmt: skip
    lines += [f"  {count:3} fail  {area}: {test}" for (area, test), count in failing.most_common() if count]
    passed = sum(result == "PASSED" for result, _, _ in results)
    return "\n".join([*lines, f"{passed} of {len(results)} tests pass"])


if __name__ == "__main__":
    main()
