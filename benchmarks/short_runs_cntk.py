"""The augmented trainings of short_runs.py by CNTK 2.7 itself: where among its seeds does the log of CNTK's CI lie?

    python benchmarks/short_runs_cntk.py ConvNet_CIFAR10_DataAug data/CIFAR-10 [--seeds 10]

For the Python 3.6 of CNTK 2.7; needs nothing of convolve. The folder is what `convolve prepare cifar10` writes. Prints
a line for each epoch, and at the end the figures by the names that short_runs.json has.
"""

import argparse
import json
from pathlib import Path

import cntk  # type: ignore[import-not-found]
from cntk.io import ImageDeserializer, MinibatchSource, StreamDef, StreamDefs, transforms  # type: ignore[import-not-found]
from cntk.layers import Convolution2D, Dense, Dropout, MaxPooling  # type: ignore[import-not-found]

HAS_LRN = {"ConvNet_CIFAR10_DataAug": False, "ConvNetLRN_CIFAR10_DataAug": True}
EPOCHS, EPOCH_SAMPLES, BATCH = 3, 4096, 64


def network(pixels: cntk.Function, has_lrn: bool) -> cntk.Function:
    """The BrainScript example: its pools are not padded, unlike those of CNTK's Python example."""
    h = pixels * (1 / 256)
    for _ in range(2):
        for _ in range(2):
            h = Convolution2D((3, 3), 64, pad=True, activation=cntk.relu)(h)
        if has_lrn:
            h = cntk.local_response_normalization(h, 4, 1.0, 0.001, 0.75)
        h = MaxPooling((3, 3), (2, 2), pad=False)(h)
    for width in (256, 128):
        h = Dropout(0.5)(Dense(width, activation=cntk.relu)(h))
    return Dense(10)(h)


def reader(data: Path, seed: int) -> MinibatchSource:
    chain = [
        transforms.crop(crop_type="randomside", side_ratio=0.8, jitter_type="uniratio"),
        transforms.scale(width=32, height=32, channels=3, interpolations="linear"),
        transforms.mean(str(data / "CIFAR-10_mean.xml")),
    ]
    streams = StreamDefs(pixels=StreamDef("image", transforms=chain), labels=StreamDef("label", shape=10))
    return MinibatchSource(ImageDeserializer(str(data / "train_map.txt"), streams), randomization_seed=seed)


def short_run(example: str, data: Path, seed: int) -> "dict[str, float]":
    """Loss and error of each epoch, by the names of short_runs.py."""
    # set_fixed_random_seed would give layers of one shape the same numbers.
    cntk.cntk_py.reset_random_seed(1000 * seed + 1)
    pixels, labels = cntk.input_variable((3, 32, 32)), cntk.input_variable(10)
    scores = network(pixels, HAS_LRN[example])
    rate = cntk.learning_parameter_schedule_per_sample(0.0015625)
    learner = cntk.sgd(scores.parameters, rate, l2_regularization_weight=0.002)
    criteria = cntk.cross_entropy_with_softmax(scores, labels), cntk.classification_error(scores, labels)
    trainer, source = cntk.Trainer(scores, criteria, learner), reader(data, seed)
    streams = {pixels: source.streams.pixels, labels: source.streams.labels}
    found = {}
    for epoch in range(1, EPOCHS + 1):
        loss = errors = 0.0
        for _ in range(EPOCH_SAMPLES // BATCH):
            trainer.train_minibatch(source.next_minibatch(BATCH, input_map=streams))
            loss += trainer.previous_minibatch_loss_average * BATCH
            errors += trainer.previous_minibatch_evaluation_average * BATCH
        loss, errors = loss / EPOCH_SAMPLES, errors / EPOCH_SAMPLES
        found[f"ce {epoch}"], found[f"errs {epoch}"] = loss, errors
        print(f"seed {seed}, epoch {epoch}: ce {loss:.5f}, errs {errors:.5f}", flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("example", choices=sorted(HAS_LRN))
    parser.add_argument("data", type=Path)
    parser.add_argument("--seeds", type=int, default=10)
    arguments = parser.parse_args()
    runs = {str(seed): short_run(arguments.example, arguments.data, seed) for seed in range(arguments.seeds)}
    print(json.dumps(runs, indent=2))


if __name__ == "__main__":
    main()
