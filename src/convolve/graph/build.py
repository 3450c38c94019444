"""Graph -> torch module: named layers where the graph has any, plain functions elsewhere, and readable code.

The module is a `torch.fx.GraphModule`: `print(module)` shows the layers, `print(module.code)` the sequence of calls
between them, and all of torch's tools (export, compile, quantization, hooks) work on it. The alternative, our own
module that interprets the graph in `forward`, would hide the network in a loop.

fx turns its graph into Python source and executes that: it contains only identifiers that `with_readable_names` made,
numbers, and functions of torch and of this package.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
from torch import Tensor, fx

from convolve.errors import UnsupportedError
from convolve.graph.emit import Emitter
from convolve.graph.graph import Array, Graph, Parameter
from convolve.graph.operations import OPERATIONS


def build(graph: Graph, emitter: Emitter | None = None) -> fx.GraphModule:
    """The graph as a module in evaluation mode, in float32; `.train()` makes it trainable again.

    It takes the graph's inputs in order, with a leading batch axis, and returns its outputs: a tensor, or a tuple of
    several. Frozen parameters do not require gradients. Another `emitter` can supply the parameters.
    """
    emitter = emitter or Emitter(graph)
    for value in graph.inputs:
        emitter.placeholder(value)
    for node in graph.nodes:
        emitter.values[node.name] = OPERATIONS[node.op].emit(emitter, node)
    results = tuple(emitter.value(name) for name in graph.outputs)
    emitter.code.output(results[0] if len(results) == 1 and not emitter.shares else results)
    emitter.code.lint()
    return fx.GraphModule(emitter.root, emitter.code, class_name="ImportedNetwork").eval()


def rebuild(graph: Graph, weights: Mapping[str, Tensor], fresh: tuple[str, ...] = ()) -> fx.GraphModule:
    """The module of a part of a graph, with the `weights` of the whole; layers called `fresh` keep the graph's own
    values.

    Raises UnsupportedError if a layer of the part shares its weights with the rest.
    """
    module = build(graph)
    own = module.state_dict()
    for key, tensor in own.items():
        if key.partition(".")[0] in fresh:
            continue
        if key not in weights or weights[key].shape != tensor.shape:
            raise UnsupportedError(f"{key} shares weights with later layers; give the original file instead")
        own[key] = weights[key]
    module.load_state_dict(own)
    return module


_BASE = 2**12  # float32 counts exactly up to 2**24, fewer than a large layer has numbers


def with_weights(graph: Graph, weights: Mapping[str, Tensor]) -> Graph:
    """The graph with the values of `weights`, the state of the module that `build` makes of it.

    Layers rearrange the values of parameters. To find where each went, the module is built again from parameters that
    contain consecutive numbers.
    """
    places = {p.name: np.arange(p.array.size).reshape(p.shape) for p in graph.parameters}

    def state(numbers: Callable[[int, Parameter], Array]) -> Mapping[str, Tensor]:
        numbered = [replace(p, array=numbers(i, p)) if p in finite else p for i, p in enumerate(parameters)]
        return build(replace(graph, parameters=tuple(numbered))).state_dict()

    parameters = graph.parameters
    finite = {p for p in parameters if p.constant is None or np.isfinite(p.constant)}  # the code may hold the others
    owners = state(lambda number, p: np.full(p.shape, number, np.float32))
    low, high = (state(lambda _, p, digit=digit: digit(places[p.name])) for digit in _DIGITS)  # type: ignore[misc]
    found = {p.name: np.array(p.array, np.float32).reshape(-1) for p in parameters}
    for key, tensor in weights.items():
        if key not in owners or not owners[key].isfinite().all():
            continue
        owner = parameters[int(owners[key].reshape(-1)[0])]
        cells = low[key].numpy().astype(np.int64) + _BASE * high[key].numpy().astype(np.int64)
        found[owner.name][cells.reshape(-1)] = tensor.detach().cpu().float().numpy().reshape(-1)
    filled = tuple(replace(p, array=found[p.name].reshape(p.shape)) for p in parameters)
    return replace(graph, parameters=filled)


_DIGITS: tuple[Callable[[Array], Array], ...] = (
    lambda places: (places % _BASE).astype(np.float32),
    lambda places: (places // _BASE).astype(np.float32),
)
