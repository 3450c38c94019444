"""A prototxt as a network: the layers that matter for classification, and how values flow between them.

A blob's name stands for several values, one after the other, since layers may write in place; here every value has a
number of its own.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain, islice
from typing import Any

from convolve.errors import FormatError, brief, legible
from convolve.importers.caffe.schema import Message, read_message, schema
from convolve.importers.caffe.text import Prototxt, decode, parse

_DATA = {"Input", "Data", "ImageData", "HDF5Data", "MemoryData", "DummyData", "WindowData"}
_CRITERIA = {
    "Accuracy", "ContrastiveLoss", "EuclideanLoss", "HingeLoss", "HDF5Output", "InfogainLoss",
    "MultinomialLogisticLoss", "SigmoidCrossEntropyLoss", "SoftmaxWithLoss",
}  # fmt: skip


@dataclass(frozen=True)
class Layer:
    """`reads` and `makes` are numbers of values. `shared` are the names of its parameters, "" where they have none."""

    name: str
    type: str
    settings: Message
    bottoms: tuple[str, ...]
    tops: tuple[str, ...]
    shared: tuple[str, ...]
    learning_rate_multipliers: tuple[float, ...]
    reads: tuple[int, ...] = ()
    makes: tuple[int, ...] = ()

    def __str__(self) -> str:
        return f"layer {brief(self.name)} ({legible(self.type)})"


@dataclass(frozen=True)
class Feed:
    """An input of the network: the blob's name, its shape with the batch where the file states it, and the layer (or
    the whole net) that declares it."""

    name: str
    shape: tuple[int, ...] | None
    settings: Message


@dataclass(frozen=True)
class Net:
    """`layers` in the order of computation.

    `blobs`: names -> the values that they stand for in the end. `outputs`: the values that no layer reads. `left_out`:
    those that need labels, such as losses, and what is computed from them.
    """

    source: Prototxt
    layers: tuple[Layer, ...]
    feeds: dict[int, Feed]
    blobs: dict[str, int]
    outputs: tuple[int, ...]
    left_out: frozenset[int]
    notes: tuple[str, ...]


def read_net(data: bytes, path: object) -> Net:
    """The network in a prototxt, in Caffe's TEST phase. Raises FormatError with line and column, UnsupportedError."""
    source = decode(data, path)
    net = read_message(source, parse(source), "NetParameter")
    state = net.message("state")
    meets = partial(_meets, level=state.get("level", 0), stages=frozenset(state.all("stage")))
    layers = [layer for layer in _layers(net) if _is_included(layer.settings, meets)]
    if not layers:
        unknown = ", ".join(legible(entry.name) for entry in net.unknown[:5])
        hint = f" but unknown fields ({unknown}): is it a solver? Give the net that it names" if unknown else ""
        raise FormatError(path, "", f"describes no layers{hint}")
    wiring = _Wiring(source)
    for name, shape in _inputs(net):
        wiring.feeds[wiring.make(name, net)] = Feed(name, shape, net)
    for layer in layers:
        wiring.layer(layer)
    return wiring.net(net)


# -- the layers of the file -------------------------------------------------------------------------------------------


def _layers(net: Message) -> Iterator[Layer]:
    if "layer" in net and "layers" in net:
        first = net.all("layers")[0]
        raise first.error("the net has both `layers` (V1) and `layer`; write all of them as `layer`")
    yield from map(_v1_layer, net.all("layers"))
    for layer in net.all("layer"):
        params = layer.all("param")
        yield Layer(
            layer.get("name", ""), layer.get("type", ""), layer, tuple(layer.all("bottom")), tuple(layer.all("top")),
            shared=tuple(param.get("name", "") for param in params),
            learning_rate_multipliers=tuple(param.get("lr_mult", 1.0) for param in params),
        )  # fmt: skip


def _v1_layer(layer: Message) -> Layer:
    if "layer" in layer:
        raise layer.unsupported(
            "the layer is written in Caffe's oldest syntax (V0); upgrade the file with Caffe's tool "
            "upgrade_net_proto_text"
        )
    word = layer.get("type", "NONE")
    return Layer(
        layer.get("name", ""), schema().v1_types[word], layer, tuple(layer.all("bottom")), tuple(layer.all("top")),
        shared=tuple(layer.all("param")), learning_rate_multipliers=tuple(layer.all("blobs_lr")),
    )  # fmt: skip


def _is_included(layer: Message, meets: Callable[[Message], bool]) -> bool:
    """Whether the layer takes part, given the function that tells whether a rule applies to the net's state."""
    if layer.all("include") and layer.all("exclude"):
        raise layer.error("the layer has both include and exclude rules, of which Caffe permits one kind")
    if layer.all("include"):
        return any(map(meets, layer.all("include")))
    return not any(map(meets, layer.all("exclude")))


