"""A train action: the network of the text, trained as the SGD block says on the data of the readers."""

from dataclasses import replace
from math import prod
from pathlib import Path

import torch

from convolve.data.known import dataset_info, guess_dataset
from convolve.data.sources.source import ArraySource, Source
from convolve.errors import UnsupportedError
from convolve.graph.build import build
from convolve.graph.classifier import class_scores, image_input, side_by_side
from convolve.graph.graph import Graph, Parameter
from convolve.importers import cntk
from convolve.importers.brainscript.criterion import trained
from convolve.importers.brainscript.initial import CntkSeeds, Numbers
from convolve.importers.brainscript.job import TrainStep
from convolve.importers.brainscript.lower import lower
from convolve.importers.brainscript.network import Network, needed_for
from convolve.importers.brainscript.reader import Images, Reader
from convolve.importers.brainscript.trained import with_numbers
from convolve.loading import load
from convolve.model import Model
from convolve.recipe import Recipe
from convolve.records import ONE_CLASS, Objective, Target, TargetKind, TrainingInfo
from convolve.run import train
from convolve.run_config.readers import Shape, as_found, as_prepared, resize_words, training_data
from convolve.training.events import Callback, silent
from convolve.training.objective import require_defined
from convolve.training.run_folder import RunFolder
from convolve.training.workers import SINGLE_PROCESS, Workers
from convolve.transforms.preprocess import Preprocess
from convolve.transforms.transform import MAX_SIDE

ORIGIN = "BrainScript"
_LEAST_VARIANCE = 1e-10  # a constant of CNTK's InvStdDev


def train_step(
    step: TrainStep,
    test: Reader | None,
    callback: Callback,
    data: str | None = None,
    from_model: Path | None = None,
    workers: Workers = SINGLE_PROCESS,
) -> None:
    """Train the network of `step`; `test` is the reader of the first test after it, if there is one."""
    path, is_first = step.model_path, not workers.rank
    callback = callback if is_first else silent
    run_folder, initial = (path.with_name(f"{path.name}.{ending}") for ending in ("run", "0"))
    if workers.broadcast(step.resume and path.exists()):
        callback("note", {"message": f"{path} exists: its training is skipped (makeMode=false repeats it)"})
        return
    graph, target, shape_CHW = _fresh_network(step)
    splits = training_data(step, test, shape_CHW, data)
    if from_model is not None:
        graph = _with_trained(graph, target, from_model, shape_CHW)
    elif isinstance(splits.train, ArraySource):
        graph = with_statistics(graph, step.network, splits.train)
    recipe, samples = _recipe(step, splits.train, data, callback)
    if workers.size > 1:
        recipe = replace(recipe, distributed=step.parallel.for_workers(workers.size, samples))
    callback("config", {"step": step, "samples": samples, "held_out_samples": len(splits.test)})
    if is_first and not (step.resume and initial.exists()):
        _model(graph, as_prepared(step.reader, shape_CHW), splits.class_names, target).save(initial)
    final_preprocess = _for_any_image(step.validation or test or step.reader, shape_CHW, callback)

    def keep(model: Model, epoch: int) -> None:
        """CNTK keeps the model of every epoch except the last, which is modelPath itself."""
        if epoch < step.recipe.run.epochs:
            replace(model, preprocess=final_preprocess).save(path.with_name(f"{path.name}.{epoch}"))

    if not workers.broadcast(step.resume and RunFolder(run_folder).finished):  # it may have been killed before the copy
        where = {"data": splits, "out": run_folder, "restart": not step.resume, "from_model": initial}
        train(recipe, progress=callback, each_epoch=keep, workers=workers, **where)  # type: ignore[arg-type]
    if is_first:
        replace(load(run_folder, whole=True), preprocess=final_preprocess).save(path)
    workers.barrier()


def _with_trained(graph: Graph, target: Target, path: Path, shape_CHW: Shape) -> Graph:
    """`graph` with the weights of CNTK's model at `path`."""
    if target.objective:
        raise UnsupportedError("--from is for a network that is trained by one CrossEntropyWithSoftmax; leave it out")
    return with_numbers(graph, image_input(class_scores(cntk.read(path).graph), shape_CHW))


def _for_any_image(reader: Reader, shape_CHW: Shape, callback: Callback) -> Preprocess:
    preprocess, said = as_found(reader, shape_CHW)
    if said:
        callback("note", {"message": said})
    return preprocess


def _recipe(step: TrainStep, train: Source, data: str | None, callback: Callback) -> tuple[Recipe, int]:
    """The recipe for the data at hand, and the samples of an epoch.

    If an epoch has more samples than `data`, it becomes one pass over it. Numbers other than pixels may need the full
    precision that CNTK used.
    """
    recipe, wanted, train_samples = recipe_of(step), step.recipe.run.epoch_samples, len(train)
    if isinstance(train, ArraySource) and train.images_NCHW.is_floating_point():
        recipe = replace(recipe, run=replace(recipe.run, precision="fp32"))
    if data is None or wanted <= train_samples:
        return recipe, recipe.run.epoch_samples or train_samples
    message = f"epochSize={wanted:,} is taken as one pass over the {train_samples:,} samples of {data}"
    callback("note", {"message": message})
    return replace(recipe, run=replace(recipe.run, epoch_samples=0)), train_samples


