"""What is written to the files of a run and read again: one frozen value for each kind of file or line.

`reading.py` makes JSON of them, and them of JSON.
"""

import math
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any


@dataclass(frozen=True)
class Between:
    """A range for numbers; `or_not_finite` also allows infinities and NaN, which a loss may become."""

    low: float
    high: float
    or_not_finite: bool = False

    def holds(self, value: float) -> bool:
        return self.low <= value <= self.high or (self.or_not_finite and not math.isfinite(value))

    def __str__(self) -> str:
        return f"between {self.low:g} and {self.high:g}"


class Iso8601:
    """A date and time."""

    def holds(self, value: str) -> bool:
        try:
            return bool(datetime.fromisoformat(value))
        except ValueError:
            return False

    def __str__(self) -> str:
        return "a date and time in ISO 8601"


Count = Annotated[int, Between(0, 2**53)]  # not every reader of JSON can represent larger whole numbers
Number = Annotated[int, Between(1, 2**53)]
Fraction = Annotated[float, Between(0, 1)]
Figure = Annotated[float, Between(-1e30, 1e30)]
Amount = Annotated[float, Between(0, 1e30)]  # seconds, images per second
Loss = Annotated[float, Between(-1e30, 1e30, or_not_finite=True)]
Moment = Annotated[str, Iso8601()]


class TargetKind(StrEnum):
    CLASS = "class"
    CLASSES = "classes"
    NUMBER = "number"


@dataclass(frozen=True)
class Objective:
    """A training objective of more than one loss; see `training/objective.py`.

    The network gives arrays of numbers of these `sizes`, concatenated; the first are its answer. `nodes` are
    expressions of them and of the labels: the `criterion`, the `evaluations` reported with it, and others that a test
    may use.
    """

    sizes: tuple[Number, ...]
    nodes: dict[str, Any]
    criterion: str
    evaluations: tuple[str, ...] = ()
    gives_probabilities: bool = False

    @property
    def reported(self) -> tuple[str, ...]:
        """The criterion and the evaluations, in the order of CNTK's log lines."""
        return (self.criterion, *self.evaluations)


@dataclass(frozen=True)
class Target:
    """What a model answers: one class of an image, several `classes` or none, or a `number` or several.

    `thresholds`: the probability from which an image counts as a member of each class. The network gives each number in
    units of its `spread` above its `mean`, or unscaled without these. `objective`: what the network is trained on, and
    its other outputs.
    """

    kind: TargetKind = TargetKind.CLASS
    thresholds: tuple[Fraction, ...] | None = None
    mean: tuple[Figure, ...] | None = None
    spread: tuple[Amount, ...] | None = None
    objective: Objective | None = None


ONE_CLASS = Target()


@dataclass(frozen=True)
class ConfidenceRecord:
    """A model's knowledge of its own confidence, learned from `images` held-out images.

    Its scores are divided by the `temperature`. An image is "none of these" if its distance from the training images
    exceeds `farthest`; the fraction `accept` of images like them lies within. The classes at least as probable as
    `least_probability` form its set, which contains the true class with probability `coverage`; a number lies within
    `within` of the true one with the same probability. A limit is None if there were too few images to estimate it, or
    if it does not apply.
    """

    temperature: Annotated[float, Between(1e-3, 1e3)]
    images: Number
    learned_from: str
    accept: Fraction = 1.0
    farthest: Amount | None = None
    coverage: Fraction = 1.0
    least_probability: Fraction | None = None
    within: tuple[Amount, ...] | None = None


@dataclass(frozen=True)
class Hardware:
    cpu: str
    cores: Count
    memory_gib: Amount | None
    gpu: str | None
    instructions: str = ""  # the widest for vectors or matrices; empty if unknown


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
    data_note: str = ""


@dataclass(frozen=True, kw_only=True)
class Figures:
    """Test metrics beside errors and loss; which ones are set depends on the target: see `training/metrics.py`.

    For a network with an `Objective`, `test_nodes` are the means of its nodes. `folds`: the test was a cross-validation
    with this many folds, and the model was trained on all images.
    """

    folds: Number | None = None
    test_balanced_error: Fraction | None = None
    test_macro_precision: Fraction | None = None
    test_macro_recall: Fraction | None = None
    test_macro_f1: Fraction | None = None
    test_mean_average_precision: Fraction | None = None
    test_precision: Fraction | None = None
    test_recall: Fraction | None = None
    test_f1: Fraction | None = None
    test_exact_match: Fraction | None = None
    test_r2: Figure | None = None
    test_mean_absolute_error: Amount | None = None
    test_root_mean_squared_error: Amount | None = None
    test_nodes: dict[str, Loss] | None = None


@dataclass(frozen=True, kw_only=True)
class ClassResult:
    """The metrics of one class in the test part. A rate over no images is null."""

    name: str
    images: Count
    precision: Fraction | None
    recall: Fraction | None
    f1: Fraction | None


