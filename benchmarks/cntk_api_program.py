"""CNTK's ConvNets for MNIST and CIFAR-10, as a program for CNTK 2.7 has them: how many samples a second it trains.

    python cntk_api_program.py ConvNet_MNIST TRAIN.ctf STEPS

Runs as it stands under CNTK 2.7 (Python 3.6) and under `convolve run`; cntk_api.py calls it. Prints samples a second,
as JSON: by the clock on the wall, and by the processor's.
"""

import json
import sys
import time

import cntk as C  # type: ignore[import-not-found]
from cntk.io import INFINITELY_REPEAT, CTFDeserializer, MinibatchSource, StreamDef, StreamDefs  # type: ignore[import-not-found]
from cntk.layers import Convolution2D, Dense, Dropout, For, MaxPooling, Sequential  # type: ignore[import-not-found]

BATCH, WARM_UP = 64, 10
SHAPES = {"ConvNet_MNIST": (1, 28, 28), "ConvNet_CIFAR10": (3, 32, 32)}


def mnist_network() -> C.Function:
    with C.layers.default_options(activation=C.ops.relu, pad=False):
        return Sequential([
            Convolution2D((5, 5), 32, pad=True), MaxPooling((3, 3), (2, 2)), Convolution2D((3, 3), 48),
            MaxPooling((3, 3), (2, 2)), Convolution2D((3, 3), 64), Dense(96), Dropout(0.5), Dense(10, activation=None),
        ])  # fmt: skip


def cifar10_network() -> C.Function:
    with C.layers.default_options(activation=C.ops.relu, pad=True):
        return Sequential([
            For(range(2), lambda: [Convolution2D((3, 3), 64), Convolution2D((3, 3), 64), MaxPooling((3, 3), (2, 2))]),
            For(range(2), lambda i: [Dense([256, 128][i]), Dropout(0.5)]),
            Dense(10, activation=None),
        ])  # fmt: skip


def main() -> None:
    example, path, steps = sys.argv[1], sys.argv[2], int(sys.argv[3])
    shape = SHAPES[example]
    pixels, labels = C.input_variable(shape), C.input_variable(10)
    network = mnist_network() if example == "ConvNet_MNIST" else cifar10_network()
    scores = network(C.element_times(1 / 256.0, pixels))
    criteria = C.cross_entropy_with_softmax(scores, labels), C.classification_error(scores, labels)
    rate = C.learning_parameter_schedule_per_sample(0.0015625)
    momentum = C.momentum_as_time_constant_schedule(1024)
    learner = C.momentum_sgd(scores.parameters, rate, momentum, l2_regularization_weight=0.0005)
    trainer = C.Trainer(scores, criteria, learner)
    streams = StreamDefs(pixels=StreamDef("features", shape[0] * shape[1] * shape[2]), labels=StreamDef("labels", 10))
    source = MinibatchSource(CTFDeserializer(path, streams), max_sweeps=INFINITELY_REPEAT)
    input_map = {pixels: source.streams.pixels, labels: source.streams.labels}
    for step in range(WARM_UP + steps):
        if step == WARM_UP:
            start = time.perf_counter(), time.process_time()
        data = source.next_minibatch(BATCH, input_map=input_map)
        trainer.train_minibatch(data)
    seconds = {"wall": time.perf_counter() - start[0], "processor": time.process_time() - start[1]}
    print(json.dumps({clock: BATCH * steps / each for clock, each in seconds.items()}))


main()
