"""Operations at their edges, as the real CNTK 2.7 answered: open sizes, gradients, axes of the batch."""

from typing import Any

import numpy as np
import pytest

import convolve.cntk as C

ANY = C.FreeDimension


@pytest.mark.parametrize(
    "shape, to, begin, end, wanted",
    [
        ((ANY, 2, 3), (-1,), 0, 2, (ANY, 3)),
        ((ANY, 2, 3), (-1,), 1, 3, (ANY, 6)),
        ((ANY, 2, 3), (4,), 0, 2, (4, 3)),
        ((ANY, ANY, ANY), (5, -1, 4), None, None, (5, ANY, 4)),
    ],
)
def test_a_reshape_of_open_sizes(shape: tuple, to: tuple, begin: int, end: int, wanted: tuple) -> None:
    assert C.reshape(C.input_variable(shape), to, begin, end).shape == wanted


def test_what_does_not_fill_a_shape_is_refused_when_it_is_fed() -> None:
    x = C.input_variable((ANY, 2, 3))
    with pytest.raises(ValueError, match="Reshape"):
        C.reshape(x, (4,), 0, 2).eval({x: np.zeros((1, 2, 3))})


def test_an_open_size_is_that_of_the_weight_it_meets() -> None:
    w = C.parameter(init=np.eye(2, dtype=np.float32))
    x = C.input_variable((ANY, C.InferredDimension))
    assert C.times(x, w).shape == (ANY, 2)
    assert x.shape == (ANY, 2)
    with pytest.raises(ValueError, match="do not match the Variable"):
        C.times(x, w).eval({x: np.zeros((1, 3), np.float32)})
    y = C.input_variable((C.InferredDimension, C.InferredDimension, 3))
    assert C.splice(y, C.constant(0, shape=(3, C.InferredDimension, 3)), axis=0).shape == (-1, -1, 3)


def test_gradients_where_a_function_has_none() -> None:
    x = C.input_variable((4,), needs_gradient=True)
    found = C.log(x).grad(np.array([[-1, 0, 0.5, 2]], np.float32))
    assert np.allclose(found, [[9.08782e36, 9.08782e36, 2, 0.5]], rtol=1e-5)
    e = C.input_variable((3,), needs_gradient=True)
    power = C.pow(C.constant([0, -1.0, 2]), e)
    assert np.allclose(power.grad(np.array([[2.0, 2, 2]], np.float32)), [[0, 0, 2.7725887]])
    assert np.allclose(
        C.pow(x, C.constant([0.5, 2, 3, -1])).grad(np.array([[0, -1, 2, 1]], np.float32))[0, 1:], [-2, 12, -1]
    )


def test_the_axis_of_the_batch_can_be_taken_off_and_put_on() -> None:
    data = np.arange(12, dtype=np.float32).reshape(2, 2, 3)
    x = C.input_variable((2, 3))
    flat = C.reshape(C.unpack_batch(x), (-1, 3))
    assert (flat.shape, flat.dynamic_axes) == ((ANY, 3), ())
    back = C.to_batch(flat)
    assert (back.shape, len(back.dynamic_axes)) == ((3,), 1)
    assert np.array_equal((back * 2).eval({x: data}), data.reshape(4, 3) * 2)
    assert np.array_equal((back * 2).eval({x: data[:1]}), data[0] * 2)  # another batch
    a = C.parameter((4, 2, 3), init=1)
    assert np.array_equal((x * C.to_batch(a)).grad({x: np.tile(data, (2, 1, 1))}, [a]), np.tile(data, (2, 1, 1)))


def test_kernels_without_channels() -> None:
    x = C.input_variable((3, 3))
    kernel = C.constant(np.arange(4, dtype=np.float32).reshape(2, 2))
    made = C.convolution(kernel, x, auto_padding=[True], reduction_rank=0)
    data = np.arange(9, dtype=np.float32).reshape(1, 3, 3)
    assert np.array_equal(made.eval({x: data}), [[[[19, 25, 10], [37, 43, 16], [7, 8, 0]]]])
    assert C.convolution(C.parameter((2, 2, 2)), x, reduction_rank=0).shape == (2, 3, 3)
    turned = C.convolution_transpose(kernel, x, auto_padding=[False], reduction_rank=0)
    assert np.array_equal(turned.eval({x: data})[0, 0, 0], [0, 0, 1, 2])
    layer = C.layers.Convolution1D(3, init=np.array([4, 2, 1]), pad=True, reduction_rank=0, bias=False)
    layer.update_signature(5)
    assert np.array_equal(layer([np.array([[2, 6, 4, 8, 6]])]), [[10, 24, 40, 38, 44]])


