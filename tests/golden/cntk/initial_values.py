"""What CNTK 2.7 draws for the networks of our recipes, run once with its Python: initial_values.py OUT.json.

Of each network the SHA-256 of each weight in CNTK's layout, and at 16x16 pixels that `pixels` makes the loss of three
minibatches: of ConvNet for CIFAR-10 with dropout, of the tiny twin of ResNet-20 trained by batches of 8, and tested then.
"""

import hashlib
import json
import sys

import cntk as C
import numpy as np

relu, normal = C.ops.relu, C.normal


def pixels(batch):
    return (np.arange(batch, batch + 8 * 3 * 16 * 16) * 7919 % 251 / 251 - 0.5).astype(np.float32).reshape(8, 3, 16, 16)


def hashes(z, names):
    values = [getattr(z, name).W.value for name in names]
    return {name: hashlib.sha256(value.tobytes()).hexdigest() for name, value in zip(names, values)}


def convnet_cifar10():
    x, y = C.input_variable((3, 16, 16)), C.input_variable(10)
    pool = C.layers.MaxPooling((3, 3), (2, 2), pad=True)
    with C.layers.default_options(activation=relu):
        z = C.layers.Sequential(
            [
                C.layers.Convolution2D((3, 3), 64, pad=True, name="conv1"),
                C.layers.Convolution2D((3, 3), 64, pad=True, name="conv2"),
                pool,
                C.layers.Convolution2D((3, 3), 64, pad=True, name="conv3"),
                C.layers.Convolution2D((3, 3), 64, pad=True, name="conv4"),
                pool,
                C.layers.Dense(256, name="fc1"),
                C.layers.Dropout(0.5),
                C.layers.Dense(128, name="fc2"),
                C.layers.Dropout(0.5),
                C.layers.Dense(10, activation=None, name="fc3"),
            ]
        )(x)
    loss = C.cross_entropy_with_softmax(z, y)
    found = hashes(z, ["conv1", "conv2", "conv3", "conv4", "fc1", "fc2", "fc3"])
    trainer = C.Trainer(z, (loss, loss), C.sgd(z.parameters, C.learning_parameter_schedule(0.0)))
    losses = []
    for batch in range(3):
        trainer.train_minibatch({x: pixels(batch), y: np.eye(10, dtype=np.float32)[:8]})
        losses.append(trainer.previous_minibatch_loss_average)
    return {"weights": found, "losses": losses}


def alexnet():
    x = C.input_variable((3, 67, 67))
    with C.layers.default_options(activation=relu):
        z = C.layers.Sequential(
            [
                C.layers.Convolution2D((11, 11), 6, init=normal(0.01), strides=4, name="conv1"),
                C.layers.MaxPooling((3, 3), (2, 2), pad=True),
                C.layers.Convolution2D((5, 5), 8, init=normal(0.01), pad=True, name="conv2"),
                C.layers.MaxPooling((3, 3), (2, 2), pad=True),
                C.layers.Convolution2D((3, 3), 12, init=normal(0.01), pad=True, name="conv3"),
                C.layers.Convolution2D((3, 3), 12, init=normal(0.01), pad=True, name="conv4"),
                C.layers.Convolution2D((3, 3), 8, init=normal(0.01), pad=True, name="conv5"),
                C.layers.MaxPooling((3, 3), (2, 2), pad=True),
                C.layers.Dense(16, init=normal(0.005), name="fc6"),
                C.layers.Dropout(0.5),
                C.layers.Dense(16, init=normal(0.005), name="fc7"),
                C.layers.Dropout(0.5),
                C.layers.Dense(10, init=normal(0.01), activation=None, name="fc8"),
            ]
        )(x)
    return {"weights": hashes(z, ["conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8"])}


def resnet():
    x, y = C.input_variable((3, 16, 16)), C.input_variable(10)

    def normalized(x, size, maps, stride, name):
        h = C.layers.Convolution2D(size, maps, strides=stride, pad=True, bias=False, init=C.he_normal(), name=name)(x)
        return C.layers.BatchNormalization(map_rank=1, normalization_time_constant=4096)(h)

    def block(x, maps, stride, name):
        h = relu(normalized(x, (3, 3), maps, stride, name + ".conv1"))
        h = normalized(h, (3, 3), maps, 1, name + ".conv2")
        return relu(h + (normalized(x, (1, 1), maps, stride, name + ".downsample.0") if stride > 1 else x))

    h = relu(normalized(x, (3, 3), 4, 1, "conv1"))
    h = block(block(h, 4, 1, "layer1.0"), 8, 2, "layer2.0")
    z = C.layers.Dense(10, init=normal(0.01), name="fc")(C.layers.AveragePooling((8, 8))(h))
    blocks = [f"layer{stage}.0.conv{number}" for stage in (1, 2) for number in (1, 2)]
    found = hashes(z, ["conv1", *blocks, "layer2.0.downsample.0", "fc"])
    loss = C.cross_entropy_with_softmax(z, y)
    learner = C.momentum_sgd(
        z.parameters,
        C.learning_parameter_schedule(1.0, minibatch_size=128),
        C.momentum_schedule(0.9, minibatch_size=128),
        l2_regularization_weight=1e-4,
    )
    trainer, losses = C.Trainer(z, (loss, loss), learner), []
    for batch in range(3):
        feed = {x: pixels(batch), y: np.eye(10, dtype=np.float32)[:8]}
        trainer.train_minibatch(feed)
        losses.append(trainer.previous_minibatch_loss_average)
    return {"weights": found, "losses": losses, "test_loss": trainer.test_minibatch(feed)}


answers = {}
for name, network in (("convnet-cifar10", convnet_cifar10), ("alexnet-python", alexnet), ("resnet-cifar10", resnet)):
    C.cntk_py.reset_random_seed(3)
    answers[name] = network()
with open(sys.argv[1], "w") as out:
    json.dump(answers, out, indent=1)
