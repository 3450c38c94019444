"""A run that is killed, interrupted or damaged goes on to the same bits, or says why it does not."""

from __future__ import annotations

import json
import random
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from command_line import Convolve, Outcome, assert_failed, assert_refused, files_in
from convolve import load
from convolve.atomic import locked
from convolve.errors import ConvolveError
from convolve.model import Model
from convolve.records import StartEvent
from convolve.training.checkpoint import save_checkpoint
from convolve.training.run_folder import RunFolder
from processes import Command, start
from resumed_runs import (
    EPOCHS,
    assert_same_training,
    has_begun,
    in_the_middle_of_an_epoch,
    last_step,
    read,
    resumed_at,
    steps_per_epoch,
    wait_for_steps,
)

BATCH = 8
KILLS = 3  # that must have hit the middle of an epoch

# What has to survive: dropout, a schedule of momenta, mixed images of balanced classes and epochs that end within a
# pass; augmentation, averages and the best weights on a validation split; another learner's state, pieces of a batch
# and bf16.
VARIANTS = {
    "plain": ["mnist", "run.threads=1", "run.epochs=12"],  # long enough for a signal to come in time
    "classic": [
        "mnist", "run.threads=2", "run.global_batch_size=20", "model.dropout=0.5:0.2", "optimizer.momentum=0:300",
        "run.epoch_samples=450", "data.balance=sampling",
        'data.train_transforms=[{"kind": "rand_augment"}, {"kind": "mixup"}, {"kind": "cutmix"}]',
    ],
    "modern": [
        "mnist-fast", "run.threads=1", "run.ema_epochs=0.5", "run.keep=best", "data.validation_fraction=0.25",
    ],
    "adam": [
        "mnist", "run.threads=1", "run.global_batch_size=20", "run.accumulation_steps=3", "run.precision=bf16",
        "run.ema_epochs=1", "data.hard_fraction=0.3", "data.hard_after=0.3", "optimizer.name=adam",
        "schedule.learning_rates=0.0001", "optimizer.momentum=0.9",
        "optimizer.momentum_unit=per_minibatch", "optimizer.variance_momentum=0.999",
    ],
}  # fmt: skip


def command_for(variant: str, data: Path) -> list[str]:
    """The command of a variant without its --out."""
    recipe, *settings = VARIANTS[variant]
    common = ["model.variant=tiny", f"run.epochs={EPOCHS}", f"run.global_batch_size={BATCH}", "run.precision=fp32"]
    # The smallest interval: a checkpoint whenever something is logged.
    settings = [*common, "run.checkpoint_seconds=0.001", *settings]
    return ["train", recipe, "--data", str(data), *(f"--set={setting}" for setting in settings)]


