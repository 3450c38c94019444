"""Long commands on several workers give the bytes of one process, and go on where a lost one left them."""

from __future__ import annotations

import json
import os
import re
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

import convolve
from command_line import Convolve
from worker_processes import PATIENCE_SECONDS, launch, mpiexec, torchrun

COMMAND = (sys.executable, "-m", "convolve")


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Noise in two classes; one image is damaged, two are the same, one is dark."""
    rng = np.random.default_rng(0)
    for number in range(60):
        place = tmp_path / "pictures" / "ab"[number % 2] / f"{number:03}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        image_HW = rng.integers(0, 256, (28, 28), np.uint8) if number != 31 else np.full((28, 28), 7, np.uint8)
        place.write_bytes(cv2.imencode(".png", image_HW)[1].tobytes())
    (tmp_path / "pictures/b/017.png").write_bytes(b"no image")
    (tmp_path / "pictures/a/020.png").write_bytes((tmp_path / "pictures/a/022.png").read_bytes())
    return tmp_path / "pictures"


@pytest.mark.parametrize("size", [2, 3, pytest.param(4, marks=pytest.mark.slow)])
def test_predict_writes_the_same_table(
    size: int, model: Path, pictures: Path, tmp_path: Path, convolve: Convolve
) -> None:
    assert convolve("predict", model, pictures, "--csv", tmp_path / "one.csv").code == 3  # one cannot be read
    done = launch(*mpiexec(size), *COMMAND, "predict", model, pictures, "--csv", tmp_path / "many.csv")
    assert "017.png" in done.stderr and done.stderr.count("60 rows in") == 1, done.stderr
    assert done.returncode == 3
    assert (tmp_path / "many.csv").read_bytes() == (tmp_path / "one.csv").read_bytes()
    assert not list(tmp_path.glob("*.parts"))


def test_the_others_print_the_same(model: Path, pictures: Path, tmp_path: Path, convolve: Convolve) -> None:
    labels = "\n".join("ab23456789") + "\n"
    (tmp_path / "labels.txt").write_text(labels)
    evaluate = (
        "evaluate",
        model,
        "--data",
        pictures,
        "--labels",
        tmp_path / "labels.txt",
        "--skip-unreadable",
        "--json",
    )
    alone = convolve(*evaluate)
    assert alone.code == 0 and json.loads(alone.out)["test_unreadable"] == 1, alone.err
    assert launch(*torchrun(2), *COMMAND[1:], *evaluate).stdout == alone.out
    page, table = tmp_path / "page.html", tmp_path / "clean.csv"
    check = ("check-data", pictures, "--html", page, "--write-table", table)
    alone, made = convolve(*check), [page.read_bytes(), table.read_bytes()]
    page.unlink()
    table.unlink()
    assert "duplicate images: 1" in alone.out and "dark" in alone.out
    done = launch(*mpiexec(3), *COMMAND, *check)
    assert (done.returncode, done.stdout) == (3, alone.out)
    assert [page.read_bytes(), table.read_bytes()] == made


@pytest.mark.parametrize("kind", ["folder", "shards"])
def test_prepare_writes_the_same_files(kind: str, pictures: Path, tmp_path: Path, convolve: Convolve) -> None:
    (pictures / "b/017.png").unlink()
    words = ("prepare", kind, "--source", pictures, "--out", tmp_path / "out")
    assert convolve(*words).code == 0
    (tmp_path / "out").rename(tmp_path / "alone")
    done = launch(*mpiexec(2), *COMMAND, *words)
    assert done.returncode == 0, done.stderr
    names = [path.name for path in (tmp_path / "alone").iterdir()]
    assert {"folder": "Train_cntk_text.txt", "shards": "train-000000.tar"}[kind] in names
    for name in names:
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "alone" / name).read_bytes(), name


# A command that counts, and says in the file `log` which numbers it has looked at. At `fault` a worker is killed.
COUNTING = """
import os, signal, socket, sys, time
from pathlib import Path
from convolve.distributed import parts
from convolve.errors import ConvolveError
parts.SILENCE_SECONDS = 20
if "HOSTS" in os.environ:  # each worker on a host of its own
    socket.gethostname = lambda: "host" + os.environ["RANK"]
    parts.BEAT_SECONDS, parts.LOST_SECONDS, parts.SILENCE_SECONDS = 0.1, 3, 1e9
step, fault, log, value = int(sys.argv[1]), os.environ.get("FAULT", ""), Path(sys.argv[2]), sys.argv[3]

