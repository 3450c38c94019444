"""Networks and their heads: the input of the last layer with weights are the features, which another head can use."""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from convolve.errors import ModelError, UnsupportedError, look_up
from convolve.models.uninitialized import uninitialized

# Legend: N batch, C channel, H row, W column, K class, D feature.

HIDDEN = 512  # units in the hidden layer of an mlp, as in fastai's heads (lin_ftrs)


@fx.wrap  # a single step for tracers, as it inspects its input
def pooled(features: Tensor, axis: int = 1) -> Tensor:
    """features_ND: the mean over all axes except the batch and the channels, `axis`."""
    if features.dim() <= 2:
        return features
    return (features if axis == 1 else features.movedim(axis, 1)).flatten(2).mean(2)


def channel_axis(shape: Sequence[int], width: int, is_last: bool) -> int:
    """Which axis of one sample's values holds its channels: the one as long as the `width` of the layer before; if that
    is ambiguous, the last axis after a layer that works on the last axis, and for tokens (T, D), otherwise the
    first."""
    fits = [axis for axis, size in enumerate(shape) if size == width]
    if len(fits) == 1:
        return fits[0]
    return len(shape) - 1 if (is_last and fits) or len(shape) == 2 else 0


def axis_read(layer: nn.Module) -> int:
    """The axis that a layer takes as channels, counting the batch axis."""
    return -1 if isinstance(layer, nn.Linear | nn.LayerNorm) else 1


class Features(nn.Module):
    """images_NCHW -> features_ND: the output of `body`, whose channels are on this `axis`, maps and tokens averaged."""

    def __init__(self, body: nn.Module, axis: int = 1) -> None:
        super().__init__()
        self.body, self.axis = body, axis

    def forward(self, images_NCHW: Tensor) -> Tensor:
        return pooled(self.body(images_NCHW), self.axis)


class HeadedNetwork(Features):
    """images_NCHW -> logits_NK: a head on the features. It starts at zero, as in the fine-tuning of Vision Transformers
    (arXiv:2010.11929), so that an untrained head can be recognized."""

    def __init__(
        self, body: nn.Module, width: int, class_count: int, *, axis: int, kind: str, dropout: float
    ) -> None:  # fmt: skip
        super().__init__(body, axis)
        self.head_hidden = nn.Linear(width, HIDDEN) if kind == "mlp" else None
        self.head_dropout = nn.Dropout(dropout) if kind == "mlp" else None
        self.head = nn.Linear(HIDDEN if kind == "mlp" else width, class_count)

    def forward(self, images_NCHW: Tensor) -> Tensor:
        features_ND = super().forward(images_NCHW)
        if self.head_hidden is not None and self.head_dropout is not None:
            features_ND = self.head_dropout(self.head_hidden(features_ND).relu())
        return self.head(features_ND)  # type: ignore[no-any-return]


def headed(
    network: nn.Module, shape_CHW: tuple[int, int, int], class_count: int, *, kind: str, cut: str, dropout: float
) -> HeadedNetwork:
    """`network` up to its last layer with weights, or up to the layer `cut`, with a new head still to be initialized,
    on the network's device."""
    body: nn.Module
    if cut:
        body = start = up_to(network, cut)
        width, axis = _channels(start, shape_CHW)
    else:
        last = network.get_submodule(last_layer(network))
        body, width, axis = without_last_layer(network), int(last.weight.shape[1]), axis_read(last)  # type: ignore[index]
    with torch.device("meta"):
        whole = HeadedNetwork(body, width, class_count, axis=axis, kind=kind, dropout=dropout)
    device = next(network.parameters(), torch.empty(0)).device
    for layer in filter(None, (whole.head_hidden, whole.head)):
        uninitialized(layer, device)
    return whole


