"""Whole trainings of CNTK's ConvNet for CIFAR-10, from files to updates: ours, and those that people would write."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader

from convolve.data.build import build_data
from convolve.data.lists import open_lists
from convolve.environment import usable_cores
from convolve.recipes import resolve
from image_peers import DEVIATION, MEAN, Case, Pictures
from steps import our_step_on

BATCH_SIZE = 64
CASE = Case("", images=50_000, side=32, pad=4, batch_size=BATCH_SIZE)


def tutorial_network(lrn: bool) -> nn.Sequential:
    """The network in the order in which tutorials write it: convolution, ReLU, pooling."""

    def pair(channels: int) -> list[nn.Module]:
        norm = [nn.LocalResponseNorm(9, alpha=0.001, beta=0.75, k=1.0)] if lrn else []
        first, second = nn.Conv2d(channels, 64, 3, padding=1), nn.Conv2d(64, 64, 3, padding=1)
        return [first, nn.ReLU(), second, nn.ReLU(), *norm, nn.MaxPool2d(3, 2, padding=1)]

    return nn.Sequential(
        *pair(3), *pair(64), nn.Flatten(),
        nn.Linear(4096, 256), nn.ReLU(), nn.Dropout(0.5), nn.Linear(256, 128), nn.ReLU(), nn.Dropout(0.5),
        nn.Linear(128, 10),
    )  # fmt: skip


def ours(folder: Path, precision: str) -> Iterator[int]:
    """The batches and steps of `convolve train cifar10-aug` on a map file, pass after pass."""
    recipe = resolve("cifar10-aug", {"run.precision": precision})
    data = build_data(recipe, open_lists(folder), usable_cores())
    step = our_step_on(recipe, CASE.side, classes=10)
    epoch = 0
    while True:
        for images_NCHW, labels_N in data.loader.epoch(epoch):
            step(images_NCHW, labels_N)
            yield len(labels_N)
        epoch += 1


def pytorch(files: Sequence[str], labels: Sequence[int], workers: int) -> Iterator[int]:
    """Pillow in a DataLoader, torchvision's steps, a plain loop in fp32."""
    loader = DataLoader(
        Pictures(files, labels, CASE), BATCH_SIZE, shuffle=True, num_workers=workers, persistent_workers=True
    )
    model, loss_function = tutorial_network(lrn=False), nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=0.002)
    while True:
        for images, labels_N in loader:
            optimizer.zero_grad()
            loss_function(model(images), labels_N).backward()
            optimizer.step()
            yield len(labels_N)


def keras(files: Sequence[str], labels: Sequence[int], policy: str) -> Iterator[int]:
    """Keras on TensorFlow: all images decoded beforehand, augmented by tf.data, in the precision of `policy`."""
    import tensorflow as tf
    from keras import Sequential, layers, mixed_precision, optimizers

    mixed_precision.set_global_policy(policy)

    def augmented(image: Any, label: Any) -> Any:
        padded = tf.pad(image, [[CASE.pad] * 2, [CASE.pad] * 2, [0, 0]], constant_values=128)
        cut = tf.image.random_flip_left_right(tf.image.random_crop(padded, (CASE.side, CASE.side, 3)))
        return (tf.cast(cut, tf.float32) - MEAN) / DEVIATION, label

    def pair() -> list[Any]:
        return [
            layers.Conv2D(64, 3, padding="same", activation="relu"),
            layers.Conv2D(64, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(3, 2, padding="same"),
        ]

    images_NHWC = np.stack([np.asarray(Image.open(file).convert("RGB")) for file in files])
    data = tf.data.Dataset.from_tensor_slices((images_NHWC, np.array(labels))).shuffle(len(files)).repeat()
    data = data.map(augmented, num_parallel_calls=tf.data.AUTOTUNE).batch(BATCH_SIZE).prefetch(tf.data.AUTOTUNE)
    dense = [layers.Dense(256, activation="relu"), layers.Dropout(0.5), layers.Dense(128, activation="relu")]
    last = [layers.Dropout(0.5), layers.Dense(10, activation="softmax", dtype="float32")]
    model = Sequential([layers.Input((CASE.side, CASE.side, 3)), *pair(), *pair(), layers.Flatten(), *dense, *last])
    model.compile(optimizers.SGD(0.01, momentum=0.9, weight_decay=0.002), loss="sparse_categorical_crossentropy")
    for images, labels_N in data:
        model.train_on_batch(images, labels_N)
        yield len(labels_N)
