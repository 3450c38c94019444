"""CNTK 2.7 itself trains CNTK's ConvNet for CIFAR-10, as our recipes `cifar10` and `cifar10-aug` do.

    python benchmarks/cifar10_cntk.py cifar10|cifar10-aug IMAGES.npz RUN [--epochs 30]

For the Python 3.6 of CNTK 2.7; needs nothing of convolve. Network, criteria, learner and schedule are CNTK's; numpy
shuffles, cuts and mirrors, as CNTK's image reader wants libraries that no distribution has any more. IMAGES.npz is what
cifar10_official.py writes, OMP_NUM_THREADS the number of threads. After each epoch RUN gets a checkpoint of CNTK's and
curve.json: errors on training and test images, and the seconds of the training alone. The same command goes on from
there.
"""

import argparse
import json
import time
from pathlib import Path

import cntk  # type: ignore[import-not-found]
import numpy as np
from cntk.layers import Convolution2D, Dense, Dropout, MaxPooling  # type: ignore[import-not-found]

BATCH, TEST_BATCH, PADDING, PADDING_VALUE = 64, 500, 4, 128
RATES = {
    "cifar10": [0.0015625] * 10 + [0.00046875] * 10 + [0.00015625],
    "cifar10-aug": [0.0015625] * 20 + [0.00046875] * 20 + [0.00015625] * 20 + [0.000046875] * 10 + [0.000015625],
}
TIME_CONSTANTS = [0] * 20 + [600] * 20 + [1200]  # samples, of the momentum of cifar10-aug


def network(pixels: cntk.Function) -> cntk.Function:
    """That of CNTK's Python example, with padded pooling: 1,195,594 parameters."""
    h = pixels * (1 / 256)
    for _ in range(2):
        for _ in range(2):
            h = Convolution2D((3, 3), 64, pad=True, activation=cntk.relu)(h)
        h = MaxPooling((3, 3), (2, 2), pad=True)(h)
    for width in (256, 128):
        h = Dropout(0.5)(Dense(width, activation=cntk.relu)(h))
    return Dense(10)(h)


def learner(name: str, scores: cntk.Function, epoch_size: int) -> cntk.learners.Learner:
    rates = cntk.learning_parameter_schedule_per_sample(RATES[name], epoch_size=epoch_size)
    if name == "cifar10":
        momentum = cntk.momentum_schedule(0.9)
    else:
        momentum = cntk.momentum_as_time_constant_schedule(TIME_CONSTANTS, epoch_size=epoch_size)
    return cntk.momentum_sgd(scores.parameters, rates, momentum, l2_regularization_weight=0.002)


def augmented(images_NCHW: np.ndarray, random: np.random.RandomState) -> np.ndarray:
    """Each shifted by up to 4 pixels, and half of them mirrored."""
    side, border = images_NCHW.shape[2], (PADDING, PADDING)
    padded = np.pad(images_NCHW, ((0, 0), (0, 0), border, border), "constant", constant_values=PADDING_VALUE)
    found = np.empty_like(images_NCHW)
    for image, target in zip(padded, found):  # noqa: B905 (Python 3.6)
        row, column = random.randint(0, 2 * PADDING + 1, 2)
        cut = image[:, row : row + side, column : column + side]
        target[...] = cut[:, :, ::-1] if random.randint(2) else cut
    return found


class Training:
    """CNTK's trainer, and the images."""

    def __init__(self, name: str, file: Path) -> None:
        arrays = np.load(str(file))
        self.train = arrays["train_images"], arrays["train_labels"]
        self.test = arrays["test_images"], arrays["test_labels"]
        self.is_augmented = name != "cifar10"
        self.mean = self.train[0].mean(0).astype(np.float32) if self.is_augmented else np.float32(128)
        self.pixels, self.labels = cntk.input_variable((3, 32, 32)), cntk.input_variable(10)
        scores = network(self.pixels)
        criteria = (
            cntk.cross_entropy_with_softmax(scores, self.labels),
            cntk.classification_error(scores, self.labels),
        )
        self.trainer = cntk.Trainer(scores, criteria, learner(name, scores, len(self.train[1])))

    def _feed(self, images_NCHW: np.ndarray, labels_N: np.ndarray) -> "dict[cntk.Variable, np.ndarray]":
        return {self.pixels: images_NCHW - self.mean, self.labels: np.eye(10, dtype=np.float32)[labels_N]}

    def epoch(self, number: int) -> "dict[str, float]":
        """Loss, error and seconds of one pass over the training images, in an order of its own."""
        (images_NCHW, labels_N), random = self.train, np.random.RandomState(number)
        order, sums, start = random.permutation(len(labels_N)), np.zeros(2), time.time()
        for some in (order[first : first + BATCH] for first in range(0, len(order), BATCH)):
            cut = augmented(images_NCHW[some], random) if self.is_augmented else images_NCHW[some]
            self.trainer.train_minibatch(self._feed(cut, labels_N[some]))
            means = self.trainer.previous_minibatch_loss_average, self.trainer.previous_minibatch_evaluation_average
            sums += np.multiply(means, len(some))
        loss, error = sums / len(order)
        return {"train_loss": loss, "train_error": error, "train_seconds": time.time() - start}

    def test_error(self) -> float:
        images_NCHW, labels_N = self.test
        wrong = 0.0
        for first in range(0, len(labels_N), TEST_BATCH):
            some = slice(first, first + TEST_BATCH)
            feed = self._feed(images_NCHW[some], labels_N[some])
            wrong += self.trainer.test_minibatch(feed) * len(labels_N[some])
        return wrong / len(labels_N)


def train(training: Training, folder: Path, epochs: int) -> None:
    """Go on to so many epochs. A checkpoint counts once curve.json has its epoch; the one before it stays till then."""
    said = folder / "curve.json"
    found = json.loads(said.read_text()) if said.exists() else []
    if found:
        training.trainer.restore_from_checkpoint(str(folder / f"checkpoint-{len(found) % 2}"))
    while len(found) < epochs:
        figures = training.epoch(len(found))
        figures["test_error"] = training.test_error()
        found.append(figures)
        training.trainer.save_checkpoint(str(folder / f"checkpoint-{len(found) % 2}"))
        part = folder / "curve.part"
        part.write_text(json.dumps(found))
        part.replace(said)
        print(f"epoch {len(found)}: {json.dumps(figures)}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", choices=sorted(RATES))
    parser.add_argument("images", type=Path)
    parser.add_argument("run", type=Path)
    parser.add_argument("--epochs", type=int, default=30)
    arguments = parser.parse_args()
    arguments.run.mkdir(parents=True, exist_ok=True)
    cntk.device.try_set_default_device(cntk.device.cpu())
    cntk.cntk_py.reset_random_seed(0)
    train(Training(arguments.recipe, arguments.images), arguments.run, arguments.epochs)


if __name__ == "__main__":
    main()