@torch.no_grad()
def fill(whole: HeadedNetwork, generator: torch.Generator) -> None:
    """Set the head's initial values."""
    if whole.head_hidden is not None:
        nn.init.xavier_uniform_(whole.head_hidden.weight, generator=generator)
        nn.init.zeros_(whole.head_hidden.bias)
    nn.init.zeros_(whole.head.weight)
    nn.init.zeros_(whole.head.bias)


def last_layer(network: nn.Module) -> str:
    """The name of the last layer with weights: the classifier."""
    names: list[str] = [name for name, layer in network.named_modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    if not names:
        raise ModelError("the network has no convolution and no dense layer that a head could replace")
    return names[-1]


def without_last_layer(network: nn.Module) -> nn.Module:
    """The network with its last layer with weights removed."""
    parent, _, name = last_layer(network).rpartition(".")
    setattr(network.get_submodule(parent), name, nn.Identity())
    return network


def features_of(network: nn.Module) -> Features:
    """images_NCHW -> features_ND: a copy of the network up to its head, sharing the weights."""
    shared = {id(tensor): tensor for tensor in [*network.parameters(), *network.buffers()]}
    twin = copy.deepcopy(network, shared)
    if isinstance(twin, HeadedNetwork):
        return Features(twin.body, twin.axis)
    axis = axis_read(network.get_submodule(last_layer(network)))
    return Features(without_last_layer(twin), axis)


class _Tracer(fx.Tracer):
    """Records the output of each layer, of several calls the last; innermost layers are not traced into."""

    def __init__(self) -> None:
        super().__init__()
        self.given: dict[str, Any] = {}

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return next(m.children(), None) is None

    def call_module(self, m: nn.Module, forward: Any, args: Any, kwargs: Any) -> Any:
        given = super().call_module(m, forward, args, kwargs)
        self.given[self.path_of_module(m)] = given
        return given


def up_to(network: nn.Module, name: str) -> fx.GraphModule:
    """images_NCHW -> the output of the layer `name`; everything after it is removed."""
    layers = {key: layer for key, layer in network.named_modules() if key}
    look_up(layers, name, "layer", "model.cut")
    tracer = _Tracer()
    try:
        code = tracer.trace(network)
    except Exception as error:  # any exception of the network's code
        reason = " ".join(str(error).split())[:200]
        raise UnsupportedError(
            f"model.cut: the network cannot be cut ({reason}); export it to ONNX, and cut that"
        ) from None
    if not isinstance(given := tracer.given.get(name), fx.Proxy):
        raise UnsupportedError(f"model.cut: {name} has no output that a head could use; choose another layer")
    last = next(node for node in reversed(code.nodes) if node.op == "output")
    code.erase_node(last)
    with code.inserting_after(given.node):
        code.output(given.node)
    for node in reversed([*code.nodes]):
        if node.op not in ("placeholder", "output") and not node.users:
            code.erase_node(node)
    cut = fx.GraphModule(network, code, class_name=type(network).__name__)
    cut.delete_all_unused_submodules()
    return cut


def _channels(body: fx.GraphModule, shape_CHW: tuple[int, int, int]) -> tuple[int, int]:
    """(the number of features, their axis counting the batch axis), found by running the network."""
    was_training = body.training
    with torch.no_grad():
        tried = body.eval()(torch.zeros(1, *shape_CHW, device=next(body.parameters()).device))
    body.train(was_training)
    shape = tuple(tried.shape[1:]) if isinstance(tried, Tensor) else ()
    if not shape:
        raise UnsupportedError("model.cut: a layer whose output is not numeric has no features; choose another")
    called = [body.get_submodule(str(node.target)) for node in body.graph.nodes if node.op == "call_module"]
    weighted = [layer for layer in called if isinstance(getattr(layer, "weight", None), Tensor)]
    width = len(weighted[-1].weight) if weighted else 0  # type: ignore[arg-type]
    axis = channel_axis(shape, width, bool(weighted) and axis_read(weighted[-1]) < 0)
    return shape[axis], axis + 1
