"""A BrainScript configuration, done: its data and networks are made into those of a run, its tests are evaluated.

modelPath.0     the network with its initial values, as a model folder
modelPath.run   the run folder; an unfinished run there goes on, unless makeMode=false
modelPath       the trained model, as a model folder; a test also takes one of CNTK's own files there
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch

from convolve.data.ctf_table import read_ctf_table
from convolve.data.fitting import fitted
from convolve.data.labelled_images import OnDisk, on_disk
from convolve.data.own import OwnSet
from convolve.data.sources import DATASETS, fitting, open_data, outline
from convolve.data.table import DataSet, Table
from convolve.errors import MissingDataError, UnsupportedError, UsageError, unknown_name
from convolve.formats.image_map import read_image_map
from convolve.formats.mean_xml import read_mean_xml
from convolve.importers import cntk
from convolve.importers.brainscript.job import EvaluateStep, Job, TrainStep
from convolve.importers.brainscript.lower import lower
from convolve.importers.brainscript.network import Operation
from convolve.importers.brainscript.reader import Reader
from convolve.importers.brainscript.trained import with_numbers
from convolve.importers.build import build
from convolve.importers.classifier import class_scores, image_input
from convolve.importers.graph import Graph
from convolve.model import Model, load
from convolve.recipe import Recipe
from convolve.run import Run, train
from convolve.training.evaluate import Evaluation
from convolve.training.run_folder import RunFolder
from convolve.transforms.image_spec import Crop, Scale
from convolve.transforms.preprocess import Preprocess

# Hears of everything that `run.train` tells its own listener, and of "config" and "final", which tell of a step here.
Listener = Callable[[str, dict[str, Any]], None]

ORIGIN = "BrainScript"


def run_job(
    job: Job, listener: Listener, data: str | None = None, from_model: Path | None = None
) -> list[dict[str, Any]]:
    """Do every step of `job`, and return the results of its tests.

    `data` replaces the files of a configuration that reads CTF text: a folder, or "sample". `from_model` is a model
    that CNTK trained from the same text: its numbers are the initial ones. Raises UnsupportedError, before anything is
    done, for all that the configuration wants and convolve lacks.
    """
    if job.refused:
        raise UnsupportedError("; ".join(job.refused))
    results = []
    for number, step in enumerate(job.steps):
        if isinstance(step, TrainStep):
            tests = [other for other in job.steps[number:] if isinstance(other, EvaluateStep)]
            train_step(step, tests[0].reader if tests else None, listener, data, from_model)
        else:
            results.append(_test(step, listener, data))
    return results


# -- training ---------------------------------------------------------------------------------------------------------


def train_step(
    step: TrainStep, test: Reader | None, listener: Listener, data: str | None = None, from_model: Path | None = None
) -> None:
    """Train the network of `step`; each epoch is evaluated on its cvReader's data, else on the `test` data."""
    run_folder = step.model_path.with_name(f"{step.model_path.name}.run")
    initial = step.model_path.with_name(f"{step.model_path.name}.0")
    if step.resume and step.model_path.exists():
        listener("note", {"message": f"{step.model_path} exists: its training is skipped (makeMode=false repeats it)"})
        return
    graph = network_graph(step, torch.Generator().manual_seed(step.recipe.run.seed))
    if from_model is not None:
        graph = with_numbers(graph, image_input(class_scores(cntk.read(from_model)), graph.inputs[0].shape))
    dataset = _dataset(step, step.validation or test, graph.inputs[0].shape, data)
    _require_whole_epochs(step, dataset, listener, data)
    listener("config", {"step": step, "samples": len(dataset.train)})
    if not (step.resume and initial.exists()):
        _model(graph, test or step.reader, dataset.class_names).save(initial)
    if (run_folder / "result.json").exists() and step.resume:  # killed between the end of the run and the copy
        trained = Run(RunFolder(run_folder))
    else:
        settings = {"out": run_folder, "restart": not step.resume, "from_model": initial, "progress": listener}
        trained = train(recipe_of(step), data=dataset, **settings)  # type: ignore[arg-type]
    trained.model.save(step.model_path)


