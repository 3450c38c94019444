from pathlib import Path

import pytest

from convolve import cache
from convolve.cache import cache_folder
from convolve.data.locate import locate
from convolve.errors import MissingDataError


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("CONVOLVE_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_the_folder_that_was_named_comes_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "shared" / "mnist").mkdir(parents=True)
    (tmp_path / "mine").mkdir()
    monkeypatch.setenv("CONVOLVE_DATA", str(tmp_path / "shared"))
    assert locate("mnist", str(tmp_path / "mine")) == tmp_path / "mine"
    assert locate("mnist", None) == tmp_path / "shared" / "mnist"


def test_the_cache_comes_last(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert locate("mnist", None) == tmp_path / "cache" / "convolve" / "mnist"
    monkeypatch.setenv("CONVOLVE_DATA", str(tmp_path))  # set, but without a folder for this data set
    assert locate("mnist", None) == tmp_path / "cache" / "convolve" / "mnist"


@pytest.mark.parametrize(
    ("platform", "expected"),
    [
        ("linux", "home/.cache/convolve/mnist"),
        ("darwin", "home/Library/Caches/convolve/mnist"),
        ("win32", "appdata/convolve/mnist"),
    ],
)
def test_the_cache_lies_where_the_system_keeps_caches(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, platform: str, expected: str
) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME")
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "appdata"))
    monkeypatch.setattr(cache.sys, "platform", platform)
    assert cache_folder("mnist") == tmp_path / expected


def test_a_user_without_a_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As in a container that runs as a user without an entry in the password file."""

    def none() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", none)
    assert cache_folder("mnist") == tmp_path / "cache" / "convolve" / "mnist"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.delenv("LOCALAPPDATA", raising=False)
    with pytest.raises(MissingDataError, match=r"no home folder.*set CONVOLVE_CACHE.*--data"):
        locate("mnist", None)


def test_sample_is_shipped_with_its_license() -> None:
    files = {path.name for path in locate("mnist", "sample").iterdir()}
    assert {"train-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz", "ATTRIBUTION.md"} <= files
    assert sum(path.stat().st_size for path in locate("mnist", "sample").iterdir()) < 1_500_000


@pytest.mark.parametrize(("name", "state"), [("nowhere", "does not exist"), ("file", "is not a folder")])
def test_a_name_that_leads_nowhere_says_so(tmp_path: Path, name: str, state: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(MissingDataError, match=f"{name} {state}.*--data sample"):
        locate("mnist", str(tmp_path / name))
