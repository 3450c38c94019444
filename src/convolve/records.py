"""What is written to the files of a run and read again: one frozen value for each kind of file or line.

`to_json` and `from_json` are each other's inverse. What is read is checked as if a stranger had written it: types,
ranges, names of fields. A field without a default stands in the file always, null included; one whose default is None
is left out where it is None.
"""

from __future__ import annotations

import json
import types
from dataclasses import MISSING, dataclass, fields, is_dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin, get_type_hints

from convolve.atomic import read_whole
from convolve.errors import ConvolveError, DataError, UnsupportedError, unknown_name
from convolve.ranges import Amount, Between, Count, Figure, Fraction, Loss, Moment, Number

T = TypeVar("T")
MOST_BYTES = 1 << 28  # of a file with one record; the largest that we write have some megabytes
_TYPES: dict[Any, tuple[tuple[type, ...], str]] = {
    bool: ((bool,), "true or false"), int: ((int,), "a whole number"), float: ((int, float), "a number"),
    str: ((str,), "a text"),
}  # fmt: skip


class TargetKind(StrEnum):
    CLASS = "class"
    CLASSES = "classes"
    NUMBER = "number"


@dataclass(frozen=True)
class Target:
    """What a model answers: one class of an image, several `classes` or none, or a `number` or several.

    `thresholds`: the probability from which on an image is said to be of each class. The network itself gives numbers
    as multiples of the `spread` above the `mean` of each; without these, as they are.
    """

    kind: TargetKind = TargetKind.CLASS
    thresholds: tuple[Fraction, ...] | None = None
    mean: tuple[Figure, ...] | None = None
    spread: tuple[Amount, ...] | None = None


ONE_CLASS = Target()


@dataclass(frozen=True)
class ConfidenceRecord:
    """What a model says of its own certainty, learned from so many `images` that it was not trained on.

    Its scores are divided by the `temperature`. An image is none of these where its distance from the training images
    is above `farthest`, within which the part `accept` of such images lies. The classes that are at least as probable
    as `least_probability` are its set, which holds its own class with the frequency `coverage`. Without a limit, the
    images were too few to tell it, or there is none.
    """

    temperature: Annotated[float, Between(1e-3, 1e3)]
    images: Number
    learned_from: str
    accept: Fraction = 1.0
    farthest: Amount | None = None
    coverage: Fraction = 1.0
    least_probability: Fraction | None = None


@dataclass(frozen=True)
class Hardware:
    cpu: str
    cores: Count
    memory_gib: Amount | None
    gpu: str | None


@dataclass(frozen=True)
class Start:
    """start.json: what was decided when the run began."""

    recipe: str
    device: str
    precision: str
    precision_reason: str
    threads: Number
    workers: Number
    from_model: str | None
    data: str
    data_name: str
    data_fingerprint: str
    mean_image_sha256: str | None
    train_samples: Number
    test_samples: Number
    parameters: Count
    versions: dict[str, str]
    hardware: Hardware


@dataclass(frozen=True)
class Result:
    """result.json: the final figures; of an error and what is above `test_loss`, those that the target of the training
    has (see `training/metrics.py`). `train_seconds` leaves out evaluation and checkpoints; `total_seconds` is the
    last process's. `bytes_sent` is what worker 0 sent to the others in gradients or weights. `model_epoch` is the epoch
    that is kept, where the recipe keeps the best. `test_error_interval` holds the error's 95 % interval, low and high.
    `test_unreadable` test images were left out, for `train_damaged` training images others stood in.
    """

    recipe: str
    test_error: Fraction | None
    test_error_top5: Fraction | None
    test_loss: Loss
    epochs: Count
    model_epoch: Count | None
    samples_seen: Count
    train_seconds: Amount
    total_seconds: Amount
    images_per_second: Amount
    data_wait_fraction: Amount
    world_size: Number
    bytes_sent: Count
    seed: int
    parameters: Count
    precision: str
    device: str
    threads: Number
    data_name: str
    data_fingerprint: str
    versions: dict[str, str]
    hardware: Hardware
    test_error_interval: tuple[Fraction, ...] = ()
    test_unreadable: Count = 0
    train_damaged: Count = 0
    test_mean_average_precision: Fraction | None = None
    test_precision: Fraction | None = None
    test_recall: Fraction | None = None
    test_f1: Fraction | None = None
    test_f1_mean: Fraction | None = None
    test_exact_match: Fraction | None = None
    test_r2: Figure | None = None
    test_mean_absolute_error: Amount | None = None
    test_root_mean_squared_error: Amount | None = None


