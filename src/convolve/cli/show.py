"""convolve show"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from convolve.cli.formatting import ports_text, recipe_text, schedule_text, summary_mapping, summary_text
from convolve.cli.options import AsJson, Options, Overrides, TrainingData, with_data_options, with_overrides
from convolve.errors import UsageError
from convolve.importers.brainscript import is_config

if TYPE_CHECKING:
    from convolve.recipe import Recipe


@with_data_options
@with_overrides
def show(
    what: Annotated[
        str,
        typer.Argument(
            help="A recipe (name or file), a run folder, a model folder, a CNTK file, net.prototxt+net.caffemodel, an "
            "ONNX file, a PyTorch checkpoint, or a BrainScript file.",
            metavar="RECIPE|MODEL|RUN|CONFIG",
        ),
    ],
    data: TrainingData = None,
    schedule: Annotated[
        bool, typer.Option("--schedule", help="Show the learning rates as CNTK, PyTorch and Caffe count them.")
    ] = False,
    as_json: AsJson = False,
    *,
    overrides: Overrides,
    options: Options,
) -> None:
    """Show a recipe or a model: layers, shapes, parameters, FLOPs.

    A recipe is printed as a recipe file with a comment on each field; with --data, as it would be for these images.

    Example: convolve show mnist --schedule
    """
    if is_config(what):
        from convolve.cli.show_config import show_config

        show_config(what, schedule, as_json)
    elif schedule:
        _show_schedule(what, as_json)
    elif _is_model(what):
        _show_model(what, as_json, overrides)
    else:
        _require_recipe(what)
        _show_recipe(what, as_json, data, options)


def _is_model(what: str) -> bool:
    from convolve.importers.loaders import find_loader
    from convolve.importers.pytorch import is_pytorch
    from convolve.model_folder import is_folder
    from convolve.remote import local_model

    path = local_model(Path(what))
    return is_folder(path) or find_loader(path) is not None or is_pytorch(path)


def _show_model(what: str, as_json: bool, overrides: Overrides) -> None:
    from convolve.export.onnx import OnnxNetwork, note_of
    from convolve.graph.classifier import NoClassifierError, SeveralHeadsError, input_arithmetic
    from convolve.graph.describe import describe
    from convolve.graph.graph import Graph
    from convolve.loading import load
    from convolve.models.summary import summarize
    from convolve.records.reading import to_json

    try:
        model = load(what, overrides)
    except (NoClassifierError, SeveralHeadsError) as error:
        _show_network(what, as_json, overrides, str(error))
        return
    imported = model.architecture if isinstance(model.architecture, Graph) else None
    arithmetic = list(input_arithmetic(imported)) if imported else []
    notes = [*(imported.notes if imported else ()), *filter(None, [model.preprocess_warning, note_of(model.module)])]
    if isinstance(model.module, OnnxNetwork):
        ports = model.module.ports()
        mapping: dict[str, Any] = {**ports, "class_names": list(model.class_names)}
        text = ports_text(ports)
    else:
        shape_CHW = model.preprocess.shape_CHW
        summary = describe(imported, model.module) if imported else summarize(model.module, shape_CHW)
        mapping, text = summary_mapping(summary, model.class_names), summary_text(summary)
    if as_json:
        mapping |= {"preprocess": model.preprocess.mapping(), "training_info": to_json(model.training_info)}
        mapping |= {"in_the_graph": arithmetic, "notes": notes} if imported else {}
        print(json.dumps(mapping, indent=2))
        return
    print(text)
    print(f"\nthe network sees  {model.preprocess}")
    for line in arithmetic:
        print(f"in the graph      {line}")
    print(f"known from        {model.preprocess.known_from or 'nobody: it is assumed'}")
    print(f"classes           {_classes(model.class_names)}")
    for name, value in to_json(model.training_info).items():
        print(f"{name:<18}{value}")
    for note in notes:
        print(f"note              {note}")


def _show_network(what: str, as_json: bool, overrides: Overrides, reason: str) -> None:
    from convolve.graph.describe import describe
    from convolve.network import load_graph

    network = load_graph(what, [overrides.output] if overrides.output else [], overrides)
    assert network.graph is not None  # our own networks are classifiers
    summary, ports = describe(network.graph, network.module), {"inputs": network.inputs, "outputs": network.outputs}
    notes = [*network.graph.notes, f"not a classifier: {reason}"]
    if as_json:
        print(json.dumps({**summary_mapping(summary, ()), **ports, "notes": notes}, indent=2))
        return
    print(summary_text(summary) + "\n")
    for side, shapes in ports.items():
        print(f"{side:<18}{', '.join(f'{name} {shape}' for name, shape in shapes.items())}")
    for note in notes:
        print(f"note              {note}")


def _classes(names: tuple[str, ...]) -> str:
    shown = ", ".join(names[:20])
    return shown if len(names) <= 20 else f"{shown} and {len(names) - 20} more"


def _require_recipe(what: str) -> None:
    from convolve.recipes import ENDINGS

    if not Path(what).exists() and (Path(what).parent != Path() or Path(what).suffix):
        raise UsageError(f"{what} does not exist; give a recipe's name or file, a run folder, or a model")
    if Path(what).is_file() and Path(what).suffix not in ENDINGS:
        raise UsageError(
            f"{what}: this kind of file cannot be shown; give a recipe (.json or .yaml), a model folder, a run folder, "
            "a CNTK model, net.prototxt+net.caffemodel, a PyTorch checkpoint, an ONNX file, or a BrainScript file"
        )


def _show_recipe(what: str, as_json: bool, data: str | None, options: Options) -> None:
    from convolve.data.known import dataset_info
    from convolve.data.open import open_data
    from convolve.recipe import to_mapping
    from convolve.recipes import load_recipe
    from convolve.recipes.ladder import ladder_text, planned

    recipe, plan = load_recipe(what), ""
    if data:
        splits = open_data(data, recipe.data.name, options=options)
        recipe, plan = planned(recipe, len(splits.train), len(splits.test))
        size, classes = recipe.data.size or (splits.array_shape_CHW or (0, 0, 0))[1:], splits.class_names
    elif recipe.data.name:
        info = dataset_info(recipe.data.name)
        size, classes = recipe.data.size or info.shape_CHW[1:], info.class_names
    elif recipe.model.plan:
        plan, size, classes = ladder_text(), (0, 0), ()
    else:
        raise UsageError(
            f"{what} names no data set: it takes network and classes from the model that it starts from; give that "
            f"model to `convolve show`"
        )
    mapping, text = _network_of(recipe, size, classes)
    if as_json:
        print(json.dumps(mapping | {"recipe": to_mapping(recipe)} | ({"plan": plan} if plan else {}), indent=2))
        return
    print("".join(f"# {line}\n" for line in (*plan.splitlines(), *text.splitlines())) + recipe_text(recipe))


def _network_of(recipe: Recipe, size: tuple[int, ...], classes: tuple[str, ...]) -> tuple[dict[str, Any], str]:
    """The recipe's network as a mapping and as text; empty if it depends on the images, or on model.start."""
    from convolve.models import bare_model
    from convolve.models.summary import summarize
    from convolve.weights import PACKAGED

    if 0 in size or recipe.model.start not in ("", PACKAGED):
        return {}, ""
    shape_CHW = (recipe.data.channels, size[0], size[1])
    summary = summarize(bare_model(recipe.model, shape_CHW, len(classes)), shape_CHW)
    return summary_mapping(summary, classes), summary_text(summary)


def _show_schedule(what: str, as_json: bool) -> None:
    from convolve.data.known import dataset_info
    from convolve.recipes import load_recipe
    from convolve.training.schedule import schedule_rows

    recipe = load_recipe(what)
    samples = recipe.run.epoch_samples or dataset_info(recipe.data.name).train_samples
    rows = schedule_rows(recipe, samples)
    if as_json:
        print(json.dumps({"schedule": [vars(row) for row in rows]}, indent=2))
        return
    print(
        f"{recipe.name}: {recipe.optimizer.name}, {recipe.run.global_batch_size} of {samples:,} samples a minibatch\n"
    )
    print(schedule_text(rows))
