"""Functions of CNTK's Python API: shapes, names, copies, as the real CNTK 2.7 answered."""

import numpy as np
import pytest

import convolve.cntk as C


def test_parameters_take_their_sizes_when_a_layer_is_applied() -> None:
    x = C.input_variable((3, 4), name="x")
    layer = C.layers.Dense(5, activation=C.relu, name="d")
    assert [str(p) for p in layer.parameters] == ["Parameter('W', [], [? x 5])", "Parameter('b', [], [5])"]
    with pytest.raises(ValueError, match="unknown dimensions"):
        layer.W.value  # noqa: B018
    z = layer(x)
    assert str(z) == "d: Dense(x: Tensor[3,4]) -> Tensor[5]"
    assert [(p.name, p.shape) for p in layer.parameters] == [("W", (3, 4, 5)), ("b", (5,))]
    with pytest.raises(RuntimeError, match=r"Times: The left operand .* must be >= #axes"):
        layer(C.input_variable((7,)))


def network() -> C.Function:
    layers = [
        C.layers.Convolution2D((3, 3), 4, pad=True, activation=C.relu, name="c1"),
        C.layers.MaxPooling((2, 2), strides=2, name="p1"),
        C.layers.Dense(3, name="fc"),
    ]
    return C.layers.Sequential(layers)(C.input_variable((1, 8, 8), name="img"))


def test_search_goes_as_cntks_does() -> None:
    net = network()
    assert [str(item) for item in C.logging.graph.depth_first_search(net, lambda item: True)] == [
        "fc: Dense(p1: Tensor[4,4,4]) -> Tensor[3]", "Parameter('W', [], [4 x 4 x 4 x 3])", "Parameter('b', [], [3])",
        "p1: MaxPooling(c1: Tensor[4,8,8]) -> Tensor[4,4,4]", "c1: Convolution(img: Tensor[1,8,8]) -> Tensor[4,8,8]",
        "Parameter('W', [], [4 x 1 x 3 x 3])", "Parameter('b', [], [4 x 1 x 1])", "Input('img', [#], [1 x 8 x 8])",
    ]  # fmt: skip
    assert (net.fc.W.shape, net.c1.W.shape) == ((4, 4, 4, 3), (4, 1, 3, 3))
    assert [p.shape for p in net.parameters] == [(4, 4, 4, 3), (3,), (4, 1, 3, 3), (4, 1, 1)]


def test_a_frozen_copy_has_constants_of_its_own() -> None:
    net = network()
    frozen = net.clone(C.CloneMethod.freeze, {net.arguments[0]: C.placeholder(name="features")})
    assert (len(frozen.parameters), len(frozen.constants)) == (0, 4)
    head = C.layers.Dense(2)(frozen(C.input_variable((1, 8, 8))))
    assert head.shape == (2,)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({}, "expects 1 arguments"),
        (np.ones((2, 3, 5), np.float32), "do not match the Variable"),
        ((np.ones(3), np.ones(3)), "trailing dimensions|Value rank"),
    ],
)
def test_what_does_not_fit_is_refused(arguments: object, message: str) -> None:
    x = C.input_variable((3, 4), name="x")
    with pytest.raises(ValueError, match=message):
        (x + 1).eval(arguments)


def test_numbers_of_every_kind_are_taken() -> None:
    x = C.input_variable((3, 4), name="x")
    shapes = [(x + 1).eval({key: np.ones(shape, dtype)}).shape for key, shape, dtype in [
        (x, (2, 3, 4), "f8"), (x, (3, 4), "f4"), ("x", (2, 3, 4), "i8"),
    ]]  # fmt: skip
    assert shapes == [(2, 3, 4), (1, 3, 4), (2, 3, 4)]


def test_operators_that_cntk_does_not_have_are_refused_by_python() -> None:
    x = C.input_variable((3, 4))
    with pytest.raises(TypeError):
        x**2
    with pytest.raises(TypeError):
        x > 0  # noqa: B015


def test_types_do_not_mix() -> None:
    with pytest.raises(ValueError, match="'Float' and 'Double'"):
        C.input_variable(2) + C.input_variable(2, dtype=np.float64)


def test_gradients_are_those_of_the_sum() -> None:
    x = C.input_variable(3, needs_gradient=True)
    assert np.array_equal(C.square(x).grad(np.float32([[1, 2, 3]])), np.float32([[2, 4, 6]]))


def test_what_is_not_supported_is_said_with_a_way_out() -> None:
    with pytest.raises(NotImplementedError, match="recurrence"):
        C.layers.LSTM(3)
