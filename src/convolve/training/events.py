"""What a run tells while it goes on."""

from collections.abc import Callable
from typing import Any

# Is given every event of metrics.jsonl, each step in between ("step"), and what a user should read ("note", "warning"),
# each with its values.
Callback = Callable[[str, dict[str, Any]], None]


def in_sight() -> Callback:
    """The callback of a training that was given none: a bar below the cell of a notebook, elsewhere nothing."""
    from convolve.notebook import TrainingCell, is_notebook

    return TrainingCell() if is_notebook() else silent


def silent(event: str, values: dict[str, Any]) -> None:
    """A callback that does nothing."""
