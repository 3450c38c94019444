"""CNTK's lines of a training, from its events alone."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

from convolve.cli.cntk_log import CntkLog
from convolve.importers.brainscript.description import network_lines
from convolve.importers.brainscript.job import TrainStep, read_job
from convolve.recipe import Recipe
from convolve.specs.run import RunSpec


def test_an_epoch_that_is_trained_again_counts_from_its_beginning() -> None:
    """A rate that adjusts itself takes epochs back: the second time, their lines are those of a first time."""
    lines: list[str] = []
    log = CntkLog(lines.append)
    network = SimpleNamespace(roles={"evaluationNodes": (), "criterionNodes": (SimpleNamespace(name="ce"),)})
    recipe = Recipe("net", run=RunSpec(global_batch_size=8, report_batches=10, epochs=3))
    step = SimpleNamespace(network=network, recipe=recipe, validation=None)
    log("config", {"step": step, "samples": 80, "held_out_samples": 0})
    rate = {"samples_seen": 160, "learning_rate": 0.1}
    progress = {"epoch": 2, "batch": 10, "loss": 0.5, "error": 0.25, "momentum": 0.9, "images_per_second": 40.0}
    for _ in range(2):
        log("progress", progress | rate)
        log("epoch", {"train_loss": 0.5, "train_error": 0.25, "seconds": 2.0} | rate)
    assert lines[3:] == lines[:3]
    assert lines[1].startswith(" Epoch[ 2 of 3]-Minibatch[   1-  10, 100.00%]: ce = 0.50000000 * 80; ")


EXAMPLE = Path(__file__).parents[2] / "examples" / "BrainScript" / "ConvNet_MNIST.cntk"


def test_what_is_said_of_a_network() -> None:
    """98,778 parameters are published; five layers have a weight and a bias each."""
    step = read_job([str(EXAMPLE)]).steps[0]
    assert isinstance(step, TrainStep)
    lines = [*network_lines(step.network, "CPU")]
    [counted] = [line for line in lines if "Training " in line and "parameters" in line]
    assert counted.startswith("\nTraining 98778 parameters in 10 out of 10 parameter tensors and ")
    assert "Validating --> features = InputValue () :  -> [28 x 28 x 1 x *]" in lines
    assert "Training criterion:   ce = CrossEntropyWithSoftmax" in lines
    assert "Evaluation criterion: errs = ClassificationError" in lines
    assert sum(line.startswith("\tNode '") for line in lines) == 10


def test_a_frame_around_the_name_of_a_command() -> None:
    lines: list[str] = []
    for level in (0, 1):
        log = CntkLog(lines.append, level)
        log("action", {"command": "trainNetwork", "action": "train"})
        log("action done", {"action": "train"})
        log("completed", {})
    frame, done, completed = lines
    rows = frame.strip("\n").split("\n")
    assert {len(row) for row in rows} == {78} and rows[0] == rows[-1] == 78 * "#"
    assert rows[2].startswith("# trainNetwork command (train action) ")
    assert (done, completed) == ('\nAction "train" complete.\n', "__COMPLETED__")