@dataclass(frozen=True, kw_only=True)
class Event:
    """A line of metrics.jsonl; its time is that of the writing."""

    time: Moment = ""


@dataclass(frozen=True, kw_only=True)
class StartEvent(Event):
    step: Count


@dataclass(frozen=True, kw_only=True)
class ResumeEvent(Event):
    step: Count


@dataclass(frozen=True, kw_only=True)
class ProgressEvent(Event):
    """Loss and error are means since the epoch began, the rate is that of a full batch."""

    epoch: Number
    batch: Count
    step: Count
    samples_seen: Number
    loss: Loss
    error: Fraction | None
    learning_rate: Figure
    momentum: Figure
    images_per_second: Amount


@dataclass(frozen=True, kw_only=True)
class EpochEvent(Event):
    """The epochs are judged on the test set, or on a validation split."""

    epoch: Number
    samples_seen: Number
    train_loss: Loss
    train_error: Fraction | None
    test_loss: Loss | None = None
    test_error: Fraction | None = None
    validation_loss: Loss | None = None
    validation_error: Fraction | None = None
    test_mean_average_precision: Fraction | None = None
    validation_mean_average_precision: Fraction | None = None
    test_r2: Figure | None = None
    validation_r2: Figure | None = None
    test_mean_absolute_error: Amount | None = None
    validation_mean_absolute_error: Amount | None = None
    learning_rate: Figure
    seconds: Amount
    evaluation_seconds: Amount
    images_per_second: Amount
    data_wait_fraction: Amount


@dataclass(frozen=True, kw_only=True)
class EndEvent(Event):
    test_error: Fraction | None


EVENTS: dict[str, type[Event]] = {
    "start": StartEvent, "resume": ResumeEvent, "progress": ProgressEvent, "epoch": EpochEvent, "end": EndEvent,
}  # fmt: skip
EVENT_NAMES = {kind: name for name, kind in EVENTS.items()}


@dataclass(frozen=True)
class CheckpointHead:
    """The JSON of a checkpoint. `sha256` is over the tensors and everything else that stands here."""

    step: Count
    state: dict[str, Any]
    sha256: str


@dataclass(frozen=True)
class TrainingInfo:
    """What a model says of where it comes from: figures with their conditions, and nothing of a machine's folders."""

    imported_from: str | None = None
    preset: str | None = None
    recipe: str | None = None
    started_from: str | None = None
    epochs: Number | None = None
    epoch_kept: Number | None = None
    weights_averaged: bool | None = None
    train_images: Number | None = None
    seed: int | None = None
    precision: str | None = None
    test_images: Number | None = None
    test_unreadable: Number | None = None
    test_error: Fraction | None = None
    test_error_top5: Fraction | None = None
    test_loss: Loss | None = None
    test_mean_average_precision: Fraction | None = None
    test_precision: Fraction | None = None
    test_recall: Fraction | None = None
    test_f1: Fraction | None = None
    test_f1_mean: Fraction | None = None
    test_exact_match: Fraction | None = None
    test_r2: Figure | None = None
    test_mean_absolute_error: Amount | None = None
    test_root_mean_squared_error: Amount | None = None
    calibration_error: Fraction | None = None
    data_fingerprint: str | None = None
    data_group: str | None = None
    convolve: str | None = None


@dataclass(frozen=True, kw_only=True)
class Metadata:
    """What a model and each of its files says beside its network and preprocessing; `data` names what it learned."""

    class_names: tuple[str, ...]
    data: str
    training_info: TrainingInfo
    target: Target | None = None  # one class
    confidence: ConfidenceRecord | None = None