def test_unpooling_of_open_sizes() -> None:
    x, fixed = C.input_variable((4, ANY, ANY)), C.input_variable((4, 6, 9))
    data = np.arange(4 * 54, dtype=np.float32).reshape(1, 4, 6, 9)
    answers = [
        C.unpooling(C.pooling(each, C.MAX_POOLING, (2, 2), 2), each, C.MAX_UNPOOLING, (2, 2), 2).eval({each: data})
        for each in (x, fixed)
    ]
    assert np.array_equal(*answers)


@pytest.mark.parametrize(
    "layer", [C.layers.Convolution((3, 3), 1), C.layers.MaxPooling((2, 2)), C.layers.ConvolutionTranspose((3, 3), 1)]
)
@pytest.mark.parametrize("shape", [(), 28])
def test_windows_over_too_few_axes_are_bad_arguments(layer: C.Function, shape: object) -> None:
    with pytest.raises(ValueError, match=r"Convolution|Pooling"):
        layer.clone("clone")(C.input_variable(shape))


def test_what_is_found_in_a_layer_is_its_own() -> None:
    inner = C.layers.Sequential([C.layers.Dense(4, name="first"), C.layers.Dense(3, name="last")])(C.input_variable(2))
    assert (inner.last.b.shape, inner.first.b.shape) == ((3,), (4,))


def test_one_of_several_outputs() -> None:
    x = C.input_variable(2)
    assert C.combine([x, x])[0] == x
    assert C.splice(x, x, axis=C.Axis.new_leading_axis()).shape == (2, 2)


@pytest.mark.parametrize("wrong", [C.layers.Dense(5), 3])
def test_for_takes_what_makes_layers(wrong: object) -> None:
    with pytest.raises(TypeError, match="For"):
        C.layers.For(range(3), wrong)


def test_a_distribution_has_a_width() -> None:
    with pytest.raises(ValueError, match="CreateInitializer"):
        C.parameter((2,), init=C.uniform(0))


def test_samples_of_classes_are_cntks() -> None:
    weights = np.array([1.0, 3, 5, 1])
    drawn = C.random_sample(weights, 14, True, seed=5).eval().todense()
    assert np.asarray(drawn).argmax(1).tolist() == [2, 0, 1, 2, 0, 0, 1, 2, 2, 1, 0, 2, 1, 3]
    assert np.asarray(C.random_sample(weights, 3, False, seed=5).eval().todense()).argmax(1).tolist() == [2, 0, 1]
    often = C.random_sample_inclusion_frequency(weights, 3, False, seed=5).eval()
    assert np.allclose(often, [0.36431378, 0.7842645, 0.94923425, 0.36431378])
    assert np.allclose(C.random_sample_inclusion_frequency(weights, 3, True).eval(), [0.3, 0.9, 1.5, 0.3])
    with pytest.raises(ValueError, match="enough of them"):
        C.random_sample(weights, 5, False)


@pytest.mark.parametrize(
    "kernel, stride, windows, offset",
    [(4, 4, (), 0), (6, 4, (), 1), (8, 4, (2, 2), 3), (16, 8, (2, 2, 2), 7), (8, 2, (3,), 2), (8, 2, (5,), 1)],
)
def test_a_crop_lies_where_cntk_lays_it(kernel: int, stride: int, windows: tuple, offset: int) -> None:
    x = C.input_variable((1, 16, 16))
    small = C.layers.Convolution((1, 1), 1, strides=1 if windows else stride, pad=True, init=1)(x)
    for window in windows:
        small = C.layers.MaxPooling((window, window), strides=2)(small)
    whole = C.layers.ConvolutionTranspose((kernel, kernel), 1, strides=stride, init=C.uniform(1))(small)
    data = np.random.default_rng(0).normal(size=(1, 1, 16, 16)).astype(np.float32)
    wanted = C.crop_manual(whole, x, offset, offset).eval({x: data})
    assert np.array_equal(C.crop_automatic(whole, x).eval({x: data}), wanted)


