"""Names of parts and how functions print."""
import cntk as C
import numpy as np
from cntk.layers import *
from cntk.logging import *
from cntk.logging.graph import *

x, y = C.input_variable((1, 8, 8), needs_gradient=True), C.input_variable(3)
net = Sequential([
    Sequential([Convolution2D((3, 3), 2, name="c1"), Activation(C.relu, name="r1"), Label("mid")], name="first"),
    For(range(2), lambda i: Dense(4, name="d%d" % i), name="dense"),
    ResNetBlock(Dense(4, name="inner"), name="skip"),
    Dense(3),
], name="all")
z = net(x)
loss = C.cross_entropy_with_softmax(z, y)
print(z)
print(loss)
print(net)
for name in ("c1", "r1", "mid", "first", "d1", "dense", "inner", "skip", "all", "none"):
    print(name, z.find_by_name(name), find_by_name(z, name) is None)
print([f.name for f in depth_first_search(z, lambda f: isinstance(f, C.Function) and f.name != "")])
print(z.first.shape, z.d0.W.shape, C.combine([z.mid]).outputs[0].shape)
log_number_of_parameters(z, trace_level=1)
try:
    print(x.owner)
except RuntimeError as error:
    print(str(error).splitlines()[0])
tied = np.array([1, 1, 0, 2, 2, -1, 0, -1] * 8).reshape(1, 8, 8)
for reduced in (C.reduce_max(x), C.reduce_min(x, axis=1), C.reduce_max(x, axis=(1, 2), keepdims=False)):
    print(reduced.grad({x: tied}).ravel().astype(int).tolist())
printer = ProgressPrinter(2)
printer.update(1.0, 3)
printer.update(2.0, 3)
printer.epoch_summary(with_metric=True)
printer.update(1.0, 2, 0.5)
printer.epoch_summary()
