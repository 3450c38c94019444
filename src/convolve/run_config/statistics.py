"""Mean and InvStdDev: what CNTK computes of the training data before the first epoch."""

from __future__ import annotations

from dataclasses import replace

import torch

from convolve.data.sources.source import ArraySource
from convolve.graph.graph import Graph, Parameter
from convolve.importers.brainscript.network import Network, needed_for

_LEAST_VARIANCE = 1e-10  # a constant of CNTK's InvStdDev


def with_statistics(graph: Graph, network: Network, source: ArraySource) -> Graph:
    """`graph` with the statistics of the images of `source` in place of numbers that change nothing."""
    kinds = {node.name: node.kind for node in needed_for([network.scores()])}
    wanted = [p for p in graph.parameters if kinds.get(p.source) in ("Mean", "InvStdDev")]
    if not wanted:
        return graph
    shape_CHW = source.images_NCHW.shape[1:]
    total, squares = torch.zeros(shape_CHW, dtype=torch.float64), torch.zeros(shape_CHW, dtype=torch.float64)
    for images_NCHW in source.images_NCHW.split(1_000):
        total += images_NCHW.double().sum(0)
        squares += images_NCHW.double().square().sum(0)
    mean = total / len(source)
    deviation = (squares / len(source) - mean.square()).clamp_min(_LEAST_VARIANCE).sqrt()
    found = {"Mean": mean, "InvStdDev": 1 / deviation}

    def filled(parameter: Parameter) -> Parameter:
        values = found[kinds[parameter.source]].float().numpy()
        return replace(parameter, array=values.reshape(parameter.shape))

    return replace(graph, parameters=tuple(filled(p) if p in wanted else p for p in graph.parameters))
