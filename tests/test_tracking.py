"""`convolve train --log`: each tool has, by its own reader, what the run folder says; none can cost a training."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from command_line import Convolve, assert_failed, assert_refused
from convolve.errors import UsageError
from convolve.tracking import mlflow as on_mlflow
from convolve.tracking.tracker import TRACKERS

EPOCHS = 2  # of `tiny`


def test_tensorboard_gets_one_file_with_what_was_logged(convolve: Convolve, tiny: list[str], tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    run = tmp_path / "run"
    assert convolve("train", "mnist", *tiny, "--log", "tensorboard", "--out", run).code == 0
    (file,) = (run / "tracking" / "tensorboard").iterdir()
    events = accumulator.EventAccumulator(str(file)).Reload()
    for tag, name in (("summary/avg_loss", "train_loss"), ("summary/test_avg_metric", "test_error")):
        assert [scalar.step for scalar in events.Scalars(tag)] == [1, 2]
        told = [epoch[name] for epoch in epochs(run)]
        assert [scalar.value for scalar in events.Scalars(tag)] == pytest.approx(told, rel=1e-6)
    assert events.Scalars("minibatch/avg_loss")
    (text,) = events.Tensors("parameters/text_summary")
    assert b"| model.variant | tiny |" in text.tensor_proto.string_val[0]


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """MLflow's own server, its runs in SQLite."""
    pytest.importorskip("mlflow.server")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    store = ["--backend-store-uri", f"sqlite:///{tmp_path / 'mlflow.db'}", "--artifacts-destination", tmp_path / "kept"]
    words = [sys.executable, "-m", "mlflow", "server", *map(str, store), "--port", str(port), "--workers", "1"]
    process = subprocess.Popen(words, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True)
    address, until = f"http://127.0.0.1:{port}", time.monotonic() + 300
    try:
        while not is_up(address):
            assert process.poll() is None and time.monotonic() < until
            time.sleep(0.2)
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "digits")
        yield address
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def is_up(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"{address}/health", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def test_mlflow_has_the_run_one_for_all_its_processes(
    server: str, convolve: Convolve, tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow = pytest.importorskip("mlflow")
    client = mlflow.MlflowClient(server)
    with monkeypatch.context() as patched:
        patched.setitem(TRACKERS.rows, "stops", Stops)
        stopped = convolve("train", "mnist", *tiny, "--log", "mlflow", "--log", "stops", "--out", tmp_path / "run")
    assert stopped.code == 130
    (experiment,) = client.search_experiments(filter_string="name = 'digits'")
    (first,) = client.search_runs([experiment.experiment_id])
    assert (first.info.status, first.info.run_name) == ("FAILED", "run")

    assert convolve("train", "mnist", *tiny, "--log", "mlflow", "--out", tmp_path / "run").code == 0
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED" and run.info.run_id == first.info.run_id
    start = json.loads((tmp_path / "run" / "start.json").read_text())
    expected = {"model.variant": "tiny", "run.epochs": str(EPOCHS), "data_fingerprint": start["data_fingerprint"]}
    assert run.data.params.items() >= expected.items()
    for name in ("train_loss", "test_error", "images_per_second"):
        history = {each.step: each.value for each in client.get_metric_history(run.info.run_id, name)}
        assert history == {epoch["epoch"]: pytest.approx(epoch[name]) for epoch in epochs(tmp_path / "run")}
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert run.data.metrics["result.test_error"] == result["test_error"]
    for name in ("report.html", "model/weights.safetensors", "model/model-card.md"):
        found = client.download_artifacts(run.info.run_id, name, str(tmp_path))
        assert Path(found).read_bytes() == (tmp_path / "run" / name).read_bytes()


def test_a_server_that_is_not_there_ends_the_command(
    convolve: Convolve, tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")  # "discard": nobody listens there
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    outcome = convolve("train", "mnist", *tiny, "--log", "mlflow", "--out", tmp_path / "run")
    assert_failed(outcome, 1, "--log mlflow: ", "127.0.0.1", "train without it")


def test_wandb_has_the_run_offline(
    convolve: Convolve, tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    outcome = convolve("train", "mnist", *tiny, "--log", "wandb", "--json", "--out", tmp_path / "run")
    assert outcome.code == 0 and json.loads(outcome.out)["epochs"] == EPOCHS
    records = wandb_records(tmp_path / "run" / "tracking" / "wandb")

    (begun,) = (each.run for each in records if each.WhichOneof("record_type") == "run")
    config = {item.key: json.loads(item.value_json) for item in begun.config.update}
    assert begun.project == "convolve" and config["model.variant"] == "tiny"
    kept = [{item.key or item.nested_key[0]: item.value_json for item in each.history.item} for each in records]
    lines = [{name: json.loads(value) for name, value in line.items()} for line in kept if "test_error" in line]
    for line, epoch in zip(lines, epochs(tmp_path / "run"), strict=True):
        assert line["epoch"] == epoch["epoch"] and line["test_error"] == epoch["test_error"]
    (artifact,) = (each.artifact for each in records if each.WhichOneof("record_type") == "artifact")
    assert artifact.type == "model"
    stored = {entry.path for entry in artifact.manifest.contents}
    assert stored == {path.name for path in (tmp_path / "run" / "model").iterdir()}
    (page,) = (tmp_path / "run" / "tracking" / "wandb").rglob("report*.html")
    assert page.read_bytes() == (tmp_path / "run" / "report.html").read_bytes()


def wandb_records(folder: Path) -> list[Any]:
    """The records of W&B's file, a log as LevelDB writes it: blocks of 32 KiB with pieces that begin with a checksum,
    their length and what they are (1 a whole record, 2 the first piece of one, 3 the next, 4 the last)."""
    from wandb.proto.wandb_internal_pb2 import Record

    (file,) = folder.rglob("run-*.wandb")
    data, at, parts, found = file.read_bytes(), 7, b"", []
    while at + 7 <= len(data):
        if 32768 - at % 32768 < 7:  # the rest of a block is left empty
            at += 32768 - at % 32768
            continue
        length, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        parts += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):
            found.append(Record.FromString(parts))
            parts = b""
    return found


class Listens:
    """A tracker of somebody else's, which keeps what it is told."""

    told: list[tuple[Any, ...]]

    def __init__(self) -> None:
        type(self).told = []

    def begin(self, run: Path, folder: Path, parameters: dict[str, Any]) -> None:
        assert folder.is_dir() and folder.is_relative_to(run)
        self.told.append(("begin", run.name, parameters["run.epochs"]))

    def minibatch(self, step: int, figures: dict[str, float]) -> None:
        assert figures.keys() == {"loss", "error", "learning_rate"}

    def epoch(self, epoch: int, figures: dict[str, float]) -> None:
        self.told.append(("epoch", epoch))

    def finish(self, report: Path, model: Path, figures: dict[str, float]) -> None:
        assert report.is_file() and (model / "model.json").is_file()
        self.told.append(("finish", figures["epochs"]))

    def close(self, failed: bool) -> None:
        self.told.append(("close", failed))


class Stops(Listens):
    def epoch(self, epoch: int, figures: dict[str, float]) -> None:
        raise KeyboardInterrupt


class Fails(Listens):
    def epoch(self, epoch: int, figures: dict[str, float]) -> None:
        raise OSError("the line\nis dead")


def test_what_a_tracker_hears(
    convolve: Convolve, tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(TRACKERS.rows, "listens", Listens)
    words = ["train", "mnist", *tiny, "--log", "listens", "--out", tmp_path / "run"]
    assert convolve(*words).code == 0
    whole = [("begin", "run", EPOCHS), ("epoch", 1), ("epoch", 2), ("finish", EPOCHS), ("close", False)]
    assert Listens.told == whole

    state = tmp_path / "run" / "state.json"  # as if it had been killed before its report
    state.write_text(state.read_text().replace("reported", "finished"))
    assert convolve(*words).code == 0
    assert Listens.told == [whole[0], *whole[-2:]]


def test_each_fold_is_a_run(
    convolve: Convolve, tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(TRACKERS.rows, "listens", Listens)
    words = ["--folds", "2", "--log", "listens", "--set", "run.epochs=1"]
    assert convolve("train", "mnist", *tiny, *words, "--out", tmp_path / "run").code == 0
    assert [what[1] for what in Listens.told if what[0] == "begin"] == ["run-fold1", "run-fold2", "run"]
    assert [what for what in Listens.told if what[0] == "close"] == [("close", False)] * 3
    assert (tmp_path / "run" / "tracking" / "listens").is_dir()


def test_a_tracker_that_fails_costs_no_training(
    convolve: Convolve, tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(TRACKERS.rows, "fails", Fails)
    outcome = convolve("train", "mnist", *tiny, "--log", "fails", "--out", tmp_path / "run")
    assert outcome.code == 0 and (tmp_path / "run" / "report.html").is_file()
    said = "warning: --log fails: OSError: the line is dead; it gets no more of this run\n"
    assert outcome.err.count(said) == outcome.err.count("warning") == 1
    assert Fails.told == [("begin", "run", EPOCHS)]


def test_names_and_packages_that_are_not_there(
    convolve: Convolve, tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome = convolve("train", "mnist", *tiny, "--log", "mlfow", "--out", tmp_path / "run")
    assert_refused(outcome, 2, "--log: ", "did you mean 'mlflow'?")
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(UsageError, match="--log mlflow needs the package mlflow: pip install"):
        on_mlflow.MLflow()
    assert not (tmp_path / "run" / "state.json").exists()


def epochs(run: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if line["event"] == "epoch"]
