"""What a run tells while it goes on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

# Hears of every event of metrics.jsonl, of each step in between ("step"), and of what a user should read ("note",
# "warning"), each with its values.
Listener = Callable[[str, dict[str, Any]], None]


def silent(event: str, values: dict[str, Any]) -> None:
    """A listener that does nothing."""
