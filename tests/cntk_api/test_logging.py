"""TensorBoard's event files, pictures of functions, and CNTK's modules that do little here."""

import importlib
import shutil
from pathlib import Path

import pytest

import convolve.cntk as C


def small() -> tuple[C.Function, C.Variable, C.Variable]:
    x, y = C.input_variable(2, name="x"), C.input_variable(1)
    return C.layers.Dense(1, name="d")(x), x, y


def test_event_files_have_cntks_tags_and_steps(tmp_path: Path) -> None:
    """As the real CNTK 2.7 wrote them of the same calls."""
    loader = pytest.importorskip("tensorboard.backend.event_processing.event_file_loader")
    z, x, y = small()
    writer = C.logging.TensorBoardProgressWriter(freq=2, log_dir=str(tmp_path), model=z)
    loss, data = C.squared_error(z, y), {x: [[1, 2.0], [2, 3]], y: [[1], [2]]}
    trainer = C.Trainer(z, (loss, C.squared_error(z, y)), [C.sgd(z.parameters, 0.01)], [writer])
    for _ in range(2):
        for _ in range(5):
            trainer.train_minibatch(data)
        trainer.summarize_training_progress()
        for _ in range(2):
            trainer.test_minibatch(data)
        trainer.summarize_test_progress()
        writer.write_value("mine", 3.5, 7)
    writer.close()
    [file] = tmp_path.iterdir()
    events = loader.LegacyEventFileLoader(str(file)).Load()
    found = [(event.step, value.tag) for event in events for value in event.summary.value]
    wanted = []
    for number, steps in enumerate([(2, 4), (7, 9)], 1):
        wanted += [(step, f"minibatch/avg_{what}") for step in steps for what in ("loss", "metric")]
        wanted += [(number, "summary/avg_loss"), (number, "summary/avg_metric")]
        wanted += [(5 * number, "minibatch/test_avg_metric"), (7, "mine")]
    assert found == wanted


def test_a_function_is_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    z, x, _ = small()
    text = C.logging.graph.plot(z, str(tmp_path / "net.dot"))
    drawn = (tmp_path / "net.dot").read_text()
    assert text.startswith("Dense(") and x.uid in text
    assert drawn.startswith("digraph") and '[label="Dense d", shape=ellipse]' in drawn and '"Input x"' in drawn
    with pytest.raises(ValueError, match="not supported"):
        C.logging.graph.plot(z, str(tmp_path / "net.bmp"))
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(ImportError, match="graphviz"):
        C.logging.graph.plot(z, str(tmp_path / "net.png"))


def test_loss_and_metric_of_a_criterion() -> None:
    z, _, y = small()
    loss, metric = C.squared_error(z, y), C.classification_error(z, y)
    both = C.train.Trainer._get_loss_metric((loss, metric))
    assert [each.uid for each in both] == [loss.uid, metric.uid]
    assert C.train.Trainer._get_loss_metric(loss)[1] is None
    combined = C.train.Trainer._get_loss_metric(C.combine([loss, metric]))
    assert all(isinstance(each, C.Function) for each in combined)


@pytest.mark.parametrize("name", ["debugging.profiler", "debugging.debug", "eval.evaluator", "train.distributed"])
def test_cntks_modules_are_there(name: str) -> None:
    assert importlib.import_module(f"convolve.cntk.{name}")


def test_what_does_nothing_breaks_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    from convolve.cntk.tests.test_utils import set_device_from_pytest_env

    monkeypatch.setenv("TEST_DEVICE", "cpu")
    set_device_from_pytest_env()
    C.debugging.start_profiler(sync_gpu=True)
    C.debugging.profiler.stop_profiler()
    C.debugging.debug.set_node_timing(True)
    C.reduce_sum(C.input_variable(1)).print_node_timing()
    assert C.eval.Evaluator is C.eval.evaluator.Evaluator
