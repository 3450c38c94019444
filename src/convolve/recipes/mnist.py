"""MNIST: CNTK's recipe, and two modern ones for the same network."""

from dataclasses import replace

from convolve.recipe import Recipe
from convolve.specs.data import DataSpec
from convolve.specs.model import ModelSpec
from convolve.specs.optimizer import OptimizerSpec
from convolve.specs.run import RunSpec
from convolve.specs.schedule import ScheduleSpec
from convolve.transforms.affine import Affine
from convolve.transforms.shift import Shift


def mnist() -> Recipe:
    """ConvNet_MNIST as in CNTK 2.7: 98,778 parameters, 40 epochs, no augmentation.

    Source: Examples/Image/Classification/ConvNet/Python/ConvNet_MNIST.py. Published: "about 0.5%" error.
    Ours: 0.57 % (3 seeds; conditions in docs/explanation/mnist.md).
    """
    return Recipe(
        name="mnist",
        data=DataSpec(name="mnist", channels=1, image_size=28, scale=1 / 256),
        model=ModelSpec(name="convnet-mnist", dropout=(0.5,)),
        optimizer=OptimizerSpec(
            name="momentum_sgd", momentum=(0.0,) * 5 + (1024.0,), momentum_unit="time_constant_samples"
        ),
        schedule=ScheduleSpec(learning_rates=(0.001,) * 10 + (0.0005,) * 10 + (0.0001,), reference_batch_size=1),
        run=RunSpec(epochs=40, global_batch_size=64),
        published_error=0.005,
    )


def mnist_fast() -> Recipe:
    """The same network in less than a minute on two CPU cores: shifts, Muon, label smoothing, hard-example mining.

    Ours: 0.39 % (5 seeds; conditions in docs/explanation/mnist.md).
    """
    return Recipe(
        name="mnist-fast",
        data=DataSpec(
            name="mnist", channels=1, image_size=28, scale=1 / 256, train_transforms=(Shift(2),), hard_fraction=0.3
        ),
        model=ModelSpec(name="convnet-mnist", dropout=(0.3,)),
        optimizer=OptimizerSpec(name="muon", momentum=(0.6,), unit_gain=False),
        schedule=ScheduleSpec(kind="one_cycle", learning_rates=(0.05,)),
        run=RunSpec(epochs=6, global_batch_size=128, label_smoothing=0.1),
    )


def mnist_best() -> Recipe:
    """The same network with time to spare: longer, Nesterov, less dropout, and affine distortions instead of shifts.

    Ours: 0.37 % (3 seeds; conditions in docs/explanation/mnist.md).
    """
    fast = mnist_fast()
    return replace(
        fast,
        name="mnist-best",
        data=replace(fast.data, train_transforms=(Affine(degrees=12, scale_fraction=0.15, shear_degrees=8, pixels=2),)),
        model=replace(fast.model, dropout=(0.1,)),
        optimizer=OptimizerSpec(name="nesterov", momentum=(0.9,), unit_gain=False),
        schedule=ScheduleSpec(kind="one_cycle", learning_rates=(0.2,), warmup_fraction=0.2),
        run=replace(fast.run, epochs=50),
    )