@pytest.mark.parametrize("variant", ["classic", "modern", "adam"])
def test_killed_at_random_moments_it_ends_with_the_same_bits(variant: str, tiny_mnist: Path, tmp_path: Path) -> None:
    arguments, log = command_for(variant, tiny_mnist), tmp_path / "log"
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    began = time.monotonic()
    assert start(log, *arguments, "--out", undisturbed).outcome().code == 0
    duration = time.monotonic() - began

    moments, hits, resumed_inside = random.Random(0), 0, False
    for attempt in range(40):
        if hits >= KILLS and resumed_inside:
            break
        if (killed / "result.json").exists():
            assert_same_training(undisturbed, killed)
            shutil.rmtree(killed)
        command = start(log, *arguments, "--out", killed)
        if attempt % 2:  # anywhere at all: as it begins, between epochs, within a checkpoint
            time.sleep(moments.uniform(0, duration / 2))
        else:
            wait_for_steps(command, killed, moments.randint(1, last_step(undisturbed) // 5))
            time.sleep(moments.uniform(0, 0.01))
        command.kill()
        code = command.outcome().code
        assert code <= 0, command.outcome().err
        if code and has_begun(command):
            hits += in_the_middle_of_an_epoch(killed, undisturbed)
            resumed_inside |= any(step % steps_per_epoch(undisturbed) for step in resumed_at(killed))
    assert hits >= KILLS
    assert resumed_inside, "no checkpoint inside an epoch was used"
    if not (killed / "result.json").exists():
        assert start(log, *arguments, "--out", killed).outcome().code == 0
    assert_same_training(undisturbed, killed)


@pytest.fixture(scope="module")
def arguments(tiny_mnist: Path) -> list[str]:
    """The command of the tests below, without its --out."""
    return command_for("plain", tiny_mnist)


@pytest.fixture(scope="module")
def undisturbed_once(arguments: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("undisturbed")
    assert start(place / "log", *arguments, "--out", place / "run").outcome().code == 0
    return place / "run"


@pytest.fixture(scope="module")
def killed_once(arguments: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("killed")
    folder = stopped(place, arguments, Command.kill)[0]
    for path in folder.rglob("*.tmp"):  # what it was writing at that moment: the matter of one test alone
        path.unlink()
    return folder


def stopped(place: Path, arguments: list[str], stop: Callable[[Command], None]) -> tuple[Path, Outcome]:
    """A run that `stop` ended inside its second epoch, with two checkpoints, and what it said."""
    for attempt in range(10):
        folder = place / f"run{attempt}"
        command = start(place / "log", *arguments, "--out", folder)
        command.wait_until(lambda: last_step(folder) > 90 and len(list((folder / "checkpoints").glob("*.json"))) > 1)  # noqa: B023
        stop(command)
        if command.outcome().code != 0:
            return folder, command.outcome()
    pytest.fail("always done before the signal came")


@pytest.fixture
def undisturbed(undisturbed_once: Path, tmp_path: Path) -> Path:
    """A finished run."""
    return shutil.copytree(undisturbed_once, tmp_path / "undisturbed")


@pytest.fixture
def killed(killed_once: Path, tmp_path: Path) -> Path:
    """A run that was killed inside its second epoch, with two checkpoints."""
    return shutil.copytree(killed_once, tmp_path / "killed")


def test_ctrl_c_says_how_to_go_on(arguments: list[str], tmp_path: Path, undisturbed: Path, convolve: Convolve) -> None:
    folder, outcome = stopped(tmp_path, arguments, lambda command: command.send(signal.SIGINT))
    assert_failed(outcome, 130, "interrupted", str(folder), "the same command again")
    assert not any(name.endswith(".tmp") for name in files_in(folder))
    outcome = convolve(*arguments, "--out", folder)
    assert (outcome.code, "resuming at step " in outcome.err) == (0, True)
    assert_same_training(undisturbed, folder)


def test_a_damaged_checkpoint_gives_way_to_the_one_before(
    arguments: list[str], killed: Path, undisturbed: Path, convolve: Convolve
) -> None:
    vouched_for = sorted((killed / "checkpoints").glob("*.json"))  # a kill may leave tensors without their JSON
    older, newest = (path.with_suffix(".safetensors") for path in vouched_for[-2:])
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    outcome = convolve(*arguments, "--out", killed)
    assert f"{newest.stem} is damaged" in outcome.err
    assert f"resuming at step {int(older.stem.removeprefix('step-'))}:" in outcome.err
    assert_same_training(undisturbed, killed)


def test_damaged_checkpoints_alone_are_refused(arguments: list[str], killed: Path, convolve: Convolve) -> None:
    for path in (killed / "checkpoints").glob("*.json"):
        path.write_text("{")
    before = files_in(killed)
    assert_refused(convolve(*arguments, "--out", killed), 3, "every checkpoint", str(killed), "--restart")
    assert files_in(killed) == before


def test_a_checkpoint_of_another_training_is_refused(arguments: list[str], killed: Path, convolve: Convolve) -> None:
    """Whole by its digest: as one of another version of convolve would be."""
    folder = killed / "checkpoints"
    for path in folder.iterdir():
        path.unlink()
    save_checkpoint(folder, 5, {"module.fc1.weight": torch.zeros(3)}, {"metrics_bytes": 0})
    outcome = convolve(*arguments, "--out", killed)
    assert_failed(outcome, 3, str(folder), "does not fit this training", "--restart")


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        (["--set=run.epochs=4"], "run.epochs: 12 -> 4"),
        (["--set=schedule.learning_rates=0.5:0.25"], "schedule.learning_rates: "),
        (["--data", "sample"], "the data"),
        (["--from", "{other}"], "model.start: '' -> "),
    ],
)
def test_going_on_as_another_run_is_refused(
    change: list[str], difference: str, arguments: list[str], killed: Path, undisturbed: Path, convolve: Convolve
) -> None:
    before = {name: (killed / name).read_bytes() for name in files_in(killed)}
    words = [word.format(other=undisturbed) for word in change]
    outcome = convolve(*arguments, *words, "--out", killed)
    assert_refused(outcome, 1, str(killed), difference, "--restart", "--out")
    assert {name: (killed / name).read_bytes() for name in files_in(killed)} == before


def test_restart_begins_anew_and_touches_nothing_else(
    arguments: list[str], killed: Path, undisturbed: Path, convolve: Convolve
) -> None:
    (killed / "notes.txt").write_text("mine")
    outcome = convolve(*arguments, "--out", killed, "--restart")
    assert (outcome.code, "training: " in outcome.err) == (0, True)
    assert_same_training(undisturbed, killed)
    assert files_in(killed) == sorted([*files_in(undisturbed), "notes.txt"])


@pytest.mark.parametrize("mistake", [["--data", "nowhere"], ["--set=model.name=x"], ["--from", "nowhere"]])
def test_restart_with_a_mistake_costs_nothing(
    mistake: list[str], arguments: list[str], undisturbed: Path, convolve: Convolve
) -> None:
    before = files_in(undisturbed)
    outcome = convolve(*arguments, *mistake, "--out", undisturbed, "--restart")
    assert outcome.code in (2, 3), outcome.err
    assert files_in(undisturbed) == before


def test_what_a_kill_left_half_written_is_swept(
    arguments: list[str], killed: Path, undisturbed: Path, convolve: Convolve
) -> None:
    for name in (".start.json.77.tmp", "checkpoints/.step-00000099.safetensors.77.tmp", "model/.model.json.77.tmp"):
        (killed / name).parent.mkdir(exist_ok=True)
        (killed / name).write_text("half")
    (killed / "checkpoints" / "step-00000001.safetensors").write_text("its JSON was never written")
    assert convolve(*arguments, "--out", killed).code == 0
    assert files_in(killed) == files_in(undisturbed)


def test_a_run_killed_as_it_began_starts(arguments: list[str], undisturbed: Path, convolve: Convolve) -> None:
    folder = undisturbed.with_name("began")
    (folder / "checkpoints").mkdir(parents=True)  # of the run before
    shutil.copy(undisturbed / "recipe.json", folder)
    (folder / "state.json").write_text('{"state": "new"}')
    (folder / ".start.json.77.tmp").write_text("half")
    assert convolve(*arguments, "--out", folder).code == 0
    assert_same_training(undisturbed, folder)


def test_a_run_at_work_is_left_alone(arguments: list[str], killed: Path, convolve: Convolve) -> None:
    before = {path: path.read_bytes() for path in killed.rglob("*") if path.is_file()}
    with locked(killed, wait=False):
        assert_refused(convolve(*arguments, "--out", killed), 2, "another process is at work", str(killed))
    assert {path: path.read_bytes() for path in killed.rglob("*") if path.is_file()} == before


def test_a_log_that_lost_its_end_stays_whole(tmp_path: Path) -> None:
    """After a power cut the log may be shorter than its last checkpoint says."""
    folder = RunFolder(tmp_path)
    folder.log(StartEvent(step=7))
    folder.cut_metrics(folder.metrics_bytes() + 100)
    assert [getattr(event, "step", None) for event in folder.metrics()] == [7]


def test_a_finished_run_is_not_trained_again(arguments: list[str], undisturbed: Path, convolve: Convolve) -> None:
    outcome = convolve(*arguments, "--out", undisturbed)
    assert_refused(outcome, 2, "finished", str(undisturbed), "--restart")
    assert convolve("train", undisturbed, *arguments[2:], "--out", undisturbed.with_name("again")).code == 0
    assert_same_training(undisturbed, undisturbed.with_name("again"))


def test_a_finished_run_without_its_report_gets_it(
    arguments: list[str], undisturbed: Path, convolve: Convolve, tmp_path: Path
) -> None:
    """As a kill leaves it between the two."""
    before = {name: (undisturbed / name).read_bytes() for name in files_in(undisturbed) if name != "report.html"}
    for command, out in (([*arguments, "--out"], "trained"), (["report"], "reported")):
        folder = shutil.copytree(undisturbed, tmp_path / out)
        (folder / "report.html").rename(folder / ".report.html.77.tmp")
        (folder / "state.json").write_text('{"state": "finished"}')
        if out == "trained":
            other = [word.replace("run.epochs=12", "run.epochs=13") for word in command]
            assert_refused(convolve(*other, folder), 1, "other settings: run.epochs: 12 -> 13")
        outcome = convolve(*command, folder)
        assert (outcome.code, "training: " in outcome.err, "resuming" in outcome.err) == (0, False, False)
        assert not (folder / ".report.html.77.tmp").exists()
        assert read(folder / "state.json") == {"state": "reported"} and (folder / "report.html").exists()
        assert before.items() <= {name: (folder / name).read_bytes() for name in files_in(folder)}.items()


@pytest.mark.parametrize("name", ["metrics.jsonl", "checkpoints", "state.json"])
def test_links_in_a_run_folder_are_refused(
    name: str, arguments: list[str], killed: Path, convolve: Convolve, tmp_path: Path
) -> None:
    """A run that comes from elsewhere may hold links to what is ours."""
    (killed / name).rename(tmp_path / "ours")
    (killed / name).symlink_to(tmp_path / "ours")
    before = files_in(tmp_path)
    for more in ([], ["--restart"]):
        assert_refused(convolve(*arguments, *more, "--out", killed), 2, str(killed / name), "a link")
    assert files_in(tmp_path) == before


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("state.json", '{"state": "gone"}', ["state must be one of new, running, finished, reported, got 'gone'"]),
        ("start.json", "{", ["start.json is damaged"]),
        ("start.json", "[" * 100_000, ["start.json is damaged", "nested too deeply"]),
        ("start.json", None, ["threads must be a whole number, got '2'"]),
        ("recipe.json", '{"name": 3}', ["recipe.json is damaged", "name must be a text, got 3"]),
    ],
)
def test_a_damaged_file_is_named_with_its_field(
    name: str, content: str | None, words: list[str], arguments: list[str], killed: Path, convolve: Convolve
) -> None:
    content = content or json.dumps(read(killed / name) | {"threads": "2"})
    (killed / name).write_text(content)
    before = files_in(killed)
    assert_refused(convolve(*arguments, "--out", killed), 3, str(killed / name), *words)
    assert files_in(killed) == before


