"""Wrong settings and wrong data: one line, the way out, the right exit code, and nothing half-written."""

from __future__ import annotations

import gzip
import io
import shutil
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from command_line import Convolve, assert_failed, assert_refused, files_in

TRAIN_IMAGES, TRAIN_LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
CTF_TRAIN = "Train-28x28_cntk_text.txt"

SETTINGS = [
    # what is typed -> exit code, and what the line must say
    (["run.epoch=3"], 2, ["run.epoch", "did you mean 'epochs'?"]),
    (["rnu.epochs=3"], 2, ["did you mean 'run'?"]),
    (["run=3"], 2, ["epochs", "run.epochs"]),
    (["run=3", "run.epochs=3"], 2, ["run has fields of its own"]),
    (["run.epochs.x=3"], 2, ["run.epochs.x", "did you mean 'epochs'?"]),
    (["run.epochs=2.5"], 2, ["run.epochs must be a whole number", "'2.5'"]),
    (["run.epochs=0"], 2, ["run.epochs must be at least 1"]),
    (["run.threads=-1"], 2, ["run.threads"]),
    (["optimizer.unit_gain=perhaps"], 2, ["optimizer.unit_gain must be true or false", "'perhaps'"]),
    (["optimizer.name=adm"], 2, ["optimizer.name", "did you mean 'adam'?"]),
    (["schedule.learning_rates=0.1:fast"], 2, ["schedule.learning_rates must be a number", "'fast'"]),
    (["schedule.learning_rates=nan"], 2, ["schedule.learning_rates must be a number"]),
    (["model.dropout=1"], 2, ["model.dropout"]),
    (["model.name=convnet-mnits"], 2, ["model.name", "did you mean 'convnet-mnist'?"]),
    (["model.variant=tni"], 2, ["model.variant", "did you mean 'tiny'?"]),
    (["data.name=mnits"], 2, ["data.name", "did you mean 'mnist'?"]),
    (["data.validation_fraction=0.9999"], 2, ["data.validation_fraction", "nothing of 600 images"]),
    (["data.order=cntk"], 2, ["data.order=cntk", "convolve prepare mnist"]),
    (["run.early_stopping_epochs=1"], 2, ["run.early_stopping_epochs", "run.keep=best"]),
    (["data.target=number"], 3, ["its labels suit data.target=class, not number"]),
    (["data.target=classes"], 3, ["its labels suit data.target=class, not classes"]),
    (
        ["data.target=number", "run.criterion=cross_entropy"],
        2,
        ["run.criterion=cross_entropy", "square_error or root_"],
    ),
    (["run.device=gpu"], 2, ["run.device", "'gpu'"]),
    (["run.device=cuda:99"], 2, ["run.device=cuda:99", "convolve doctor"]),
    (["run.device=cpu", "run.precision=fp16"], 2, ["run.precision=fp16", "bf16, fp32 or auto"]),
    (["run.epochs"], 2, ["--set takes PATH=VALUE", "'run.epochs'"]),
    (["=3"], 2, ["--set takes PATH=VALUE"]),
]


@pytest.mark.parametrize(("settings", "code", "words"), SETTINGS, ids=lambda value: str(value)[:40])
def test_settings(
    settings: list[str], code: int, words: list[str], tiny: list[str], tmp_path: Path, convolve: Convolve
) -> None:
    typed = [f"--set={setting}" for setting in settings]
    assert_refused(convolve("train", "mnist", *tiny, *typed, "--out", tmp_path / "run"), code, *words)
    assert files_in(tmp_path) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["trian", "mnist"], ["unknown command 'trian'", "did you mean 'train'?"]),
        (["train"], ["Missing argument", "convolve train --help"]),
        (["train", "mnits"], ["unknown recipe 'mnits'", "did you mean 'mnist'?"]),
        (["train", "nowhere.yaml"], ["cannot read the recipe nowhere.yaml"]),
        (["train", "mnist", "--epochs", "three"], ["--epochs", "convolve train --help"]),
        (["train", "mnist", "--epoch", "3"], ["--epoch", "--epochs"]),
        (["show", "mnits"], ["did you mean 'mnist'?"]),
        (["predict", "run"], ["Missing argument", "convolve predict --help"]),
        (["predict", "run", "x.png", "--top", "0"], ["--top", "convolve predict --help"]),
        (["evaluate", "nowhere"], ["nowhere does not exist", "model folder"]),
        (["report", "nowhere"], ["nowhere does not exist", "the folder of a training"]),
        (["report", "."], [". is not a run folder", "recipe.json is missing"]),
        (["show", "runs/mnst"], ["runs/mnst does not exist", "a run folder"]),
        (["show", "net.onnx"], ["net.onnx does not exist", "a model"]),
        (["prepare", "mnits", "--source", ".", "--out", "out"], ["did you mean 'mnist'?"]),
    ],
    ids=lambda value: " ".join(value)[:40],
)
def test_commands(
    arguments: list[str], words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, convolve: Convolve
) -> None:
    monkeypatch.chdir(tmp_path)
    assert_refused(convolve(*arguments), 2, *words)
    assert files_in(tmp_path) == []


