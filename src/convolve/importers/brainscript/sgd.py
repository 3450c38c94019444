"""The SGD block of a configuration -> how a recipe says it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from convolve.importers.brainscript.config import Block
from convolve.recipe import OptimizerSpec, ScheduleSpec, Steps

# Hears of each option that is known and not supported.
Refuse = Callable[[Block, str, str], None]


@dataclass(frozen=True)
class Sgd:
    """`epoch_size` 0 is the whole set; `lines_every` is after how many minibatches a line is logged."""

    optimizer: OptimizerSpec
    schedule: ScheduleSpec
    dropout: Steps
    epochs: int
    batch_size: int
    accumulation_steps: int
    epoch_size: int
    lines_every: int


def read_sgd(block: Block, refuse: Refuse) -> Sgd:
    """Raises FormatError for values that are none; what is not supported is told to `refuse`."""
    batch_size = _batch_size(block, refuse)
    schedule = _schedule(block, batch_size, refuse)
    _unsupported(block, schedule, refuse)
    return Sgd(
        _optimizer(block, batch_size),
        schedule,
        block.numbers("dropoutRate", (0.0,)),
        _at_least_one(block, "maxEpochs", block.integer("maxEpochs", 0)),
        batch_size,
        max(1, block.integer("numSubminiBatches", block.integer("numSubminibatches", 1))),
        block.integer("epochSize", 0),
        max(1, block.integer("numMBsToShowResult", 10)),
    )


def _at_least_one(block: Block, key: str, value: int) -> int:
    if value < 1:
        place = block.place(key) or block.here
        raise place.error(f"{block.path(key)} must be at least 1")
    return value


def _batch_size(block: Block, refuse: Refuse) -> int:
    sizes = block.integers("minibatchSize", (256,))
    if len({*sizes}) > 1:
        refuse(block, "minibatchSize", "a size for each epoch")
    return _at_least_one(block, "minibatchSize", sizes[0])


def _schedule(block: Block, batch_size: int, refuse: Refuse) -> ScheduleSpec:
    per_minibatch, per_sample = (block.numbers(key) for key in ("learningRatesPerMB", "learningRatesPerSample"))
    if bool(per_minibatch) == bool(per_sample):
        raise block.here.error(f"{block.name}: give one of learningRatesPerMB and learningRatesPerSample")
    if per_minibatch:
        return ScheduleSpec(learning_rates=per_minibatch, reference_batch_size=batch_size)
    return ScheduleSpec(learning_rates=per_sample, reference_batch_size=1)


def _optimizer(block: Block, batch_size: int) -> OptimizerSpec:
    """CNTK's trainer always has unit gain, and momentum per sample; 0.9 a minibatch where nothing is said."""
    given = {key: block.numbers(key) for key in ("momentumPerMB", "momentumPerSample", "momentumAsTimeConstant")}
    named = [key for key, values in given.items() if values]
    if len(named) > 1:
        raise block.here.error(f"{block.name}: give one of {' and '.join(named)}")
    time_constants, per_sample = given["momentumAsTimeConstant"], given["momentumPerSample"]
    threshold = block.number("clippingThresholdPerSample", float("inf"))
    return OptimizerSpec(
        name="nesterov" if block.flag("useNAG") else "momentum_sgd",
        momentum=time_constants or per_sample or given["momentumPerMB"] or (0.9,),
        momentum_unit="time_constant_samples" if time_constants else "per_reference_batch",
        momentum_reference_batch_size=1 if time_constants or per_sample else batch_size,
        l1=block.number("L1RegWeight", 0.0),
        l2=block.number("L2RegWeight", 0.0),
        clip_per_sample=0.0 if threshold == float("inf") else threshold,
        clip_by="truncation" if block.flag("gradientClippingWithTruncation", True) else "norm",
    )


def _unsupported(block: Block, schedule: ScheduleSpec, refuse: Refuse) -> None:
    """What CNTK knows and this does not. Options of logging and memory, which change no result, are passed over."""
    for key in ("firstMBsToShowResult", "traceLevel", "keepCheckPointFiles", "maxSamplesInRAM", "gradientCheck"):
        block.find(key)
    if block.text("gradUpdateType", "None").lower() not in ("none", "simple"):
        refuse(block, "gradUpdateType", "another learner than SGD with momentum")
    for key in ("batchNormalizationTimeConstant", "batchNormalizationBlendTimeConstant", "gaussianNoiseInjectStd"):
        if any(block.numbers(key)):
            refuse(block, key, "a value other than 0")
    for key in ("disableRegInBatchNormalization", "saveBestModelPerCriterion"):
        if block.flag(key):
            refuse(block, key, "true")
    least = block.number("minLearningRatePerSample", 1e-9)
    if min(schedule.learning_rates) / schedule.reference_batch_size < least:
        refuse(block, "minLearningRatePerSample", "a limit that the rates fall below, which ends the training")
    automatic = block.block("autoAdjust", inherit=False)
    if automatic is not None:
        if automatic.text("autoAdjustLR", "none").lower() != "none":
            refuse(automatic, "autoAdjustLR", "a learning rate that adjusts itself")
        if automatic.flag("autoAdjustMinibatch"):
            refuse(automatic, "autoAdjustMinibatch", "true")
