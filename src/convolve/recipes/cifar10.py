"""CIFAR-10: CNTK's three ConvNets (two variants: `--set model.variant=python|brainscript`), its ResNet-20, and modern
recipes."""

from dataclasses import replace

from convolve.recipe import Recipe
from convolve.specs.data import DataSpec
from convolve.specs.model import ModelSpec
from convolve.specs.optimizer import OptimizerSpec
from convolve.specs.run import RunSpec
from convolve.specs.schedule import ScheduleSpec
from convolve.transforms.crop import Crop
from convolve.transforms.flip import AlternatingFlip
from convolve.transforms.pad import Pad


def cifar10() -> Recipe:
    """ConvNet_CIFAR10 as in CNTK 2.7's Python example: 1,195,594 parameters, 30 epochs, no augmentation.

    Source: Examples/Image/Classification/ConvNet/Python/ConvNet_CIFAR10.py. Published: "about 18%" error.
    Ours: docs/explanation/cifar10.md.
    CNTK's BrainScript configuration differs: variant "brainscript", no dropout for 5 epochs and no momentum for 20.
    """
    return Recipe(
        name="cifar10",
        data=DataSpec(name="cifar10", image_size=32, mean=(128.0,), scale=1 / 256),
        model=ModelSpec(name="convnet-cifar10", variant="python", dropout=(0.5,)),
        optimizer=OptimizerSpec(name="momentum_sgd", momentum=(0.9,), momentum_unit="per_minibatch", l2=0.002),
        schedule=ScheduleSpec(
            learning_rates=(0.0015625,) * 10 + (0.00046875,) * 10 + (0.00015625,), reference_batch_size=1
        ),
        run=RunSpec(epochs=30, global_batch_size=64),
        published_error=0.18,
    )


def cifar10_aug() -> Recipe:
    """ConvNet_CIFAR10_DataAug: the same network, 80 epochs, with images shifted by up to 4 pixels and mirrored.

    Source: Examples/Image/Classification/ConvNet/Python/ConvNet_CIFAR10_DataAug.py. Published: "around 14%" error,
    14.2 % for the BrainScript network. CNTK crops 32x32 at random from training images padded to 40x40, mirrors half
    of them, and subtracts the mean image of the training set.
    Ours: docs/explanation/cifar10.md.
    """
    base = cifar10()
    return replace(
        base,
        name="cifar10-aug",
        data=DataSpec(
            name="cifar10",
            image_size=32,
            mean_image="train",
            scale=1 / 256,
            train_transforms=(
                Pad(pixels=4, value=128),
                Crop(crop_type="randomside", side_ratio=(0.8,), jitter_type="uniratio"),
            ),
        ),
        optimizer=replace(
            base.optimizer,
            momentum=(0.0,) * 20 + (600.0,) * 20 + (1200.0,),
            momentum_unit="time_constant_samples",
        ),
        schedule=ScheduleSpec(
            learning_rates=(0.0015625,) * 20
            + (0.00046875,) * 20
            + (0.00015625,) * 20
            + (0.000046875,) * 10
            + (0.000015625,),
            reference_batch_size=1,
        ),
        run=RunSpec(epochs=80, global_batch_size=64),
        published_error=0.14,
    )


def cifar10_aug_lrn() -> Recipe:
    """ConvNetLRN_CIFAR10_DataAug: cifar10-aug with local response normalization in the network.

    Source: Examples/Image/Classification/ConvNet/Python/ConvNetLRN_CIFAR10_DataAug.py. Published: 13.8 % error for the
    BrainScript network, and "0.1-0.2% better" than without normalization for the Python one.
    Ours: docs/explanation/cifar10.md.
    """
    base = cifar10_aug()
    return replace(
        base,
        name="cifar10-aug-lrn",
        model=replace(base.model, name="convnet-cifar10-lrn"),
        published_error=0.138,
    )


def cifar10_resnet20() -> Recipe:
    """ResNet-20 as CNTK's example trains it: 272,474 parameters, 160 epochs, images as cifar10-aug's.

    Source: network and schedule of He et al. 2015 (arXiv:1512.03385, 4.2) as in CNTK's example: rates 1, 0.1 and 0.01
    for a minibatch of 128 under unit gain, which are the paper's 0.1, 0.01 and 0.001; 1x1 convolutions in the
    shortcuts; unscaled pixels. Published: 8.75 % error. CNTK's network of 110 layers is the variant "110".
    """
    base = cifar10_aug()
    return replace(
        base,
        name="cifar10-resnet20",
        data=replace(base.data, scale=1.0),
        model=ModelSpec(name="resnet-cifar10"),
        optimizer=OptimizerSpec(
            momentum=(0.9,), momentum_unit="per_reference_batch", momentum_reference_batch_size=128, l2=0.0001
        ),
        schedule=ScheduleSpec(learning_rates=(1.0,) * 80 + (0.1,) * 40 + (0.01,), reference_batch_size=128),
        run=RunSpec(epochs=160, global_batch_size=128),
        published_error=0.0875,
    )


def cifar10_resnet20_short() -> Recipe:
    """The same network and images in 30 epochs: a one-cycle schedule up to 0.4, Nesterov momentum, five times the
    weight decay.

    `--epochs` stretches and shrinks its schedule. Source: super-convergence (L. Smith, N. Topin, arXiv:1708.07120).
    """
    base = cifar10_resnet20()
    return replace(
        base,
        name="cifar10-resnet20-short",
        optimizer=OptimizerSpec(name="nesterov", momentum=(0.9,), unit_gain=False, l2=0.0005),
        schedule=ScheduleSpec(kind="one_cycle", learning_rates=(0.4,), warmup_fraction=0.25),
        run=replace(base.run, epochs=30),
        published_error=None,
    )


def cifar10_fast() -> Recipe:
    """A modern network and recipe: a whitened first layer, batch norm, Muon, and progressive resizing.

    `--epochs` stretches and shrinks its schedule. Source of the ideas: airbench95 and airbench94_muon (Keller Jordan,
    2024); docs/experiments.md lists which of them were tried on two cores. Ours: docs/explanation/cifar10.md.
    """
    return Recipe(
        name="cifar10-fast",
        data=DataSpec(
            name="cifar10",
            image_size=32,
            mean=(125.0, 123.0, 114.0),
            scale=1 / 64,
            train_transforms=(
                Pad(side_ratio=0.125, value=128),
                Crop(crop_type="randomside", side_ratio=(0.8,), jitter_type="uniratio", hflip=False),
                AlternatingFlip(),
            ),
            progressive_sizes=(0.5, 0.75, 1.0),
        ),
        model=ModelSpec(name="whitened-convnet", variant="wide", dropout=(0.0,)),
        optimizer=OptimizerSpec(name="muon", momentum=(0.6,), unit_gain=False, bias_lr=100.0),
        schedule=ScheduleSpec(kind="one_cycle", learning_rates=(0.24,)),
        run=RunSpec(epochs=15, global_batch_size=512, label_smoothing=0.2),
    )
