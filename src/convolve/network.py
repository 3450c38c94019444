"""Any network that can be read, whatever its output: a classifier, several heads, features, an image, a number."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from convolve.errors import ConvolveError, UsageError
from convolve.export import exported_program
from convolve.export import onnx as onnx_form
from convolve.export.any_graph import export_network
from convolve.export.parity import TOLERANCE, Parity, distance
from convolve.graph.build import build
from convolve.graph.graph import Graph
from convolve.graph.shapes import Shape
from convolve.importers import onnx, pytorch
from convolve.importers.loader import PreprocessOverrides
from convolve.importers.loaders import find_loader, read_graph
from convolve.importers.refused import refuse
from convolve.model_folder import find_folder, is_folder, read_network, write_network
from convolve.remote import local_model


@dataclass(frozen=True, eq=False)
class Network:
    """`module` takes the `inputs`, in this order and each with a leading batch axis, and returns the `outputs`: a
    tensor, or a tuple of several.

    Both map names to shapes of one sample. Images are not preprocessed. `graph` is None for one of our networks, whose
    module describes itself.
    """

    module: nn.Module
    inputs: Mapping[str, Shape]
    outputs: Mapping[str, Shape]
    graph: Graph | None = None

    def export(self, path: str | Path) -> Parity:
        """Write it for other runtimes, in the format of `path`'s ending: ONNX (.onnx) or a torch.export program (.pt2).

        The file is first run and compared; if the outputs differ, ConvolveError is raised and nothing is written.
        Returns what was compared.
        """
        return export_network(self.module, self.inputs, self.outputs, Path(path))

    def save(self, folder: str | Path) -> None:
        """Save a model folder, which `load_graph` opens again."""
        if self.graph is None:
            raise UsageError("one of our own networks is kept whole, with its classes: convert it as a classifier")
        write_network(Path(folder), self.module, self.graph)


def load_graph(path: str | Path, outputs: Sequence[str] = (), overrides: PreprocessOverrides | None = None) -> Network:
    """Open any network: what `load` opens, and networks that are not image classifiers.

    `outputs` are names of nodes, the file's or ours; without them, the network's own outputs.
    """
    path, overrides = local_model(Path(path)), overrides or PreprocessOverrides()
    loader = None if is_folder(path) else find_loader(path)
    if loader:
        return _of_graph(read_graph(loader, path, overrides, outputs))
    if is_folder(path) or not _is_checkpoint(path):
        module, graph, shape_CHW, classes = read_network(find_folder(path))
        if graph:
            network = _of_graph(graph.with_outputs(outputs) if outputs else graph)
            weights = module.state_dict()
            network.module.load_state_dict({key: weights[key] for key in network.module.state_dict()})
            return network
        return Network(module, {"images": shape_CHW}, {"logits": (classes,)})
    found = pytorch.read(path, overrides)
    return Network(found.module, {"images": found.preprocess.shape_CHW}, {"logits": (found.classes,)})


def graph_of_module(module: nn.Module, shape_CHW: tuple[int, int, int]) -> Graph:
    """The graph of what a module computes for images_NCHW, through ONNX. Raises ConvolveError if its outputs differ."""
    onnx_form.check_packages()
    source = copy.deepcopy(module).to(device="cpu", dtype=torch.float32).eval().requires_grad_(False)
    images_NCHW = torch.randn(4, *shape_CHW, generator=torch.Generator().manual_seed(0))
    content = onnx_form.translated(exported_program.trace(source, images_NCHW[:2]), ["images"], ["scores"])
    graph = onnx.parse(content, Path(type(module).__name__))
    with torch.no_grad():
        wanted, got = source(images_NCHW).numpy(), build(graph)(images_NCHW).numpy()
    if wanted.shape != got.shape or not distance(wanted, got).max(initial=0) <= TOLERANCE:
        raise ConvolveError(f"{type(module).__name__} gives other outputs as a graph; please report it")
    return graph


def _is_checkpoint(path: Path) -> bool:
    refuse(path)
    return pytorch.is_pytorch(path)


def _of_graph(graph: Graph) -> Network:
    """Names are those of the file, where it has names."""
    values = graph.values()
    inputs = {value.source or value.name: value.shape for value in graph.inputs}
    outputs = {values[name].source or name: values[name].shape for name in graph.outputs}
    if len(inputs) < len(graph.inputs):
        inputs = {value.name: value.shape for value in graph.inputs}
    if len(outputs) < len(graph.outputs):
        outputs = {name: values[name].shape for name in graph.outputs}
    return Network(build(graph), inputs, outputs, graph)
