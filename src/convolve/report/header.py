"""The top of the page: what was trained, how well, how fast, on what."""

from typing import Any

from convolve.records.reading import to_json
from convolve.report.contents import Contents
from convolve.templates import NARROW_SPACE, Writer, count, duration, number, percent
from convolve.training.calibration import wilson_interval
from convolve.training.metrics import NAMES

# The main figures of targets other than one class; a run has some of them.
_LARGE = ("mean_average_precision", "r2", "mean_absolute_error")
_SMALL = {key: said for key, said in NAMES.items() if key not in {"error", *_LARGE}}


def errors(contents: Contents) -> list[dict[str, Any]]:
    """The main figures: the error, its interval, and the published error for comparison."""
    split = "test" if contents.result else contents.split
    last = contents.result or (contents.epochs[-1] if contents.epochs else None)
    error, published = getattr(last, f"{split}_error", None), contents.recipe.published_error
    notes = [] if error is None or split != "test" else _notes(contents, error)
    found: list[dict[str, Any]] = [
        {"style": "", "error": error, "text": "", "name": f"{split} error", "notes": notes},
        {"style": "beside", "error": published, "text": "", "name": "published error", "notes": []},
    ]
    if contents.recipe.data.target != "class":
        found = [_large(last, split, key) for key in _LARGE]
    return [one for one in found if one["error"] is not None]


def _large(record: object, split: str, key: str) -> dict[str, Any]:
    """A figure that is not a fraction, as text; a fraction is shown like an error."""
    (name, is_part), value = NAMES[key], getattr(record, f"{split}_{key}", None)
    text = "" if value is None or is_part else number(value)
    return {"style": "", "error": value, "text": text, "name": f"{split} {name}", "notes": []}


def _notes(contents: Contents, error: float) -> list[str]:
    """Errors and images of the test set, and the interval around the error."""
    if not contents.start:
        return []
    unreadable = contents.result.test_unreadable if contents.result else 0
    n = contents.start.test_samples - unreadable
    left_out = [f"{count(unreadable)} more could not be read"] if unreadable else []
    low, high = wilson_interval(error, n)
    between = f"95{NARROW_SPACE}% interval {100 * low:.2f}–{percent(high)}"
    folds = contents.result.folds if contents.result else None
    how = [f"estimated by cross-validation with {folds} folds; this model is trained on all images"] if folds else []
    return [f"{count(round(error * n))} of {count(n)} wrong", *left_out, between, *how]


def facts(contents: Contents) -> list[tuple[str, str]]:
    """(label, figure) of what is known; speed and epochs only if there was an epoch."""
    rows: list[tuple[str, str, Writer]] = [
        ("images per second", "images_per_second", count),
        ("training time", "train_seconds", duration),
        ("epochs", "epochs", count),
        ("epoch of the model", "model_epoch", count),
        ("parameters", "parameters", count),
        ("test loss", "test_loss", number),
        *((f"test {name}", f"test_{key}", percent if is_part else number) for key, (name, is_part) in _SMALL.items()),
        ("device", "device", str),
        ("precision", "precision", str),
    ]
    figures = to_json(contents.result) if contents.result else _so_far(contents)
    known = (to_json(contents.start) if contents.start else {}) | figures
    if known.get("epochs") == 0:
        rows[:3] = [("total time", "total_seconds", duration)]
    return [(label, write(known[key])) for label, key, write in rows if known.get(key) is not None]


def _so_far(contents: Contents) -> dict[str, Any]:
    if not contents.epochs:
        return {}
    seconds = sum(event.seconds for event in contents.epochs)
    rate = contents.epochs[-1].samples_seen / seconds if seconds else None
    return {"images_per_second": rate, "train_seconds": seconds, "epochs": contents.epochs_done}
