"""What is released: the wheel has every file of the package, and the changelog speaks of the version that it is."""

from __future__ import annotations

import re
import runpy
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml
from packaging.utils import canonicalize_name

import lower_bounds

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_the_changelog_begins_with_this_version() -> None:
    headings = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert headings[0] == PROJECT["version"]
    assert len(set(headings)) == len(headings)


def test_every_dependency_says_its_lowest_version_and_permits_the_tested_one() -> None:
    """`make lower-bounds` installs the lowest ones, and CI those of constraints.txt."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    tested = {canonicalize_name(name): version for name, version in (x.split("==") for x in lines if "==" in x)}
    needed = list(lower_bounds.direct(*PROJECT["optional-dependencies"]))
    assert {canonicalize_name(each.name) for each in needed} >= {"torch", "onnxruntime", "pytest", "starlette"}
    for each in needed:
        assert lower_bounds.lowest_of(each) in each.specifier
        assert tested.get(canonicalize_name(each.name), lower_bounds.lowest_of(each)) in each.specifier, each


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, as setuptools leaves its own files in the folder that it builds from."""
    copy = tmp_path_factory.mktemp("package") / "copy"
    shutil.copytree(ROOT / "src", copy / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", "dist", "."]
    done = subprocess.run(build, cwd=copy, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = (copy / "dist").iterdir()
    return built


def test_the_wheel_has_every_file_of_the_package(wheel: Path) -> None:
    """Templates, styles, sample digits, grammars and libraries too: whatever lies in the folder."""
    source = ROOT / "src"
    expected = {
        path.relative_to(source).as_posix()
        for path in (source / "convolve").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {"convolve/py.typed", "convolve/importers/brainscript/library.bs", "convolve/serve/page.css"} <= expected
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        assert any(name.endswith(".dist-info/licenses/LICENSE") for name in archive.namelist())
    assert names == expected


def test_the_wheel_says_what_pyproject_says(wheel: Path) -> None:
    assert wheel.name == f"{PROJECT['name']}-{PROJECT['version']}-py3-none-any.whl"


def test_the_citation_says_what_license_and_project_say() -> None:
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert (cited["title"], cited["license"], cited["abstract"]) == tuple(
        PROJECT[key] for key in ("name", "license", "description")
    )
    assert all(author["name"] in (ROOT / "LICENSE").read_text(encoding="utf-8") for author in cited["authors"])


def test_a_release_writes_version_and_day_and_nothing_without_a_changelog() -> None:
    release = runpy.run_path(str(ROOT / ".ci" / "release.py"))
    project = 'name = "convolve"\nversion = "0.1.0"\n[tool.x]\nversion = "7"\n'
    assert release["with_version"](project, "0.2.0") == project.replace("0.1.0", "0.2.0")
    changelog = "# Changelog\n\n## 0.2.0 (unreleased)\n\n- New.\n\n## 0.1.0 (2026-01-02)\n"
    dated = release["with_day"](changelog, "0.2.0", "2026-11-30")
    assert dated == changelog.replace("(unreleased)", "(2026-11-30)")
    for version in ("0.3.0", "0.1.0"):
        with pytest.raises(SystemExit, match=rf"write what is new under ## {version} \(unreleased\)"):
            release["with_day"](changelog, version, "2026-11-30")


def test_the_list_of_slow_tests_names_tests() -> None:
    """What is renamed and stays slow would come back into `make quick`; `make slow-tests` writes the list anew."""
    listed = [line.split()[0].split("::") for line in (ROOT / "tests" / "slow_tests.txt").read_text().splitlines()]
    gone = [f"{path}::{name}" for path, name in listed if f"def {name}(" not in read(ROOT / path)]
    assert not gone


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""