def save_initial(step: TrainStep, folder: Path) -> None:
    """Write the network of `step` with its initial values as a model folder."""
    graph = network_graph(step, torch.Generator().manual_seed(step.recipe.run.seed))
    _model(graph, step.reader, tuple(map(str, range(step.reader.classes)))).save(folder)


def _model(graph: Graph, reader: Reader, class_names: tuple[str, ...]) -> Model:
    return Model(build(graph), graph, _preprocess(reader, graph), class_names, trained={"imported_from": ORIGIN})


def network_graph(step: TrainStep, generator: torch.Generator | None) -> Graph:
    """The graph from one image to the class scores.

    A network of plain numbers takes them from the images of the data set that has as many, else from a single column.
    """
    graph = class_scores(lower([step.network.scores()], generator, ORIGIN))
    shape = graph.inputs[0].shape if graph.inputs else ()
    if len(shape) != 1:
        return image_input(graph)
    name = fitting((1, shape[0], 1), step.reader.classes)
    return image_input(graph, outline(name).shape_CHW if name else (1, shape[0], 1))


def recipe_of(step: TrainStep) -> Recipe:
    """The recipe of the training. The network is not in it: it is the model that the training starts from."""
    return replace(step.recipe, data=replace(step.recipe.data, name=data_name(step)))


def data_name(step: TrainStep) -> str:
    """The data set whose images and classes the network is made for; else the name of the model."""
    shape = network_graph(step, None).inputs[0].shape
    return fitting((shape[0], shape[1], shape[2]), step.reader.classes) or step.model_path.name


def samples_of(step: TrainStep) -> int:
    """The samples of an epoch as far as the text tells; where it does not, those of the data set that fits."""
    if step.sgd.epoch_size:
        return step.sgd.epoch_size
    name = data_name(step)
    return outline(name).train_samples if name in DATASETS else 1_000 * step.sgd.batch_size


def _require_whole_epochs(step: TrainStep, dataset: DataSet | OwnSet, listener: Listener, data: str | None) -> None:
    wanted, samples = step.sgd.epoch_size, len(dataset.train)
    if wanted in (0, samples):
        return
    if data is None:
        raise UnsupportedError(
            f"{step.name}.SGD.epochSize={wanted:,}, but the data has {samples:,} samples, and an epoch is one pass "
            "over the data; set epochSize=0"
        )
    listener("note", {"message": f"epochSize={wanted:,} is taken as one pass over the {samples:,} samples of {data}"})


# -- data -------------------------------------------------------------------------------------------------------------


def _dataset(step: TrainStep, held_out: Reader | None, shape: tuple[int, ...], data: str | None) -> DataSet | OwnSet:
    """What the readers of `step` deliver; without a second one, the training data is evaluated too."""
    reader, shape_CHW = step.reader, (shape[0], shape[1], shape[2])
    if data is not None:
        return _given_data(reader, shape_CHW, data)
    names = tuple(map(str, range(reader.classes)))
    train_part, test_part = (_pictures(part, shape_CHW) for part in (reader, held_out or reader))
    if isinstance(train_part, Table) and isinstance(test_part, Table):
        return DataSet(train_part, test_part, names, reader.file)
    if isinstance(train_part, OnDisk) and isinstance(test_part, OnDisk):
        return OwnSet(train_part, test_part, names, reader.file, False, True, shape_CHW)
    raise UnsupportedError(f"{step.name} trains on images and is evaluated on text, or the other way round")


def _given_data(reader: Reader, shape_CHW: tuple[int, int, int], data: str) -> DataSet:
    """The data set that fits the network, at `data`."""
    name = fitting(shape_CHW, reader.classes)
    if name is None or reader.kind != "text":
        raise UsageError("--data is for text readers of a known data set; set the files instead, as in dataDir=DIR")
    found = open_data(name, data)
    if isinstance(found, OwnSet):
        raise UsageError(f"--data {data} is no {name}; set the files of the configuration, as in dataDir=DIR")
    flat = tuple(
        replace(part, images_NCHW=part.images_NCHW.reshape(-1, *shape_CHW), chunk_N=np.zeros(len(part), np.int64))
        for part in (found.train, found.test)
    )
    return replace(found, train=flat[0], test=flat[1])


