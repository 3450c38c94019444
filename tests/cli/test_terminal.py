"""What the commands print: nothing of a file's names is obeyed by a terminal, and streams may be closed or full."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from command_line import Convolve, assert_refused
from convolve.cli.terminal import Screen, for_tables, screens
from convolve.errors import ConvolveError, UsageError, brief, legible, plain, unknown_name
from convolve.loading import load

EVIL = "\x1b]0;PWNED\x07\x1b[31mRED\x1b[2Jx\x9b\u202e"
OBEYED = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\u202e]")


@pytest.fixture
def evil(model: Path, tmp_path: Path) -> Path:
    """A model whose classes have names that terminals would obey."""
    opened = load(model)
    opened.class_names = tuple(f"{EVIL}{number}" for number in range(len(opened.class_names)))
    opened.save(tmp_path / "evil")
    return tmp_path / "evil"


def test_no_command_prints_names_that_a_terminal_obeys(evil: Path, tmp_path: Path, convolve: Convolve) -> None:
    images = tmp_path / "images"
    for name in (f"a{EVIL[:9]}b", "other\x1b[2J"):
        (images / name).mkdir(parents=True)
        for number in range(3):
            file = images / name / f"{number}\x1b[2J.png"
            done, png = cv2.imencode(".png", np.full((28, 28), 60 * number, np.uint8))
            assert done
            file.write_bytes(png.tobytes())
    broken = tmp_path / "bro\x1b[31mken.png"
    broken.write_bytes(b"no image")
    file = next(images.rglob("*.png"))
    commands: list[list[object]] = [
        ["predict", evil, file, broken],
        ["predict", evil, file, "--json"],
        ["show", evil],
        ["show", evil, "--json"],
        ["check-data", images],
        ["evaluate", evil, "--data", "sample"],
        ["train", "mnist", "--data", images, "--set", "model.variant=tiny", "--out", tmp_path / "run"],
        ["train", "mnist", "--data", tmp_path / "no\x1b[2Jwhere"],
        ["convert", evil, "--to", "on\x1b[2Jnx", "--out", tmp_path / "x"],
        ["show", tmp_path / "gone\x1b[2J"],
        ["tr\x1b[2Jain"],
        ["run", tmp_path / "gone\x1b[2J.cntk"],
        ["report", tmp_path / "gone\x1b[2J"],
        ["prepare", "mnist", "--source", tmp_path / "gone\x1b[2J", "--out", tmp_path / "y"],
    ]
    for command in commands:
        done = convolve(*command)
        assert not OBEYED.search(done.out + done.err), (command, done)
        if "--json" in command:
            json.loads(done.out)
    assert "\\u001b[31mRED" in convolve("predict", evil, file).out


def test_a_table_in_a_file_has_the_names_as_they_are(evil: Path, tmp_path: Path, convolve: Convolve) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((28, 28), np.uint8))
    assert convolve("predict", evil, tmp_path / "a.png", "--csv", tmp_path / "t.csv").code == 0
    with (tmp_path / "t.csv").open(newline="", encoding="utf-8") as file:
        assert next(csv.DictReader(file))["class_1"].startswith(EVIL)


@pytest.mark.parametrize(
    "value",
    ["x" * 10**6, 10**5000, ["lol"] * 10**6, [[[[[[1]]]]]], {str(k): [0] * 10**5 for k in range(100)}, EVIL * 1000],
    ids=["text", "number", "list", "deep", "mapping", "evil"],
)
def test_a_message_fits_a_screen_whatever_is_in_it(value: object) -> None:
    said = brief(value)
    assert len(said) <= 200 and not OBEYED.search(said) and "\n" not in said
    whole = str(ConvolveError(f"{'x' * 10**6 if isinstance(value, int) else value} is wrong; the way out"))
    assert len(whole) < 80 * 25 * 6 and whole.endswith("the way out") and not OBEYED.search(whole)
    assert len(unknown_name("field", str(said) * 1000, ["epochs"])) < 300
    assert legible("a\nb\x1b") == "a b\\u001b"
    assert plain("a\tb\nc\u200d\xa0é") == "a\tb\nc\u200d\xa0é"  # joiners, which emojis need


FULL = pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a disk that is always full")


def shell(command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    if sys.platform == "win32":
        pytest.skip("there is no sh")
    line = command.replace("convolve", f"{sys.executable} -m convolve", 1)
    return subprocess.run(
        ["sh", "-c", line], capture_output=True, text=True, check=False, env={**os.environ, **environment}, timeout=300
    )


@FULL
@pytest.mark.parametrize("command", ["doctor", "--help", "--version", "show mnist"])
def test_stdout_that_is_closed_or_full_is_said(command: str) -> None:
    for stream, reason in ((">&-", "it is closed"), (">/dev/full", "No space left on device")):
        done = shell(f"convolve {command} {stream}")
        assert done.returncode == 1
        assert done.stderr == (
            f"convolve: cannot write to the standard output: {reason}; what was to be printed is lost\n"
        )


@FULL
def test_nobody_needs_to_read_stderr(tmp_path: Path) -> None:
    """A training trains, and an error has its exit code."""
    for number, stream in enumerate(("2>&-", "2>/dev/full")):
        out = tmp_path / f"run{number}"
        tiny = "--set model.variant=tiny --set run.epoch_samples=64 --epochs 1 --threads 1"
        done = shell(f"convolve train mnist --data sample {tiny} --out {out} {stream}")
        assert done.returncode == 0 and f"run     {out}" in done.stdout
        assert (out / "report.html").exists()
        assert shell(f"convolve show nothing {stream}").returncode == 2


def test_a_reader_that_goes_is_no_failure() -> None:
    done = shell("convolve show mnist | head -1")
    assert done.stdout.count("\n") == 1 and done.stderr == ""


def test_another_encoding_than_utf_8(model: Path, tmp_path: Path) -> None:
    opened = load(model)
    opened.class_names = tuple(f"猫{number}é😀" for number in range(len(opened.class_names)))
    opened.save(tmp_path / "cats")
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((28, 28), np.uint8))
    done = shell(
        f"convolve predict {tmp_path / 'cats'} {tmp_path / 'a.png'} --json",
        LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    first = json.loads(done.stdout)["images"][0]["classes"][0]["class"]
    assert re.fullmatch(r"猫\dé😀", first)


def test_a_table_on_stdout_is_plain_on_a_terminal_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for is_terminal, wanted in ((True, "\\u001b[2J\n"), (False, "\x1b[2J\n")):
        stream = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
        monkeypatch.setattr(stream.buffer, "isatty", lambda is_terminal=is_terminal: is_terminal, raising=False)
        monkeypatch.setattr(sys, "stdout", stream)
        with screens():
            assert isinstance(sys.stdout, Screen)
            csv.writer(for_tables(), lineterminator="\n").writerow(["\x1b[2J"])
            sys.stdout.flush()
        assert stream.buffer.getvalue().decode() == wanted  # type: ignore[attr-defined]
        monkeypatch.undo()


def test_a_table_has_the_bytes_of_names_and_all_its_letters(monkeypatch: pytest.MonkeyPatch) -> None:
    """In pipes whose encoding lacks them: code page 1252 on Windows."""
    stream = io.TextIOWrapper(io.BytesIO(), encoding="cp1252", newline="")
    monkeypatch.setattr(sys, "stdout", stream)
    with screens():
        csv.writer(for_tables(), lineterminator="\n").writerow(["猫", "\udcff"])
        sys.stdout.flush()
    assert stream.buffer.getvalue() == "猫,".encode() + b"\xff\n"  # type: ignore[attr-defined]


def test_a_reader_that_has_gone_on_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    class Gone(io.RawIOBase):
        def writable(self) -> bool:
            return True

        def write(self, content: object) -> int:
            raise OSError(errno.EINVAL, "Invalid argument")

    for system, error in (("win32", BrokenPipeError), ("linux", ConvolveError)):
        monkeypatch.setattr(sys, "platform", system)
        screen = Screen(io.TextIOWrapper(io.BufferedWriter(Gone()), encoding="utf-8"), "it", must_arrive=True)
        screen.write("text")
        with pytest.raises(error):
            screen.flush()
        monkeypatch.undo()


def test_an_error_in_what_a_stranger_wrote_is_one_line(tmp_path: Path, convolve: Convolve) -> None:
    (tmp_path / "x.yaml").write_text("name: x\nrun:\n  epochs: [\x85" + "a, " * 1000 + "]\n", encoding="utf-8")
    assert_refused(convolve("train", tmp_path / "x.yaml", "--data", "sample"), 2, "run.epochs must be a whole number")
    assert str(UsageError("a\x1bb")) == "a\\u001bb"
