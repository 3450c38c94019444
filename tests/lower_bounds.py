"""The suite with the lowest version of every direct dependency that pyproject.toml permits, and the pinned torch.

    make lower-bounds                                       everything, which takes as long as `make test`
    make lower-bounds TESTS="tests/cli tests/export"
    make lower-bounds TORCH=2.9.0                           with another torch

The environment is made in build/lower-bounds. Style and types are judged by the pinned tools alone.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
PLACE = ROOT / "build" / "lower-bounds"
EXTRAS = ("test",)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--torch", default=pinned("torch"), help="its version")
    parser.add_argument("--tests", nargs="*", default=[], help="only these files, folders or tests")
    parser.add_argument("--print", action="store_true", help="print the versions, and do nothing")
    asked = parser.parse_args()
    versions = "".join(f"{name}=={version}\n" for name, version in lowest_versions(asked.torch).items())
    if asked.print:
        print(versions, end="")
        return 0
    PLACE.mkdir(parents=True, exist_ok=True)
    (PLACE / "constraints.txt").write_text(versions, encoding="utf-8")
    subprocess.run([sys.executable, "-m", "venv", "--clear", PLACE / "environment"], check=True)
    python = PLACE / "environment" / "bin" / "python"
    extras = ",".join(EXTRAS)
    words = ["-m", "pip", "install", "-q", "-c", str(PLACE / "constraints.txt"), "-e", f".[{extras}]"]
    subprocess.run([python, *words], cwd=ROOT, check=True)
    return subprocess.run([python, "-m", "pytest", "-n", "2", *asked.tests], cwd=ROOT, check=False).returncode


def pinned(package: str) -> str:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return dict(line.split("==") for line in lines if "==" in line)[package]


def lowest_versions(torch: str) -> dict[str, str]:
    """Package -> the lowest version that is permitted, of all direct dependencies of the suite."""
    lowest = {needed.name: lowest_of(needed) for needed in direct(*EXTRAS)}
    return lowest | {"torch": torch}


def lowest_of(needed: Requirement) -> str:
    found = [each.version for each in needed.specifier if each.operator in (">=", "==")]
    if len(found) != 1:
        raise ValueError(f"pyproject.toml: {needed} does not say which version is the lowest")
    return found[0]


def direct(*extras: str) -> Iterator[Requirement]:
    """The requirements of the package and of these extras, with the extras that they name."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lists = [project["dependencies"], *(project["optional-dependencies"][extra] for extra in extras)]
    for needed in (Requirement(text) for texts in lists for text in texts):
        if needed.name == project["name"]:
            yield from direct(*needed.extras)
        elif needed.marker is None or needed.marker.evaluate():
            yield needed


if __name__ == "__main__":
    sys.exit(main())