def test_the_f_measure_of_two_masks_is_cntks() -> None:
    a, b = C.input_variable((2, 3)), C.input_variable((2, 3))
    given = {v: np.random.RandomState(seed).rand(2, 2, 3).astype("f") for seed, v in enumerate((a, b))}
    assert np.allclose(C.fmeasure(a, b).eval(given), [0.6005279, 0.49065548], atol=1e-6)
    assert np.allclose(C.fmeasure(a, b, 2).eval(given), [0.49461573, 0.4144234], atol=1e-6)


def test_places_of_a_reshape_behind_the_last_axis() -> None:
    x, end = C.input_variable((2, 3)), C.Axis.new_leading_axis()
    assert C.reshape(x, (3, 2), 0, end).shape == (3, 2)
    assert C.reshape(x, (1, 1), end, end).shape == (2, 3, 1, 1)


def test_a_grouped_convolution_does_not_pad_its_channels() -> None:
    x, kernel = C.input_variable((16, 8, 8)), C.parameter((16, 1, 3, 3))
    with pytest.raises(NotImplementedError, match=r"auto_padding=\[False, True, True\]"):
        C.convolution(kernel, x, groups=16)
    assert C.convolution(kernel, x, groups=16, auto_padding=[False, True, True]).shape == (16, 8, 8)


@pytest.mark.parametrize("reduced", [C.reduce_sum, C.reduce_mean, C.reduce_log_sum_exp, C.argmax, C.argmin])
def test_a_reduction_over_all_static_axes_is_a_scalar(reduced: Any) -> None:
    x = C.input_variable((3, 4))
    for axis in (None, C.Axis.all_static_axes()):
        found = reduced(x, axis)
        assert found.shape == ()
        assert found.eval({x: np.ones((2, 3, 4), np.float32)}).shape == (2,)
    assert reduced(x, 0).shape == (1, 4)


@pytest.mark.parametrize(
    "axis, wanted", [(-3, (1, 2, 3)), (-2, (2, 1, 3)), (-1, (2, 3, 1)), (0, (2, 1, 3)), (1, (2, 3, 1))]
)
def test_a_new_axis_stands_behind_the_one_that_is_named(axis: int, wanted: tuple) -> None:
    x, later = C.input_variable((2, 3)), C.placeholder()
    assert C.expand_dims(x, axis).shape == wanted
    assert C.expand_dims(later, axis).replace_placeholders({later: x}).shape == wanted


def test_a_new_axis_behind_none_that_is_there() -> None:
    for axis in (2, -4):
        with pytest.raises(ValueError, match="axis"):
            C.expand_dims(C.input_variable((2, 3)), axis)


@pytest.mark.parametrize("axis, wanted", [(None, (1, 24)), (0, (1, 24)), (1, (2, 12)), (-1, (24, 1)), (-2, (6, 4))])
def test_where_a_matrix_is_cut(axis: int | None, wanted: tuple) -> None:
    assert C.flatten(C.input_variable((2, 3, 4)), axis).shape == wanted


@pytest.mark.parametrize("axis, wanted", [(0, (4, 3, 3)), (1, (2, 6, 3)), (-1, (2, 3, 6)), (C.Axis(0), (4, 3, 3))])
def test_side_by_side_before_the_shape_is_known(axis: Any, wanted: tuple) -> None:
    x, later = C.input_variable((2, 3, 3)), C.placeholder()
    assert C.splice(x, x, axis=axis).shape == wanted
    pooled = C.layers.MaxPooling((3, 3), pad=True)(later)
    assert C.splice(later, pooled, axis=axis).replace_placeholders({later: x}).shape == wanted


def test_side_by_side_along_an_axis_that_is_not_there() -> None:
    x = C.input_variable((2, 3))
    with pytest.raises(ValueError, match="axis 2"):
        C.splice(x, x, axis=2)
