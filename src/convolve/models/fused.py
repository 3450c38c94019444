"""A network for inference on a processor: what follows a convolution is fused into it.

Batch normalization becomes part of the weights, and oneDNN applies activation and addition while the results are in
registers. EfficientNet-Lite0 at 224 pixels takes a quarter of the time on one thread (docs/decisions.md).
"""

import copy
import operator
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F
from torch.utils.weak import WeakIdKeyDictionary

from convolve.models.batch_norm import CntkBatchNorm2d
from convolve.models.efficientnet_lite import PaddedConv

# Legend: N images, C channels, H rows, W columns.

_RELU, _RELU6 = ("relu", ()), ("hardtanh", (0.0, 6.0))  # oneDNN's name and numbers, as torch's compiler passes them
_ACTIVATIONS: dict[Any, tuple[str, tuple[float, ...]]] = {
    nn.ReLU: _RELU, F.relu: _RELU, torch.relu: _RELU, "relu": _RELU, "relu_": _RELU, nn.ReLU6: _RELU6, F.relu6: _RELU6,
}  # fmt: skip
_ADDITIONS = {operator.add, operator.iadd, torch.add, "add", "add_"}
_NORMALIZATIONS = (nn.BatchNorm2d, CntkBatchNorm2d)
PART = 8  # images
_TWINS = WeakIdKeyDictionary()  # the first of a network's tensors -> the kind of module -> (state, twin)
CLOSE = {torch.float32: 1e-4, torch.bfloat16: 0.1}  # of the answers' size: rounding, not another network


class FusedConv(nn.Module):
    """maps_NCHW (and maps to add) -> maps_NCHW: a convolution with the operations that follow it, in `dtype`."""

    def __init__(self, layer: nn.Conv2d, size_HW: Sequence[int], dtype: torch.dtype) -> None:
        super().__init__()
        weight, self.padding = layer.weight.detach(), list(layer.padding)
        if isinstance(layer, PaddedConv):  # more at the end: a wider filter with leading zeros needs no padded copy
            margins = [layer.margins(size, axis) for axis, size in enumerate(size_HW)]
            self.padding = [after for _, after in margins]
            (top, bottom), (left, right) = margins
            weight = F.pad(weight, (right - left, 0, bottom - top, 0))
        bias = torch.zeros(len(weight)) if layer.bias is None else layer.bias.detach()
        self.weight, self.bias = weight.double(), bias.double()
        self.stride, self.dilation, self.groups = list(layer.stride), list(layer.dilation), layer.groups
        self.dtype, self.size_HW = dtype, size_HW
        self.activation: tuple[str, tuple[float, ...]] = ("none", ())
        self.gives_fp32 = True  # as modules other than FusedConv expect it

    def normalize(self, layer: nn.Module) -> None:
        """Include a batch normalization: in evaluation mode a scale and a shift, which inputs of zeros and
        ones reveal."""
        exact = copy.deepcopy(layer).double().eval()
        shift_C = exact(torch.zeros(1, len(self.bias), 1, 1, dtype=torch.float64)).flatten()
        scale_C = exact(torch.ones(1, len(self.bias), 1, 1, dtype=torch.float64)).flatten() - shift_C
        self.weight, self.bias = self.weight * scale_C[:, None, None, None], self.bias * scale_C + shift_C

    def pack(self) -> None:
        """Rearrange the weights in oneDNN's preferred layout."""
        settings = (self.padding, self.stride, self.dilation, self.groups)
        shape = (4, self.weight.shape[1] * self.groups, *self.size_HW)
        weight = self.weight.to(self.dtype, memory_format=torch.channels_last)
        self.weight = torch.ops.mkldnn._reorder_convolution_weight(weight, *settings, shape)
        self.bias = self.bias.to(self.dtype)

    def forward(self, maps_NCHW: Tensor, added_NCHW: Tensor | None = None) -> Tensor:
        maps_NCHW = maps_NCHW.to(self.dtype, memory_format=torch.channels_last)
        settings = (self.weight, self.bias, self.padding, self.stride, self.dilation, self.groups)
        name, numbers = self.activation
        if added_NCHW is None:
            found: Tensor = torch.ops.mkldnn._convolution_pointwise(maps_NCHW, *settings, name, list(numbers), "")
        else:
            found = torch.ops.mkldnn._convolution_pointwise.binary(
                maps_NCHW, added_NCHW.to(self.dtype, memory_format=torch.channels_last), *settings, binary_attr="add",
                alpha=1.0, unary_attr=None if name == "none" else name, unary_scalars=list(numbers), unary_algorithm="",
            )  # fmt: skip
        return found.float() if self.gives_fp32 else found


@torch.inference_mode()
def fused(module: nn.Module, shape_CHW: Sequence[int], dtype: torch.dtype = torch.float32) -> nn.Module:
    """A copy of `module` in evaluation mode whose convolutions include the operations after them and compute in
    `dtype`.

    It accepts images of this shape only. If torch has no oneDNN, or the network cannot be traced, or the copy's output
    would differ, it is `module` itself, in its own precision.
    """
    if not torch.backends.mkldnn.is_available() or next(module.parameters()).device.type != "cpu":
        return module.eval()
    images_NCHW = torch.randn(2, *shape_CHW, generator=torch.Generator().manual_seed(0))
    expected = _leaves(module.eval()(images_NCHW))
    try:
        twin = copy.deepcopy(module)
        traced = fx.GraphModule(twin, Tracer().trace(twin), class_name="Fused").eval()
        fuse(traced, images_NCHW, dtype)
        pairs = zip(_leaves(traced(images_NCHW)), expected, strict=True)
        worst = max(float((ours - theirs).norm() / theirs.norm().clamp_min(1e-30)) for ours, theirs in pairs)
    except Exception:  # any exception of code that cannot be traced
        return module
    return traced if worst <= CLOSE[dtype] else module


