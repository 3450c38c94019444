"""The part of a recipe about the run: how long, how precisely and on which device."""

from dataclasses import dataclass
from typing import Literal

from convolve.recipe_values import Steps
from convolve.specs.setting import setting
from convolve.transforms.transform import require


@dataclass(frozen=True)
class RunSpec:
    """How long, how precisely and on which device."""

    epochs: int = setting(1, "passes over the data, or periods of epoch_samples. 0: only fit a new head to the start")
    epoch_samples: int = setting(0, "samples in an epoch; 0: one pass over the data")
    seed: int = setting(0, "seed for initial weights, order, augmentation and dropout")
    global_batch_size: int = setting(64, "samples per update, of all workers together")
    global_batch_sizes: Steps = setting((), "instead: one batch size for each epoch; the last one stays")
    accumulation_steps: int = setting(1, "micro-batches per batch, to save memory")
    initial_values: Literal["torch", "cntk"] = setting(
        "torch", "source of initial weights and dropout masks. cntk: CNTK 2.7's, bit for bit on a processor"
    )
    precision: Literal["auto", "fp32", "bf16", "fp16"] = setting("auto", "auto: the fastest with correct gradients")
    device: str = setting("auto", "auto, cpu, cuda or cuda:N")
    threads: int = setting(0, "processor threads; 0: one per core that is idle at the start")
    criterion: Literal[
        "auto", "cross_entropy", "focal", "binary_cross_entropy", "square_error", "root_mean_square", "l1"
    ] = setting(
        "auto",
        "the loss. auto: cross_entropy (class), binary_cross_entropy (classes), square_error (number)",
    )
    focal_gamma: float = setting(
        2.0, "for the focal loss: gamma, by which easy images count less; 0: all count the same"
    )
    label_smoothing: float = setting(
        0.0, "label smoothing: probability spread evenly over all classes in the training loss"
    )
    ema_epochs: float = setting(
        0.0, "evaluate and keep a moving average of the weights (EMA) over this many epochs; 0: the weights themselves"
    )
    keep: Literal["last", "best"] = setting(
        "last", "which epoch's model is kept. best: the one with the smallest validation error"
    )
    early_stopping_epochs: int = setting(0, "stop after this many epochs without a smaller validation error; 0: never")
    checkpoint_seconds: float = setting(60.0, "seconds between checkpoints within an epoch; 0: only at its end")
    report_batches: int = setting(0, "batches between reports of progress; 0: about ten reports in an epoch")
    report_first_batches: int = setting(0, "batches at the start of each epoch that are reported one by one")

    def __post_init__(self) -> None:
        for name in ("global_batch_size", "accumulation_steps"):
            require(getattr(self, name) >= 1, f"run.{name}", "at least 1", getattr(self, name))
        for name in (
            "epochs", "epoch_samples", "seed", "threads", "ema_epochs", "early_stopping_epochs", "checkpoint_seconds",
            "report_batches", "report_first_batches",
        ):  # fmt: skip
            require(getattr(self, name) >= 0, f"run.{name}", "at least 0", getattr(self, name))
        sizes = self.global_batch_sizes
        are_sizes = all(size >= 1 and size.is_integer() for size in sizes)
        require(are_sizes, "run.global_batch_sizes", "whole numbers of 1 or more", sizes)
        require(self.focal_gamma >= 0, "run.focal_gamma", "at least 0", self.focal_gamma)
        require(0 <= self.label_smoothing < 1, "run.label_smoothing", "in [0, 1)", self.label_smoothing)

    def batch_size(self, epoch: int) -> int:
        """Samples per update in `epoch` (from 0), over all workers together."""
        sizes = self.global_batch_sizes or (self.global_batch_size,)
        return int(sizes[min(epoch, len(sizes) - 1)])
