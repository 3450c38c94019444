"""Runs a BrainScript configuration: its data and networks become those of a run, its tests are evaluated.

training.py     a train action; readers.py data from its readers
evaluation.py   test, eval and cv
editing.py      edit
writing.py      write; reach.py the places that a configuration may write to

    modelPath.0     the network with its initial values, as a model folder
    modelPath.N     the network after epoch N
    modelPath.run   the run folder; an unfinished run there is resumed, unless makeMode=false
    modelPath       the trained model, as a model folder; a test also accepts CNTK's own file there
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from convolve.distributed.lost import naming_lost_workers
from convolve.distributed.process_group import all_workers
from convolve.errors import UnsupportedError
from convolve.graph.build import with_weights
from convolve.graph.graph import Graph
from convolve.importers.brainscript.job import EditStep, EvaluateStep, Job, Step, TrainStep, read_job
from convolve.importers.brainscript.loaded import Models
from convolve.importers.brainscript.reader import Reader
from convolve.loading import load
from convolve.run_config.editing import edit
from convolve.run_config.evaluation import cross_validate, evaluate
from convolve.run_config.reach import ANYWHERE, Reach
from convolve.run_config.training import train_step
from convolve.run_config.writing import write_outputs
from convolve.training.events import Callback, silent
from convolve.training.workers import Workers


def read_configuration(arguments: Sequence[str]) -> Job:
    """`read_job`, for networks that may load models of any kind that convolve opens as a graph."""
    return read_job(arguments, Models(_graph_of))


def _graph_of(path: Path) -> Graph:
    model = load(path)
    if not isinstance(model.architecture, Graph):
        raise UnsupportedError(f"{path} is one of convolve's own networks; convert it to ONNX, and load that")
    return with_weights(model.architecture, model.module.state_dict())


def run_job(
    job: Job,
    callback: Callback,
    data: str | None = None,
    from_model: Path | None = None,
    workers: Workers | None = None,
    reach: Reach = ANYWHERE,
) -> list[dict[str, Any]]:
    """Do every step of `job`, and return the results of its tests.

    `data` replaces the files of a configuration that reads CTF text: a folder, or "sample". `from_model` is a model
    that CNTK trained with the same text: its weights are the initial ones. Raises UnsupportedError, before anything is
    done, for everything that the configuration needs and convolve lacks. Call `reach.require_all` first. `callback`
    gets all events of `run.train`, and those of the steps: "config", "part", "final", "model", "best", "written",
    "action" and "action done" around each, "completed" at the end. Of several `workers`, by default those that a
    launcher has started, all train; only the first tests and writes.
    """
    if job.refused:
        raise UnsupportedError("; ".join(job.refused))
    workers = workers or all_workers()
    results, tell = list[dict[str, Any]](), silent if workers.rank else callback
    for number, step in enumerate(job.steps):
        tell("action", {"command": step.name, "action": _action(step)})
        if isinstance(step, TrainStep):
            test = _test_after(job, number, step)
            with naming_lost_workers():
                train_step(step, test, callback, data=data, from_model=from_model, workers=workers)
        elif workers.rank:
            pass
        elif isinstance(step, EditStep):
            edit(step, callback)
        elif isinstance(step, EvaluateStep):
            results += (cross_validate if step.epochs else evaluate)(step, callback, data)
        else:
            write_outputs(step, callback, data, reach)
        tell("action done", {"action": _action(step)})
    tell("completed", {})
    return results


def _test_after(job: Job, number: int, step: TrainStep) -> Reader | None:
    """The reader of the first test of what `step` trains: a job may train several networks, and test the model of one
    epoch, which has another path."""
    later = [other for other in job.steps[number:] if isinstance(other, EvaluateStep)]
    tests = [x.reader for x in later if x.model_path == step.model_path or x.network is step.network]
    return tests[0] if tests else None


def _action(step: Step) -> str:
    """CNTK's name for the action."""
    if isinstance(step, EvaluateStep):
        return "cv" if step.epochs else "test"
    return type(step).__name__.removesuffix("Step").lower()
