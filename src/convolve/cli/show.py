"""convolve show"""

from __future__ import annotations

import json
from dataclasses import Field, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from convolve.cli import asked as options
from convolve.importers.brainscript import is_config

if TYPE_CHECKING:
    from convolve.models.summary import Summary
    from convolve.opening import Asked
    from convolve.recipe import Recipe
    from convolve.training.schedule import ScheduleRow


def show(
    what: Annotated[
        str,
        typer.Argument(
            help="A recipe (name or file), a model folder, a run folder, a CNTK model, net.prototxt+net.caffemodel, "
            "or a BrainScript file.",
            metavar="RECIPE|MODEL|RUN|CONFIG",
        ),
    ],
    schedule: Annotated[
        bool, typer.Option("--schedule", help="Every step size as CNTK, PyTorch and Caffe count it.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    output: Annotated[
        str | None, typer.Option(metavar="NODE", help="The class scores, where a file has several outputs.")
    ] = None,
    preset: options.Preset = None,
    mean: options.Mean = None,
    channel_order: options.Order = None,
    scale: options.Scale = None,
    labels: options.Labels = None,
    image_shape: options.ImageShape = None,
) -> None:
    """Show layers, shapes, parameters, FLOPs; a recipe, a model.

    What is shown of a recipe is itself a recipe file, with a comment on each field.

    Example: convolve show mnist --schedule
    """
    if is_config(what):
        from convolve.cli.show_config import show_config

        show_config(what, schedule, as_json)
    elif schedule:
        _show_schedule(what, as_json)
    elif _is_model(what):
        _show_model(what, as_json, options.asked(preset, mean, channel_order, scale, labels, image_shape, output))
    else:
        _show_recipe(what, as_json)


def _is_model(what: str) -> bool:
    from convolve.opening import is_foreign

    path = Path(what)
    return any((path / name).exists() for name in ("model.json", "model/model.json")) or is_foreign(path)


def _show_model(what: str, as_json: bool, asked: Asked) -> None:
    from convolve.importers.classifier import input_arithmetic
    from convolve.importers.describe import describe
    from convolve.importers.graph import Graph
    from convolve.model import load
    from convolve.models.summary import summarize

    model = load(what, asked)
    imported = model.architecture if isinstance(model.architecture, Graph) else None
    if imported:
        summary, arithmetic = describe(imported, model.module), list(input_arithmetic(imported))
    else:
        summary, arithmetic = summarize(model.module, model.preprocess.shape_CHW), []
    notes = [*(imported.notes if imported else ()), *filter(None, [model.doubt])]
    if as_json:
        more: dict[str, Any] = {"preprocess": model.preprocess.mapping(), "trained": model.trained}
        if imported:
            more |= {"in_the_graph": arithmetic, "notes": notes}
        print(json.dumps(summary_mapping(summary, model.class_names) | more, indent=2))
        return
    print(summary_text(summary))
    print(f"\nthe network sees  {model.preprocess}")
    for line in arithmetic:
        print(f"in the graph      {line}")
    print(f"known from        {model.preprocess.known_from or 'nobody: it is assumed'}")
    print(f"classes           {_classes(model.class_names)}")
    for name, value in model.trained.items():
        print(f"{name:<18}{value}")
    for note in notes:
        print(f"note              {note}")


def _classes(names: tuple[str, ...]) -> str:
    shown = ", ".join(names[:20])
    return shown if len(names) <= 20 else f"{shown} and {len(names) - 20} more"


def _show_recipe(what: str, as_json: bool) -> None:
    from convolve.data.sources import outline
    from convolve.models import build_model
    from convolve.models.summary import summarize
    from convolve.recipe import to_mapping
    from convolve.recipes import load_recipe

    recipe = load_recipe(what)
    data = outline(recipe.data.name)
    channels, height, width = data.shape_CHW
    size = recipe.data.image_size
    shape_CHW = (channels, size or height, size or width)
    summary = summarize(build_model(recipe.model, shape_CHW, len(data.class_names)), shape_CHW)
    if as_json:
        print(json.dumps(summary_mapping(summary, data.class_names) | {"recipe": to_mapping(recipe)}, indent=2))
        return
    print("\n".join(f"# {line}" for line in summary_text(summary).splitlines()))
    print(recipe_text(recipe))


def recipe_text(recipe: Recipe) -> str:
    """The recipe as YAML with a comment on each field: a recipe file, ready to be edited."""
    lines = []
    for part in fields(recipe):
        value = getattr(recipe, part.name)
        if not is_dataclass(value):
            lines.append(_recipe_line(part, value))
            continue
        lines.append(f"{part.name}:  # {(type(value).__doc__ or '').splitlines()[0]}")
        lines += ["  " + _recipe_line(item, getattr(value, item.name)) for item in fields(value)]
    return "\n".join(lines)


def _recipe_line(item: Field[Any], value: Any) -> str:
    from convolve.recipe import steps_text, to_mapping

    below = ""
    if isinstance(value, tuple) and value and all(isinstance(v, float) for v in value):
        text = f"{item.name}: {json.dumps(steps_text(value))}"
    elif isinstance(value, tuple) and value:  # transforms, one a line
        text, below = f"{item.name}:", "".join(f"\n    - {_transform_text(spec)}" for spec in value)
    else:
        text = f"{item.name}: {json.dumps(to_mapping(value))}"
    comment = item.metadata.get("comment", "")
    return (f"{text:<44}  # {comment}" if comment else text) + below


def _transform_text(spec: Any) -> str:
    """A transform without the fields that are nothing by default."""
    from convolve.recipe import to_mapping

    default = {item.name: to_mapping(item.default) for item in fields(spec)}
    return json.dumps({name: value for name, value in to_mapping(spec).items() if value or value != default.get(name)})


def _show_schedule(what: str, as_json: bool) -> None:
    from convolve.data.sources import outline
    from convolve.recipes import load_recipe
    from convolve.training.schedule import schedule_rows

    recipe = load_recipe(what)
    samples = outline(recipe.data.name).train_samples
    rows = schedule_rows(recipe, samples)
    if as_json:
        print(json.dumps([vars(row) for row in rows], indent=2))
        return
    print(
        f"{recipe.name}: {recipe.optimizer.name}, {recipe.run.global_batch_size} of {samples:,} samples a minibatch\n"
    )
    print(schedule_text(rows))


def schedule_text(rows: list[ScheduleRow]) -> str:
    """One line a stretch; the rates of PyTorch and Caffe are for the mean loss, without unit gain and dampening."""
    first = rows[0]
    toolkits = (
        f"CNTK, unit gain {first.cntk_unit_gain}",
        f"PyTorch {first.pytorch_optimizer}",
        f"Caffe {first.caffe_solver}",
    )
    lines = [
        f"{'':10}{toolkits[0]:>26}{toolkits[1]:>34}{toolkits[2]:>34}",
        f"{'epochs':<10}{'lr per sample':>14}{'momentum T':>12}" + 2 * f"{'lr':>14}{'momentum':>10}{'decay':>10}",
    ]
    for row in rows:
        time_constant = row.cntk_momentum_time_constant_samples
        lines.append(
            f"{f'{row.from_epoch + 1:g}-{row.to_epoch:g}':<10}{row.cntk_lr_per_sample:>14.6g}"
            f"{f'{time_constant:.5g}' if time_constant else 'none':>12}"
            + _cells(row.pytorch_lr, row.pytorch_momentum, row.pytorch_weight_decay)
            + _cells(row.caffe_base_lr, row.caffe_momentum, row.caffe_weight_decay)
        )
    return "\n".join(lines)


def _cells(rate: float | None, momentum: float | None, decay: float | None) -> str:
    if rate is None:
        return f"{'-':>14}{'-':>10}{'-':>10}"
    return f"{rate:>14.6g}{momentum:>10.4f}{decay:>10g}"


def summary_mapping(summary: Summary, class_names: tuple[str, ...]) -> dict[str, Any]:
    return {
        "parameters": summary.parameters,
        "flops_per_image": summary.flops_per_image,
        "input_shape": list(summary.input_shape),
        "layers": [vars(layer) | {"output_shape": list(layer.output_shape)} for layer in summary.layers],
        "class_names": list(class_names),
    }


def summary_text(summary: Summary) -> str:
    name_width = max(14, *(len(layer.name) + 2 for layer in summary.layers))
    kind_width = max(14, *(len(layer.kind) + 2 for layer in summary.layers))
    named = any(layer.source for layer in summary.layers)
    head = f"{'layer':<{name_width}}{'kind':<{kind_width}}{'output (C, H, W)':<20}{'parameters':>12}{'MFLOP':>10}"
    lines = [head + ("  in the file" if named else "")]
    lines.append(f"{'input':<{name_width}}{'':<{kind_width}}{_shape(summary.input_shape)}")
    for layer in summary.layers:
        parameters = f"{layer.parameters:,}" if layer.parameters else ""
        flops = f"{layer.flops_per_image / 1e6:.3f}" if layer.flops_per_image else ""
        what = f"{layer.name:<{name_width}}{layer.kind:<{kind_width}}{_shape(layer.output_shape):<20}"
        lines.append(f"{what}{parameters:>12}{flops:>10}  {layer.source}".rstrip())
    lines.append(
        f"{summary.parameters:,} parameters, {summary.flops_per_image / 1e6:.2f} MFLOP an image (multiply-add: 2)"
    )
    return "\n".join(lines)


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))