@dataclass(frozen=True)
class Result(Figures):
    """result.json: the final figures. `train_seconds` leaves out evaluation and checkpoints; `total_seconds` is the
    last process's. `bytes_sent` is what worker 0 sent to the others in gradients or weights. `model_epoch` is the epoch
    whose model is kept, if the recipe keeps the best. `test_error_interval` is the error's 95 % interval, low and high.
    `test_unreadable` test images were skipped; `train_damaged` training images were replaced by others."""

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
    data_note: str = ""
    test_error_interval: tuple[Fraction, ...] = ()
    test_unreadable: Count = 0
    train_damaged: Count = 0
    classes: tuple[ClassResult, ...] = ()

    def _repr_html_(self) -> str:
        from convolve.notebook import figures, table

        return table(figures(vars(self)), f"Result of {self.recipe}")


@dataclass(frozen=True, kw_only=True)
class Event:
    """A line of metrics.jsonl; its time is when it was written."""

    time: Moment = ""


@dataclass(frozen=True, kw_only=True)
class StartEvent(Event):
    """`hosts`: one for each of several workers; those that have `gone` or `came` since the run was last started."""

    step: Count
    hosts: tuple[str, ...] | None = None
    gone: tuple[str, ...] | None = None
    came: tuple[str, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class ResumeEvent(StartEvent):
    pass


@dataclass(frozen=True, kw_only=True)
class ProgressEvent(Event):
    """Loss and error are means since the epoch began; the rate is for a full batch."""

    epoch: Number
    batch: Count
    step: Count
    samples_seen: Number
    loss: Loss
    error: Fraction | None = None
    nodes: dict[str, Loss] | None = None
    learning_rate: Figure
    momentum: Figure
    images_per_second: Amount


@dataclass(frozen=True, kw_only=True)
class EpochEvent(Event):
    """Each epoch is evaluated on the test set, or on the validation part."""

    epoch: Number
    samples_seen: Number
    train_loss: Loss
    train_error: Fraction | None = None
    train_nodes: dict[str, Loss] | None = None
    test_nodes: dict[str, Loss] | None = None
    validation_nodes: dict[str, Loss] | None = None
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
    test_error: Fraction | None = None


EVENTS: dict[str, type[Event]] = {
    "start": StartEvent, "resume": ResumeEvent, "progress": ProgressEvent, "epoch": EpochEvent, "end": EndEvent,
}  # fmt: skip
EVENT_NAMES = {kind: name for name, kind in EVENTS.items()}


@dataclass(frozen=True)
class CheckpointHead:
    """The JSON header of a checkpoint. `sha256` covers the tensors and the rest of this header."""

    step: Count
    state: dict[str, Any]
    sha256: str


@dataclass(frozen=True)
class TrainingInfo(Figures):
    """Where a model comes from: figures with their conditions, without folders of the training machine."""

    imported_from: str | None = None
    preset: str | None = None
    recipe: str | None = None
    started_from: str | None = None
    epochs: Count | None = None
    epoch_kept: Count | None = None
    weights_averaged: bool | None = None
    train_images: Number | None = None
    seed: int | None = None
    precision: str | None = None
    test_images: Number | None = None
    test_unreadable: Number | None = None
    test_error: Fraction | None = None
    test_error_top5: Fraction | None = None
    test_loss: Loss | None = None
    calibration_error: Fraction | None = None
    data_fingerprint: str | None = None
    data_note: str | None = None
    data_group: str | None = None
    license: str | None = None
    convolve: str | None = None


@dataclass(frozen=True, kw_only=True)
class QuantizedRecord:
    """What quantization cost and saved, measured on the processor that wrote it: errors on the same test images,
    bytes, and milliseconds an image, one at a time."""

    how: str
    calibration_images: Number | None = None
    test_images: Number
    error: Fraction
    error_before: Fraction
    bytes: Number
    bytes_before: Number
    milliseconds: Amount
    milliseconds_before: Amount
    processor: str


@dataclass(frozen=True, kw_only=True)
class Metadata:
    """What a model and its exported files say besides network and preprocessing; `data` names the training set."""

    class_names: tuple[str, ...]
    data: str
    training_info: TrainingInfo
    target: Target | None = None  # for one class
    confidence: ConfidenceRecord | None = None
    quantized: QuantizedRecord | None = None


@dataclass(frozen=True, kw_only=True)
class ModelRecord(Metadata):
    """model.json. The architecture is `model`, one of our networks by name, or `graph`, node by node; the code that
    builds them checks these and `preprocess`."""

    format: int
    preprocess: dict[str, Any]
    weights_sha256: str
    model: dict[str, Any] | None = None
    graph: dict[str, Any] | None = None
