"""CNTK's lines of a training, from its events alone."""

from __future__ import annotations

from types import SimpleNamespace

from convolve.cli.cntk_log import CntkLog
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
