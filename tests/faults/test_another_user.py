"""Another user of the host: nothing of ours can be read by its default, foreseen, or led elsewhere by a link."""

from __future__ import annotations

import os
import stat
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from torch.distributed import HashStore

from command_line import Convolve, assert_refused, files_in
from convolve.atomic import replacing, staged, temporary_beside, write_text
from convolve.cache import cache_folder
from convolve.cli.sort_into import Sorter
from convolve.distributed import shared_memory
from convolve.distributed.launcher import rank_info
from convolve.distributed.rendezvous import rendezvous
from convolve.errors import ConvolveError
from convolve.formats.archive import Location

pytestmark = pytest.mark.skipif(not hasattr(os, "geteuid"), reason="users and modes of POSIX")


@pytest.fixture(autouse=True)
def _usual_umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


def test_names_of_temporary_files_cannot_be_foreseen(tmp_path: Path) -> None:
    names = {temporary_beside(tmp_path / "model.json").name for _ in range(100)}
    assert len(names) == 100 and not any(str(os.getpid()) == name.split(".")[-2] for name in names)


@pytest.mark.parametrize("way", [replacing, staged])
def test_a_link_that_lies_there_is_not_written_through(
    way: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even where the name is known: the file is made, not opened."""
    (tmp_path / "victim").write_text("mine")
    known = tmp_path / ".out.1.tmp"
    known.symlink_to(tmp_path / "victim")
    monkeypatch.setattr("convolve.atomic.temporary_beside", lambda path: known)
    with pytest.raises(ConvolveError, match="cannot write"), way(tmp_path / "out") as temporary:  # type: ignore[operator]
        temporary.write_text("theirs")
    assert (tmp_path / "victim").read_text() == "mine" and not (tmp_path / "out").exists()


def test_the_final_name_is_replaced_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("mine")
    (tmp_path / "out").symlink_to(tmp_path / "victim")
    write_text(tmp_path / "out", "new")
    assert (tmp_path / "victim").read_text() == "mine" and not (tmp_path / "out").is_symlink()


def test_copies_into_folders_follow_no_link(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("mine")
    (tmp_path / "a.png").write_bytes(b"image")
    (tmp_path / "sorted/cat").mkdir(parents=True)
    (tmp_path / "sorted/cat/a.png").symlink_to(tmp_path / "victim")
    Sorter(tmp_path / "sorted", ["cat"], []).take(Location(str(tmp_path / "a.png")), "cat")
    assert (tmp_path / "victim").read_text() == "mine"


def test_the_cache_is_its_users_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was unpacked of an archive that nobody else may read may not be read either."""
    for name in ("CONVOLVE_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    folder = cache_folder("unpacked")
    assert folder == tmp_path / ".cache/convolve/unpacked"
    assert stat.S_IMODE(folder.parent.stat().st_mode) == 0o700


def test_the_place_where_workers_meet_is_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of mode 0700; one that anybody may enter is passed by, whoever has locked it."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    environ = {"OMPI_COMM_WORLD_RANK": "0", "OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_LOCAL_SIZE": "2"}
    both = [rank_info({**environ, "OMPI_COMM_WORLD_RANK": str(rank), "PMIX_NAMESPACE": "job@1"}) for rank in (0, 1)]
    seen: list[int] = []

    def meet(rank: int) -> None:
        with rendezvous(both[rank], {}, 20):
            seen.extend(path.stat().st_mode & 0o777 for path in tmp_path.iterdir())

    threads = [threading.Thread(target=meet, args=(rank,)) for rank in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen and set(seen) == {0o700}
    assert files_in(tmp_path) == []


def test_memory_that_workers_share_is_theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not shared_memory.is_supported():
        pytest.skip("shared memory is for Linux on x86-64")
    monkeypatch.setattr(shared_memory, "FOLDER", tmp_path)
    path = Path(shared_memory._create(2))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    opened = shared_memory.open_shared(HashStore(), 0, 1)
    assert opened is not None and [*tmp_path.iterdir()] == [path]  # its name is gone as soon as all have it open


def test_a_folder_that_may_not_be_listed_is_said(tmp_path: Path, convolve: Convolve) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may list every folder")
    for name in "abc":
        (tmp_path / "photos" / name).mkdir(parents=True)
        (tmp_path / "photos" / name / "1.png").write_bytes(b"")
    (tmp_path / "photos/b").chmod(0)
    for command in (["train", "mnist", "--data"], ["check-data"], ["predict", "timm:x"]):
        assert_refused(convolve(*command, tmp_path / "photos"), 3, "cannot be listed")
    (tmp_path / "photos/b").chmod(0o700)
