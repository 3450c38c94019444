"""Train, ship and rescue convolutional image classifiers: the CNTK classics on PyTorch."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from convolve.errors import ConvolveError
    from convolve.explanation import Explanation, explain
    from convolve.loading import load
    from convolve.model import Model
    from convolve.network import Network, load_graph
    from convolve.outcome import Run
    from convolve.prediction import Prediction
    from convolve.recipe import Recipe
    from convolve.report import write_report
    from convolve.run import train

# Public name -> its module. Importing convolve loads none of them: `convolve --help` must not wait for torch.
_HOMES = {
    "ConvolveError": "errors", "Model": "model", "Prediction": "prediction", "load": "loading",
    "load_graph": "network", "Network": "network", "Recipe": "recipe", "write_report": "report", "Run": "outcome",
    "train": "run", "explain": "explanation", "Explanation": "explanation",
}  # fmt: skip

__all__ = [
    "ConvolveError", "Explanation", "Model", "Network", "Prediction", "Recipe", "Run", "explain", "load", "load_graph",
    "train", "write_report",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'convolve' has no attribute {name!r}")
    return getattr(import_module(f"convolve.{_HOMES[name]}"), name)
