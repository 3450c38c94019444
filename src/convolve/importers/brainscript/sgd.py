"""The SGD block of a configuration -> the fields of a recipe."""

import math
from collections.abc import Callable

from convolve.importers.brainscript.config import Block
from convolve.recipe import Recipe
from convolve.recipe_values import Steps
from convolve.specs.model import ModelSpec
from convolve.specs.optimizer import OptimizerSpec
from convolve.specs.run import RunSpec
from convolve.specs.schedule import PlateauSpec, ScheduleSpec

# Is told of each option that is known but not supported.
Refuse = Callable[[Block, str, str], None]


def read_sgd(name: str, block: Block, has_validation: bool, refuse: Refuse) -> Recipe:
    """The recipe called `name`, without what other blocks say: the data, the seed, the device.

    Raises FormatError for invalid values; `refuse` is told of what is not supported.
    """
    sizes = block.integers("minibatchSize", (256,))
    for size in sizes:
        block.at_least(1, "minibatchSize", size)
    plateau = _plateau(block, has_validation, refuse)
    time_constants = block.numbers("batchNormalizationTimeConstant")
    values = block.text("initialValues", "torch")
    if values not in ("torch", "cntk"):
        raise block.error("initialValues", f"initialValues must be torch or cntk, not {values}")
    _unsupported(block, refuse)
    return Recipe(
        name=name,
        model=ModelSpec(
            dropout=block.numbers("dropoutRate", (0.0,)),
            batch_norm_time_constants=time_constants if any(time_constants) else (),
        ),
        optimizer=_optimizer(block, sizes),
        schedule=_schedule(block, sizes, plateau),
        plateau=plateau,
        run=RunSpec(
            epochs=block.at_least(1, "maxEpochs", block.integer("maxEpochs", 0)),
            epoch_samples=block.at_least(0, "epochSize", block.integer("epochSize", 0)),
            global_batch_size=sizes[0],
            global_batch_sizes=tuple(map(float, sizes)) if len({*sizes}) > 1 else (),
            accumulation_steps=max(1, block.integer("numSubminiBatches", 1)),
            initial_values=values,  # type: ignore[arg-type]  # one of the two
            precision="fp32" if values == "cntk" else "auto",
            report_batches=max(1, block.integer("numMBsToShowResult", 10)),
            report_first_batches=max(0, block.integer("firstMBsToShowResult", 0)),
        ),
    )


def _schedule(block: Block, sizes: tuple[int, ...], plateau: PlateauSpec | None) -> ScheduleSpec:
    """Rates for a minibatch of the epoch's size, or per sample. A training ends when they fall below a limit."""
    per_minibatch, per_sample = (block.numbers(key) for key in ("learningRatesPerMB", "learningRatesPerSample"))
    if bool(per_minibatch) == bool(per_sample):
        raise block.here.error(f"{block.name}: give one of learningRatesPerMB and learningRatesPerSample")
    reference = 1
    if per_minibatch and len({*sizes}) == 1:
        per_sample, reference = per_minibatch, sizes[0]
    elif per_minibatch:
        per_sample = tuple(rate / size for rate, size in _by_epoch(per_minibatch, sizes))
    least = block.number("minLearningRatePerSample", 1e-9)
    may_fall = plateau or min(per_sample) / reference < least
    return ScheduleSpec(
        learning_rates=per_sample, reference_batch_size=reference, min_lr_per_sample=least if may_fall else 0.0
    )


def _by_epoch(values: Steps, sizes: tuple[int, ...]) -> list[tuple[float, int]]:
    """Both lists, epoch by epoch; the last value of the shorter one is repeated."""
    count = max(len(values), len(sizes))
    return [(values[min(i, len(values) - 1)], sizes[min(i, len(sizes) - 1)]) for i in range(count)]


def _optimizer(block: Block, sizes: tuple[int, ...]) -> OptimizerSpec:
    """CNTK's trainer always has unit gain."""
    threshold = block.number("clippingThresholdPerSample", math.inf)
    variance = block.number("varianceTimeConstant", 720_000.0)
    if variance <= 0:
        raise block.error("varianceTimeConstant", "varianceTimeConstant must be above 0")
    momentum, unit, reference = _momentum(block, sizes)
    plain = "nesterov" if block.flag("useNAG") else "momentum_sgd"
    return OptimizerSpec(
        name=_OPTIMIZERS.get(block.text("gradUpdateType").lower()) or plain,
        momentum=momentum,
        momentum_unit=unit,  # type: ignore[arg-type]  # one of the two
        momentum_reference_batch_size=reference,
        variance_momentum=math.exp(-1 / variance),
        l1=block.number("L1RegWeight", 0.0),
        l2=block.number("L2RegWeight", 0.0),
        penalize_batch_norm=not block.flag("disableRegInBatchNormalization"),
        clip_per_sample=0.0 if threshold == math.inf else threshold,
        clip_by="truncation" if block.flag("gradientClippingWithTruncation", True) else "norm",
    )


