"""edit: networks made from trained ones, saved as models."""

from convolve.importers.brainscript.job import EditStep
from convolve.run_config.training import save_network
from convolve.training.events import Callback


def edit(step: EditStep, callback: Callback) -> None:
    for path, network in step.saved:
        save_network(network, path)
        callback("note", {"message": f"{step.name}: the edited model is {path}"})
