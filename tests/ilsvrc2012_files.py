"""A small ILSVRC2012 in the layout of the download."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

WORDS = {
    "n01440764": "tench, Tinca tinca",
    "n01443537": "goldfish, Carassius auratus",
    "n01484850": "great white shark, white shark",
}
TRAIN_EACH, VAL = 4, 6


def write_download(root: Path) -> Path:
    """Three classes of different colors, of 72x90 pixels: `TRAIN_EACH` images of each, and `VAL` in turn."""
    data, annotations = root / "Data" / "CLS-LOC", root / "Annotations" / "CLS-LOC" / "val"
    annotations.mkdir(parents=True)
    (root / "LOC_synset_mapping.txt").write_text("".join(f"{name} {words}\n" for name, words in WORDS.items()))
    random = np.random.default_rng(0)
    for number, wordnet_id in enumerate(WORDS):
        for image in range(TRAIN_EACH):
            write_photo(data / "train" / wordnet_id / f"{wordnet_id}_{image}.JPEG", number, random)
    for image in range(VAL):
        name = f"ILSVRC2012_val_{image + 1:08d}"
        write_photo(data / "val" / f"{name}.JPEG", image % len(WORDS), random)
        (annotations / f"{name}.xml").write_text(annotation(list(WORDS)[image % len(WORDS)]))
    return root


def write_photo(path: Path, channel: int, random: np.random.Generator) -> None:
    pixels_HWC = random.integers(0, 80, (72, 90, 3), np.uint8)
    pixels_HWC[:, :, channel] += 150
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(".jpg", pixels_HWC)[1].tobytes())


def annotation(*wordnet_ids: str) -> str:
    """As the annotations of ILSVRC2012 are, with an object of each class."""
    boxes = "".join(
        f"<object><name>{name}</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox></object>"
        for name in wordnet_ids
    )
    return f"<annotation><folder>val</folder><size><width>90</width></size>{boxes}</annotation>"
