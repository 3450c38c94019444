"""Net and weights -> Graph: the one place where Caffe's meaning of a network is turned into the neutral one.

Only what the wanted outputs need is lowered, so that a layer out of scope in an unused branch does no harm.
"""

from collections.abc import Iterator, Sequence

from convolve.errors import FormatError, UnsupportedError, UsageError, brief, legible, look_up
from convolve.graph.draft import Draft
from convolve.graph.graph import Graph
from convolve.graph.shapes import GraphError, Shape, require
from convolve.importers.caffe.caffemodel import MAX_AXES, Weights
from convolve.importers.caffe.call import Call, Shared
from convolve.importers.caffe.layers import LAYER_RULES
from convolve.importers.caffe.net import Feed, Layer, Net
from convolve.importers.caffe.plain import PLAIN_RULES, Rule
from convolve.importers.caffe.transform import stated_size

RULES: dict[str, Rule] = {**PLAIN_RULES, **LAYER_RULES}


def lower(
    net: Net, weights: Weights | None, outputs: Sequence[str] | None = None, image_shape_CHW: Shape | None = None
) -> Graph:
    """The graph that computes the blobs `outputs`; without them, those that no layer reads.

    `image_shape_CHW` is for an input whose shape the prototxt does not state. Raises UsageError for an unknown output,
    UnsupportedError for layers out of scope, FormatError for layers that do not fit together, ModelError for weights
    that are missing or do not fit the layer.
    """
    wanted = net.outputs if outputs is None else tuple(_find(net, name) for name in outputs)
    if not wanted:
        raise FormatError(net.source.path, "", "everything that it computes needs labels; give a deploy prototxt")
    lowering = _Lowering(net, weights, image_shape_CHW)
    layers = [*_needed(net, wanted)]
    read = {*wanted, *(value for layer in layers for value in layer.reads)}
    for value in sorted(net.feeds.keys() & read):
        lowering.feed(value, net.feeds[value], layers)
    for layer in layers:
        lowering.layer(layer)
    lowering.name()
    if weights:
        taken = {*lowering.renamed.values()}
        lowering.draft.notes.extend(_not_used(net, weights, taken))
        lowering.draft.notes.extend(f"layer {new} takes the weights of {old}" for new, old in lowering.renamed.items())
    return lowering.draft.finish([lowering.done[value] for value in wanted], "Caffe")


def _find(net: Net, name: str) -> int:
    """The value that a name stands for: the last value of a blob, as in Caffe, or else the first output of a layer."""
    layers = {layer.name: layer.makes[0] for layer in reversed(net.layers) if layer.makes}
    value = look_up(layers | net.blobs, name, "blob or layer", str(net.source.path))
    if value in net.left_out:
        raise UsageError(f"{net.source.path}: the blob {brief(name)} needs labels, which images do not have")
    return value


def _needed(net: Net, wanted: Sequence[int]) -> Iterator[Layer]:
    """The layers that the values need, in the order of computation."""
    needed = set(wanted)
    for layer in reversed(net.layers):
        if needed & {*layer.makes}:
            needed |= {*layer.reads}
    return (layer for layer in net.layers if needed & {*layer.makes})


def _renamed(net: Net, weights: Weights) -> dict[str, str]:
    """Layer -> the layer of the caffemodel that has its weights. Fine-tuning renames the last layer; it is found if it
    alone is missing in the caffemodel, and one layer of the same shape is left over there."""
    names = {layer.name for layer in net.layers}
    weighted = [layer for layer in net.layers if layer.type in ("InnerProduct", "Convolution")]
    missing = [layer for layer in weighted if layer.name not in weights.layers]
    spare = [name for name, blobs in weights.layers.items() if name not in names and blobs]
    if len(weighted) < 2 or len(missing) != 1 or len(spare) != 1 or missing[0] is not weighted[-1]:
        return {}
    block = "inner_product_param" if missing[0].type == "InnerProduct" else "convolution_param"
    maps = missing[0].settings.message(block).get("num_output", 0)
    shape = [size for size in weights.layers[spare[0]][0].array.shape if size != 1]
    return {missing[0].name: spare[0]} if shape[:1] == [maps] or maps == 1 else {}


