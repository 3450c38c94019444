"""The cache on disk: damaged entries are none, the least recently used go first, nothing else is ever removed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from command_line import Convolve
from convolve import cache
from convolve.errors import UsageError

KEY = "a" * 64


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CONVOLVE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def keep(key: str, content: bytes) -> None:
    cache.update("features", key, lambda _: content)


def test_what_was_kept_comes_back(folder: Path) -> None:
    assert cache.read("features", KEY) is None
    keep(KEY, b"one")
    cache.update("features", KEY, lambda before: (before or b"") + b"two")
    assert cache.read("features", KEY) == b"onetwo"
    assert [path.name for path in (folder / "features").iterdir()] == [KEY]


@pytest.mark.parametrize("damage", [lambda b: b[:-1], lambda b: b"x" + b[1:], lambda b: b"", lambda b: b[:5]])
def test_a_damaged_entry_is_none(folder: Path, damage: object) -> None:
    keep(KEY, b"what it was")
    path = folder / "features" / KEY
    path.write_bytes(damage(path.read_bytes()))  # type: ignore[operator]
    assert cache.read("features", KEY) is None
    cache.update("features", KEY, lambda before: before or b"anew")
    assert cache.read("features", KEY) == b"anew"


def test_the_least_recently_used_go(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONVOLVE_CACHE_GIB", str(5000 / 2**30))
    for number, key in enumerate("abcd"):
        keep(key, bytes(1000))
        os.utime(folder / "features" / key, (number, number))
    assert cache.read("features", "a") is not None  # now the last one
    keep("e", bytes(1200))
    assert sorted(path.name for path in (folder / "features").iterdir()) == ["a", "c", "d", "e"]
    keep("f", bytes(1251))  # more than a quarter of all
    assert cache.read("features", "f") is None


def test_what_a_process_has_in_use_stays(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("used", "unused"):
        (folder / "unpacked" / name / "deep").mkdir(parents=True)
        (folder / "unpacked" / name / "deep" / "image").write_bytes(bytes(3000))
    use = "from convolve.atomic import keep_in_use; keep_in_use(Path(sys.argv[1])); print('now', flush=True)"
    program = f"import sys; from pathlib import Path; {use}; sys.stdin.read()"
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(folder / "unpacked" / "used")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout
    process.stdout.readline()
    monkeypatch.setenv("CONVOLVE_CACHE_GIB", "0")
    cache.trim()
    assert [path.name for path in (folder / "unpacked").iterdir()] == ["used"]
    process.communicate()
    assert cache.clear(["unpacked"]) == 3000
    assert not list((folder / "unpacked").iterdir())


def test_links_are_removed_and_not_followed(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "photo").write_bytes(bytes(10))
    (folder / "unpacked").mkdir(parents=True)
    (folder / "unpacked" / "link").symlink_to(tmp_path / "mine")
    cache.clear(["unpacked"])
    assert (tmp_path / "mine" / "photo").exists()
    assert not list((folder / "unpacked").iterdir())


def test_where_nothing_can_be_written_nothing_is_kept(folder: Path) -> None:
    folder.write_bytes(b"a file")
    keep(KEY, b"one")
    assert cache.read("features", KEY) is None


def test_a_limit_that_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONVOLVE_CACHE_GIB", "much")
    with pytest.raises(UsageError, match="CONVOLVE_CACHE_GIB=much"):
        cache.limit_bytes()


def test_doctor_shows_and_empties_it(folder: Path, convolve: Convolve) -> None:
    keep(KEY, bytes(2**20))
    (folder / "mnist").mkdir()
    (folder / "mnist" / "part").write_bytes(bytes(2**19))
    (folder / "else").mkdir()
    (folder / "else" / "mine").write_bytes(b"not ours")
    shown = convolve("doctor").out
    assert str(folder) in shown
    assert "1.0 MiB" in shown
    emptied = convolve("doctor", "--clear-cache")
    assert "1.5 MiB freed" in emptied.err
    assert sorted(path.name for path in folder.rglob("*") if path.is_file()) == ["mine"]
