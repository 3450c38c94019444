"""A BrainScript configuration -> an equivalent recipe, with a comment where the meaning of a number changed."""

from pathlib import Path

from convolve.atomic import write_text
from convolve.cli.formatting import recipe_text
from convolve.errors import UsageError
from convolve.importers.brainscript.job import Job, TrainStep

# field of the recipe -> what was done to CNTK's number
_CHANGES = {
    "order": "CNTK's `randomize`",
    "scale": "pixels in 0..255: the network itself normalizes them",
    "train_transforms": "the reader's transforms; Mean and Transpose belong to the network's preprocessing",
    "dropout": "CNTK's dropoutRate, one value an epoch",
    "batch_norm_time_constants": "batchNormalizationTimeConstant",
    "momentum": "in the unit given below; CNTK stores it per sample",
    "unit_gain": "always true in BrainScript: PyTorch's rate is this rate times (1 - momentum)",
    "l2": "L2RegWeight: weight decay on the mean gradient, multiplied by the learning rate",
    "penalize_batch_norm": "the opposite of disableRegInBatchNormalization",
    "learning_rates": "for reference_batch_size samples: 1 is learningRatesPerSample, else learningRatesPerMB",
    "min_lr_per_sample": "minLearningRatePerSample",
    "every_epochs": "learnRateAdjustInterval of autoAdjustLR=adjustAfterEpoch",
    "threshold": "reduceLearnRateIfImproveLessThan",
    "factor": "learnRateDecreaseFactor",
    "raise_threshold": "increaseLearnRateIfImproveMoreThan",
    "raise_factor": "learnRateIncreaseFactor",
    "rollback": "loadBestModel",
    "epoch_samples": "epochSize",
    "global_batch_sizes": "minibatchSize, where it has a value for each epoch",
    "report_batches": "numMBsToShowResult",
    "report_first_batches": "firstMBsToShowResult",
    "global_batch_size": "minibatchSize, of all workers together",
    "accumulation_steps": "numSubminiBatches",
    "epochs": "maxEpochs",
}


def write_translation(job: Job, path: Path) -> Path:
    """Write the recipe of the first training in `job` to `path`, and its network to a model folder beside it.

    Returns that folder.
    """
    from convolve.run_config.training import recipe_of, save_initial

    steps = [step for step in job.steps if isinstance(step, TrainStep)]
    if not steps:
        raise UsageError(f"{job.name} trains nothing; there is no recipe to write")
    network = path.with_suffix(".network")
    save_initial(steps[0], network)
    head = [
        f"# {job.name}, translated from BrainScript. The network and its preprocessing are in {network.name}:",
        f"#   convolve train {path.name} --from {network.name} --data DIR",
    ]
    lines = [*head, *map(_commented, recipe_text(recipe_of(steps[0])).splitlines()), ""]
    write_text(path, "\n".join(lines))
    return network


def _commented(line: str) -> str:
    field, colon, _ = line.strip().partition(":")
    if not colon or field not in _CHANGES:
        return line
    return f"{line}{'.' if '  # ' in line else '  #'} CNTK: {_CHANGES[field]}"