@pytest.mark.parametrize(("place", "reason"), [("nowhere", "does not exist"), (".", "holds no labeled images")])
@pytest.mark.parametrize("command", ["train photos --data", "check-data", "prepare shards --out out --source"])
def test_images_that_are_not_there(
    command: str, place: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, convolve: Convolve
) -> None:
    monkeypatch.chdir(tmp_path)
    assert_refused(convolve(*command.split(), place), 3, f"{place} {reason}")
    assert files_in(tmp_path) == []


@pytest.mark.parametrize(
    ("name", "text", "code", "words"),
    [
        ("a.json", '{"name": "a",\n "run": {"epochs" 3}}', 3, ["line 2, column 19", "not JSON"]),
        ("a.yaml", "name: a\nrun: {epochs: 3\n", 3, ["line 3, column 1", "not YAML"]),
        ("a.json", "[1]", 3, ["a recipe is a mapping", "convolve show mnist"]),
        ("a.yaml", "", 3, ["a recipe is a mapping"]),
        ("a.yaml", "run: {epochs: 3}", 2, ["name is missing"]),
        ("a.yaml", "name: a\nrun: {epoch: 3}", 2, ["run.epoch", "did you mean 'epochs'?"]),
        ("a.yaml", "name: a\nrun: {epochs: yes}", 2, ["run.epochs must be a whole number"]),
        ("a.yaml", "name: a\ndata: {train_transforms: [{kind: shfit}]}", 2, ["train_transforms[0]", "'shift'?"]),
        ("a.yaml", "name: a\ndata: {train_transforms: [{kind: [shift]}]}", 2, ["train_transforms[0].kind", "unknown"]),
        ("a.yaml", "name: \x07", 3, ["a.yaml", "not YAML"]),
        ("a.yaml", "name: 2020-13-45", 3, ["a.yaml", "not YAML"]),
        ("a.json", "[" * 100_000, 3, ["a.json", "nested too deeply"]),
        ("a.yaml", "name: a\nrun: !!python/object/apply:os.system [ls]", 3, ["line 2, column 6", "not YAML"]),
    ],
)
def test_recipe_files(
    name: str, text: str, code: int, words: list[str], tiny: list[str], tmp_path: Path, convolve: Convolve
) -> None:
    (tmp_path / name).write_text(text)
    outcome = convolve("train", tmp_path / name, *tiny[:2], "--out", tmp_path / "run")
    assert_refused(outcome, code, *words)
    assert files_in(tmp_path) == [name]


def header(*sizes: int, kind: int = 8) -> bytes:
    return struct.pack(f">HBB{len(sizes)}I", 0, kind, len(sizes), *sizes)