def _not_used(net: Net, weights: Weights, taken: set[str]) -> Iterator[str]:
    names = {layer.name for layer in net.layers} | taken
    extra = [legible(name) for name in weights.layers if name not in names]
    if extra:
        more = f" and {len(extra) - 8} more" if len(extra) > 8 else ""
        yield f"the caffemodel has layers that the prototxt does not have: {', '.join(extra[:8])}{more}"


class _Lowering:
    def __init__(self, net: Net, weights: Weights | None, image_shape_CHW: Shape | None) -> None:
        self.net, self.weights, self.image_shape_CHW = net, weights, image_shape_CHW
        self.draft = Draft()
        self.draft.notes.extend(net.notes)
        self.done: dict[int, str] = {}  # number of a value -> its key in the draft
        self.shared: Shared = {}
        self.weighted: set[str] = set()
        self.renamed = _renamed(net, weights) if weights else {}
        self.batch = next((feed.shape[0] for feed in net.feeds.values() if feed.shape), 1)

    def feed(self, value: int, feed: Feed, layers: Sequence[Layer]) -> None:
        try:
            shape = feed.shape[1:] if feed.shape else self.image_shape_CHW or self.stated_shape(value, feed, layers)
            require(len(shape) <= MAX_AXES, f"it has {len(shape)} axes")
            self.done[value] = self.draft.input(shape, feed.name)
        except GraphError as error:
            raise feed.settings.error(f"input {brief(feed.name)} is invalid: {error}") from None

    def stated_shape(self, value: int, feed: Feed, layers: Sequence[Layer]) -> Shape:
        """The shape of images from a data layer: the size to which it crops, and the channels of the first weights."""
        readers = [layer for layer in layers if value in layer.reads and layer.type == "Convolution"]
        size = stated_size(feed.settings)
        if not (size and readers and self.weights and readers[0].name in self.weights.layers):
            raise UsageError(
                f"{self.net.source.path} does not state the shape of its input {brief(feed.name)}; give it with "
                f"--image-shape, for example 3x227x227, or give a deploy prototxt"
            )
        weight = self.weights.layers[readers[0].name][0].array
        require(weight.ndim >= 3, f"the weights of {readers[0]} cannot have the shape {weight.shape}")
        return (weight.shape[-3] * readers[0].settings.message("convolution_param").get("group", 1), *size)

    def layer(self, layer: Layer) -> None:
        if layer.type not in RULES:
            raise layer.settings.unsupported(f"{layer} is not supported; choose an --output that does not need it")
        operands = tuple(self.done[value] for value in layer.reads)
        call = Call(
            draft=self.draft, layer=layer, operands=operands, weights=self.weights, batch=self.batch,
            shared=self.shared, weighted=self.weighted, renamed=self.renamed,
        )  # fmt: skip
        try:
            result = RULES[layer.type](call)
        except GraphError as error:
            raise layer.settings.error(f"{layer} is invalid: {error}") from None
        except UnsupportedError as error:
            raise layer.settings.unsupported(f"{layer} is not supported: {error}") from None
        keys = (result,) if isinstance(result, str) else result
        if len(keys) != len(layer.makes):
            raise layer.settings.error(f"{layer} has {len(layer.makes)} tops, but computes {len(keys)} blobs")
        for key, value in zip(keys, layer.makes, strict=True):
            self.done[value] = key
            self.draft.label(key, layer.name)

    def name(self) -> None:
        """A blob's name is an alias of its last value; another layer name, of the layer's first output."""
        for name, value in self.net.blobs.items():
            if value in self.done:
                self.draft.call(self.done[value], "", name)
        for layer in self.net.layers:
            if layer.name not in self.net.blobs and layer.makes and layer.makes[0] in self.done:
                self.draft.call(self.done[layer.makes[0]], "", layer.name)
