"""A recipe says everything about a training: frozen values, checked where they are made.

A Python recipe, a JSON or YAML file and `--set dotted.path=value` all become the same `Recipe`
through the same three functions: `from_mapping`, `to_mapping`, `with_values`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, Literal

from convolve.errors import UnsupportedError, UsageError, unknown_name
from convolve.formats.decode import Orientation
from convolve.recipe_values import Arguments, ImageSize, NumberOrWord, Steps, nested, parse, size_of
from convolve.torch_optim import PREFIX, checked_arguments
from convolve.transforms.crop import Crop
from convolve.transforms.preprocess import Resize, require_whole
from convolve.transforms.table import TRANSFORMS
from convolve.transforms.transform import MAX_SIDE, Size, Transform, require


def _field(default: Any, comment: str) -> Any:
    """A field with its default and the comment that `convolve show` prints beside it."""
    if default == {}:
        return field(default_factory=dict, metadata={"comment": comment})
    return field(default=default, metadata={"comment": comment})


@dataclass(frozen=True)
class DataSpec:
    """Which samples, in which order, and what happens to them on the way into the network."""

    name: str = _field("", "the data set that is looked for without --data; empty: --data must say where")
    order: Literal["shuffled", "cntk", "file"] = _field(
        "shuffled", "shuffled: fully, anew each epoch; cntk: as CNTK 2.7's reader; file"
    )
    target: Literal["class", "classes", "number"] = _field("class", "what is learned of an image; so far its class")
    channels: int = _field(3, "what the network sees: 3, color; 1, gray")
    image_size: ImageSize = _field(0, "what the network sees, in pixels: N or WxH; 0: the size that all images have")
    resize: Resize = _field(
        "cover",
        "images of another size: scaled to cover it, the center cut out; letterbox: the whole within it; "
        "squash: the whole, out of proportion; square: the central square, scaled",
    )
    crop_ratio: float = _field(1.0, "part of the sides that is seen, from the center; 1: all that resize leaves")
    orientation: Orientation = _field(
        "exif", "exif: photographs are turned as their EXIF says; stored: never; cntk: but in zip archives and base64"
    )
    mean: tuple[float, ...] = _field(
        (0.0,), "the network sees (pixel - mean) * scale, with pixels in 0..255; one number, or red:green:blue"
    )
    mean_image: str = _field("", "in place of mean. train: the mean training image; else an XML mean file")
    mean_image_layout: Literal["planar_rgb", "interleaved_bgr"] = _field(
        "planar_rgb", "of the XML file. interleaved_bgr: CNTK's scrambled reading of CIFAR-10_mean.xml"
    )
    scale: float = _field(1 / 256, "")
    train_transforms: tuple[Transform, ...] = _field((), "augmentation of training images, in this order")
    progressive_sizes: Steps = _field(
        (),
        "Progressive resizing: one size for each equal phase of training, in pixels or as a fraction of image_size.",
    )
    group: str = _field(
        "", "what no split may tear apart: a column of the table, or a regular expression on the path of an image"
    )
    damaged_limit: NumberOrWord = _field("auto", "damaged training images to be replaced; auto: 1 % of your own")
    skip_unreadable: bool = _field(False, "leave out unreadable test images: the error is that of the others")
    hard_fraction: float = _field(
        1.0, "after hard_after, train only on this fraction of the images, those with the largest loss; 1: all"
    )
    hard_after: float = _field(0.3, "fraction of the training that passes before hard_fraction takes effect")
    validation_fraction: float = _field(
        0.0,
        "part of the training set that is cut off to choose by, where the data has no validation part; 0: each epoch "
        "is evaluated on the test set, with run.keep=best on a tenth of the training set",
    )

    def __post_init__(self) -> None:
        if self.target != "class":
            raise UnsupportedError(f"data.target={self.target}: convolve learns one class of an image so far")
        require(0 < self.hard_fraction <= 1, "data.hard_fraction", "in (0, 1]", self.hard_fraction)
        require(0 < self.hard_after <= 1, "data.hard_after", "in (0, 1]", self.hard_after)
        if self.hard_fraction < 1 and self.order != "shuffled":
            raise UsageError(f"data.hard_fraction needs data.order=shuffled, not {self.order}; leave one of them out")
        require(0 <= self.validation_fraction < 1, "data.validation_fraction", "in [0, 1)", self.validation_fraction)
        require(self.scale != 0, "data.scale", "other than 0", self.scale)
        is_limit = self.damaged_limit == "auto" or (type(self.damaged_limit) is int and self.damaged_limit >= 0)
        require(is_limit, "data.damaged_limit", "at least 0, or auto", self.damaged_limit)
        sizes = self.progressive_sizes
        are_sizes = all(0 < size <= 1 or (size <= MAX_SIDE and size.is_integer()) for size in sizes)
        require(are_sizes, "data.progressive_sizes", f"parts up to 1, or whole numbers up to {MAX_SIDE}", sizes)
        if self.progressive_sizes and self.mean_image:
            raise UsageError("data.mean_image has one size: leave it out, or data.progressive_sizes")
        require(len(self.mean) in (1, 3), "data.mean", "one number, or one for red, green and blue", self.mean)
        require(self.channels in (1, 3), "data.channels", "1 or 3", self.channels)
        size_of(self.image_size, "data.image_size")
        require(0 < self.crop_ratio <= 1, "data.crop_ratio", "in (0, 1]", self.crop_ratio)
        require_whole(self.resize, self.crop_ratio)
        if any(isinstance(spec, Crop) and spec.crop_type == "multiview10" for spec in self.train_transforms):
            raise UsageError("multiview10 is for testing: leave it out of data.train_transforms, and see --views 10")

    @property
    def size(self) -> Size | None:
        """(height, width) that the network sees; None: as the images have it."""
        return size_of(self.image_size, "data.image_size")


@dataclass(frozen=True)
class ModelSpec:
    """Which network."""

    name: str = _field("convnet-mnist", "which network")
    variant: str = _field("", "a variant of it; empty: the original")
    dropout: Steps = _field((0.5,), "probability in each epoch; the last one holds")
    batch_norm_time_constants: Steps = _field(
        (), "samples, one value for each epoch in place of the network's own; 0 at the start leaves that"
    )

    def __post_init__(self) -> None:
        holds = bool(self.dropout) and all(0 <= p < 1 for p in self.dropout)
        require(holds, "model.dropout", "at least one value, each in [0, 1)", self.dropout)


OPTIMIZER_NAMES = ("sgd", "momentum_sgd", "nesterov", "adagrad", "adadelta", "adam", "fsadagrad", "muon")


@dataclass(frozen=True)
class OptimizerSpec:
    """CNTK's optimizers, Muon, or one of torch.optim; the arithmetic is in `training/optimizers.py`.

    One of torch.optim takes its learning rate from the schedule, for the mean gradient, and all else from `arguments`.
    """

    name: str = _field(
        "momentum_sgd",
        "sgd, momentum_sgd, nesterov, adagrad, adadelta, adam, fsadagrad: CNTK's (adam is not PyTorch's); muon; or one "
        "of torch.optim, such as torch.adamw",
    )
    arguments: Arguments = _field({}, "of one of torch.optim, such as betas and weight_decay; else none")
    momentum: Steps = _field((0.9,), "one value for each period of the schedule; the last one holds")
    momentum_unit: Literal["per_minibatch", "per_reference_batch", "time_constant_samples"] = _field(
        "per_minibatch",
        "as it stands; for a batch of momentum_reference_batch_size; or T in exp(-samples / T), 0: none",
    )
    momentum_reference_batch_size: int = _field(1, "samples that a momentum per_reference_batch is meant for")
    unit_gain: bool = _field(True, "CNTK's default: the gradient is weighted by 1 - momentum")
    variance_momentum: float = _field(
        0.9999986111120757, "of adam and fsadagrad; CNTK's default, a time constant of 720,000 samples"
    )
    variance_momentum_unit: Literal["per_minibatch", "per_sample"] = _field("per_sample", "")
    adadelta_rho: float = _field(0.95, "")
    epsilon: float = _field(1e-8, "of adam and adadelta")
    bias_lr: float = _field(1.0, "of muon: the learning rate of biases and scales, as a multiple of that of filters")
    l1: float = _field(0.0, "weight of the L1 penalty per sample")
    l2: float = _field(0.0, "weight of the L2 penalty per sample: weight decay on the mean gradient, biases included")
    penalize_batch_norm: bool = _field(True, "whether they act on batch normalization's scales and biases too")
    clip_per_sample: float = _field(0.0, "limit of the mean gradient; 0: none")
    clip_by: Literal["truncation", "norm"] = _field(
        "truncation", "truncation: each element; norm: each parameter's gradient"
    )

    def __post_init__(self) -> None:
        require(bool(self.momentum), "optimizer.momentum", "at least one value", self.momentum)
        if self.momentum_unit == "time_constant_samples":
            require(min(self.momentum) >= 0, "optimizer.momentum", "time constants of 0 or more", self.momentum)
        else:
            require(all(0 <= m < 1 for m in self.momentum), "optimizer.momentum", "in [0, 1)", self.momentum)
        reference = self.momentum_reference_batch_size
        require(reference >= 1, "optimizer.momentum_reference_batch_size", "at least 1", reference)
        require(0 <= self.variance_momentum < 1, "optimizer.variance_momentum", "in [0, 1)", self.variance_momentum)
        require(0 < self.adadelta_rho < 1, "optimizer.adadelta_rho", "in (0, 1)", self.adadelta_rho)
        require(self.epsilon > 0, "optimizer.epsilon", "above 0", self.epsilon)
        for name in ("l1", "l2", "clip_per_sample", "bias_lr"):
            require(getattr(self, name) >= 0, f"optimizer.{name}", "at least 0", getattr(self, name))
        self._check_name()

    def _check_name(self) -> None:
        if self.name.startswith(PREFIX):
            object.__setattr__(self, "arguments", checked_arguments(self.name, self.arguments))
            for name in ("l1", "l2", "clip_per_sample"):
                if getattr(self, name):
                    raise UsageError(
                        f"optimizer.{name} is for CNTK's optimizers and muon: set it to 0 with {self.name}"
                        + (", and optimizer.arguments.weight_decay in its place" if name == "l2" else "")
                    )
        elif self.name not in OPTIMIZER_NAMES:
            raise UsageError(f"optimizer.name: {unknown_name('optimizer', self.name, OPTIMIZER_NAMES)}")
        elif self.arguments:
            raise UsageError(f"optimizer.arguments are for those of torch.optim, not for {self.name}; leave them out")


@dataclass(frozen=True)
class ScheduleSpec:
    """How the learning rate moves.

    "steps" takes one of `learning_rates` for each period; fewer epochs cut the list short, as with CNTK. "one_cycle"
    rises linearly to the first of `learning_rates` over `warmup_fraction` of the training and falls linearly to
    `final_fraction` of it; "cosine" falls as a cosine does. Both stretch with the number of epochs.
    """

    kind: Literal["steps", "one_cycle", "cosine"] = _field(
        "steps", "steps: a list of rates; one_cycle and cosine: the first rate is the peak"
    )
    learning_rates: Steps = _field((0.1,), "one for each period; the last one holds")
    reference_batch_size: int = _field(
        0, "what a rate is meant for. 0: the mean gradient; 1: per sample, on the sum; M: a batch of M"
    )
    period_samples: int = _field(0, "samples in a period; 0: one pass over the data")
    warmup_fraction: float = _field(0.0, "part of the training in which the rate rises")
    final_fraction: float = _field(0.0, "part of the peak rate at the end")
    min_lr_per_sample: float = _field(0.0, "the training ends where the rate on the summed gradient is below this")

    def __post_init__(self) -> None:
        rates = self.learning_rates
        require(bool(rates) and min(rates) >= 0, "schedule.learning_rates", "at least one value, none negative", rates)
        for name in ("reference_batch_size", "period_samples", "min_lr_per_sample"):
            require(getattr(self, name) >= 0, f"schedule.{name}", "at least 0", getattr(self, name))
        for name in ("warmup_fraction", "final_fraction"):
            require(0 <= getattr(self, name) <= 1, f"schedule.{name}", "in [0, 1]", getattr(self, name))


@dataclass(frozen=True)
class PlateauSpec:
    """Reduce on plateau, once the listed learning rates are used up: CNTK's autoAdjustLR=adjustAfterEpoch.

    At the end of each interval the mean of a metric is compared with that of the interval before.
    """

    every_epochs: int = _field(1, "epochs of an interval")
    monitor: Literal["train_loss", "train_error", "validation_loss", "validation_error"] = _field(
        "train_loss", "the metric; validation: of the validation split, else of the test set"
    )
    threshold: float = _field(0.0, "the rate is reduced where the metric improved by no more than this fraction of it")
    factor: float = _field(0.618, "what it is multiplied with then")
    raise_threshold: float | None = _field(None, "the rate rises where it improved by more than this; none: never")
    raise_factor: float = _field(1.382, "what it is multiplied with then")
    rollback: bool = _field(True, "where the metric got worse, the interval is undone and trained again")

    def __post_init__(self) -> None:
        require(self.every_epochs >= 1, "plateau.every_epochs", "at least 1", self.every_epochs)
        for name in ("factor", "raise_factor"):
            require(getattr(self, name) > 0, f"plateau.{name}", "above 0", getattr(self, name))
        if self.rollback and not (self.threshold >= 0 and self.factor < 1):
            raise UsageError(  # the same interval at the same rate would get worse again, for ever
                "plateau.rollback needs a rate that falls: set plateau.threshold to 0 or more, plateau.factor below 1"
            )


@dataclass(frozen=True)
class RunSpec:
    """How long, how precisely and on what."""

    epochs: int = _field(1, "passes over the data, or stretches of epoch_samples")
    epoch_samples: int = _field(
        0, "samples of an epoch; the passes over the data go on from one epoch to the next. 0: one pass"
    )
    seed: int = _field(0, "of initial weights, order, augmentation and dropout")
    global_batch_size: int = _field(64, "samples an update, over all workers together")
    global_batch_sizes: Steps = _field((), "in place of it, one for each epoch; the last one holds")
    accumulation_steps: int = _field(1, "micro-batches in which a batch is computed, to save memory")
    precision: Literal["auto", "fp32", "bf16", "fp16"] = _field("auto", "auto: the fastest whose gradients are right")
    device: str = _field("auto", "auto, cpu, cuda or cuda:i")
    threads: int = _field(0, "processor threads; 0: as many as there are idle cores at the start")
    label_smoothing: float = _field(0.0, "probability spread evenly over all classes in the training loss")
    ema_epochs: float = _field(
        0.0, "horizon in epochs of the moving average of the weights (EMA) that is evaluated and kept; 0: none"
    )
    keep: Literal["last", "best"] = _field("last", "which epoch's model is kept; best: on the validation part")
    early_stopping_epochs: int = _field(0, "stop after so many epochs without a better validation error; 0: never")
    checkpoint_seconds: float = _field(60.0, "time between checkpoints inside an epoch; 0: only at its end")
    report_batches: int = _field(0, "batches from one report of progress to the next; 0: about ten reports an epoch")

    def __post_init__(self) -> None:
        for name in ("epochs", "global_batch_size", "accumulation_steps"):
            require(getattr(self, name) >= 1, f"run.{name}", "at least 1", getattr(self, name))
        for name in (
            "epoch_samples", "seed", "threads", "ema_epochs", "early_stopping_epochs", "checkpoint_seconds",
            "report_batches",
        ):  # fmt: skip
            require(getattr(self, name) >= 0, f"run.{name}", "at least 0", getattr(self, name))
        sizes = self.global_batch_sizes
        are_sizes = all(size >= 1 and size.is_integer() for size in sizes)
        require(are_sizes, "run.global_batch_sizes", "whole numbers of 1 or more", sizes)
        require(0 <= self.label_smoothing < 1, "run.label_smoothing", "in [0, 1)", self.label_smoothing)

    def batch_size(self, epoch: int) -> int:
        """Samples an update in `epoch` (from 0), over all workers together."""
        sizes = self.global_batch_sizes or (self.global_batch_size,)
        return int(sizes[min(epoch, len(sizes) - 1)])


GRADIENT_BITS = (32, 16, 8, 4, 2, 1)


@dataclass(frozen=True)
class DistributedSpec:
    """How several workers train one network; a single process ignores it.

    With "gradients" they train as a single process does. Otherwise each takes local steps, on batches of the recipe's
    size, and the weights are combined after each block; see `distributed/block_momentum.py`.
    """

    method: Literal["gradients", "block_momentum", "model_averaging"] = _field(
        "gradients", "gradients: summed in each step; otherwise local steps, with weights combined in blocks"
    )
    quantization_bits: int = _field(
        32, "size of a gradient's element when it is sent: 32, 16, or 8, 4, 2, 1 as CNTK's 1-bit SGD"
    )
    after_samples: int = _field(0, "samples at the start with full gradients, summed in each step")
    block_samples: int = _field(0, "samples in a block, of all workers together")
    block_momentum_time_constant: float | None = _field(None, "in samples; 0: no momentum; none: 1 - 1/workers a block")
    block_learning_rate: float = _field(1.0, "1: the model moves as far as the steps of all workers together")
    nesterov: bool = _field(True, "of block momentum")
    reset_momentum: bool = _field(True, "restart each worker's own momentum after a block; otherwise it is kept")

    def __post_init__(self) -> None:
        bits, known = self.quantization_bits, ", ".join(map(str, GRADIENT_BITS))
        require(bits in GRADIENT_BITS, "distributed.quantization_bits", f"one of {known}", bits)
        for name in ("after_samples", "block_samples"):
            require(getattr(self, name) >= 0, f"distributed.{name}", "at least 0", getattr(self, name))
        constant, rate = self.block_momentum_time_constant, self.block_learning_rate
        require(constant is None or constant >= 0, "distributed.block_momentum_time_constant", "at least 0", constant)
        require(rate > 0, "distributed.block_learning_rate", "above 0", rate)
        if (self.method == "gradients") == bool(self.block_samples):
            raise UsageError(
                "distributed.block_samples and distributed.method=block_momentum (or model_averaging) need each other"
            )
        if self.block_samples and bits != 32:
            raise UsageError(f"distributed.quantization_bits is for method=gradients, not {self.method}; leave it out")
        own = (constant, rate, self.nesterov, self.reset_momentum)
        if self.method == "model_averaging" and own != (None, 1.0, True, True):
            raise UsageError("the settings of block momentum are not for distributed.method=model_averaging")


@dataclass(frozen=True)
class Recipe:
    """A whole training."""

    name: str
    data: DataSpec = field(default_factory=DataSpec)
    model: ModelSpec = field(default_factory=ModelSpec)
    optimizer: OptimizerSpec = field(default_factory=OptimizerSpec)
    schedule: ScheduleSpec = field(default_factory=ScheduleSpec)
    run: RunSpec = field(default_factory=RunSpec)
    distributed: DistributedSpec | None = _field(None, "of several workers; null: gradients are added up in each step")
    plateau: PlateauSpec | None = _field(None, "reduce on plateau, which plateau.every_epochs=1 turns on; null: never")
    published_error: float | None = _field(None, "the error that the recipe's source reports, as a fraction")

    def __post_init__(self) -> None:
        if self.run.early_stopping_epochs and self.run.keep != "best":
            raise UsageError("run.early_stopping_epochs needs run.keep=best")
        if self.takes_local_steps and self.run.ema_epochs:
            raise UsageError("run.ema_epochs is of one network; leave it out with distributed.block_samples")
        if self.takes_local_steps and self.plateau and self.plateau.rollback:
            raise UsageError("plateau.rollback is of one network; set it to false with distributed.block_samples")
        if self.plateau and (self.schedule.kind != "steps" or self.schedule.period_samples):
            raise UsageError("plateau needs schedule.kind=steps and schedule.period_samples=0")
        if self._first_lr_per_sample() < self.schedule.min_lr_per_sample:
            raise UsageError("schedule.min_lr_per_sample is above the first rate: nothing would be trained")
        if self.data.hard_fraction < 1 and (self.run.epoch_samples or self.run.global_batch_sizes):
            raise UsageError("data.hard_fraction needs epochs of one pass and one run.global_batch_size; leave one out")

    @property
    def takes_local_steps(self) -> bool:
        """Whether several workers update their networks apart, block by block."""
        return bool(self.distributed and self.distributed.block_samples)

    def _first_lr_per_sample(self) -> float:
        schedule = self.schedule
        rises_from_0 = schedule.kind != "steps" and schedule.warmup_fraction > 0
        rate = 0.0 if rises_from_0 else schedule.learning_rates[0]
        return rate / (schedule.reference_batch_size or self.run.batch_size(0))


def to_mapping(value: Any) -> Any:
    """Recipe -> plain dicts, lists, numbers and strings, ready for JSON or YAML."""
    if type(value) in TRANSFORMS.values():
        kind = next(name for name, known in TRANSFORMS.items() if known is type(value))
        return {"kind": kind, **{f.name: to_mapping(getattr(value, f.name)) for f in fields(value)}}
    if is_dataclass(value):
        return {f.name: to_mapping(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, tuple):
        return [to_mapping(item) for item in value]
    if isinstance(value, Mapping):
        return {name: to_mapping(item) for name, item in value.items()}
    return value


def from_mapping(mapping: Mapping[str, Any], base: Recipe | None = None) -> Recipe:
    """Plain dicts -> Recipe. Unknown keys and wrong types raise `UsageError` with the dotted path."""
    recipe: Recipe = parse(Recipe, mapping, "", base)
    return recipe


def with_values(recipe: Recipe, settings: Mapping[str, Any]) -> Recipe:
    """`recipe` with the field at each dotted path replaced, as `--set path=value` does.

    All at once, as one setting may be valid only together with another.
    """
    return from_mapping(nested(settings), base=recipe)
