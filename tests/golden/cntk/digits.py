"""Train a small network on MNIST with CNTK 2.7, and say what it answers: digits.model, digits.json.

    python digits.py MNIST SAMPLE

MNIST: the folder with the four files; SAMPLE: src/convolve/data/sample.
"""
import gzip
import json
import os
import sys

import cntk as C
import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))


def read(folder, part):
    images = gzip.open(os.path.join(folder, part + "-images-idx3-ubyte.gz")).read()
    labels = gzip.open(os.path.join(folder, part + "-labels-idx1-ubyte.gz")).read()
    pixels = np.frombuffer(images, np.uint8, offset=16).reshape(-1, 1, 28, 28).astype(np.float32)
    return pixels, np.frombuffer(labels, np.uint8, offset=8).astype(int)


def answers(z, pixels):
    return np.concatenate([z.eval({z.arguments[0]: pixels[at:at + 500]}) for at in range(0, len(pixels), 500)])


C.cntk_py.set_fixed_random_seed(1)
pixels = C.input_variable((1, 28, 28), name="pixels")
digit = C.input_variable(10)
with C.layers.default_options(activation=C.relu, pad=True):
    net = C.layers.Sequential([
        C.layers.Convolution2D((5, 5), 8, strides=2, name="conv1"),
        C.layers.Convolution2D((3, 3), 16, strides=2, name="conv2"),
        C.layers.Dense(10, activation=None, name="scores"),
    ])
z = net(pixels / 256)
criteria = C.cross_entropy_with_softmax(z, digit), C.classification_error(z, digit)

x, y = read(sys.argv[1], "train")
rate = C.learning_parameter_schedule_per_sample([0.002] * 2 + [0.0005], epoch_size=len(x))
learner = C.momentum_sgd(z.parameters, rate, C.momentum_as_time_constant_schedule(1024))
trainer = C.Trainer(z, criteria, [learner])
rng, one_hot = np.random.RandomState(0), np.eye(10, dtype=np.float32)
for epoch in range(3):
    order = rng.permutation(len(x))
    for at in range(0, len(x), 64):
        rows = order[at:at + 64]
        trainer.train_minibatch({pixels: x[rows], digit: one_hot[y[rows]]})

z.save(os.path.join(HERE, "digits.model"))
test, truth = read(sys.argv[1], "t10k")
sample, _ = read(sys.argv[2], "t10k")
scores = answers(z, sample)
said = {
    "mnist_errors": int((answers(z, test).argmax(1) != truth).sum()),
    "sample_classes": "".join(map(str, scores.argmax(1))),
    "sample_scores": [[round(float(score), 5) for score in row] for row in scores[:20]],
}
with open(os.path.join(HERE, "digits.json"), "w") as file:
    json.dump(said, file)
    file.write("\n")
print(said["mnist_errors"])
