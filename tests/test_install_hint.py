"""What is said about a missing extra works: no package index has convolve."""

from __future__ import annotations

import json
import re
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from convolve import errors
from convolve.errors import install_hint, quoted

ROOT = Path(__file__).parents[1]
FROM_A_CLONE = f"pip install {quoted('.[serve]')} in a clone of convolve"


class Installed:
    """A distribution as pip leaves it, with what PEP 610 says of its origin."""

    def __init__(self, origin: dict[str, Any] | None) -> None:
        self.origin = origin

    def read_text(self, name: str) -> str | None:
        assert name == "direct_url.json"
        return json.dumps(self.origin) if self.origin is not None else None


def hint(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, origin: dict[str, Any] | None) -> str:
    """That of an installation in site-packages."""
    monkeypatch.setattr(errors, "__file__", str(tmp_path / "lib" / "site-packages" / "convolve" / "errors.py"))
    monkeypatch.setattr(metadata, "distribution", lambda name: Installed(origin))
    return install_hint("serve")


def test_from_a_clone_it_names_the_clone() -> None:
    assert install_hint("serve") == f"pip install -e {quoted(f'{ROOT}[serve]')}"


def test_installed_from_a_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    clone = tmp_path / "my clone"
    clone.mkdir()
    origin = {"url": clone.as_uri(), "dir_info": {}}
    assert hint(monkeypatch, tmp_path, origin) == FROM_A_CLONE  # it has gone
    (clone / "pyproject.toml").touch()
    assert hint(monkeypatch, tmp_path, origin) == f"pip install {quoted(f'{clone}[serve]')}"


def test_installed_from_git_or_a_wheel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    git = {"url": "https://example.com/convolve.git", "vcs_info": {"vcs": "git", "commit_id": "0123abc"}}
    assert (
        hint(monkeypatch, tmp_path, git)
        == f"pip install {quoted('convolve[serve] @ git+https://example.com/convolve.git@0123abc')}"
    )
    wheel = {"url": "file:///tmp/convolve-0.1.0-py3-none-any.whl", "archive_info": {}}
    assert hint(monkeypatch, tmp_path, wheel) == f"pip install {quoted('convolve[serve] @ ' + wheel['url'])}"


def test_installed_from_nowhere_that_is_known(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert hint(monkeypatch, tmp_path, None) == FROM_A_CLONE


def test_a_word_is_quoted_for_the_shell_of_the_system() -> None:
    assert quoted("my clone[serve]") == ('"my clone[serve]"' if sys.platform == "win32" else "'my clone[serve]'")


def test_nothing_sends_people_to_a_package_index() -> None:
    rooms = [path for room in ("src", "docs", "examples", "benchmarks") for path in (ROOT / room).rglob("*.*")]
    files = {path for path in [*ROOT.glob("*.md"), *rooms] if path.suffix in (".py", ".md", ".html", ".js")}
    sent = re.compile(r"pip install (?:-\S+ )*['\"]?convolve\b")
    own = Path(errors.__file__).resolve()  # where the one function is that writes such a command
    found = [path for path in files - {own} if sent.search(path.read_text(encoding="utf-8"))]
    assert found == []
