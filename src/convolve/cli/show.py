"""convolve show"""

from __future__ import annotations

import json
from dataclasses import Field, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from convolve.models.summary import Summary
    from convolve.recipe import Recipe
    from convolve.training.schedule import ScheduleRow


def show(
    what: Annotated[
        str,
        typer.Argument(help="A recipe (name or file), a model folder, or a run folder.", metavar="RECIPE|MODEL|RUN"),
    ],
    schedule: Annotated[
        bool, typer.Option("--schedule", help="Every step size as CNTK, PyTorch and Caffe count it.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show layers, shapes, parameters, FLOPs; a recipe, a model.

    What is shown of a recipe is itself a recipe file, with a comment on each field.

    Example: convolve show mnist --schedule
    """
    if schedule:
        _show_schedule(what, as_json)
    elif _is_model(what):
        _show_model(what, as_json)
    else:
        _show_recipe(what, as_json)


def _is_model(what: str) -> bool:
    path = Path(what)
    return (path / "model.json").exists() or (path / "model" / "model.json").exists()


def _show_model(what: str, as_json: bool) -> None:
    from convolve.model import load
    from convolve.models.summary import summarize

    model = load(what)
    summary = summarize(model.module, model.preprocess.shape_CHW)
    if as_json:
        print(
            json.dumps(
                _summary_mapping(summary, model.class_names)
                | {"preprocess": vars(model.preprocess), "trained": model.trained},
                indent=2,
            )
        )
        return
    print(_summary_text(summary))
    print(f"\nthe network sees  {model.preprocess}")
    print(f"classes           {', '.join(model.class_names)}")
    for name, value in model.trained.items():
        print(f"{name:<18}{value}")


def _show_recipe(what: str, as_json: bool) -> None:
    from convolve.data.sources import outline
    from convolve.models import build_model
    from convolve.models.summary import summarize
    from convolve.recipe import to_mapping
    from convolve.recipes import load_recipe

    recipe = load_recipe(what)
    data = outline(recipe.data.name)
    summary = summarize(build_model(recipe.model, data.shape_CHW, len(data.class_names)), data.shape_CHW)
    if as_json:
        print(json.dumps(_summary_mapping(summary, data.class_names) | {"recipe": to_mapping(recipe)}, indent=2))
        return
    print("\n".join(f"# {line}" for line in _summary_text(summary).splitlines()))
    print(_recipe_text(recipe))


def _recipe_text(recipe: Recipe) -> str:
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

    numbers = isinstance(value, tuple) and value and all(isinstance(v, float) for v in value)
    text = f"{item.name}: {json.dumps(steps_text(value) if numbers else to_mapping(value))}"
    comment = item.metadata.get("comment", "")
    return f"{text:<44}  # {comment}" if comment else text


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
    print(_schedule_text(rows))


def _schedule_text(rows: list[ScheduleRow]) -> str:
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


def _summary_mapping(summary: Summary, class_names: tuple[str, ...]) -> dict[str, Any]:
    return {
        "parameters": summary.parameters,
        "flops_per_image": summary.flops_per_image,
        "input_shape": list(summary.input_shape),
        "layers": [vars(layer) | {"output_shape": list(layer.output_shape)} for layer in summary.layers],
        "class_names": list(class_names),
    }


def _summary_text(summary: Summary) -> str:
    lines = [f"{'layer':<14}{'kind':<14}{'output (C, H, W)':<20}{'parameters':>12}{'MFLOP':>10}"]
    lines.append(f"{'input':<14}{'':<14}{_shape(summary.input_shape):<20}")
    for layer in summary.layers:
        parameters = f"{layer.parameters:,}" if layer.parameters else ""
        flops = f"{layer.flops_per_image / 1e6:.3f}" if layer.flops_per_image else ""
        lines.append(
            f"{layer.name:<14}{layer.kind:<14}{_shape(layer.output_shape):<20}{parameters:>12}{flops:>10}".rstrip()
        )
    lines.append(
        f"{summary.parameters:,} parameters, {summary.flops_per_image / 1e6:.2f} MFLOP an image (multiply-add: 2)"
    )
    return "\n".join(lines)


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))
