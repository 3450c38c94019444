"""Training."""

from types import ModuleType

from convolve.cntk.learners import minibatch_size_schedule
from convolve.cntk.train import distributed, trainer
from convolve.cntk.train.distributed import *
from convolve.cntk.train.trainer import Trainer
from convolve.cntk.train.training_session import (
    CheckpointConfig,
    CrossValidationConfig,
    DataUnit,
    TestConfig,
    TrainingSession,
    training_session,
)

__all__ = [
    name for name, value in list(globals().items()) if not (name.startswith("_") or isinstance(value, ModuleType))
]
