"""`Evaluator`, in the module where CNTK has it."""

from convolve.cntk.train.trainer import Evaluator

__all__ = ["Evaluator"]
