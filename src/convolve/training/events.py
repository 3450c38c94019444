"""The events of a run."""

from collections.abc import Callable
from typing import Any

# Receives every event of metrics.jsonl, each step in between ("step"), and notes for the user ("note", "warning"), each
# with its values.
Callback = Callable[[str, dict[str, Any]], None]


def in_sight() -> Callback:
    """The default callback: a bar below the cell in a notebook, otherwise nothing."""
    from convolve.notebook import TrainingCell, is_notebook

    return TrainingCell() if is_notebook() else silent


def silent(event: str, values: dict[str, Any]) -> None:
    """A callback that does nothing."""
