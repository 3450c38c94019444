"""The rules of `make windows` and `make macos`, and what our ground floor makes of them. Each snippet is a process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import convolve
from convolve.names import own_slashes, portable

HERE = Path(__file__).parent
START = """
import os, subprocess, sys
from pathlib import Path
from convolve.errors import ConvolveError, UsageError

def error_of(function, *arguments):
    try:
        function(*arguments)
    except (OSError, ConvolveError, ValueError, AttributeError) as error:
        return getattr(error, "winerror", None) or type(error).__name__

file = Path("file.txt")
file.write_text("text", encoding="utf-8")
other = Path("other")
other.write_text("text", encoding="utf-8")
"""
RULES = {
    "an open file stays": """
with file.open(encoding="utf-8"):
    assert error_of(file.unlink) == 32
    assert error_of(other.replace, file) == 5
    assert error_of(file.rename, "new") == 32
file.unlink()
""",
    "a mapped file stays": """
import mmap
with file.open("rb") as opened:
    content = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
assert error_of(other.replace, file) == 5
content.close()
other.replace(file)
""",
    "a file that another process has open stays": """
holds = "import sys; file = open('file.txt'); print(flush=True); sys.stdin.read()"
with subprocess.Popen([sys.executable, "-c", holds], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
    holder.stdout.readline()
    assert error_of(file.unlink) == 32
file.unlink()
""",
    "a folder that a process works in stays": """
Path("inner").mkdir()
os.chdir("inner")
assert error_of(os.rmdir, "../inner") == error_of(os.rename, "../inner", "../new") == 32
""",
    "long paths": """
folder, file = (Path("x" * (length - len(os.getcwd()))) for length in (247, 259))
assert error_of(folder.mkdir) == 206 and error_of(file.write_bytes, b"") == 3
Path(folder.name[1:]).mkdir()
Path(file.name[1:]).write_bytes(b"")
""",
    "paths have no case": """
assert [path.name for path in sorted(map(Path, ("b", "C", "a")))] == ["a", "b", "C"]
assert Path("A/b") == Path("a/B") and [path.name for path in Path().glob("FILE.*")] == ["file.txt"]
""",
    "clocks": """
from convolve.atomic import time
assert (time.time() * 64).is_integer() and (time.monotonic() * 64).is_integer()
""",
    "handles": """
from convolve.atomic import os
other.write_bytes(b"1\\r\\n2\\x1a3")
assert not hasattr(os, "pread")
handle = os.open(other, os.O_RDONLY | os.O_BINARY)
assert os.read(handle, 9) == b"1\\r\\n2\\x1a3"
""",
    "the home": """
os.environ["HOME"] = "elsewhere"
assert Path.home() != Path("elsewhere")
os.environ["USERPROFILE"] = "here"
assert Path.home() == Path("here")
""",
    "cases are one": """
assert Path("FILE.TXT").read_text(encoding="utf-8") == "text"
assert error_of(Path("File.txt").mkdir) == "FileExistsError"
Path("OTHER").write_text("new", encoding="utf-8")
assert other.read_text(encoding="utf-8") == "new"
""",
    "names": """
for name in ("nul", "CON.txt", "com1", "a:b", "a?", "end.", "end ", "line\\n"):
    assert error_of(Path(name).write_bytes, b"") == 123, name
    assert error_of(Path(name).mkdir) == 123, name
assert not Path("a?b").exists()
""",
    "sync": """
with file.open("rb") as opened:
    assert error_of(os.fsync, opened.fileno()) == "OSError"
with file.open("r+b") as opened:
    os.fsync(opened.fileno())
""",
    "folders are not opened": "assert error_of(os.open, '.', os.O_RDONLY) == error_of(open, '.') == 5",
    "links": "assert error_of(Path('link').symlink_to, 'file.txt') == 1314",
    "text": """
file.write_text("\\u20ac\\n")
assert file.read_bytes() == b"\\x80\\n"
done = subprocess.run([sys.executable, "-c", "print(chr(0x20ac))"], stdout=subprocess.PIPE)
assert done.stdout == b"\\x80\\r\\n"
""",
    "processes": """
import multiprocessing
assert multiprocessing.get_start_method() == "spawn"
assert error_of(multiprocessing.get_context, "fork") == "ValueError"
""",
    "what our modules see": """
from convolve import atomic, environment, locks
assert locks.sys.platform == "win32" and not hasattr(locks, "fcntl")
assert not hasattr(environment.os, "sched_getaffinity") and not hasattr(atomic.os, "O_NOFOLLOW")
assert environment._lines("/proc/cpuinfo") == []
""",
}
OURS = {
    "files are replaced": """
from convolve.atomic import replacing, write_text
write_text(file, "one\\ntwo\\n")
assert file.read_bytes() == b"one\\ntwo\\n"
with file.open(encoding="utf-8"):
    assert error_of(write_text, file, "new") == "ConvolveError"
assert sorted(os.listdir()) == ["file.txt", "other"]
""",
    "folders are staged": """
from convolve.atomic import replacing_folder, staged
with replacing_folder("net") as folder:
    (folder / "weights").write_bytes(b"1")
with staged("single") as path:
    path.write_bytes(b"1")
assert Path("net/weights").exists() and Path("single").exists() and len(os.listdir()) == 4
""",
    "folders have one process at work": """
from convolve.atomic import claimed, keep_in_use, locked
from convolve.locks import hold, is_locked
folder = Path("run")
with claimed(folder):
    tries = "from pathlib import Path; from convolve.locks import hold; hold(Path('run'))"
    assert subprocess.run([sys.executable, "-c", tries], stderr=subprocess.PIPE).returncode
    assert error_of(hold, folder) == "BlockingIOError" and is_locked(folder)
assert not folder.exists()
folder.mkdir()
one, two = hold(folder, shared=True), hold(folder, shared=True)
assert error_of(hold, folder) == "BlockingIOError" and not is_locked(folder)
one.close(), two.close()
hold(folder).close()
keep_in_use(folder)
assert error_of(locked(folder, wait=False).__enter__) == "UsageError"
""",
    "a lock ends with its process": """
from convolve.locks import hold, is_locked
holds = "from pathlib import Path; from convolve.locks import hold; hold(Path('other')); print(flush=True); input()"
holder = subprocess.Popen([sys.executable, "-c", holds], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
holder.stdout.readline()
assert is_locked(other)
holder.kill()
holder.communicate()
hold(other, wait=True).close()
assert not list(Path(os.environ["TMPDIR"]).glob("convolve-*.lock"))
""",
    "all modules can be imported": """
import importlib, pkgutil
import convolve
names = [module.name for module in pkgutil.walk_packages(convolve.__path__, "convolve.")]
names = [name for name in names if not name.endswith("__main__")]  # these are programs
assert len(names) > 400, len(names)
for name in names:
    importlib.import_module(name)
""",
    "a path that is too long is said": """
from convolve.atomic import write_text
try:
    write_text("x" * 240, "text")
except ConvolveError as error:
    assert "Windows takes paths of 259 letters" in str(error), error
else:
    raise AssertionError
""",
    "copies": """
import zipfile
from convolve.cli.sort_into import Sorter
from convolve.formats.archive import Location
members = ["con.png", "a:b.png", "x/con.PNG"]
with zipfile.ZipFile("images.zip", "w") as archive:
    [archive.writestr(name, name) for name in members]
sorter = Sorter(Path("out"), ["aux", "a?", "A*", "cat."], [])
for name, class_name in zip(members, ["aux", "a?", "aux"]):
    sorter.take(Location("images.zip", name), class_name)
found = sorted(str(path) for path in Path("out").rglob("*.*"))
assert found[0].startswith("out/_aux/_con-") and found[1:] == ["out/_aux/_con.png", "out/a_/a_b.png"], found
sorter._folders["cat."].mkdir()
sorter._folders["A*"].mkdir()
""",
    "archives": """
import zipfile
from convolve.data.archives import unpacked
for names in (["a:b/1.png"], ["con/1.png"], ["cat/1.png", "Cat/2.png"], ["cat/1.png", "cat/1.PNG"]):
    with zipfile.ZipFile("images.zip", "w") as archive:
        [archive.writestr(name, "x") for name in names]
    assert error_of(unpacked, Path("images.zip")) in ("DataError", "FormatError"), names
""",
}


@pytest.mark.parametrize(
    ("name", "one"),
    [
        *(("a:b", "a_b"), ("a/b\\c", "a_b_c"), ("\x1b[1m", "_[1m"), ("end.", "end_"), ("end ", "end_"), ("", "_")),
        *(("nul", "_nul"), ("Con.txt", "_Con.txt"), ("COM7 .x", "_COM7 .x"), ("lpt0", "_lpt0"), ("console", "console")),
        *((".hidden", ".hidden"), ("Käse 犬", "Käse 犬")),
    ],
)
def test_names_that_every_system_can_have(name: str, one: str) -> None:
    assert portable(name) == one


def test_paths_of_another_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A recipe from Windows names its model and its mean image with back slashes."""
    monkeypatch.chdir(tmp_path)
    assert Path(own_slashes("runs\\one")) == Path(own_slashes(Path("runs\\one"))) == Path("runs/one")
    if sys.platform != "win32":
        Path("runs\\one").touch()
        assert own_slashes("runs\\one") == "runs\\one"


def test_every_system_can_check_this_repository_out() -> None:
    root = HERE.parents[1]
    places = [root / name for name in ("src", "tests", "docs", "examples")]
    files = [path.relative_to(root) for place in places for path in place.rglob("*")]
    assert [path for path in files if any(portable(part) != part for part in path.parts)] == []
    assert len({str(path).casefold() for path in files}) == len(files)


MACOS = {
    "names": """
import unicodedata
one, two = (unicodedata.normalize(form, "Caf\\u00e9.txt") for form in ("NFC", "NFD"))
Path(one).write_text("1", encoding="utf-8")
assert Path(two).read_text(encoding="utf-8") == Path(two.upper()).read_text(encoding="utf-8") == "1"
Path(two).unlink()
file.write_text("2", encoding="utf-8")
other.replace("File.txt")
assert file.read_text(encoding="utf-8") == "text" and not other.exists()
""",
    "what our modules see": """
import multiprocessing
from convolve import environment, locks
from convolve.distributed import shared_memory
assert locks.sys.platform == "darwin" and multiprocessing.get_start_method() == "spawn"
assert not hasattr(environment.os, "sched_getaffinity") and environment._lines("/proc/cpuinfo") == []
assert environment.usable_cores() >= environment.idle_cores() >= 1 and not shared_memory.is_supported()
""",
    "the cache": """
from convolve.cache import cache_folder
os.environ.pop("CONVOLVE_CACHE")
os.environ.pop("XDG_CACHE_HOME", None)
os.environ["HOME"] = os.getcwd()
assert cache_folder("indices") == Path.cwd() / "Library" / "Caches" / "convolve" / "indices"
""",
}


@pytest.mark.skipif(sys.platform != "linux", reason="sets the rules on Linux")
@pytest.mark.parametrize("name", [*RULES, *OURS])
def test_rules(name: str, tmp_path: Path) -> None:
    do((RULES | OURS)[name], "Windows", tmp_path)


@pytest.mark.skipif(sys.platform != "linux", reason="sets the rules on Linux")
@pytest.mark.parametrize("name", [*MACOS, "folders are staged", "all modules can be imported"])
def test_rules_of_macos(name: str, tmp_path: Path) -> None:
    do((OURS | MACOS)[name], "macOS", tmp_path)


def do(snippet: str, system: str, tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "temporary").mkdir()
    environ = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(HERE), str(Path(convolve.__file__).parents[1])]),
        "TMPDIR": str(tmp_path / "temporary"), "CONVOLVE_CACHE": str(tmp_path / "cache"), "CONVOLVE_WINDOWS_RULES": "",
        "CONVOLVE_SYSTEM": system,
    }  # fmt: skip
    command = [sys.executable, "-c", START + snippet]
    done = subprocess.run(command, cwd=tmp_path / "work", env=environ, capture_output=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr.decode("utf-8", "replace")
