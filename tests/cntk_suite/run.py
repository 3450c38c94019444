"""CNTK's own tests of its Python API, run on `convolve.cntk`: `make cntk-suite`.

The tests come out of the wheel cntk==2.7.post2 (MIT), which pip downloads and nobody installs; nothing of it is kept.
They are for Python 3.6 and numpy 1: what they use of these that is gone is put in the place of its successor. The areas
are those of operators, values and variables, losses and metrics, random numbers, layers, learners, readers.

What a test uses says of which kind its items are (`KINDS`): "sequences" if its source, or that of what it calls in its
file, names an operation along sequences or recurrence; else "user functions", "GPU" or "MPI" if it names these; else
"sequence inputs" if it makes an input with a sequence axis; else it is plain. What CNTK's own file skips is counted
apart: it is for a GPU.
"""

from __future__ import annotations

import argparse
import ast
import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

WHEEL = "cntk==2.7.post2"
FROM_PIP = [
    "download", "--no-deps", "--only-binary=:all:", "--python-version", "3.6", "--implementation", "cp", "--abi",
    "cp36m", "--platform", "manylinux1_x86_64",
]  # fmt: skip
OPERATORS = [
    "assign", "combine", "comparison", "evaluation", "fp16", "free_static_axis", "kernel", "linear", "non_diff",
    "non_linear", "random_sample", "reduction", "reshaping", "sparse", "stop_gradient", "transpose",
]  # fmt: skip
KINDS = {
    "sequences": r"""(?x)\b(?:sequence|S|seq)\.(?!input)\w | from\ cntk(?:\.ops)?\.sequence\ import | \bto_sequence
        | \bSequentialConvolution | \b(?:past|future)_value | \breconcile_dynamic_axes | \bedit_distance_error
        | \b(?:Recurrence|Fold|Unfold|RNN\w*|LSTM|GRU|AttentionModel|ForwardDeclaration|Delay|SequenceOver)\w*
        | REDUCE_SEQUENCE_AXIS""",
    "user functions": r"UserFunction|user_function|native_user|UserLearner",
    "GPU": r"\bgpu\(|cuda|float16|Float16|device_id\s*(?:>=\s*0|!=\s*-1)|on GPU|only.*GPU",
    "MPI": r"\bmpi|distributed|Communicator",
    "sequence inputs": r"sequence\.input|sequence_axis|new_unique_dynamic_axis|default_dynamic_axis|Sequence\[",
}
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
        command = [sys.executable, "-m", "pytest", "-q", "-W", "ignore", "-o", pattern, "--tb=line", *areas]
        command += ["--continue-on-collection-errors", "--junitxml", str(folder / "results.xml")]
        said = subprocess.run(command, cwd=folder, check=False, capture_output=True, text=True).stdout
        if not (folder / "results.xml").exists():
            sys.exit(said)
        print(summary(list(items_of(folder))))


class Item(NamedTuple):
    area: str
    test: str
    kind: str
    result: str
    reason: str


def items_of(folder: Path) -> Iterator[Item]:
    kinds: dict[tuple[str, str], str] = {}
    for path in folder.glob("suite/*/*.py"):
        for test, source in sources(path.read_text(encoding="utf-8")):
            kinds[path.parent.name, test] = kind_of(source)
    for case in ET.parse(folder / "results.xml").getroot().iter("testcase"):
        area, test = case.get("classname", "").split(".")[1], case.get("name", "").partition("[")[0]
        kind, found = kinds.get((area, test), "plain"), case[0] if len(case) else None
        result = "passed" if found is None or found.tag not in ("failure", "error", "skipped") else found.tag
        reason = "" if found is None else found.get("message", "").partition("\n")[0]
        if result == "skipped" and kind == "plain":
            kind = "GPU"
        yield Item(area, test, kind, result, reason)


def sources(text: str) -> Iterator[tuple[str, str]]:
    """Each test of a file with its source, and that of the file's functions and classes that it names."""
    parts = {node.name: node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    for name in filter(lambda name: name.startswith("test"), parts):
        wanted = [name]
        for each in wanted:
            names = {node.id for node in ast.walk(parts[each]) if isinstance(node, ast.Name)}
            wanted += [other for other in parts if other in names and other not in wanted]
        yield name, "\n".join(ast.unparse(parts[each]) for each in wanted)


def kind_of(source: str) -> str:
    return next((kind for kind, pattern in KINDS.items() if re.search(pattern, source)), "plain")


def summary(items: list[Item]) -> str:
    """How many pass by area, plain ones and the others, and those that do not."""
    lines = [f"{'area':10} {'plain':>14}  {'all':>14}  skipped"]
    for area in [*sorted({item.area for item in items}), ""]:
        own = [item for item in items if area in ("", item.area)]
        columns = [_share([item for item in own if item.kind == "plain"]), _share(own)]
        skipped = sum(item.result == "skipped" for item in own)
        lines.append(f"{area or 'together':10} {columns[0]:>14}  {columns[1]:>14}  {skipped:7}")
    failing = Counter((*item[:3], item.reason) for item in items if item.result in ("failure", "error"))
    for (area, test, kind, reason), count in sorted(failing.items(), key=lambda each: (each[0][2] != "plain", each[0])):
        lines.append(f"{count:3} fail  {kind}: {area}: {test}: {reason[:120]}")
    return "\n".join(lines)


def _share(items: list[Item]) -> str:
    ran = [item for item in items if item.result != "skipped"]
    return f"{sum(item.result == 'passed' for item in ran)} of {len(ran)}"


if __name__ == "__main__":
    main()