# What happens to the bytes of a file of the tiny MNIST -> what the line must say
IDX_DAMAGE: dict[str, tuple[str, Callable[[bytes], bytes], list[str]]] = {
    "truncated": (TRAIN_IMAGES, lambda b: b[:-5], ["byte 470411", "600 x 28 x 28", "again"]),
    "oversized": (TRAIN_IMAGES, lambda b: b + b"xx", ["byte 470416", "600 x 28 x 28", "again"]),
    "wrong magic": (TRAIN_IMAGES, lambda b: b"\x89PNG" + b[4:], ["byte 0", "89 50 4e 47"]),
    "wrong type": (TRAIN_IMAGES, lambda b: b[:2] + b"\x0e" + b[3:], ["byte 470416", "600 x 28 x 28"]),
    "empty file": (TRAIN_IMAGES, lambda b: b"", ["byte 0", "nothing"]),
    "cut header": (TRAIN_IMAGES, lambda b: b[:9], ["byte 9", "3 dimensions"]),
    "wrong size": (TRAIN_IMAGES, lambda b: header(28, 600, 28) + b[16:], ["28 x 600 x 28", "N x 28 x 28"]),
    "lying header": (TRAIN_IMAGES, lambda b: header(4_000_000_000, 28, 28) + b[16:], ["byte 470416", "file ends"]),
    "swapped": (TRAIN_LABELS, lambda b: header(600, 1) + b[8:], ["one uint8 label for each image", "600 x 1"]),
    "gzip cut": (TRAIN_IMAGES, lambda b: gzip.compress(b)[:-100], ["compressed data is damaged", "again"]),
    "fewer labels": (TRAIN_LABELS, lambda b: header(599) + b[8:-1], ["600 images", "599 labels"]),
    "label 11": (TRAIN_LABELS, lambda b: b[:20] + b"\x0b" + b[21:], ["byte 20", "0..9", "11"]),
}


@pytest.mark.parametrize("damage", IDX_DAMAGE)
def test_idx_files(damage: str, tiny_mnist: Path, tiny: list[str], tmp_path: Path, convolve: Convolve) -> None:
    name, change, words = IDX_DAMAGE[damage]
    data = shutil.copytree(tiny_mnist, tmp_path / "data")
    (data / name).write_bytes(change((data / name).read_bytes()))
    outcome = convolve("train", "mnist", *tiny, "--data", data, "--out", tmp_path / "run")
    assert_refused(outcome, 3, str(data / name), *words)
    assert not (tmp_path / "run").exists()
    assert_refused(convolve("prepare", "mnist", "--source", data, "--out", tmp_path / "out"), 3, *words)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("part", ["train", "t10k"])
def test_an_empty_set(part: str, tiny_mnist: Path, tiny: list[str], tmp_path: Path, convolve: Convolve) -> None:
    data = shutil.copytree(tiny_mnist, tmp_path / "data")
    (data / f"{part}-images-idx3-ubyte").write_bytes(header(0, 28, 28))
    (data / f"{part}-labels-idx1-ubyte").write_bytes(header(0))
    outcome = convolve("train", "mnist", *tiny, "--data", data, "--out", tmp_path / "run")
    assert_refused(outcome, 3, str(data), "set is empty", "--data sample")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("line", "old", "new", "words"),
    [
        (5, "|features 0", "|features x", ["line 5, column 39", "'features'", "'x'"]),
        (3, "", "1 2 3", ["line 3, column 38", "787 values", "784"]),
        (8, "|features", "|feature", ["line 8, column 1", "'features'"]),
        (4, "|labels", "|label", ["line 4, column 1", "'labels'"]),
        (2, "labels 0 1", "labels 1 1", ["line 2", "zeros as labels"]),
    ],
)
def test_ctf_files(
    line: int, old: str, new: str, words: list[str], ctf: Path, tiny: list[str], tmp_path: Path, convolve: Convolve
) -> None:
    data = shutil.copytree(ctf, tmp_path / "data")
    lines = (data / CTF_TRAIN).read_text().splitlines()
    assert old in lines[line - 1]
    lines[line - 1] = lines[line - 1].replace(old, new, 1) if old else f"{lines[line - 1]} {new}"
    (data / CTF_TRAIN).write_text("\n".join(lines) + "\n")
    outcome = convolve("train", "mnist", *tiny, "--data", data, "--out", tmp_path / "run")
    assert_refused(outcome, 3, str(data / CTF_TRAIN), *words)
    assert not (tmp_path / "run").exists()