def for_evaluation(module: nn.Module, shape_CHW: Sequence[int]) -> nn.Module:
    """`module`, or if it has depthwise convolutions a fused copy, which is kept until its weights change.

    Without these there is less to gain, and recorded outputs stay the same bit for bit.
    """
    convolutions = (layer for layer in module.modules() if isinstance(layer, nn.Conv2d))
    if not any(layer.groups == layer.in_channels > 1 for layer in convolutions):
        return module
    tensors = [*module.parameters(), *module.buffers()]
    settings = tuple(value for value in vars(module).values() if isinstance(value, str | float))
    state = (tuple(shape_CHW), settings, *((tensor.data_ptr(), tensor._version) for tensor in tensors))
    twins = _TWINS.setdefault(tensors[0], {})  # they live as long as the weights; the wrapper around them may not
    if type(module) not in twins or twins[type(module)][0] != state:
        twin = fused(module, shape_CHW)
        twins[type(module)] = (state, None if twin is module else InParts(twin))
    return twins[type(module)][1] or module


class InParts(nn.Module):
    """The output of `network` for a batch, computed for a few images at a time: wide maps then stay in the cache."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images_NCHW: Tensor) -> Any:
        answers = [self.network(part) for part in images_NCHW.split(PART)]
        if isinstance(answers[0], Tensor):
            return torch.cat(answers)
        return tuple(torch.cat(each) for each in zip(*answers, strict=True))


def _leaves(answer: Any) -> tuple[Tensor, ...]:
    return tuple(answer) if isinstance(answer, tuple | list) else (answer,)


class Tracer(fx.Tracer):
    """Traces into modules of modules, but calls the innermost ones, which may depend on sizes."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return next(m.children(), None) is None

    def call_module(self, m: nn.Module, forward: Any, args: Any, kwargs: Any) -> Any:
        """Calls a module with its hooks, which fx skips: a `FeatureExtractor` depends on one."""
        if not self.is_leaf_module(m, ""):
            return super().call_module(m, forward, args, kwargs)
        for before in m._forward_pre_hooks.values():
            args = before(m, args) or args
        given = super().call_module(m, forward, args, kwargs)
        for after in m._forward_hooks.values():
            after(m, args, given)
        return given


class _Shapes(fx.Interpreter):
    """Records the output shape of each node. fx's own `ShapeProp` would import sympy."""

    def run_node(self, n: fx.Node) -> Any:
        given = super().run_node(n)
        if isinstance(given, Tensor):
            n.meta["shape"] = tuple(given.shape)
        return given


def fuse(traced: fx.GraphModule, images_NCHW: Tensor, dtype: torch.dtype) -> None:
    """Fuse what follows each convolution into it, except for nodes marked in meta["learns"]."""
    _Shapes(traced).run(images_NCHW)
    made: dict[fx.Node, FusedConv] = {}
    for node in list(traced.graph.nodes):
        layer = None if node.meta.get("learns") else _layer(traced, node)
        if (
            isinstance(layer, nn.Conv2d)
            and type(layer) in (nn.Conv2d, PaddedConv)  # this class only: subclasses may do more
            and layer.padding_mode == "zeros"
            and not isinstance(layer.padding, str)
        ):
            conv = FusedConv(layer, _shape(node.args[0])[2:], dtype)
            made[_absorb(traced, node, conv)] = conv
    for node, conv in made.items():
        conv.gives_fp32 = not node.users.keys() <= made.keys()
        conv.pack()
        traced.set_submodule(str(node.target), conv)
    traced.graph.lint()
    traced.recompile()


def _absorb(traced: fx.GraphModule, node: fx.Node, conv: FusedConv) -> fx.Node:
    """Fuse what follows the convolution `node` into `conv`; returns the node whose output is then the result."""
    if (after := _follower(node)) and isinstance(layer := _layer(traced, after), _NORMALIZATIONS):
        conv.normalize(layer)
        node = _joined(node, after, node.args)
    if (after := _follower(node)) and _called(traced, after) in _ADDITIONS and not after.kwargs:
        other = after.args[after.args[0] is node]
        if isinstance(other, fx.Node) and _shape(other) == _shape(node):
            node = _joined(node, after, (node.args[0], other))
    if after := _follower(node):
        activation = _ACTIVATIONS.get(_called(traced, after))
        if activation and (activation is _RELU or len(node.args) == 1):
            conv.activation = activation
            node = _joined(node, after, node.args)
    return node


def _joined(node: fx.Node, after: fx.Node, args: tuple[Any, ...]) -> fx.Node:
    """Make `after` call what `node` called, with `args`, and remove `node`."""
    with after.graph.inserting_before(after):
        joined = after.graph.call_module(str(node.target), args)
    joined.meta = after.meta
    after.replace_all_uses_with(joined)
    after.graph.erase_node(after)
    node.graph.erase_node(node)
    return joined


def _follower(node: fx.Node) -> fx.Node | None:
    """The only user of `node`, if it uses it once."""
    user = next(iter(node.users), None)
    is_alone = user and len(node.users) == 1 and user.all_input_nodes.count(node) == 1
    return user if user and is_alone and not user.meta.get("learns") else None


def _layer(traced: fx.GraphModule, node: fx.Node) -> nn.Module | None:
    return traced.get_submodule(str(node.target)) if node.op == "call_module" else None


def _called(traced: fx.GraphModule, node: fx.Node) -> Any:
    """A function, the name of a method, or the class of a layer."""
    layer = _layer(traced, node)
    return node.target if layer is None else type(layer)


def _shape(node: Any) -> Sequence[int]:
    shape: Sequence[int] = node.meta["shape"]
    return shape