def _meets(rule: Message, level: int, stages: frozenset[str]) -> bool:
    """Whether the rule applies to a net in phase TEST, of this level and these stages."""
    return (
        rule.get("phase", "TEST") == "TEST"
        and rule.get("min_level", level) <= level <= rule.get("max_level", level)
        and {*rule.all("stage")} <= stages
        and not {*rule.all("not_stage")} & stages
    )


def _inputs(net: Message) -> Iterator[tuple[str, tuple[int, ...] | None]]:
    """The inputs that a net declares without a layer, and their shapes with the batch, where it states them."""
    names, dims = net.all("input"), net.all("input_dim")
    shapes: list[Any] = [tuple(shape.all("dim")) for shape in net.all("input_shape")]
    shapes = shapes or [tuple(dims[at : at + 4]) for at in range(0, len(dims), 4)] or [None] * len(names)
    if len(dims) % 4 or len(shapes) != len(names):
        raise net.error(f"{len(names)} inputs with {len(shapes)} shapes; each needs an input_shape or four input_dim")
    yield from zip(names, shapes, strict=True)


# -- values -----------------------------------------------------------------------------------------------------------


@dataclass
class _Wiring:
    """Numbers the values, layer by layer."""

    source: Prototxt
    current: dict[str, int] = field(default_factory=dict)  # a blob's name -> the value that it stands for now
    values: int = 0
    feeds: dict[int, Feed] = field(default_factory=dict)
    layers: list[Layer] = field(default_factory=list)
    read: set[int] = field(default_factory=set)
    left_out: set[int] = field(default_factory=set)
    left_out_layers: list[str] = field(default_factory=list)

    def make(self, name: str, settings: Message, in_place: bool = False) -> int:
        """A new value, which `name` stands for from now on."""
        if name in self.current and not in_place:
            raise settings.error(f"the blob {brief(name)} is computed twice, by layers that do not work in place")
        self.current[name] = self.values
        self.values += 1
        return self.values - 1

    def layer(self, layer: Layer) -> None:
        reads = tuple(self.find(name, layer) for name in layer.bottoms)
        if layer.type in _DATA:
            self.data(layer)
            return
        makes = []
        for index, top in enumerate(layer.tops):
            in_place = index < len(layer.bottoms) and layer.bottoms[index] == top
            makes.append(self.make(top, layer.settings, in_place))
        if layer.type in _CRITERIA or self.left_out & {*reads}:
            self.left_out |= {*makes}
            self.left_out_layers.append(layer.name or layer.type)
        elif layer.type == "Silence":
            self.read |= {*reads}
        elif layer.type == "Split" and len(reads) == 1:
            self.current |= dict.fromkeys(layer.tops, reads[0])
        else:
            self.read |= {*reads}
            self.layers.append(replace(layer, reads=reads, makes=tuple(makes)))

    def find(self, name: str, layer: Layer) -> int:
        if name not in self.current:
            known = ", ".join(map(brief, [*self.current][-3:])) or "nothing"
            raise layer.settings.error(
                f"{layer} reads {brief(name)}, which no earlier layer computes in phase TEST; known are {known}"
            )
        return self.current[name]

    def data(self, layer: Layer) -> None:
        """A data layer's first blob is the image, the others are labels; all blobs of an Input layer are inputs."""
        shapes = _data_shapes(layer)
        for index, top in enumerate(layer.tops):
            value = self.make(top, layer.settings)
            if index and layer.type != "Input":
                self.left_out.add(value)
            else:
                shape = shapes[min(index, len(shapes) - 1)] if shapes else None
                self.feeds[value] = Feed(top, shape, layer.settings)

    def net(self, net: Message) -> Net:
        made = [value for layer in self.layers for value in layer.makes]
        messages = [net, *(layer.settings for layer in self.layers)]
        unknown = chain.from_iterable(message.unknown_fields() for message in messages)
        notes = [f"{words}; it is ignored" for words in islice(unknown, 5)]
        if self.left_out_layers:
            notes.append(
                f"layers left out, since they need labels: {', '.join(map(legible, self.left_out_layers[:20]))}"
            )
        outputs = tuple(value for value in made if value not in self.read)
        return Net(
            self.source, tuple(self.layers), self.feeds, self.current, outputs,
            left_out=frozenset(self.left_out), notes=tuple(notes),
        )  # fmt: skip


def _data_shapes(layer: Layer) -> list[tuple[int, ...]]:
    """The shapes that a data layer states, with the batch."""
    settings = layer.settings
    if layer.type == "Input":
        return [tuple(shape.all("dim")) for shape in settings.message("input_param").all("shape")]
    if layer.type == "DummyData":
        dummy = settings.message("dummy_data_param")
        legacy = zip(*(dummy.all(name) for name in ("num", "channels", "height", "width")), strict=False)
        return [tuple(shape.all("dim")) for shape in dummy.all("shape")] or [*legacy]
    if layer.type == "MemoryData":
        memory = settings.message("memory_data_param")
        return [tuple(memory.get(name, 1) for name in ("batch_size", "channels", "height", "width"))]
    return []