def save_initial(step: TrainStep, folder: Path) -> None:
    """Write the network of `step` with its initial values as a model folder, for images of any size."""
    graph, target, shape_CHW = _fresh_network(step)
    names = tuple(map(str, range(step.reader.classes)))
    _model(graph, as_found(step.reader, shape_CHW)[0], names, target).save(folder)


def save_network(network: Network, folder: Path) -> None:
    """Write a network with its initial values as a model folder."""
    classes = prod(trained(network).labels.integers("shape"))
    graph = graph_of(network, classes, torch.Generator().manual_seed(0))
    names = tuple(map(str, range(classes)))
    _model(graph, Preprocess(*image_shape(graph)), names, target_of(network)).save(folder)


def _fresh_network(step: TrainStep) -> tuple[Graph, Target, Shape]:
    """The network with its initial values, its objective, and the (C, H, W) of its input."""
    run = step.recipe.run
    graph = network_graph(
        step, CntkSeeds(run.seed) if run.initial_values == "cntk" else torch.Generator().manual_seed(run.seed)
    )
    return graph, target_of(step.network), image_shape(graph)


def _model(graph: Graph, preprocess: Preprocess, class_names: tuple[str, ...], target: Target) -> Model:
    info = TrainingInfo(imported_from=ORIGIN)
    return Model(build(graph), graph, preprocess, class_names, training_info=info, target=target)


def with_statistics(graph: Graph, network: Network, source: ArraySource) -> Graph:
    """`graph` with the statistics that CNTK computes from the training data before the first epoch: Mean and InvStdDev
    of the images of `source`, in place of values without effect."""
    kinds = {node.name: node.kind for node in needed_for(trained(network).outputs)}
    wanted = [p for p in graph.parameters if kinds.get(p.source) in ("Mean", "InvStdDev")]
    if not wanted:
        return graph
    shape_CHW = source.images_NCHW.shape[1:]
    total, squares = torch.zeros(shape_CHW, dtype=torch.float64), torch.zeros(shape_CHW, dtype=torch.float64)
    for images_NCHW in source.images_NCHW.split(1_000):
        total += images_NCHW.double().sum(0)
        squares += images_NCHW.double().square().sum(0)
    mean = total / len(source)
    deviation = (squares / len(source) - mean.square()).clamp_min(_LEAST_VARIANCE).sqrt()
    found = {"Mean": mean, "InvStdDev": 1 / deviation}

    def filled(parameter: Parameter) -> Parameter:
        values = found[kinds[parameter.source]].float().numpy()
        return replace(parameter, array=values.reshape(parameter.shape))

    return replace(graph, parameters=tuple(filled(p) if p in wanted else p for p in graph.parameters))


def network_graph(step: TrainStep, generator: Numbers | None) -> Graph:
    return graph_of(step.network, step.reader.classes, generator)


def graph_of(network: Network, classes: int, generator: Numbers | None) -> Graph:
    """The graph from one image to the class scores, or to all values that the criteria use.

    A network of plain numbers gets them from the images of the data set with as many numbers, otherwise from a single
    column.
    """
    found = trained(network)
    graph = lower(found.outputs, generator, ORIGIN)
    graph = class_scores(graph) if found.is_plain else side_by_side(graph)[0]
    shape = graph.inputs[0].shape if graph.inputs else ()
    if len(shape) != 1:
        return image_input(graph)
    info = guess_dataset((1, shape[0], 1), classes)
    return image_input(graph, info.shape_CHW if info else (1, shape[0], 1))


def target_of(network: Network) -> Target:
    """The target of the network, with its objective if that is more than one cross-entropy."""
    found = trained(network)
    if found.is_plain:
        return ONE_CLASS
    sizes = side_by_side(lower(found.outputs, None, ORIGIN))[1]
    gives_probabilities = found.is_class and found.outputs[0].kind == "Softmax"
    objective = Objective(sizes, found.nodes, found.criterion, found.evaluations, gives_probabilities)
    require_defined(objective, prod(found.labels.integers("shape")))
    return Target(TargetKind.CLASS if found.is_class else TargetKind.NUMBER, objective=objective)


def image_shape(graph: Graph) -> Shape:
    """(C, H, W) of the input of a `network_graph`."""
    channels, height, width = graph.inputs[0].shape
    return channels, height, width


def recipe_of(step: TrainStep) -> Recipe:
    """The recipe of the training. It does not contain the network, which is the model that the training starts from."""
    shape_CHW = image_shape(network_graph(step, None))
    info, (channels, height, width) = guess_dataset(shape_CHW, step.reader.classes), shape_CHW
    spec = replace(step.recipe.data, name=info.name if info else "")  # empty where it is made for other images
    if channels in (1, 3) and max(height, width) <= MAX_SIDE:  # else plain numbers, of which there is no image
        spec = replace(spec, channels=channels, image_size=f"{width}x{height}")
    if isinstance(step.reader.features, Images):
        words = resize_words(step.validation or step.reader, shape_CHW) or {}
        spec = replace(spec, **{name: words[name] for name in ("resize", "crop_ratio") if name in words})
    return replace(step.recipe, data=replace(spec, target="class" if trained(step.network).is_class else "number"))


def samples_of(recipe: Recipe) -> int:
    """The samples of an epoch, as far as the text says; otherwise those of the data set that fits."""
    if recipe.run.epoch_samples or not recipe.data.name:
        return recipe.run.epoch_samples or 1_000 * recipe.run.global_batch_size
    return dataset_info(recipe.data.name).train_samples
