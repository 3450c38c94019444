"""A saved network: its parts by name, features of an inner layer, a text of features, a distance to labels of nothing."""
from __future__ import print_function
import os
import tempfile

import numpy as np
import cntk as C
from cntk import combine, load_model
from cntk.logging.graph import find_by_name, get_node_outputs

C.cntk_py.set_fixed_random_seed(7)
folder = tempfile.mkdtemp()
path = os.path.join(folder, "net.model")
x = C.input_variable((3, 8, 8), name="features")
with C.layers.default_options(activation=C.relu, pad=True):
    h = C.layers.Sequential([C.layers.Convolution((3, 3), 4, strides=2, name="c1"), C.layers.AveragePooling((2, 2), strides=2, pad=False, name="pooled")])(x - 114)
C.layers.Dense(6, name="prediction")(h).save(path)
net = load_model(path)
for node in get_node_outputs(net):
    print(node.name, node.shape)
draw = np.random.RandomState(0)
X = draw.randint(0, 256, (64, 3, 8, 8)).astype(np.float32)
Y = np.eye(6, dtype=np.float32)[draw.randint(0, 6, 64)]
features = combine([net.find_by_name("pooled").owner])
with open(os.path.join(folder, "features.txt"), "wb") as file:
    for image in X[:3]:
        np.savetxt(file, features.eval({features.arguments[0]: [image]})[0].flatten()[np.newaxis], fmt="%.3f")
print(open(os.path.join(folder, "features.txt")).read())
print(net.owner.name, net.prediction.owner.name, find_by_name(net, "c1").owner.shape)
labels = C.input_variable(6)
distance = C.cosine_distance(C.sigmoid(net), labels)
none = np.zeros((2, 6), np.float32)  # images without a label
print(distance.eval({net.arguments[0]: X[:2], labels: none}), np.abs(distance.grad({net.arguments[0]: X[:2], labels: none}, wrt=[net.prediction.W])).sum())
probabilities = C.softmax(net).eval(X[:3])
print(probabilities.argmax(1), ["%.5f" % v for v in probabilities.max(1)])
