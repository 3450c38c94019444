"""The settings and the environment: the recipe, and where it ran."""

from typing import Any

from convolve.recipe import Recipe, to_mapping
from convolve.recipe_values import leaf_paths, steps_text
from convolve.records.reading import to_json
from convolve.report.contents import Contents

Parts = dict[str, dict[str, str]]  # part -> name -> value

# Part of the environment -> keys of start.json; all other keys belong to the run.
_PARTS = {
    "machine": ("device", "threads", "workers", "hardware"),
    "software": ("versions",),
    "arithmetic": ("precision", "precision_reason"),
    "data": ("data", "train_samples", "test_samples", "data_fingerprint", "mean_image_sha256"),
}


def recipe_parts(recipe: Recipe) -> Parts:
    """The resolved recipe under the dotted paths that `--set` takes, one list for each part."""
    parts: Parts = {}
    for path, value in leaf_paths(recipe).items():
        part, _, name = path.rpartition(".")
        parts.setdefault(part or "recipe", {})[name] = _text(value)
    return parts


def environment_parts(contents: Contents) -> Parts:
    """Machine, software, arithmetic, data, and the run itself."""
    start = to_json(contents.start) if contents.start else {}
    start.pop("recipe", None)
    parts = {part: _flat({key: start[key] for key in keys if key in start}) for part, keys in _PARTS.items()}
    placed = {key for keys in _PARTS.values() for key in keys}
    rest = {name: value for name, value in start.items() if name not in placed}
    resumed = {"resumed": f"{contents.resumes} times"} if contents.resumes else {}
    parts["run"] = _flat({"folder": contents.folder} | resumed | rest)
    return {part: values for part, values in parts.items() if values}


def _flat(values: dict[str, Any]) -> dict[str, str]:
    """What is known, with "hardware" and "versions" flattened; names as words, since nobody types them."""
    spread: dict[str, Any] = {}
    for name, value in values.items():
        spread |= value if isinstance(value, dict) else {name: value}
    return {name.replace("_", " "): _text(value) for name, value in spread.items() if value is not None}


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {item}" for name, item in value.items() if item is not None)
    if isinstance(value, tuple) and all(isinstance(item, float) for item in value):
        return steps_text(value) or "none"
    if isinstance(value, tuple):  # transforms
        return "; ".join(_transform_text(to_mapping(item)) for item in value)
    return "none" if value in (None, "") else str(value)


def _transform_text(mapping: dict[str, Any]) -> str:
    return f"{mapping.pop('kind')} ({_text(mapping)})"