def test_a_folder_of_other_files_keeps_them_all(arguments: list[str], tmp_path: Path, convolve: Convolve) -> None:
    for name in (".notes.txt.77.tmp", "recipe.json", "checkpoints/step-00000001.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("mine")
    before = files_in(tmp_path)
    for more in ([], ["--restart"]):
        assert_refused(convolve(*arguments, *more, "--out", tmp_path), 2, "holds other files, but no run")
    assert files_in(tmp_path) == before


def test_an_empty_folder_of_the_user_stays(arguments: list[str], tmp_path: Path, convolve: Convolve) -> None:
    (tmp_path / "mine").mkdir()
    for name in ("mine", "new"):
        assert convolve(*arguments, "--data", "nowhere", "--out", tmp_path / name).code == 3
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["mine"]


def test_a_killed_run_has_no_model_and_says_how_to_get_one(
    arguments: list[str], killed: Path, undisturbed: Path, convolve: Convolve
) -> None:
    outcome = convolve("evaluate", killed, *arguments[2:4])
    assert_refused(outcome, 2, "that has no model", f"`convolve train {killed}", f"--out {killed}`")
    assert convolve("train", killed, "--out", killed, *arguments[2:4]).code == 0
    assert_same_training(undisturbed, killed)


def test_a_killed_run_has_a_report(killed: Path, convolve: Convolve) -> None:
    with (killed / "metrics.jsonl").open("a") as file:
        file.write('{"event": "prog')  # a line cut by the kill
    assert convolve("report", killed).code == 0
    assert (killed / "report.html").stat().st_size > 10_000


@pytest.mark.parametrize(("option", "kept"), [("--from", "from"), ("--teacher", "teacher")])
def test_what_a_run_needs_is_kept_by_the_run_that_goes_on(
    option: str, kept: str, model: Path, tiny_mnist: Path, tmp_path: Path, convolve: Convolve,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """It was ended after it had begun, and before the network was kept."""

    def fail(*_: object) -> None:
        raise ConvolveError("no room")

    settings = ("--set=model.variant=tiny", "--epochs", "1", "--threads", "1")
    words = ("train", "mnist", "--data", tiny_mnist, option, model, *settings, "--out", tmp_path / "run")
    with monkeypatch.context() as patched:
        patched.setattr(Model, "save", fail)
        assert_failed(convolve(*words), 1, "no room")
    assert convolve(*words).code == 0
    assert load(tmp_path / "run" / kept).class_names == load(model).class_names