def compute(numbers):
    for first in numbers[::step]:
        if f"{team.rank}" == fault[:1] and first >= 6 * step:
            if fault[1:] == "raises":
                raise ConvolveError("no more")
            if fault[1:] == "is slow":
                time.sleep(2 * parts.LOST_SECONDS if first == 28 else 0)
            else:
                os.kill(os.getpid(), signal.SIGSTOP if fault[1:] == "stops" else signal.SIGKILL)
        with log.open("a") as file:
            print(team.rank, first, file=file)
        yield sum(numbers_of(first, numbers.stop))

def numbers_of(first, stop):
    return range(first, min(first + step, stop))

try:
    with parts.open_team() as team:
        team.begin(lambda: {"value": value if team.rank == 0 else value[:1]}, Path("sum.txt"))
        sums = [*team.blocks("numbers", 50, step, compute), *team.blocks("more", 7, step, compute)]
        print(sum(sums))
except ConvolveError as error:
    print(f"{team.rank}: {error}", file=sys.stderr)
    sys.exit(1)
"""


def count(
    size: int, folder: Path, step: int = 4, fault: str = "", value: str = "v", hosts: bool = False
) -> Iterator[tuple[int, str, str]]:
    """(exit code, stdout, stderr) of each worker; with `hosts` each believes to be on a host of its own."""
    job = {"TORCHELASTIC_RUN_ID": secrets.token_hex(8), "WORLD_SIZE": f"{size}", "FAULT": fault}
    job |= {"HOSTS": "yes"} if hosts else {}
    environ = os.environ | job | {"PYTHONPATH": str(Path(convolve.__file__).parents[1])}
    words = (sys.executable, "-c", COUNTING, f"{step}", str(folder / "log"), value)
    processes = [
        subprocess.Popen(
            words, env=environ | {"RANK": f"{rank}"}, cwd=folder, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        for rank in range(size)
    ]  # fmt: skip
    for process in processes:
        if fault.endswith("stops") and process is processes[-1]:
            process.kill()
        out, err = process.communicate(timeout=PATIENCE_SECONDS)
        yield process.returncode, out, err


def test_a_lost_worker_is_named_and_the_same_command_goes_on(tmp_path: Path) -> None:
    first, _, lost = count(3, tmp_path, fault="2")
    assert (first[0], lost[0]) == (1, -9)
    assert "worker 2 of 3 has ended" in first[2] and "(numbers: 36 to 49 of 50)" in first[2], first[2]
    assert "the same command continues" in first[2]
    before = (tmp_path / "log").read_text().splitlines()
    (code, out, err), _ = count(2, tmp_path)  # fewer now
    assert (code, out) == (0, f"{sum(range(50)) + sum(range(7))}\n"), err
    numbers = [line.split()[1] for line in (tmp_path / "log").read_text().splitlines()]
    assert len(numbers) == 13 + 2 and len(before) == 9  # none twice
    assert not list(tmp_path.glob("*.parts"))


@pytest.mark.parametrize("fault", ["1", "1stops"])
def test_a_worker_of_another_host_that_falls_silent_is_named(fault: str, tmp_path: Path) -> None:
    """Killed or stopped: the others notice that it counts no more."""
    first, _ = count(2, tmp_path, fault=fault, hosts=True)
    assert first[0] == 1 and re.search(r"worker 1 of 2 has not answered for \d+ s on host1", first[2]), first[2]
    assert "(numbers: 28 to 49 of 50); the same command continues" in first[2], first[2]
    (code, out, err), _ = count(2, tmp_path, hosts=True)
    assert (code, out) == (0, f"{sum(range(50)) + sum(range(7))}\n"), err
    assert not list(tmp_path.glob("*.parts"))


def test_a_worker_of_another_host_may_be_slow(tmp_path: Path) -> None:
    """It takes longer than a silent one is waited for, and counts meanwhile."""
    (code, out, err), _ = count(2, tmp_path, fault="1is slow", hosts=True)
    assert (code, out) == (0, f"{sum(range(50)) + sum(range(7))}\n"), err


def test_the_error_of_one_is_that_of_all(tmp_path: Path) -> None:
    first, failed = count(2, tmp_path, fault="1raises")
    assert (first[0], failed[0]) == (1, 1)
    assert "worker 1 of 2 has failed (no more)" in first[2]


def test_another_question_is_refused(tmp_path: Path) -> None:
    list(count(2, tmp_path, fault="1"))
    (code, _, err), _ = count(2, tmp_path, value="w")
    assert code == 1 and "sum.txt.parts belongs to another command" in err


def test_workers_that_are_asked_other_things_are_refused(tmp_path: Path) -> None:
    for code, _, err in count(2, tmp_path, value="vw"):
        assert code == 1 and "value: worker" in err and "all need the same" in err
