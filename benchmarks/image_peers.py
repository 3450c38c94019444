"""The loaders that `images.py` measures itself against, each as its own documentation writes it."""

from __future__ import annotations

import random
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image, ImageOps
from torch.utils.data import DataLoader, Dataset

from convolve.data.cifar10 import load_cifar10
from convolve.environment import usable_cores

MEAN, DEVIATION = 114.0, 64.0  # subtracted from pixels in 0..255, and divided by
TEST_IMAGES = 8  # a set has a test part; this one is not measured
JPEG_QUALITY = 75  # Pillow's and most tools' default
SIDE_RATIO = 0.875  # of a photograph's shorter side, what is cut out


@dataclass(frozen=True)
class Case:
    """So many `images` of an archive (empty: CIFAR-10's training images, written as JPEG), padded by `pad` pixels and
    cut to `side`, or (0) cut and then scaled to it."""

    archive: str
    images: int
    side: int
    pad: int
    batch_size: int


def lay_out(data: Path, case: Case, folder: Path) -> None:
    """Write images of the archive in `data` until there are enough, and list them, each as often as it takes."""
    found = _in_archive(data / case.archive) if case.archive else _of_cifar10(data)
    names: list[str] = []
    for content in islice(found, case.images):
        names.append(f"{len(names)}.jpg")
        (folder / names[-1]).write_bytes(content)
    listed = (names * -(-case.images // len(names)))[: case.images]
    (folder / "train_map.txt").write_text("".join(f".../{name}\t{n % 10}\n" for n, name in enumerate(listed)))
    (folder / "test_map.txt").write_text("".join(f".../{name}\t0\n" for name in listed[:TEST_IMAGES]))


def _in_archive(archive: Path) -> Iterator[bytes]:
    with tarfile.open(archive) as tar:
        for member in tar:
            if (
                member.isreg()
                and member.name.lower().endswith((".jpg", ".jpeg"))
                and (content := tar.extractfile(member))
            ):
                yield content.read()


def _of_cifar10(data: Path) -> Iterator[bytes]:
    train, _ = load_cifar10(str(data)).arrays
    for image_CHW in train.images_NCHW.numpy():
        image_HWC = np.ascontiguousarray(image_CHW[::-1].transpose(1, 2, 0))
        yield cv2.imencode(".jpg", image_HWC, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes()


class Pictures(Dataset[tuple[torch.Tensor, int]]):
    """torchvision's Pad or RandomCrop and Resize, RandomHorizontalFlip, ToTensor and Normalize, step by step."""

    def __init__(self, files: Sequence[str], labels: Sequence[int], case: Case) -> None:
        self.files, self.labels, self.case = files, labels, case

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        case = self.case
        with open(self.files[index], "rb") as file:  # noqa: PTH123  as torchvision's pil_loader
            picture = Image.open(file).convert("RGB")
        if case.pad:
            picture = ImageOps.expand(picture, border=case.pad, fill=(128, 128, 128))
        side = case.side if case.pad else round(SIDE_RATIO * min(picture.size))
        left, top = random.randint(0, picture.width - side), random.randint(0, picture.height - side)
        picture = picture.crop((left, top, left + side, top + side))
        if not case.pad:
            picture = picture.resize((case.side, case.side), Image.Resampling.BILINEAR)
        if random.random() < 0.5:
            picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        image_HWC = torch.from_numpy(np.array(picture, np.uint8, copy=True))
        image_CHW = image_HWC.permute(2, 0, 1).contiguous().to(torch.float32).div(255)
        return image_CHW.sub_(MEAN / 255).div_(DEVIATION / 255), self.labels[index]


def pillow(files: Sequence[str], labels: Sequence[int], case: Case, workers: int) -> Iterator[int]:
    loader = DataLoader(
        Pictures(files, labels, case), case.batch_size, shuffle=True, num_workers=workers, persistent_workers=True
    )
    while True:
        for _, labels_N in loader:
            yield len(labels_N)


def dali(files: Sequence[str], labels: Sequence[int], case: Case) -> Iterator[int]:
    """A CPU pipeline; of photographs only the part that is cut out is decoded."""
    from nvidia.dali import fn, pipeline_def, types

    @pipeline_def(batch_size=case.batch_size, num_threads=usable_cores(), device_id=None, seed=0)  # type: ignore[untyped-decorator]
    def pipeline() -> Any:
        encoded, label = fn.readers.file(files=list(files), labels=list(labels), random_shuffle=True, name="reader")
        if case.pad:
            images = fn.decoders.image(encoded, output_type=types.RGB)
            start = fn.random.uniform(values=list(range(-case.pad, case.pad + 1)), shape=2, dtype=types.INT32)
            images = fn.slice(
                images, start, [case.side] * 2, axes=(0, 1), out_of_bounds_policy="pad", fill_values=[128.0]
            )
        else:
            size = fn.peek_image_shape(encoded)[:2]
            side = fn.cast(fn.reductions.min(size, axes=0), dtype=types.FLOAT) * SIDE_RATIO
            free = fn.cast(size, dtype=types.FLOAT) - side
            start = fn.cast(free * fn.random.uniform(range=(0, 1), shape=2), dtype=types.INT32)
            images = fn.decoders.image_slice(
                encoded, start, fn.cast(fn.stack(side, side), dtype=types.INT32), axes=(0, 1), output_type=types.RGB
            )
            images = fn.resize(images, size=(case.side, case.side), interp_type=types.INTERP_LINEAR, antialias=False)
        images = fn.crop_mirror_normalize(
            images, mirror=fn.random.coin_flip(), mean=[MEAN] * 3, std=[DEVIATION] * 3, dtype=types.FLOAT,
            output_layout="CHW",
        )  # fmt: skip
        return images, label

    pipe = pipeline()
    pipe.build()
    while True:
        images, _ = pipe.run()
        yield len(images)


def tf_data(files: Sequence[str], labels: Sequence[int], case: Case) -> Iterator[int]:
    """tf.data with every number left to it; of photographs only the part that is cut out is decoded."""
    import tensorflow as tf

    def photo(encoded: Any) -> Any:
        shape = tf.image.extract_jpeg_shape(encoded)
        side = tf.cast(SIDE_RATIO * tf.cast(tf.reduce_min(shape[:2]), tf.float32), tf.int32)
        top = tf.random.uniform([], 0, shape[0] - side + 1, tf.int32)
        left = tf.random.uniform([], 0, shape[1] - side + 1, tf.int32)
        image = tf.image.decode_and_crop_jpeg(encoded, tf.stack([top, left, side, side]), channels=3)
        return tf.image.resize(image, (case.side, case.side))

    def small(encoded: Any) -> Any:
        image = tf.image.decode_jpeg(encoded, channels=3)
        padded = tf.pad(image, [[case.pad] * 2, [case.pad] * 2, [0, 0]], constant_values=128)
        return tf.cast(tf.image.random_crop(padded, (case.side, case.side, 3)), tf.float32)

    def prepare(file: Any, label: Any) -> Any:
        image = tf.image.random_flip_left_right((small if case.pad else photo)(tf.io.read_file(file)))
        return (image - MEAN) / DEVIATION, label

    listed = tf.data.Dataset.from_tensor_slices((list(files), list(labels))).shuffle(len(files)).repeat()
    ready = listed.map(prepare, num_parallel_calls=tf.data.AUTOTUNE).batch(case.batch_size).prefetch(tf.data.AUTOTUNE)
    for _, batch_labels in ready:
        yield len(batch_labels)