def _pictures(reader: Reader, shape_CHW: tuple[int, int, int]) -> Table | OnDisk:
    path = Path(reader.file)
    if not path.is_file():
        raise MissingDataError(
            f"{path}, which the reader wants, does not exist; say where the data is, as in dataDir=DIR, or make it "
            "with `convolve prepare`"
        )
    if reader.kind == "images":
        images = read_image_map(path, reader.classes)
        return on_disk(images, images.labels_N)
    if reader.dim != prod(shape_CHW):
        raise UsageError(f"{path}: the reader's dim is {reader.dim}, the network takes {shape_CHW} (C, H, W)")
    return read_ctf_table(path, reader.classes, shape_CHW)


def _preprocess(reader: Reader, graph: Graph) -> Preprocess:
    """How `reader` prepares images for testing: crop at the centre, scale, mean; text comes as it is."""
    channels, height, width = graph.inputs[0].shape
    if reader.kind == "text":
        return Preprocess(channels, height, width)
    want = Preprocess(
        channels, height, width, channel_order="grey" if channels == 1 else "bgr", resize="fill",
        side_ratio=_side_ratio(reader),
    )  # fmt: skip
    if not reader.mean_file:
        return want
    bgr_HWC = read_mean_xml(reader.mean_file)  # as CNTK reads it
    mean_CHW = np.ascontiguousarray(bgr_HWC.transpose(2, 0, 1))
    return replace(want, mean_image_CHW=mean_CHW) if mean_CHW.shape == want.shape_CHW else want  # CNTK skips it too


def _side_ratio(reader: Reader) -> float:
    """The part of the shorter side that is kept at the centre."""
    for transform in reader.transforms:
        if isinstance(transform, Crop):
            return transform.side_ratio[0] if transform.side_ratio else 1.0
        if isinstance(transform, Scale) and (transform.scale_mode, transform.interpolation) != ("fill", "linear"):
            raise UnsupportedError(f"{reader.file}: a test with another scale than a linear one that fills the image")
    return 1.0


# -- tests ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Figure:
    """The mean of a node over `samples`; errors are fractions."""

    node: str
    value: float
    is_error: bool


def _test(step: EvaluateStep, listener: Listener, data: str | None) -> dict[str, Any]:
    """Evaluate the model at modelPath on all samples of the reader."""
    model = load(step.model_path)
    if isinstance(model.architecture, Graph) and step.reader.kind == "images":
        model.preprocess = _preprocess(step.reader, model.architecture)
    shape_CHW = model.preprocess.shape_CHW
    part = _given_data(step.reader, shape_CHW, data).test if data else _pictures(step.reader, shape_CHW)
    evaluation = model.evaluate(fitted(part, model.preprocess))
    figures = [_figure(name, kind, top, evaluation) for name, kind, top in _nodes(step)]
    listener("final", {"figures": figures, "samples": len(part), "batches": -(-len(part) // step.batch_size)})
    return {"test": step.name, "samples": len(part)} | {figure.node: figure.value for figure in figures}


def _nodes(step: EvaluateStep) -> list[tuple[str, str, int]]:
    """(name, kind, top) of each node that is reported; of a model without its text, the usual two."""
    network = step.network
    if network is None:
        return [("errs", "ClassificationError", 1), ("ce", "CrossEntropyWithSoftmax", 1)]
    roles = [*network.roles["evaluationNodes"], *network.roles["criterionNodes"]]
    nodes: list[Operation] = []
    for name in step.nodes:
        if name not in network.members:
            raise UsageError(f"{step.name}.evalNodeNames: {unknown_name('node', name, network.members)}")
        nodes.append(network.members[name])
    chosen = dict.fromkeys(nodes or roles)
    return [(node.name, node.kind, int(float(str(node.settings.get("top", 1))))) for node in chosen]


def _figure(name: str, kind: str, top: int, evaluation: Evaluation) -> Figure:
    if kind == "CrossEntropyWithSoftmax":
        return Figure(name, evaluation.loss, False)
    if kind != "ClassificationError":
        raise UnsupportedError(f"evaluating {name}, a {kind}, is not supported; errors and the criterion are")
    likely = evaluation.probabilities_NK.topk(min(top, evaluation.probabilities_NK.shape[1]), dim=1).indices
    wrong = int((likely != evaluation.labels_N[:, None]).all(1).sum())
    return Figure(name, wrong / len(evaluation.labels_N), True)
