"""Small networks of Keras by way of tf2onnx, and what Keras answers: run by a Python that has tensorflow and tf2onnx.

python keras_networks.py tests/golden/importers/keras.zip

Made with tensorflow 2.21.0, Keras 3.15.1, tf2onnx 1.17.0. Keras' Normalization is not among them, which tf2onnx turns
into inputs of the file, nor are its gelu and grouped convolutions, which become operators that ONNX does not have.
"""

from __future__ import annotations

import io
import sys
import zipfile
from typing import Any

import numpy as np

SHAPES = {"sequence": (28, 28, 1), "binary": (32, 32, 3), "labels": (32, 48, 3), "attention": (40, 40, 3)}


def images(name: str) -> np.ndarray:
    return np.random.default_rng(0).uniform(0, 255, (3, *SHAPES[name])).astype(np.float32)


def network(name: str) -> Any:
    from keras import Input, Model, Sequential
    from keras import layers as L

    x = given = Input(SHAPES[name])
    if name == "sequence":
        return Sequential([
            given, L.Conv2D(8, 3, activation="relu"), L.MaxPooling2D(),
            L.Conv2D(16, 3, padding="same", strides=2, activation="swish"), L.BatchNormalization(),
            L.SeparableConv2D(16, 3, padding="same"), L.Flatten(), L.Dropout(0.5), L.Dense(10, activation="softmax"),
        ])  # fmt: skip
    if name == "binary":
        return Sequential([
            given, L.Rescaling(1 / 255), L.Conv2D(8, 5, strides=2, padding="same"), L.LeakyReLU(),
            L.DepthwiseConv2D(3, padding="same"), L.PReLU(shared_axes=[1, 2]), L.GlobalAveragePooling2D(),
            L.Dense(1, activation="sigmoid"),
        ])  # fmt: skip
    if name == "labels":
        x = L.ELU()(L.LayerNormalization()(L.Conv2D(8, 3, padding="same")(L.Rescaling(1 / 127.5, -1)(x))))
        y = L.AveragePooling2D(3, 2, padding="same")(L.Conv2DTranspose(8, 3, strides=2, padding="same")(x))
        x = L.UpSampling2D(2)(L.UpSampling2D(2, interpolation="bilinear")(L.Concatenate()([x, y])))
        return Model(given, L.Dense(5, activation="sigmoid")(L.GlobalMaxPooling2D()(x)))
    x = L.Cropping2D(((2, 0), (1, 1)))(L.ZeroPadding2D(((1, 2), (0, 3)))(L.Rescaling(1 / 255)(x)))
    x = L.GroupNormalization(4)(L.Conv2D(12, 3, dilation_rate=2, padding="same", use_bias=False)(x))
    x = L.DepthwiseConv2D(5, strides=2)(L.ReLU(6.0)(x))
    gate = L.Conv2D(12, 1, activation="hard_sigmoid")(L.GlobalAveragePooling2D(keepdims=True)(x))
    x = L.Reshape((-1, 12))(L.Multiply()([x, gate]))
    return Model(given, L.Dense(4)(L.GlobalAveragePooling1D()(L.MultiHeadAttention(2, 6)(x, x))))


def main(path: str) -> None:
    import keras
    import tensorflow as tf
    import tf2onnx

    keras.utils.set_random_seed(0)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, shape in SHAPES.items():
            model, answers = network(name), io.BytesIO()
            for weight in model.weights:  # those that begin at 0 or 1 would hide what they do
                weight.assign(weight + 0.1 * abs(np.random.default_rng(1).normal(size=weight.shape)))
            taken = (tf.TensorSpec((None, *shape), tf.float32, name="input"),)
            asked = tf.function(lambda x, model=model: model(x, training=False), input_signature=taken)
            made, _ = tf2onnx.convert.from_function(asked, input_signature=taken, opset=13)
            np.save(answers, np.asarray(model(images(name), training=False)))
            archive.writestr(f"{name}.onnx", made.SerializeToString())
            archive.writestr(f"{name}.npy", answers.getvalue())


if __name__ == "__main__":
    main(sys.argv[1])
