"""Operations of a program's own, names that star imports bring, and a layer that uses both."""
from cntk.layers import *
from cntk.losses import *
from cntk.ops.functions import UserFunction
from cntk import output_variable, user_function

C.cntk_py.set_fixed_random_seed(1)


class Swish(UserFunction):
    def __init__(self, arg, name="Swish"):
        super(Swish, self).__init__([arg], name=name)

    def forward(self, argument, device=None, outputs_to_retain=None):
        s = 1 / (1 + np.exp(-argument))
        return (argument, s), argument * s

    def backward(self, state, root_gradients):
        x, s = state
        return root_gradients * (s + x * s * (1 - s))

    def infer_outputs(self):
        return [output_variable(self.inputs[0].shape, self.inputs[0].dtype, self.inputs[0].dynamic_axes)]


class Mix(UserFunction):
    """Two inputs, two outputs, and a setting that a copy must keep."""

    def __init__(self, a, b, factor=2.0, name="mix"):
        self.factor = factor
        super(Mix, self).__init__([a, b], name=name)

    def clone(self, cloned_inputs):
        return Mix(cloned_inputs[0], cloned_inputs[1], self.factor, self.name)

    def forward(self, arguments, outputs, device=None, outputs_to_retain=None):
        first, second = sorted(outputs, key=lambda output: output.name)
        outputs[first], outputs[second] = arguments[0] * self.factor, arguments[1] + arguments[0]

    def backward(self, state, root_gradients, variables):
        of = {output.name: value for output, value in root_gradients.items()}
        for variable in variables:
            variables[variable] = of["o2"] + (of["o1"] * self.factor if variable == self.inputs[0] else 0)

    def infer_outputs(self):
        return [output_variable(i.shape, i.dtype, i.dynamic_axes, name=n) for i, n in zip(self.inputs, ("o1", "o2"))]


x, y = C.input_variable(4, name="x", needs_gradient=True), C.input_variable(3)
f = user_function(Swish(x))
X = np.arange(8).reshape(2, 4).astype(np.float32) / 4 - 1
print(f.shape, ["%.5f" % v for v in f.eval({x: X}).ravel()])
print(["%.5f" % v for v in f.grad({x: X}).ravel()])
net = Sequential([Dense(5), lambda v: user_function(Swish(v)), Dense(3)])
z = net(x)
loss = cross_entropy_with_softmax(z, y)
trainer = C.Trainer(z, (loss, C.classification_error(z, y)), C.sgd(z.parameters, C.learning_parameter_schedule(0.5)), C.logging.ProgressPrinter(2))
draw = np.random.RandomState(0)
for step in range(6):
    trainer.train_minibatch({x: draw.randn(8, 4), y: np.eye(3)[draw.randint(0, 3, 8)]})
a, b = C.input_variable(2, needs_gradient=True, name="a"), C.input_variable(2, needs_gradient=True, name="b")
mixed = user_function(Mix(a, b, 3.0)).clone("clone")
a, b = [each for name in "ab" for each in mixed.arguments if each.name == name]
ones = {a: np.ones((1, 2)), b: np.ones((1, 2)) * 3}
print([(output.name, output.shape) for output in mixed.outputs])
print(sorted((k.name, v.tolist()) for k, v in mixed.eval(ones).items()))
summed = mixed.outputs[0] * 3 + mixed.outputs[1]
print(sorted((k.name, v.tolist()) for k, v in summed.grad(ones, wrt=[a, b]).items()))
print([n.op_name for n in C.logging.graph.depth_first_search(z, lambda n: isinstance(n, Function))])
print(Constant is C.Constant, InferredDimension, tanh(Constant(0.5)).eval(), np.float32(1))
