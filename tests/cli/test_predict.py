"""Long predictions: bad files are passed by and named, a killed one goes on to the same bytes, memory is bounded."""

from __future__ import annotations

import csv
import json
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from command_line import Convolve, assert_failed, assert_refused, files_in
from convolve.data import damaged
from convolve.loading import load
from convolve.model import Model
from processes import start

COUNT, BATCH = 22, 4
CUT, EMPTY = 9, 17  # of the images, the damaged ones


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Noise in files whose names a table has to quote; two of them are damaged."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(COUNT):
        encoded = cv2.imencode(".png", rng.integers(0, 256, (28, 28), np.uint8))[1].tobytes()
        name = f'{number:02}, "a\nb".png' if number % 5 == 0 else f"{number:02}.png"
        (folder / name).write_bytes({CUT: encoded[:-20], EMPTY: b""}.get(number, encoded))
    return folder


@pytest.fixture(autouse=True)
def _small_batches(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """On one thread: on a busy machine, two would wait for each other at every layer of every batch."""
    monkeypatch.setattr(Model, "batch_size", BATCH)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def rows_of(table: Path) -> list[list[str]]:
    with table.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        return list(csv.reader(file))


def test_bad_files_are_passed_by_and_named(model: Path, pictures: Path, tmp_path: Path, convolve: Convolve) -> None:
    outcome = convolve("predict", model, pictures, "--top", 2, "--csv", tmp_path / "table.csv")
    assert_failed(outcome, 3, f"2 of {COUNT} images", "09.png", "cut off", "17.png")
    head, *rows = rows_of(tmp_path / "table.csv")
    assert head == ["path", "class_1", "probability_1", "class_2", "probability_2", "error"]
    assert len(rows) == COUNT
    asked = load(model)
    for number, (path, *answer, error) in enumerate(rows):
        if number in (CUT, EMPTY):
            assert answer == [""] * 4
            assert ("cut off" if number == CUT else "empty") in error and path not in error
        else:
            ((name, probability), _) = asked.predict([path])[0].classes[:2]
            assert (answer[0], float(answer[1]), error) == (name, pytest.approx(probability, abs=1e-5), "")


def test_lines_and_json(model: Path, pictures: Path, convolve: Convolve) -> None:
    for words in ([], ["--output", "fc1"]):
        outcome = convolve("predict", model, pictures, "--json", *words)
        images = json.loads(outcome.out)["images"]
        assert outcome.code == 3 and len(images) == COUNT
        assert [number for number, image in enumerate(images) if "error" in image] == [CUT, EMPTY]
        assert images[EMPTY] == {"path": str(pictures / "17.png"), "error": "the file is empty"}
    outcome = convolve("predict", model, pictures)
    assert outcome.code == 3
    assert len(json.loads(json.dumps(outcome.out)).split("%\n")) == COUNT - 2 + 1
    first, second, last = outcome.err.splitlines()
    assert first.startswith(f"{pictures}/09.png: ") and second == f"{pictures}/17.png: the file is empty"
    assert last.startswith(f"convolve: 2 of {COUNT} images")


def test_the_features_of_bad_files_are_left_empty(
    model: Path, pictures: Path, tmp_path: Path, convolve: Convolve
) -> None:
    assert convolve("predict", model, pictures, "--output", "fc1", "--npz", tmp_path / "f.npz").code == 3
    arrays = np.load(tmp_path / "f.npz")
    assert arrays["features"].shape == (COUNT - 2, 12) and len(arrays["paths"]) == COUNT - 2
    outcome = convolve("predict", model, pictures / "09.png", pictures / "11.png", "--output", "fc1")
    head, bad, good = csv.reader(outcome.out.splitlines())
    assert head[-2:] == ["feature_11", "error"] and bad[1:-1] == [""] * 12 and "cut off" in bad[-1]
    np.testing.assert_allclose([float(value) for value in good[1:-1]], arrays["features"][10], rtol=1e-5)


def test_fail_fast_stops_at_the_first(model: Path, pictures: Path, tmp_path: Path, convolve: Convolve) -> None:
    for form in ([], ["--csv", tmp_path / "table.csv"]):
        outcome = convolve("predict", model, pictures, "--fail-fast", *form)
        assert outcome.code == 3 and outcome.err.splitlines()[-1].startswith(f"convolve: {pictures}/09.png: ")
        assert "17.png" not in outcome.err
    assert not (tmp_path / "table.csv").exists()
    outcome = convolve("predict", model, pictures, "--fail-fast", "--json")
    assert outcome.code == 3 and isinstance(json.loads(outcome.out)["images"], list)


def test_all_of_them_bad(model: Path, tmp_path: Path, convolve: Convolve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(damaged, "MOST_NAMED", 3)
    for number in range(6):
        (tmp_path / f"{number}.png").write_bytes(b"")
    outcome = convolve("predict", model, tmp_path, "--csv", tmp_path / "table.csv")
    assert_failed(outcome, 3, "6 of 6 images", "0.png: the file is empty", "2.png and 3 more")
    assert "3.png" not in outcome.err


@pytest.fixture
def stopped(model: Path, pictures: Path, tmp_path: Path, convolve: Convolve, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """What an undisturbed command writes; table.csv.partial is that of one interrupted behind three batches."""
    assert convolve("predict", model, pictures, "--csv", tmp_path / "whole.csv").code == 3
    answers = Model.answers

    def interrupted(*arguments: object) -> Iterator[object]:
        for number, batch in enumerate(answers(*arguments)):  # type: ignore[arg-type]
            if number == 3:
                raise KeyboardInterrupt
            yield batch

    with monkeypatch.context() as patch:
        patch.setattr(Model, "answers", interrupted)
        assert convolve("predict", model, pictures, "--csv", tmp_path / "table.csv").code == 130
    assert not (tmp_path / "table.csv").exists()
    return (tmp_path / "whole.csv").read_bytes()


def test_it_goes_on_to_the_same_bytes_wherever_it_was_stopped(
    model: Path, pictures: Path, tmp_path: Path, convolve: Convolve, stopped: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The partial table is cut at every hundredth byte, or ends in what a system that went down left there."""
    partial = tmp_path / "table.csv.partial"
    head = partial.read_bytes().split(b"\n")[0] + b"\n"
    title = stopped.index(b"\n") + 1
    assert partial.read_bytes() == head + stopped[: len(partial.read_bytes()) - len(head)]
    begun: list[int] = []
    answers = Model.answers
    monkeypatch.setattr(Model, "answers", lambda *words: (begun.append(words[-1].start), answers(*words))[1])
    ends = [*range(title, len(stopped), 100), len(stopped)]
    for end, dirt in [*((end, b"") for end in ends), (700, b"\0" * 50), (700, b'"' + b"x" * 100), (900, b"\xff\r,\n")]:
        partial.write_bytes(head + stopped[:end] + dirt)
        outcome = convolve("predict", model, pictures, "--csv", tmp_path / "table.csv")
        assert_failed(outcome, 3, f"2 of {COUNT} images", "cut off", "17.png")
        assert (tmp_path / "table.csv").read_bytes() == stopped
        assert not partial.exists()
    assert begun[0] == 0 and begun[len(ends) - 1] == COUNT
    assert begun[: len(ends)] == sorted(begun[: len(ends)]) and len({*begun}) == 1 + -(-COUNT // BATCH)


def test_another_question_does_not_go_on(
    model: Path, model_of_letters: Path, pictures: Path, tmp_path: Path, convolve: Convolve, stopped: bytes
) -> None:
    table, partial = tmp_path / "table.csv", tmp_path / "table.csv.partial"
    before = partial.read_bytes()
    words = (str(partial), "written with", "remove the file")
    assert_refused(convolve("predict", model_of_letters, pictures, "--csv", table), 2, *words, "other model")
    assert_refused(convolve("predict", model, pictures, "--top", 3, "--csv", table), 2, *words, "other --top")
    assert_refused(convolve("predict", model, pictures / "01.png", "--csv", table), 2, *words, "other images")
    os.utime(pictures / "01.png", (0, 0))  # another picture under the same name
    assert_refused(convolve("predict", model, pictures, "--csv", table), 2, *words, "other images")
    assert partial.read_bytes() == before and stopped
    partial.write_text("a diary\n")
    assert_refused(convolve("predict", model, pictures, "--csv", table), 2, "not written by `convolve predict`")
    assert partial.read_text() == "a diary\n"


def test_killed_five_times(model: Path, pictures: Path, tmp_path: Path) -> None:
    """Processes of their own, whose batches are the usual ones: so many images that there are several."""
    encoded = (pictures / "01.png").read_bytes()
    many = [f"{number:05}.png" for number in range(6000)]
    for name in many:
        (pictures / name).write_bytes(encoded)
    words = ["predict", model, pictures, "--csv"]
    assert start(tmp_path / "log", *words, tmp_path / "whole.csv").outcome().code == 3
    partial = tmp_path / "table.csv.partial"
    for kill in range(5):
        command = start(tmp_path / "log", *words, tmp_path / "table.csv")
        reached = 40_000 * (kill + 1)
        command.wait_until(lambda: partial.exists() and partial.stat().st_size > reached)  # noqa: B023
        command.kill()
        command.outcome()
    assert partial.exists()
    assert start(tmp_path / "log", *words, tmp_path / "table.csv").outcome().code == 3
    assert (tmp_path / "table.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
    assert files_in(tmp_path).count("table.csv") == 1 and not partial.exists()


def test_sorted_into_folders(model: Path, pictures: Path, tmp_path: Path, convolve: Convolve) -> None:
    """Of images that are called alike none is lost, and the same command again changes nothing."""
    with zipfile.ZipFile(tmp_path / "more.zip", "w") as archive:
        archive.writestr("deep/01.png", (pictures / "01.png").read_bytes())
        archive.writestr("deep/02.png", (pictures / "03.png").read_bytes())
    words = ("predict", model, pictures, tmp_path / "more.zip", "--sort-into", tmp_path / "sorted", "--top", 1)
    for _ in range(2):
        assert convolve(*words).code == 3
        copies = [tmp_path / "sorted" / name for name in files_in(tmp_path / "sorted")]
        assert len(copies) == COUNT - 2 + 1  # one is the same image under the same name
        said = {one.path: one.classes[0][0] for one in load(model).predict(copies)}
        assert all(Path(path).parent.name == name for path, name in said.items())
    content = sorted(file.read_bytes() for file in pictures.iterdir() if file.stem not in ("09", "17"))
    assert sorted(file.read_bytes() for file in copies) == sorted([*content, (pictures / "03.png").read_bytes()])


def test_folders_get_names_that_every_system_has(
    model: Path, pictures: Path, tmp_path: Path, convolve: Convolve
) -> None:
    names = ["../up", "a/b", "A:B", "a_b", ".", "CON?", "x" * 300, "tail. ", "\x1b[31m", "ten"]
    (tmp_path / "labels.txt").write_text("\n".join(names), encoding="utf-8")
    outcome = convolve(
        "predict", model, pictures, "--sort-into", tmp_path / "sorted", "--labels", tmp_path / "labels.txt"
    )
    assert outcome.code == 3
    found = {Path(name).parts[0] for name in files_in(tmp_path / "sorted")}
    assert found <= {"_up", "a_b", "A_B (2)", "a_b (3)", "_", "CON_", "x" * 60, "tail", "_[31m", "ten"}


def test_what_sort_into_refuses(model: Path, pictures: Path, tmp_path: Path, convolve: Convolve) -> None:
    outcome = convolve("predict", model, pictures, "--sort-into", pictures / "sorted")
    assert_refused(outcome, 2, "is inside", "choose another folder")
    assert_refused(convolve("predict", model, pictures, "--sort-into", tmp_path, "--output", "fc1"), 2, "--output")
    (name, _) = load(model).predict([pictures / "01.png"])[0].classes[0]
    mine = tmp_path / "sorted" / name / "01.png"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    assert convolve("predict", model, pictures / "01.png", "--sort-into", tmp_path / "sorted").code == 0
    assert mine.read_text() == "mine" and len(files_in(tmp_path / "sorted")) == 2
    (other,) = (file for file in mine.parent.iterdir() if file != mine)
    other.write_text("mine too")
    outcome = convolve("predict", model, pictures / "01.png", "--sort-into", tmp_path / "sorted")
    assert outcome.code == 3 and "holds another image" in outcome.err and other.read_text() == "mine too"


@pytest.mark.skipif(os.name == "nt", reason="names of files are Unicode there")
def test_names_that_are_no_text(model: Path, pictures: Path, tmp_path: Path, convolve: Convolve) -> None:
    odd = os.fsencode(tmp_path) + b"/gr\xfc\xdfe.png"
    Path(os.fsdecode(odd)).write_bytes((pictures / "01.png").read_bytes())
    assert convolve("predict", model, os.fsdecode(odd), "--csv", tmp_path / "table.csv").code == 0
    assert b"gr\xfc\xdfe.png" in (tmp_path / "table.csv").read_bytes()


def test_cells_that_spreadsheets_would_run(
    model: Path, tmp_path: Path, convolve: Convolve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Marked in every column but for numbers; without the option they stay. What is no table is not gone on with."""
    opened = load(model)
    opened.class_names = ("=1+1", "+cmd|x", "-2+3", "@sum", *opened.class_names[4:])
    opened.save(tmp_path / "evil")
    names = ["=a.png", "-1.png", "-2"]
    for name in names:
        (tmp_path / name).write_bytes(cv2.imencode(".png", np.zeros((28, 28), np.uint8))[1].tobytes())
    monkeypatch.chdir(tmp_path)
    asked = ("--top", 10, "--", *names)
    assert convolve("predict", "evil", "--csv", "plain.csv", *asked).code == 0
    assert convolve("predict", "evil", "--csv", "safe.csv", "--csv-safe", *asked).code == 0
    plain, safe = rows_of(tmp_path / "plain.csv"), rows_of(tmp_path / "safe.csv")
    assert [row[0] for row in safe[1:]] == ["'=a.png", "'-1.png", "-2"]
    assert {"'=1+1", "'+cmd|x", "'-2+3", "'@sum"} <= set(safe[1])
    assert not any(cell[:1] in tuple("=+-@") for row in safe for cell in row if cell != "-2")
    assert [[cell.removeprefix("'") for cell in row] for row in safe] == plain
    partial = tmp_path / "safe.csv.partial"
    for content in (b"[" * 60_000, b'{"model": 1}\n', b"\xff\n", b""):
        partial.write_bytes(content)
        assert_refused(convolve("predict", "evil", "--csv", "safe.csv", "--csv-safe", *asked), 2, "was not written by")
    partial.unlink()
    os.mkfifo(partial)
    assert_refused(convolve("predict", "evil", "--csv", "safe.csv", "--csv-safe", *asked), 2, "was not written by")
    assert rows_of(tmp_path / "safe.csv") == safe
