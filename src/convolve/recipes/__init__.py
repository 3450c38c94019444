"""The recipes: one function and one row in `RECIPES` for each; other packages add theirs by an entry point."""

import json
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from convolve.atomic import read_ordinary
from convolve.errors import FormatError, UsageError, unknown_name
from convolve.recipe import Recipe, from_mapping, with_values
from convolve.recipes.alexnet import alexnet, alexnet_modern, alexnet_python
from convolve.recipes.cifar10 import (
    cifar10,
    cifar10_aug,
    cifar10_aug_lrn,
    cifar10_fast,
    cifar10_resnet20,
    cifar10_resnet20_short,
)
from convolve.recipes.mnist import mnist, mnist_best, mnist_fast
from convolve.recipes.photos import photos
from convolve.registry import Registry
from convolve.specs.model import START_SAYS

_ROWS: dict[str, Callable[[], Recipe]] = {
    "photos": photos,
    "mnist": mnist,
    "mnist-fast": mnist_fast,
    "mnist-best": mnist_best,
    "cifar10": cifar10,
    "cifar10-aug": cifar10_aug,
    "cifar10-aug-lrn": cifar10_aug_lrn,
    "cifar10-fast": cifar10_fast,
    "cifar10-resnet20": cifar10_resnet20,
    "cifar10-resnet20-short": cifar10_resnet20_short,
    "alexnet": alexnet,
    "alexnet-python": alexnet_python,
    "alexnet-modern": alexnet_modern,
}
RECIPES = Registry("convolve.recipes", _ROWS)

ENDINGS = (".json", ".yaml", ".yml")  # of recipe files
_MOST_BYTES = 1 << 20  # limit for one file; the built-in recipes have about 8,000


class _Loader(yaml.SafeLoader):
    """Refuses aliases: with them a few lines of an untrusted file could expand to gigabytes."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(
                None, None, "a recipe must not use YAML aliases; write the value out", mark
            )
        return super().compose_node(parent, index)


def resolve(recipe: str | Recipe, settings: dict[str, Any]) -> Recipe:
    """`recipe` with each dotted path in `settings` set."""
    given = load_recipe(recipe) if isinstance(recipe, str) else recipe
    if settings.get("model.plan") and not given.model.plan:
        raise UsageError(f"--minutes and model.plan choose a plan of the recipe photos; {given.name} has none")
    resolved = with_values(given, settings)
    return _overriding(resolved, [path.removeprefix("data.") for path in settings if path.startswith("data.")])


def _overriding(recipe: Recipe, fields: Iterable[str]) -> Recipe:
    """`recipe`, with those `fields` of data that keep their values although the start says otherwise."""
    said = {*recipe.model.data_overrides.split(","), *fields}
    overrides = ",".join(name for name in START_SAYS if name in said)
    if not recipe.model.start or overrides == recipe.model.data_overrides:
        return recipe
    return replace(recipe, model=replace(recipe.model, data_overrides=overrides))


def load_recipe(name: str) -> Recipe:
    """The recipe called `name`, or the one in the file `name` (.json, .yaml, .yml, or a run folder)."""
    if name in RECIPES:
        return RECIPES[name]()
    path = Path(name)
    if (path / "recipe.json").is_file():
        path = path / "recipe.json"
    if path.suffix not in ENDINGS:
        raise UsageError(f"{unknown_name('recipe', name, RECIPES)} (a recipe file ends in .json or .yaml)")
    mapping = _read(path)
    if not isinstance(mapping, dict):
        raise FormatError(
            path,
            "",
            f"a recipe is a mapping of fields, but this is a {type(mapping).__name__}; see `convolve show mnist`",
        )
    recipe, model = from_mapping(mapping), mapping.get("model") or {}
    return recipe if "data_overrides" in model else _overriding(recipe, mapping.get("data") or {})


def _read(path: Path) -> Any:
    try:
        text = read_ordinary(path, _MOST_BYTES).decode("utf-8")
    except OSError as error:
        raise UsageError(f"cannot read the recipe {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise FormatError(path, f"byte {error.start}", "a recipe is UTF-8 text") from None
    try:
        return json.loads(text) if path.suffix == ".json" else yaml.load(text, _Loader)
    except json.JSONDecodeError as error:
        raise FormatError(path, f"line {error.lineno}, column {error.colno}", f"not JSON: {error.msg}") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        raise FormatError(
            path, f"line {mark.line + 1}, column {mark.column + 1}" if mark else "", f"not YAML: {error.problem}"
        ) from None
    except (yaml.YAMLError, ValueError) as error:  # a control character, or a date that does not exist
        raise FormatError(path, "", f"not {path.suffix[1:].upper()}: {error}") from None
    except RecursionError:
        raise FormatError(path, "", "nested too deeply for a recipe") from None
