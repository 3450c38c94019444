"""What a lowering rule sees of one Caffe layer: its settings, its operands, its weights."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from convolve.errors import ModelError, UnsupportedError, brief, legible
from convolve.graph.draft import Operands
from convolve.graph.graph import Array
from convolve.graph.shapes import Shape, axis_of, bounded, require
from convolve.importers.caffe.caffemodel import Blob, Weights
from convolve.importers.caffe.net import Layer
from convolve.importers.caffe.schema import Message

# A parameter that several layers share: the key of its value, and the shape of its blob.
Shared = dict[str, tuple[str, Shape]]


@dataclass(frozen=True)
class Call(Operands):
    """One layer; `batch` is the batch size that the prototxt states.

    `weights`: without them, zeros that take no memory. `shared` and `weighted`: the named parameters and the layers
    with weights that were met so far. `renamed`: a layer -> the layer of the caffemodel whose weights it takes, where
    the prototxt has another name for it.
    """

    word = "bottom"

    layer: Layer
    weights: Weights | None
    batch: int
    shared: Shared
    weighted: set[str]
    renamed: dict[str, str]

    def settings(self, name: str) -> Message:
        """The layer's block `name`, empty if it is absent. Unknown fields are refused: they could mean anything."""
        message = self.layer.settings.message(name)
        for words in message.unknown_fields():
            raise UnsupportedError(words)
        return message

    def axis(self, axis: int, rank: int) -> int:
        """Caffe's axis, which counts the batch as axis 0 -> ours, 0 .. rank - 1."""
        index = axis_of(axis, rank + 1) - 1
        if index < 0:
            raise UnsupportedError("it works along the batch axis")
        return index

    # -- weights ------------------------------------------------------------------------------------------------------

    def expect_blobs(self, count: int) -> None:
        """The file must hold as many blobs of the layer as the prototxt describes."""
        require(
            self.layer.name not in self.weighted, "weights are found by name, and an earlier layer has the same name"
        )
        self.weighted.add(self.layer.name)
        blobs = self._blobs()
        if blobs is not None and len(blobs) != count:
            raise self._misfit(blobs[0], f"{len(blobs)} blobs, the prototxt describes {count}")

    def array(self, index: int, shape: Shape) -> Array:
        """The numbers of a blob, which must have the given shape; leading axes of size 1 do not count."""
        require(min(shape, default=1) >= 1, f"a parameter cannot have the shape {shape}")
        blobs = self._blobs()
        if blobs is None:
            return np.broadcast_to(np.float32(0), bounded(shape))
        blob = blobs[index]
        if _significant(blob.array.shape) != _significant(shape):
            raise self._misfit(
                blob, f"blob {index + 1} of shape {legible(str(blob.array.shape))}, the prototxt describes {shape}"
            )
        return blob.array.reshape(shape)

    def parameter(self, index: int, shape: Shape, broadcast: Shape | None = None) -> str:
        """A blob as a trainable parameter; `broadcast` is its shape in the graph, where that differs.

        Blobs to which the prototxt gives the same name are one parameter.
        """
        name = self.layer.shared[index] if index < len(self.layer.shared) else ""
        if name and name in self.shared:
            key, wanted = self.shared[name]
            require(wanted == shape, f"it shares {brief(name)} of shape {wanted}, but needs {shape}")
            return self.reshaped(key, broadcast or shape)
        array, multipliers = self.array(index, shape), self.layer.learning_rate_multipliers
        multiplier = multipliers[index] if index < len(multipliers) else 1.0
        key = self.draft.parameter(array.reshape(broadcast or shape), multiplier)
        if name:
            self.shared[name] = (key, shape)
        return key

    def _blobs(self) -> list[Blob] | None:
        if self.weights is None:
            return None
        layers, name = self.weights.layers, self.renamed.get(self.layer.name, self.layer.name)
        if name not in layers:
            known = ", ".join(map(brief, [*layers][:8])) + (", ..." if len(layers) > 8 else "")
            raise ModelError(
                f"{self.weights.path} holds no weights for {self.layer} of {self.layer.settings.source.path}, only for "
                f"{known}; do the two files belong together?"
            )
        return layers[name]

    def _misfit(self, blob: Blob, what: str) -> ModelError:
        assert self.weights is not None  # there is a blob
        return ModelError(f"{self.weights.path}: byte {blob.offset}: {self.layer} has {what}")


def _significant(shape: Sequence[int]) -> Shape:
    """The shape without leading axes of size 1, with which Caffe's older files fill up to four axes."""
    start = next((axis for axis, size in enumerate(shape) if size != 1), len(shape))
    return tuple(shape[start:])