@dataclass(frozen=True, kw_only=True)
class ModelRecord(Metadata):
    """model.json. The architecture is `model`, one of our networks by name, or `graph`, node by node; these and
    `preprocess` are checked by those who make them."""

    format: int
    preprocess: dict[str, Any]
    weights_sha256: str
    model: dict[str, Any] | None = None
    graph: dict[str, Any] | None = None


# -- reading and writing ----------------------------------------------------------------------------------------------


class FieldError(ValueError):
    """A value that is not what its field holds; the message names the field."""


def to_json(value: Any) -> Any:
    """The plain values of a record."""
    if is_dataclass(value):
        items = [(item, getattr(value, item.name)) for item in fields(value)]
        return {item.name: to_json(v) for item, v in items if not (v is None and item.default is None)}
    if isinstance(value, dict):
        return {name: to_json(item) for name, item in value.items()}
    return [to_json(item) for item in value] if isinstance(value, list | tuple) else value


def from_json(kind: type[T], value: Any, field: str = "") -> T:
    """The record of this kind that `value` describes. Raises FieldError."""
    record: T = _checked(kind, value, field)
    return record


def read_record(path: Path, kind: type[T], mend: str, error: type[ConvolveError] = DataError) -> T:
    """The record that the file holds. Raises FileNotFoundError, or `error` with the file, the field and how to `mend`
    the damage."""
    try:
        return from_json(kind, parse_json(read_whole(path, error, MOST_BYTES).decode("utf-8")))
    except ValueError as damage:
        raise error(f"{path} is damaged ({damage}); {mend}") from None


def parse_json(text: str) -> Any:
    """`json.loads`, but every text that is no JSON raises ValueError."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def require_format(values: Any, known: int, path: object) -> None:
    """Raise UnsupportedError for what a newer version wrote, whose other fields may be other ones."""
    found = values.get("format") if isinstance(values, dict) else None
    if type(found) is int and found != known:
        raise UnsupportedError(f"{path} has format {found}, this version reads {known}; update convolve")


def _checked(kind: Any, value: Any, field: str) -> Any:
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Annotated:
        checked = _checked(inner[0], value, field)
        for limit in inner[1:]:
            _require(limit.holds(checked), field, str(limit), value)
        return checked
    if origin in (Union, types.UnionType):  # the only unions are "this, or nothing"
        return None if value is None else _checked(inner[0], value, field)
    if is_dataclass(kind):
        return _record(kind, value, field)
    if origin is tuple:
        _require(isinstance(value, list), field, "a list", value)
        return tuple(_checked(inner[0], item, f"{field}[{i}]") for i, item in enumerate(value))
    if origin is dict:
        _require(isinstance(value, dict), field, "a mapping", value)
        return {name: _checked(inner[1], item, f"{field}.{name}") for name, item in value.items()}
    if kind is Any:
        return value
    if issubclass(kind, StrEnum):
        _require(value in [*kind], field, f"one of {', '.join(kind)}", value)
        return kind(value)
    accepted, words = _TYPES[kind]
    _require(type(value) in accepted, field, words, value)
    try:
        return float(value) if kind is float else value
    except OverflowError:
        raise FieldError(f"{field or 'it'} is too large") from None


def _record(kind: Any, value: Any, field: str) -> Any:
    _require(isinstance(value, dict), field, "a mapping", value)
    hints, within = _hints(kind), f"{field}." if field else ""
    for name in value:
        if name not in hints:
            raise FieldError(within + unknown_name("field", str(name)[:80], hints))
    for item in fields(kind):
        if item.name not in value and item.default is MISSING:
            raise FieldError(f"{within}{item.name} is missing")
    return kind(**{name: _checked(hints[name], item, within + name) for name, item in value.items()})


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind, include_extras=True)


def _require(holds: bool, field: str, expected: str, came: Any) -> None:
    if not holds:
        came = repr(came)
        raise FieldError(f"{field or 'it'} must be {expected}, got {came[:60]}{'...' if len(came) > 60 else ''}")
