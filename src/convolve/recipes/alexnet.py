"""AlexNet on ILSVRC2012: CNTK's two recipes, and a modern one for the same maps."""

from dataclasses import replace

from convolve.recipe import Recipe
from convolve.specs.data import DataSpec
from convolve.specs.model import ModelSpec
from convolve.specs.optimizer import OptimizerSpec
from convolve.specs.run import RunSpec
from convolve.specs.schedule import ScheduleSpec
from convolve.transforms.crop import Crop
from convolve.transforms.scale import Scale

SIDE = 227
_SIDE_RATIO = 0.88671875  # 227 / 256


def alexnet() -> Recipe:
    """AlexNet_ImageNet as in CNTK's BrainScript configuration: 62,003,496 parameters, 112 epochs.

    Source: Examples/Image/Classification/AlexNet/BrainScript/AlexNet_ImageNet.cntk. Published: 40.106 % top-1 and
    17.746 % top-5 error of one center crop. CNTK cuts squares of 227/256 of the shorter side out of each photograph, at
    random, mirrors half of them and scales them to 227x227.
    """
    return Recipe(
        name="alexnet",
        data=DataSpec(
            name="ilsvrc2012",
            image_size=SIDE,
            resize="square",
            crop_ratio=_SIDE_RATIO,
            mean=(114.0,),
            scale=1.0,
            train_transforms=(
                Crop(crop_type="randomside", side_ratio=(_SIDE_RATIO,), jitter_type="uniratio"),
                Scale(SIDE, SIDE),
            ),
            damaged_limit=100,
            orientation="cntk",
        ),
        model=ModelSpec(name="alexnet", dropout=(0.5,)),
        optimizer=OptimizerSpec(
            name="momentum_sgd",
            momentum=(0.9,),
            momentum_unit="per_reference_batch",
            momentum_reference_batch_size=256,
            l2=0.0005,
        ),
        schedule=ScheduleSpec(
            learning_rates=(0.1,) * 25 + (0.01,) * 25 + (0.001,) * 25 + (0.0001,) * 25 + (0.00001,),
            reference_batch_size=256,
        ),
        run=RunSpec(epochs=112, global_batch_size=256),
        published_error=0.40106,
    )


def alexnet_python() -> Recipe:
    """AlexNet_ImageNet_Distributed as in CNTK's Python script: 75,634,984 parameters, because its pooling pads.

    Source: Examples/Image/Classification/AlexNet/Python/AlexNet_ImageNet_Distributed.py. Published: 59.9 % top-1
    accuracy for either network. The rates are a tenth of CNTK's, for the mean gradient and without unit gain: the same
    updates.
    """
    base = alexnet()
    return replace(
        base,
        name="alexnet-python",
        model=replace(base.model, name="alexnet-python"),
        optimizer=OptimizerSpec(
            name="momentum_sgd", momentum=(0.9,), momentum_unit="per_minibatch", unit_gain=False, l2=0.0005
        ),
        schedule=ScheduleSpec(
            learning_rates=(0.01,) * 25 + (0.001,) * 25 + (0.0001,) * 25 + (0.00001,) * 25 + (0.000001,)
        ),
        published_error=0.401,
    )


def alexnet_modern() -> Recipe:
    """The same feature maps with batch normalization at a sixth of the cost: images grow from 128 to 227 pixels in 30
    epochs.

    Crops of 25 to 100 % of the area, a cosine schedule with warm-up, Nesterov momentum, label smoothing, and a moving
    average of the weights (EMA). We have not trained it on ILSVRC2012; docs/explanation/alexnet.md says what it was
    trained on.
    """
    base = alexnet()
    crop = Crop(crop_type="randomarea", area_ratio=(0.25, 1.0), aspect_ratio=(0.75, 1.0), jitter_type="uniratio")
    return replace(
        base,
        name="alexnet-modern",
        data=replace(
            base.data,
            orientation="exif",
            mean=(124.0, 117.0, 104.0),
            scale=1 / 58,
            train_transforms=(crop, Scale(SIDE, SIDE)),
            progressive_sizes=(128.0, 160.0, 192.0, 227.0),
        ),
        model=ModelSpec(name="alexnet-batch-norm", dropout=(0.3,)),
        optimizer=OptimizerSpec(
            name="nesterov", momentum=(0.9,), unit_gain=False, l2=0.00005, penalize_batch_norm=False
        ),
        schedule=ScheduleSpec(kind="cosine", learning_rates=(0.1,), warmup_fraction=0.1),
        run=RunSpec(epochs=30, global_batch_size=256, label_smoothing=0.1, ema_epochs=0.5),
        published_error=None,
    )
