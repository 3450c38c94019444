"""Evaluation."""

from convolve.cntk.eval import evaluator
from convolve.cntk.eval.evaluator import Evaluator

__all__ = ["Evaluator", "evaluator"]
