"""What tells of a run that was killed and went on: how far it was, and whether it ended with the same bits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from processes import Command

EPOCHS = 3  # of the runs whose steps are counted


def has_begun(command: Command) -> bool:
    """Whether this process, and not one before it, trains."""
    return "training: " in command.log_text() or "resuming at step " in command.log_text()


def wait_for_steps(command: Command, folder: Path, steps: int) -> None:
    """Until the command has trained about `steps` steps: metrics.jsonl tells of some of them."""
    command.wait_until(lambda: has_begun(command))
    first = last_step(folder)
    command.wait_until(lambda: last_step(folder) >= first + steps)


def events(folder: Path) -> list[dict[str, Any]]:
    """The whole lines of metrics.jsonl."""
    path = folder / "metrics.jsonl"
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return [json.loads(line) for line in text.split("\n")[:-1]]


def last_step(folder: Path) -> int:
    return max((event["step"] for event in events(folder) if "step" in event), default=0)


def resumed_at(folder: Path) -> list[int]:
    return [event["step"] for event in events(folder) if event["event"] == "resume"]


def steps_per_epoch(finished: Path) -> int:
    return last_step(finished) // EPOCHS


def in_the_middle_of_an_epoch(folder: Path, finished: Path) -> bool:
    """Whether the last that was heard of the run is a step inside an epoch. Each epoch's last step is told of, too."""
    last = events(folder)[-1]
    return bool(last["event"] == "progress" and last["step"] % steps_per_epoch(finished))


def assert_same_training(one: Path, other: Path) -> None:
    """The same weights to the bit, and the same losses on the way."""
    weights = Path("model") / "weights.safetensors"
    assert (one / weights).read_bytes() == (other / weights).read_bytes()
    assert losses(one) == losses(other)
    assert read(one / "result.json")["test_loss"] == read(other / "result.json")["test_loss"]


def losses(folder: Path) -> list[dict[str, float]]:
    told = [event for event in events(folder) if event["event"] in ("progress", "epoch")]
    return [{name: value for name, value in event.items() if name.endswith(("loss", "error"))} for event in told]


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
