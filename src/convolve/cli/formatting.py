"""Recipes, schedules and summaries of networks, as text and as JSON; tables as CSV."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Sequence
from dataclasses import Field, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convolve.cli.terminal import for_tables

if TYPE_CHECKING:
    from convolve.models.summary import Summary
    from convolve.recipe import Recipe
    from convolve.training.schedule import ScheduleRow


def safe_cell(cell: Any) -> str:
    """The text of a cell, quoted so that spreadsheets do not run it as a formula. Numbers stay as they are."""
    text = str(cell)
    if text[:1] in tuple("=+-@\t\r"):
        try:
            float(text)
        except ValueError:
            return f"'{text}"
    return text


def write_csv(path: Path | None, rows: Iterable[Iterable[Any]], safe: bool = False) -> None:
    """Write `rows` to the file `path`, or to stdout; `safe`: see `safe_cell`."""
    from convolve.atomic import replacing

    if safe:
        rows = ([*map(safe_cell, row)] for row in rows)
    if path is None:
        csv.writer(for_tables(), lineterminator="\n").writerows(rows)
        return
    errors = "surrogateescape"  # file names keep their bytes, so that other tools find the files
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8", errors=errors) as file:
        csv.writer(file, lineterminator="\n").writerows(rows)


@dataclass(frozen=True)
class Answer:
    """What a command did: in `lines` for people, in `fields` for --json."""

    lines: list[str] = field(default_factory=list)
    fields: dict[str, Any] = field(default_factory=dict)

    def __add__(self, other: Answer) -> Answer:
        return Answer(self.lines + other.lines, self.fields | other.fields)

    def renamed(self, old: Path, new: Path) -> Answer:
        """With another path, and another folder of it, wherever they are named."""

        def right(text: Any) -> Any:
            return text.replace(str(old), str(new)).replace(str(old.parent), str(new.parent))

        fields = {name: right(value) if isinstance(value, str) else value for name, value in self.fields.items()}
        return Answer([*map(right, self.lines)], fields)

    def print(self, as_json: bool) -> None:
        print(json.dumps(self.fields, indent=2, ensure_ascii=False) if as_json else "\n".join(self.lines))


def counted(count: int, name: str) -> str:
    """A count with its noun: "1 image", "2,000 images"."""
    return f"{count:,} {name}{'' if count == 1 else 's'}"


def interval_text(interval: Sequence[float]) -> str:
    """The 95 % interval of an error, printed after it."""
    low, high = interval
    return f"95% interval {low:.2%} to {high:.2%}"


def recipe_text(recipe: Recipe) -> str:
    """The recipe as YAML with a comment on each field: a recipe file that can be edited."""
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
    from convolve.recipe import to_mapping
    from convolve.recipe_values import steps_text

    below = ""
    if isinstance(value, tuple) and value and all(isinstance(v, float) for v in value):
        text = f"{item.name}: {json.dumps(steps_text(value))}"
    elif isinstance(value, tuple) and value:  # one transform per line
        text, below = f"{item.name}:", "".join(f"\n    - {_transform_text(spec)}" for spec in value)
    else:
        text = f"{item.name}: {json.dumps(to_mapping(value))}"
    comment = item.metadata.get("comment", "")
    return (f"{text:<44}  # {comment}" if comment else text) + below


def _transform_text(spec: Any) -> str:
    """A transform, without its fields that have their default value."""
    from convolve.recipe import to_mapping

    default = {item.name: to_mapping(item.default) for item in fields(spec)}
    return json.dumps({name: value for name, value in to_mapping(spec).items() if value or value != default.get(name)})


def schedule_text(rows: list[ScheduleRow]) -> str:
    """One line per stretch of equal rates. PyTorch's and Caffe's are for the mean loss, without unit gain and
    dampening."""
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


def ports_text(ports: dict[str, list[dict[str, Any]]]) -> str:
    """One line per input and output of a file whose layers cannot be listed."""
    return "\n".join(
        f"{side:<18}{port['name']}: {port['type']}, {' x '.join(map(str, port['shape']))}"
        for side, found in ports.items()
        for port in found
    )


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