@pytest.fixture(scope="module")
def ctf(tiny_mnist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Only the CTF files of the tiny MNIST."""
    from convolve.prepare.mnist import prepare_mnist

    place = tmp_path_factory.mktemp("ctf")
    list(prepare_mnist(tiny_mnist, place / "all"))
    (place / "ctf").mkdir()
    for path in (place / "all").glob("*cntk_text.txt"):
        shutil.copy(path, place / "ctf")
    return place / "ctf"


def test_a_cut_ctf_file(ctf: Path, tiny: list[str], tmp_path: Path, convolve: Convolve) -> None:
    data = shutil.copytree(ctf, tmp_path / "data")
    content = (data / CTF_TRAIN).read_bytes()[:-300]
    (data / CTF_TRAIN).write_bytes(content)
    outcome = convolve("train", "mnist", *tiny, "--data", data, "--out", tmp_path / "run")
    assert_refused(outcome, 3, str(data / CTF_TRAIN), f"byte {len(content)}", "within a line", "copy it again")


@pytest.mark.parametrize(
    ("where", "hint"), [("nowhere", "--data sample"), ("images.txt", "separated by tabs"), ("folder", "--data sample")]
)
def test_no_data_there(where: str, hint: str, tiny: list[str], tmp_path: Path, convolve: Convolve) -> None:
    (tmp_path / "images.txt").write_text("x")
    (tmp_path / "folder").mkdir()
    outcome = convolve("train", "mnist", *tiny, "--data", tmp_path / where, "--out", tmp_path / "run")
    assert_refused(outcome, 3, str(tmp_path / where), hint)
    assert not (tmp_path / "run").exists()


def test_no_data_anywhere_and_offline(
    tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, convolve: Convolve
) -> None:
    monkeypatch.delenv("CONVOLVE_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # where nobody answers
    outcome = convolve("train", "mnist", *tiny[2:], "--out", tmp_path / "run")
    folder = tmp_path / "cache" / "convolve" / "mnist"
    assert_refused(outcome, 3, "train-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz", str(folder), "--data sample")
    assert files_in(tmp_path) == []


@pytest.mark.parametrize(
    ("batch", "when"), [(64, "from step 2 on"), (600, "after step 1")], ids=["in training", "in the last update"]
)
def test_a_loss_that_is_not_finite(batch: int, when: str, tiny: list[str], tmp_path: Path, convolve: Convolve) -> None:
    settings = ("schedule.learning_rates=1e30", "schedule.reference_batch_size=0", f"run.global_batch_size={batch}")
    words = [*tiny, *(f"--set={setting}" for setting in settings), "--epochs", 1, "--set=run.epochs=1"]
    outcome = convolve("train", "mnist", *words, "--out", tmp_path / "run")
    assert_failed(outcome, 1, "not finite", when, "1e+30", "schedule.learning_rates", "--restart")
    assert files_in(tmp_path / "run") == ["metrics.jsonl", "recipe.json", "start.json", "state.json"]


def test_a_folder_with_other_files(tiny: list[str], tmp_path: Path, convolve: Convolve) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    for restart in ([], ["--restart"]):
        outcome = convolve("train", "mnist", *tiny, "--out", tmp_path, *restart)
        assert_refused(outcome, 2, str(tmp_path), "other files", "--out")
    outcome = convolve("train", "mnist", *tiny, "--out", tmp_path / "thesis.tex")
    assert_refused(outcome, 2, "thesis.tex is a file", "--out")
    assert files_in(tmp_path) == ["thesis.tex"]


def test_debug_shows_the_traceback_and_keeps_the_exit_code(tmp_path: Path, convolve: Convolve) -> None:
    outcome = convolve("evaluate", tmp_path / "nowhere", "--debug")
    assert outcome.err.startswith("Traceback")
    assert outcome.err.splitlines()[-1].startswith("convolve: ")
    assert outcome.code == 2


PNG = cv2.imencode(".png", np.eye(28, dtype=np.uint8))[1].tobytes()


def zipped(content: bytes, name: str = "inside.png", *, damaged: bool = False) -> bytes:
    """A zip archive with a text and, under `name`, `content`; the packed bytes of `content` damaged or not."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("read.me", "see inside")
        archive.writestr(name, content)
        packed_from = archive.getinfo(name).header_offset + 30 + len(name)
    archive_bytes = bytearray(stream.getvalue())
    if damaged:
        archive_bytes[packed_from : packed_from + 4] = b"\xff\xff\xff\xff"
    return bytes(archive_bytes)


# name and content of a file given to predict -> what the line must say
PICTURES = {
    "text": ("digit.txt", b"hello", ["digit.txt", "PNG", "hello"]),
    "text called png": ("digit.png", b"hello", ["digit.png", "PNG", "hello"]),
    "empty": ("digit.png", b"", ["digit.png", "empty"]),
    "cut": ("digit.png", PNG[:-20], ["digit.png", "cut off", "again"]),
    "zip of text": ("digits.zip", zipped(b"hello"), ["digits.zip@/inside.png", "PNG", "hello"]),
    "zip without pictures": ("d.zip", zipped(b"", "inside.txt"), ["d.zip", "no images"]),
    "zip with a broken member": ("d.zip", zipped(PNG, damaged=True), ["d.zip@/inside.png", "unpacked"]),
    "zip with a broken directory": ("d.zip", zipped(PNG).replace(b"PK\x01\x02", b"XXXX"), ["d.zip", "damaged zip"]),
}


@pytest.mark.parametrize("kind", PICTURES)
def test_pictures(kind: str, model: Path, tmp_path: Path, convolve: Convolve) -> None:
    name, content, words = PICTURES[kind]
    (tmp_path / "good.png").write_bytes(PNG)
    (tmp_path / name).write_bytes(content)
    table, paths = tmp_path / "table.csv", (tmp_path / "good.png", tmp_path / name)
    outcome = convolve("predict", model, *paths, "--csv", table, "--fail-fast")
    assert_failed(outcome, 3, *words)
    assert not table.exists()
    is_found = kind not in ("zip without pictures", "zip with a broken directory")
    assert_failed(convolve("predict", model, *paths, "--csv", table), 3, *words)
    assert table.exists() == is_found  # the good one has its answer
    assert convolve("predict", model, tmp_path / "good.png").code == 0


def test_pictures_that_are_not_there(model: Path, tmp_path: Path, convolve: Convolve) -> None:
    assert_refused(convolve("predict", model, tmp_path / "no.png"), 3, "no.png does not exist")
    assert_refused(convolve("predict", model, tmp_path), 3, str(tmp_path), "holds no images", "no JPEG, PNG")


@pytest.mark.parametrize(
    "command",
    [
        ["train", "photos", "--data", "nowhere"],
        ["train", "mnist", "--data", "empty", "--out", "some/new/run"],
        ["train", "mnist", "--data", "nowhere", "--folds", "3"],
        ["prepare", "folder", "--source", "empty", "--out", "some/new/lists"],
        ["prepare", "mnist", "--source", "empty", "--out", "some/new/lists"],
    ],
)
def test_a_refused_command_leaves_no_folder(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, convolve: Convolve
) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    assert_refused(convolve(*command), 3, command[3])
    assert [path.name for path in tmp_path.rglob("*")] == ["empty"]


@pytest.mark.parametrize("kind", ["a file", "a link to nowhere"])
def test_runs_that_are_no_folder(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, convolve: Convolve
) -> None:
    runs = tmp_path / "runs"
    runs.touch() if kind == "a file" else runs.symlink_to("gone")
    monkeypatch.chdir(tmp_path)
    place = str(Path("runs", "mnist"))
    assert_refused(
        convolve("train", "mnist", "--data", "sample"), 2, f"runs is not a folder; choose another place than {place}"
    )


@pytest.mark.parametrize("source", ["nowhere", "empty"])
def test_preparations_name_their_own_flag(source: str, tmp_path: Path, convolve: Convolve) -> None:
    (tmp_path / "empty").mkdir()
    refused = convolve("prepare", "mnist", "--source", str(tmp_path / source), "--out", str(tmp_path / "out"))
    assert_refused(refused, 3, "--source sample")
    assert "--data" not in refused.err