def _momentum(block: Block, sizes: tuple[int, ...]) -> tuple[Steps, str, int]:
    """The values, their unit, and the batch size that they are for. CNTK keeps momentum per sample; the default is 0.9
    per minibatch."""
    given = {key: block.numbers(key) for key in ("momentumPerMB", "momentumPerSample", "momentumAsTimeConstant")}
    named = [key for key, values in given.items() if values]
    if len(named) > 1:
        raise block.here.error(f"{block.name}: give one of {' and '.join(named)}")
    if given["momentumAsTimeConstant"]:
        return given["momentumAsTimeConstant"], "time_constant_samples", 1
    if given["momentumPerSample"]:
        return given["momentumPerSample"], "per_reference_batch", 1
    values = given["momentumPerMB"] or (0.9,)
    if len({*sizes}) == 1 or min(values) < 0:  # the recipe refuses a negative one
        return values, "per_reference_batch", sizes[0]
    return tuple(value ** (1 / size) for value, size in _by_epoch(values, sizes)), "per_reference_batch", 1


# CNTK's names -> ours; "": the one with momentum.
_OPTIMIZERS = {"": "", "none": "", "sgd": "", "adagrad": "adagrad", "fsadagrad": "fsadagrad"}

_LEARNING_RATE_SEARCH = {
    "none": "none", "false": "none", "adjustAfterEpoch": "after", "afterEpoch": "after", "after": "after",
    "searchBeforeEpoch": "before", "beforeEpoch": "before", "before": "before",
}  # fmt: skip


def _plateau(block: Block, has_validation: bool, refuse: Refuse) -> PlateauSpec | None:
    own = block.block("autoAdjust", inherit=False)
    if own is None:
        return None
    for key in ("numMiniBatch4LRSearch", "numSamples4Search", "numPrevLearnRates", "minibatchSizeTuningFrequency",
                "minibatchSizeTuningMax", "minibatchSearchCriterionErrorMargin"):  # fmt: skip
        own.find(key)
    if own.flag("autoAdjustMinibatch"):
        refuse(own, "autoAdjustMinibatch", "true")
    search = _LEARNING_RATE_SEARCH[own.choice("autoAdjustLR", [*_LEARNING_RATE_SEARCH], "none")]
    if search == "before":
        refuse(own, "autoAdjustLR", "a search for the learning rate before each epoch")
    if own.flag("continueReduce"):
        refuse(own, "continueReduce", "true")
    part = "validation" if has_validation and own.flag("useCVSetControlLRIfCVExists", True) else "train"
    metric = "error" if own.flag("useEvalCriterionControlLR") else "loss"
    raise_above = own.number("increaseLearnRateIfImproveMoreThan", math.inf)
    if search != "after":
        return None
    return PlateauSpec(
        every_epochs=own.integer("learnRateAdjustInterval", 1),
        monitor=f"{part}_{metric}",  # type: ignore[arg-type]  # one of the four
        threshold=own.number("reduceLearnRateIfImproveLessThan", 0.0),
        factor=own.number("learnRateDecreaseFactor", 0.618),
        raise_threshold=None if raise_above == math.inf else raise_above,
        raise_factor=own.number("learnRateIncreaseFactor", 1.382),
        rollback=own.flag("loadBestModel", True),
    )


def _unsupported(block: Block, refuse: Refuse) -> None:
    """What CNTK has and convolve lacks. Options of logging and memory, which change no result, are ignored."""
    for key in ("traceLevel", "keepCheckPointFiles", "maxSamplesInRAM", "gradientCheck",
                "maxTempMemSizeInSamplesForCNN", "numMBsToCUDAProfile", "tensorBoardLogDir", "sigFigs",
                "tensorBoardNumMBsToLogResult", "packThresholdSizeInKB", "useAllDataForPreComputedNode"):  # fmt: skip
        block.find(key)
    name = block.text("gradUpdateType").lower()
    if name not in _OPTIMIZERS or block.flag("useAdagrad"):
        refuse(block, "gradUpdateType", f"the optimizer {block.text('gradUpdateType') or 'of useAdagrad'}")
    if block.flag("normWithAveMultiplier", True) and name == "adagrad":
        refuse(block, "normWithAveMultiplier", "AdaGrad with true, CNTK's default,")
    if block.number("fsAdagradTargetAvDenom", 1.0) != 1:
        refuse(block, "fsAdagradTargetAvDenom", "a value other than 1")
    for key in ("batchNormalizationBlendTimeConstant", "gaussianNoiseInjectStd"):
        if any(block.numbers(key)):
            refuse(block, key, "a value other than 0")
    if block.flag("saveBestModelPerCriterion"):
        refuse(block, "saveBestModelPerCriterion", "true")
