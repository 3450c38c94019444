"""A full or read-only disk: one line that names the file; what is there is whole, and with room the run goes on."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

from command_line import Convolve, Outcome, assert_failed, files_in
from processes import start

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits and mounts as Linux has them")


@pytest.fixture(scope="module")
def arguments(tiny_mnist: Path) -> list[str]:
    settings = ("model.variant=tiny", "run.epochs=2", "run.threads=1", "run.precision=fp32")
    return ["train", "mnist", "--data", str(tiny_mnist), *(f"--set={setting}" for setting in settings)]


@pytest.mark.parametrize(
    ("most_file_bytes", "named"),
    [
        (1_000, "recipe.json"),
        (2_800, "metrics.jsonl"),
        (8_000, "checkpoints/step-00000010.safetensors"),
        (22_000, "evaluation.safetensors"),
        (105_000, "report.html"),
    ],
)
def test_a_file_that_cannot_grow(
    most_file_bytes: int, named: str, arguments: list[str], tmp_path: Path, convolve: Convolve
) -> None:
    folder = tmp_path / "run"
    outcome = start(tmp_path / "log", *arguments, "--out", folder, most_file_bytes=most_file_bytes).outcome()
    assert_failed(outcome, 1, f"cannot write {folder / named}: File too large", "free space there")
    assert_whole(folder)
    if named == "report.html":  # the run itself is finished
        assert convolve("report", folder).code == 0
    else:
        assert convolve(*arguments, "--out", folder).code == 0
    untroubled = tmp_path / "untroubled"
    assert convolve(*arguments, "--out", untroubled).code == 0
    assert files_in(folder) == files_in(untroubled)
    weights = Path("model") / "weights.safetensors"
    assert (folder / weights).read_bytes() == (untroubled / weights).read_bytes()


def test_a_table_that_cannot_grow(model: Path, tiny_mnist: Path, tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    assert start(tmp_path / "log", "prepare", "mnist", "--source", tiny_mnist, "--out", pictures).outcome().code == 0
    (tmp_path / "table.csv").write_text("the old one")
    words = ["predict", model, pictures / "test", "--csv", tmp_path / "table.csv"]
    outcome = start(tmp_path / "log", *words, most_file_bytes=4096).outcome()
    assert_failed(outcome, 1, f"cannot write {tmp_path / 'table.csv'}: File too large")
    assert (tmp_path / "table.csv").read_text() == "the old one"
    assert not list(tmp_path.glob(".*.tmp"))


def test_an_exported_program_that_cannot_grow(model: Path, tmp_path: Path) -> None:
    words = ["convert", model, "--to", "exported-program", "--out", tmp_path / "m.pt2"]
    outcome = start(tmp_path / "log", *words, most_file_bytes=1500).outcome()
    assert_failed(outcome, 1, f"cannot write {tmp_path / 'm.pt2'}: File too large")
    assert not list(tmp_path.glob("*m.pt2*"))


@pytest.mark.parametrize("kibibytes", [4, 40])
def test_a_full_disk(kibibytes: int, arguments: list[str], tmp_path: Path) -> None:
    outcome = on_a_disk(f"size={kibibytes}k", arguments, tmp_path)
    assert_failed(outcome, 1, "cannot write", "No space left on device", "free space there")
    assert_whole(tmp_path / "kept")


def test_a_read_only_disk(arguments: list[str], tmp_path: Path) -> None:
    outcome = on_a_disk("ro", arguments, tmp_path)
    assert_failed(outcome, 1, "cannot write", "Read-only file system")
    assert files_in(tmp_path / "kept") == []


def on_a_disk(options: str, arguments: list[str], tmp_path: Path) -> Outcome:
    """The command with its run on a small file system of its own; what it leaves there is copied to "kept"."""
    disk, kept = tmp_path / "disk", tmp_path / "kept"
    disk.mkdir()
    kept.mkdir()
    mount = f"mount -t tmpfs -o {options} none {disk}"
    if not shutil.which("unshare") or subprocess.run(["unshare", "-rm", "sh", "-c", mount], check=False).returncode:
        pytest.skip("mounting is not allowed here")
    script = f'{mount} && "$@"; code=$?; cp -r {disk}/. {kept}; exit $code'
    command = [sys.executable, "-m", "convolve", *arguments, "--out", str(disk / "run")]
    run = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script, "sh", *command], capture_output=True, text=True, check=False
    )
    return Outcome(run.returncode, run.stdout, run.stderr)


def assert_whole(folder: Path) -> None:
    """Every file below `folder` can be read to its end; only the log may end within a line."""
    for name in files_in(folder):
        if name.endswith(".json"):
            json.loads((folder / name).read_text())
        elif name.endswith(".safetensors"):
            assert load_file(folder / name)
        elif name.endswith(".md"):
            assert (folder / name).read_text().endswith(".\n")
        else:
            assert name.endswith("metrics.jsonl"), name
