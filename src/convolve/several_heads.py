"""A network with several classification heads, such as age and gender: all of them give predictions."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from hashlib import sha256
from pathlib import Path

from convolve.formats.archive import Location
from convolve.graph.classifier import SeveralHeadsError
from convolve.importers.loader import PreprocessOverrides
from convolve.loading import load
from convolve.model import Model
from convolve.prediction import Prediction


@dataclass
class SeveralHeads(Model):
    """The first of the `heads`, by their names in the file; `answers` are those of all heads."""

    heads: dict[str, Model] = field(default_factory=dict)

    def answers(
        self, images: Sequence[Location], top: int | None = None, of: range | None = None
    ) -> Iterator[list[Prediction]]:
        for model in self.heads.values():
            model.max_pixels = self.max_pixels
        for batches in zip(*(model.answers(images, top, of) for model in self.heads.values()), strict=True):
            of_each_image = zip(*batches, strict=True)
            yield [replace(said[0], heads=tuple(zip(self.heads, said, strict=True))) for said in of_each_image]

    def digest(self) -> str:
        return sha256("".join(model.digest() for model in self.heads.values()).encode()).hexdigest()


def load_heads(path: str | Path, overrides: PreprocessOverrides | None = None, node: str | None = None) -> Model:
    """As `load`, but a network of several heads is opened with all of them if none is chosen."""
    try:
        return load(path, overrides, node)
    except SeveralHeadsError as error:
        if node or not error.heads:
            raise
        heads = {name: load(path, replace(overrides or PreprocessOverrides(), output=name)) for name in error.heads}
    first = next(iter(heads.values()))
    return SeveralHeads(**{each.name: getattr(first, each.name) for each in fields(Model)}, heads=heads)
