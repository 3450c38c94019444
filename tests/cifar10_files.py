"""A CIFAR-10 of 20 training and 4 test images of noise in every form, written without the code under test."""

from __future__ import annotations

import pickle
import tarfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
COUNTS = {"train": 20, "test": 4}


def samples(part: str) -> tuple[np.ndarray, np.ndarray]:
    """(images_NCHW in RGB, labels_N), the labels 9, 8, ..., 0, 9, ..."""
    random = np.random.default_rng(COUNTS[part])
    return random.integers(0, 256, (COUNTS[part], 3, 32, 32), np.uint8), 9 - np.arange(COUNTS[part]) % 10


def batches() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The official cut: name -> (images_NCHW, labels_N)."""
    (train_NCHW, train_N), test = samples("train"), samples("test")
    parts = zip(np.split(train_NCHW, 5), np.split(train_N, 5), strict=True)
    return {f"data_batch_{number}": part for number, part in enumerate(parts, 1)} | {"test_batch": test}


def write_binary(folder: Path) -> Path:
    inside = folder / "cifar-10-batches-bin"
    inside.mkdir(parents=True)
    for name, (images_NCHW, labels_N) in batches().items():
        records = [bytes([label]) + image.tobytes() for image, label in zip(images_NCHW, labels_N, strict=True)]
        (inside / f"{name}.bin").write_bytes(b"".join(records))
    (inside / "batches.meta.txt").write_text("\n".join(NAMES) + "\n\n")
    return folder


def write_python(folder: Path) -> Path:
    inside = folder / "cifar-10-batches-py"
    inside.mkdir(parents=True)
    for name, (images_NCHW, labels_N) in batches().items():
        content = {b"labels": labels_N.tolist(), b"data": images_NCHW.reshape(len(images_NCHW), -1)}
        (inside / name).write_bytes(pickle.dumps(content, protocol=2))
    return folder


def write_ctf(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for part in COUNTS:
        lines = [
            f"|labels {' '.join(str(int(k == label)) for k in range(10))} |features {' '.join(map(str, image.ravel()))}"
            for image, label in zip(*samples(part), strict=True)
        ]
        (folder / f"{part.title()}_cntk_text.txt").write_text("\n".join(lines) + "\n")
    return folder


def write_maps(folder: Path, padding: int = 0, value: int = 128) -> Path:
    """The training pictures padded, as CNTK's script writes them, or not."""
    for part, border in (("train", padding), ("test", 0)):
        rows = []
        for number, (image_CHW, label) in enumerate(zip(*samples(part), strict=True)):
            path = folder / part / f"{number:05d}.png"
            write_picture(path, np.pad(image_CHW, ((0, 0), (border,) * 2, (border,) * 2), constant_values=value))
            rows.append(f"{path}\t{label}\n")
        (folder / f"{part}_map.txt").write_text("".join(rows))
    return folder


def write_tree(folder: Path) -> Path:
    for part in COUNTS:
        for number, (image_CHW, label) in enumerate(zip(*samples(part), strict=True)):
            write_picture(folder / part / NAMES[label] / f"{number:04d}.png", image_CHW)
    return folder


def write_picture(path: Path, image_CHW: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.ascontiguousarray(image_CHW[::-1].transpose(1, 2, 0)))


def packed(write: Callable[[Path], Path], name: str, place: Path) -> Path:
    """`place / name`: the archive of what `write` writes."""
    source = write(place / "unpacked")
    place.mkdir(parents=True, exist_ok=True)
    with tarfile.open(place / name, "w:gz" if name.endswith("gz") else "w") as tar:
        for path in sorted(source.iterdir()):
            tar.add(path, path.name if path.name.startswith("cifar") else f"some-folder/{path.name}")
    return place / name
