"""However the same pictures are laid out, they are one set: the same labels, the same parts, the same model."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from unicodedata import normalize

import cv2
import numpy as np
import pytest

from convolve import train
from convolve.data.open import open_data
from convolve.data.sources.source import Source
from convolve.data.splits import Splits
from convolve.errors import ConvolveError
from convolve.formats.decode import DECODING
from convolve.recipe import with_values
from convolve.recipes import load_recipe
from layouts import LAYOUTS, Layout, Picture, class_folders, data_options, pictures

Rows = list[tuple[str, str]]  # (class, digest of the pixels), in the order in which a training numbers them
PARTS = ("train", "test", "validation")


def opened(layout: Layout, root: Path) -> Splits:
    return open_data(str(layout.make(root)), options=data_options(layout, root))


def digest(image_HWC: np.ndarray) -> str:
    return sha256(image_HWC.tobytes()).hexdigest()


def rows(source: Source | None, class_names: tuple[str, ...]) -> Rows:
    count = len(source) if source else 0
    labels = source.labels_N.tolist() if source else []
    images = [source.load(number, DECODING) for number in range(count)] if source else []
    return [(normalize("NFC", class_names[n]), digest(image)) for n, image in zip(labels, images, strict=True)]


def answer(splits: Splits) -> dict[str, Rows]:
    return {name: rows(getattr(splits, name), splits.class_names) for name in PARTS}


def given(layout: Layout) -> dict[str, Rows]:
    """The parts as they were laid out."""

    def row(picture: Picture) -> tuple[str, str]:
        pixels = cv2.imdecode(np.frombuffer(picture.content, np.uint8), cv2.IMREAD_COLOR)
        return layout.class_of(picture), digest(pixels)

    return {name: [row(p) for p in pictures() if p.part(layout.parts) == name] for name in PARTS}


@pytest.fixture(scope="module")
def held_out(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Rows]:
    """What becomes of class folders without parts."""
    return answer(open_data(str(class_folders(tmp_path_factory.mktemp("plain")))))


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_same_pictures_in_any_layout(name: str, tmp_path: Path, held_out: dict[str, Rows]) -> None:
    """The parts and their order, on which alone the bits of a model depend; or a refusal that names the doubt."""
    layout = LAYOUTS[name]
    if layout.refused:
        with pytest.raises(ConvolveError, match=layout.refused):
            opened(layout, tmp_path)
        return
    found, expected = answer(opened(layout, tmp_path)), given(layout)
    if layout.parts > 1:
        assert found == expected
    elif layout.encode:  # the part of an image is decided by its bytes
        assert sorted(found["train"] + found["test"]) == sorted(expected["train"])
    else:
        classes = dict(zip(layouts_classes(held_out), layout.class_names, strict=True))
        renamed = {part: [(classes[label], pixels) for label, pixels in of] for part, of in held_out.items()}
        assert found == renamed


def layouts_classes(answered: dict[str, Rows]) -> list[str]:
    return sorted({label for label, _ in answered["train"]})


@pytest.mark.parametrize("names", [("class folders", "zip", "json"), ("train + test", "column is_valid of 2 parts")])
def test_the_same_bits_of_the_model(names: tuple[str, ...], tmp_path: Path) -> None:
    changes = {"model.variant": "tiny", "run.global_batch_size": 16, "run.epochs": 1, "run.threads": 1}
    recipe, found = with_values(load_recipe("mnist"), changes), set()
    for name in names:
        place = LAYOUTS[name].make(tmp_path / name)
        run = train(recipe, data=str(place), out=tmp_path / f"run of {name}")
        weights = [value.numpy().tobytes() for value in run.model.module.state_dict().values()]
        found.add(sha256(b"".join(weights)).hexdigest())
    assert len(found) == 1
