"""Networks of the API for `round_trip.py`, which the real CNTK 2.7 (Python 3.6) and `convolve.cntk` both build."""

import cntk as C
import numpy as np

F = np.float32
L = C.layers


def rng(seed=0):
    return np.random.RandomState(seed)


def param(*shape, seed=5, dtype=F, name=""):
    return C.parameter(init=rng(seed).normal(size=shape).astype(dtype), name=name)


def image(*shape, name="x", **kw):
    return C.input_variable(shape or (3, 9, 9), name=name, **kw)


# -- convolutions and poolings ----------------------------------------------------------------------------------------


def conv_same():
    return L.Convolution2D((3, 3), 4, pad=True, activation=C.relu, name="c")(image())


def conv_valid_strides():
    return L.Convolution2D((3, 2), 4, strides=(2, 1), bias=False)(image())


def conv_same_strides_even():
    return L.Convolution2D((4, 4), 5, strides=3, pad=True, init=C.he_normal())(image(2, 11, 8))


def conv_dilated():
    return L.Convolution2D((3, 3), 4, dilation=2, pad=[True, False])(image())


def conv_groups():
    return C.tanh(C.convolution(param(6, 2, 3, 3), image(4, 7, 7), auto_padding=[False, True, True], groups=2))


def conv_depthwise():
    return C.convolution(param(4, 1, 3, 3), image(4, 7, 7), auto_padding=[False, True, True], groups=4)


def conv_1d():
    return L.Convolution1D(3, 4, pad=True)(image(2, 12))


def conv_3d():
    return L.Convolution3D((2, 3, 3), 3, pad=True)(image(2, 4, 6, 6))


def conv_no_reduction():
    return L.Convolution2D((3, 3), 4, reduction_rank=0, pad=True)(image(7, 9))


def conv_plain_op():
    w = param(4, 3, 3, 3)
    return C.convolution(w, image(), strides=(2, 2), auto_padding=[False, True, False], name="plain")


def conv_op_padded_channels():
    w = param(2, 1, 3, 3)
    return C.convolution(w, image(1, 8, 8), auto_padding=[False, True, True])


def conv_1x1():
    return L.Sequential([L.Convolution2D((1, 1), 8), L.Convolution2D(1, 2, strides=2)])(image())


def deconv():
    return L.ConvolutionTranspose2D((3, 3), 2, strides=2, pad=True)(image(3, 5, 5))


def deconv_output_shape():
    return L.ConvolutionTranspose2D((4, 4), 2, strides=2, pad=True, output_shape=(10, 10))(image(3, 5, 5))


def deconv_valid():
    return L.ConvolutionTranspose2D((3, 2), 4, strides=(1, 2), bias=False)(image(2, 5, 4))


def deconv_bilinear():
    return L.ConvolutionTranspose2D((4, 4), 3, strides=2, pad=True, bias=False, init=C.bilinear(4, 4))(image(3, 4, 4))


def pools():
    x = image(2, 9, 8)
    return C.combine(
        [
            L.MaxPooling((3, 3), strides=2, pad=True)(x),
            L.MaxPooling((2, 3), strides=(2, 3))(x),
            L.AveragePooling((3, 3), strides=2, pad=True)(x),
            C.pooling(x, C.AVG_POOLING, (3, 3), (2, 2), [False, True, True], include_pad=True),
            L.AveragePooling((2, 2))(x),
        ]
    )


def pool_ceil():
    return C.pooling(image(3, 6, 6), C.MAX_POOLING, (3, 3), (2, 2), ceil_out_dim=True)


def pool_explicit():
    return C.pooling(image(3, 8, 8), C.AVG_POOLING, (3, 3), (2, 2), auto_padding=[False, True, True])


def pool_global():
    x = image()
    return C.splice(L.GlobalAveragePooling()(x), L.GlobalMaxPooling()(x), axis=0)


def unpool():
    x = image(2, 6, 6)
    p = L.MaxPooling((2, 2), strides=2)(x)
    return L.MaxUnpooling((2, 2), strides=2)(p, x)


def roi():
    rois = C.input_variable((3, 4), name="rois")
    return C.roipooling(image(2, 10, 10), rois, C.MAX_POOLING, (3, 3), 0.5)


# -- normalization, dropout -------------------------------------------------------------------------------------------


def bn_spatial():
    x = image()
    h = L.BatchNormalization(map_rank=1, normalization_time_constant=400)(L.Convolution2D((3, 3), 4, pad=True)(x))
    return L.Dense(3)(C.relu(h))


def bn_plain():
    return L.Sequential([L.Dense(6), L.BatchNormalization(epsilon=1e-3), C.sigmoid, L.Dense(2)])(image(5))


def bn_cntk_engine():
    return L.BatchNormalization(
        map_rank=1, blend_time_constant=10, use_cntk_engine=True, disable_regularization=True, init_scale=0.7
    )(image(3, 4, 4))


def layer_norm():
    return L.Sequential([L.Dense(6), L.LayerNormalization(initial_scale=0.5, initial_bias=0.25), C.elu])(image(5))


def lrn():
    return C.local_response_normalization(image(8, 5, 5), 2, 1.0, 1e-2, 0.75)


def mvn():
    return C.mean_variance_normalization(image(), use_stats_across_channels=True, epsilon=1e-4)


def dropouts():
    return L.Sequential([L.Dense(6), L.Dropout(0.4), C.softplus, L.Dropout(keep_prob=0.5, seed=9), L.Dense(3)])(
        image(5)
    )


def noise_inside():
    x = image(4)
    return x + 0 * C.stop_gradient(C.random.uniform_like(x, 0, 1))


# -- whole networks ---------------------------------------------------------------------------------------------------


def lenet():
    with C.default_options(activation=C.relu, pad=True):
        return L.Sequential(
            [
                lambda t: t * 0.00390625,
                L.For(range(2), lambda i: [L.Convolution2D((5, 5), 4 + 4 * i), L.MaxPooling((3, 3), strides=2)]),
                L.Dense(16, name="hidden"),
                L.Dropout(0.5),
                L.Dense(5, activation=None, name="scores"),
            ]
        )(image(1, 14, 14, name="features"))


def _conv_bn(x, filters, stride=1, act=C.relu, size=(3, 3)):
    h = L.Convolution2D(size, filters, strides=stride, pad=True, bias=False, init=C.he_normal())(x)
    h = L.BatchNormalization(map_rank=1, normalization_time_constant=4096)(h)
    return act(h) if act else h


def resnet():
    h = _conv_bn(image(3, 12, 12), 4)
    for filters, stride in ((4, 1), (8, 2), (8, 1)):
        side = h if stride == 1 else _conv_bn(h, filters, stride, None, (1, 1))
        h = C.relu(_conv_bn(_conv_bn(h, filters, stride), filters, act=None) + side)
    return L.Dense(4)(L.GlobalAveragePooling()(h))


def resnet_block_layer():
    return L.Sequential([L.Dense(5), L.ResNetBlock(L.Dense(5, activation=C.tanh)), L.Dense(2)])(image(5))


def inception():
    x = image(4, 8, 8)
    a = L.Convolution2D((1, 1), 3, activation=C.relu)(x)
    b = L.Sequential([L.Convolution2D(1, 2), L.Convolution2D((3, 3), 4, pad=True, activation=C.relu)])(x)
    c = L.Sequential([L.Convolution2D(1, 2), L.Convolution2D((5, 5), 2, pad=True, activation=C.relu)])(x)
    d = L.Sequential([L.MaxPooling((3, 3), pad=True), L.Convolution2D(1, 2, activation=C.relu)])(x)
    return C.splice(a, b, c, d, axis=0, name="mixed")


def vgg():
    with C.default_options(activation=C.relu):
        return L.Sequential(
            [
                L.For(
                    range(2),
                    lambda i: [
                        L.For(range(2), lambda j: L.Convolution2D((3, 3), 4 * (i + 1), pad=True, name=f"c{i}{j}")),
                        L.MaxPooling((2, 2), (2, 2)),
                    ],
                ),
                L.For(range(2), lambda i: [L.Dense(12), L.Dropout(0.5)]),
                L.Dense(6, activation=None),
            ]
        )(image(3, 12, 12))


def alexnet():
    first = L.Sequential(
        [
            lambda t: t - C.constant(114.0),
            L.Convolution2D((11, 11), 6, strides=4, init=C.normal(0.01), activation=C.relu, name="conv1"),
        ]
    )(image(3, 55, 55))
    pooled = L.MaxPooling((3, 3), (2, 2))(C.local_response_normalization(first, 2, 2.0, 1e-4, 0.75))
    grouped = C.convolution(param(8, 3, 5, 5), pooled, auto_padding=[False, True, True], groups=2, name="conv2")
    return L.Sequential(
        [
            L.Dense(10, init=C.normal(0.05), init_bias=0.1, activation=C.relu, name="fc"),
            L.Dropout(0.5),
            L.Dense(7, name="z"),
        ]
    )(grouped)


def densenet():
    h = L.Convolution2D((3, 3), 4, pad=True)(image())
    for _ in range(3):
        n = L.BatchNormalization(map_rank=1)(h)
        h = C.splice(h, L.Convolution2D((3, 3), 3, pad=True)(C.relu(n)), axis=0)
    return h


def squeeze_excite():
    h = L.Convolution2D((3, 3), 6, pad=True, activation=C.relu)(image())
    s = L.Sequential(
        [L.GlobalAveragePooling(), L.Dense(3, activation=C.relu), L.Dense((6, 1, 1), activation=C.sigmoid)]
    )(h)
    return h * s


def autoencoder():
    return L.Sequential(
        [
            L.Convolution2D((3, 3), 4, strides=2, pad=True, activation=C.relu),
            L.Dense(5, activation=C.tanh, name="code"),
            L.Dense((4, 4, 4), activation=C.relu),
            L.ConvolutionTranspose2D((4, 4), 1, strides=2, pad=True, activation=C.sigmoid),
        ]
    )(image(1, 8, 8))


def unet():
    x = image(2, 8, 8)
    a = L.Convolution2D((3, 3), 4, pad=True, activation=C.relu)(x)
    b = L.Convolution2D((3, 3), 6, pad=True, activation=C.relu)(L.MaxPooling((2, 2), (2, 2))(a))
    up = L.ConvolutionTranspose2D((2, 2), 4, strides=2)(b)
    return L.Convolution2D(1, 3, activation=lambda t: C.softmax(t, axis=0))(C.splice(a, up, axis=0))


def transfer():
    base = lenet()
    h = C.combine([base.hidden]).clone(C.CloneMethod.freeze, {base.arguments[0]: C.placeholder(name="features")})
    x = image(1, 14, 14, name="fresh")
    return L.Dense(3, name="prediction")(h(x - 0.5))


def shared_twice():
    d = L.Dense(4, activation=C.tanh, name="twice")
    x, y = image(4), image(4, name="y")
    return C.minus(d(x), d(d(y)), name="difference")


def two_towers():
    x, y = image(3, 6, 6), image(4, name="y")
    a = L.Sequential([L.Convolution2D((3, 3), 2), L.Dense(4)])(x)
    return L.Dense(2)(C.splice(a, L.Dense(4)(y)) + C.parameter(8, init=0.5))


def two_heads():
    h = L.Dense(6, activation=C.relu, name="trunk")(image(5))
    return C.combine([L.Dense(3, name="one")(h), L.Dense((2, 2), name="two")(h), h])


def own_block():
    @C.BlockFunction("Own", "mine")
    def own(x, y):
        return C.relu(x) * 2 - y

    return own(image(4), image(4, name="y"))


def function_decorator():
    w = param(4, 3, name="w")

    @C.Function
    def f(x):
        return C.tanh(C.times(x, w))

    return L.Sequential([f, L.Dense(2)])(image(4))


def as_block_named():
    p = C.placeholder(name="p")
    inner = L.Dense(3)(p) + 1
    return C.as_block(inner, [(p, image(4))], "Wrapped", "wrapped")


def criteria():
    x, y = image(5), C.input_variable(4, name="y")
    z = L.Dense(4)(x)
    return C.combine(
        [
            C.cross_entropy_with_softmax(z, y),
            C.classification_error(z, y),
            C.classification_error(z, y, topN=2),
            C.squared_error(z, y),
            C.binary_cross_entropy(C.sigmoid(z), C.clip(y, 0, 1)),
            C.cosine_distance(z, y),
            z,
        ]
    )


def weighted_criterion():
    x, y, w = image(5), C.input_variable(4, name="y"), C.input_variable(1, name="w")
    z = L.Dense(4)(x)
    return C.reduce_mean(C.square(z - y)) * w + 0.01 * C.reduce_sum(C.abs(z))


# -- operators --------------------------------------------------------------------------------------------------------


def elementwise():
    x = image(3, 4)
    fs = [C.sin, C.cos, C.tanh, C.exp, C.abs, C.floor, C.ceil, C.round, C.square, C.negate, C.softplus, C.softsign]
    fs += [C.sigmoid, C.relu, C.elu, C.selu, C.leaky_relu]
    return C.combine([f(x) for f in fs] + [C.log(C.abs(x) + 1), C.sqrt(C.abs(x)), C.reciprocal(x * x + 1)])


def elementwise_more():
    x = image(3, 4)
    return C.combine(
        [
            C.hard_sigmoid(x, 0.3, 0.4),
            C.param_relu(C.parameter((3, 1), init=0.2), x),
            C.pow(C.abs(x), 1.5),
            C.clip(x, -0.5, C.constant(0.7)),
            C.element_max(x, 0.1),
            C.element_min(x, x * x),
            C.element_select(C.greater(x, 0), x, x * 3),
            C.log_add_exp(x, 0.5),
            C.element_divide(x, C.constant(rng().rand(3, 4).astype(F) + 1)),
            C.atanh(C.clip(x, -0.9, 0.9)),
            C.asinh(x),
            C.sinh(x),
            C.cosh(x),
            C.tan(x),
            C.asin(C.clip(x, -0.9, 0.9)),
            C.acos(C.clip(x, -0.9, 0.9)),
        ]
    )


def comparisons():
    x, y = image(3, 4), image(3, 4, name="y")
    fs = [C.equal, C.not_equal, C.less, C.less_equal, C.greater, C.greater_equal]
    return C.combine([f(C.round(x), C.round(y)) for f in fs])


def broadcasts():
    return C.combine(
        [
            image(3, 1, 4) + image(2, 4, name="y"),
            image(3, 1, 4, name="z") * param(4),
            2 - image(5, name="v") / 3,
            image(2, name="u") * param(3, 2),
        ]
    )


def softmaxes():
    x = image(3, 4)
    return C.combine([C.softmax(x), C.softmax(x, axis=0), C.log_softmax(x, axis=1), C.hardmax(x), C.log_softmax(x)])


def reductions():
    x = image(3, 4, 2)
    fs = [C.reduce_sum, C.reduce_mean, C.reduce_max, C.reduce_min, C.reduce_log_sum_exp, C.reduce_prod]
    return C.combine(
        [f(x, axis=axis) for f in fs for axis in (0, 1, -1, None)]
        + [C.reduce_sum(x, axis=(0, 2)), C.reduce_mean(x, axis=(0, 1), keepdims=False), C.reduce_l2(x, axis=0)]
        + [C.reduce_l1(x, axis=1), C.reduce_sum_square(x, axis=-1), C.argmax(x, axis=0), C.argmin(x, axis=1)]
    )


def shapes():
    x = image(3, 4, 2)
    return C.combine(
        [
            C.reshape(x, (6, -1)),
            C.reshape(x, (2, 2), 1, 2),
            C.transpose(x, (2, 0, 1)),
            C.swapaxes(x, 0, 1),
            C.flatten(x),
            C.flatten(x, axis=1),
            C.expand_dims(x, 1),
            C.squeeze(C.reshape(x, (3, 1, 8))),
            C.pad(x, [(1, 1), (0, 2), (0, 0)], mode=C.ops.CONSTANT_PAD, constant_value=0.5),
            C.pad(x, [(1, 1), (0, 2), (0, 0)], mode=C.ops.REFLECT_PAD),
            C.pad(x, [(1, 1), (0, 2), (0, 0)], mode=C.ops.SYMMETRIC_PAD),
        ]
    )


def slices():
    x = image(5, 6)
    return C.combine(
        [
            C.slice(x, 0, 1, 4),
            C.slice(x, [0, 1], [1, 2], [3, 5]),
            C.slice(x, 1, 0, 0, 2),
            x[0],
            x[1:3, 2:],
            x[:, ::2],
            C.splice(x, x * 2, axis=1),
            C.splice(x, x[0:2], axis=0),
            C.splice(x, x, axis=-1),
        ]
    )


def lambdas_in_sequential():
    return L.Sequential(
        [
            lambda t: C.local_response_normalization(t, 1, 1.0, 0.5, 0.75),
            L.Convolution2D((3, 3), 4, pad=True),
            lambda t: t[..., 1] + t[2:3, ..., 0:1],
        ]
    )(image(8, 4, 4))


def depth_space():
    return C.combine([C.depth_to_space(image(8, 3, 3), 2), C.space_to_depth(image(2, 4, 4, name="y"), 2)])


def upsample():
    def twice(x):
        r = C.reshape(x, (x.shape[0], x.shape[1], 1, x.shape[2], 1))
        return C.reshape(C.splice(C.splice(r, r, axis=2), C.splice(r, r, axis=2), axis=4), (x.shape[0], 8, 8))

    return twice(image(3, 4, 4))


def products():
    x = image(3, 4)
    return C.combine(
        [
            C.times(x, param(4, 5)),
            C.times(x, param(3, 4, 2), name="both"),
            C.times(param(5, 3), x),
            C.times(x, param(4, 2, 3), output_rank=2),
            C.times_transpose(x, param(5, 4)),
            C.times(image(2, 3, name="y"), x),
            C.times(x, param(4, 2), infer_input_rank_to_map=1),
        ]
    )


def one_hot_embedding():
    ids = C.input_variable(3, name="ids")
    hot = C.one_hot(ids, 6)
    return C.combine([hot, L.Embedding(4)(hot), C.gather(param(6, 2), ids)])


def sparse_input():
    y = C.input_variable(5, is_sparse=True, name="y")
    return C.times(y, param(5, 3)) + L.Embedding(3, name="e")(y)


def embedding_of_weights():
    return L.Embedding(weights=rng(2).rand(5, 3).astype(F))(image(5))


def constants_and_parameters():
    x = image(2, 3)
    odd = C.parameter((2, 1), init=C.uniform(1.0), name="odd")
    one = C.parameter((), init=3, name="scalar")
    c = C.constant(np.arange(6).reshape(2, 3), name="grid")
    return (x * odd + one) * c - C.constant(0.5, (3,))


def stop_gradients():
    x = image(4, needs_gradient=True)
    h = L.Dense(3)(x)
    return C.alias(C.stop_gradient(h) * h, name="renamed")


def topk():
    return C.combine(list(C.top_k(image(6), 3).outputs))


def casts():
    return C.cast(C.cast(image(4), np.float64) * C.constant(2.0, dtype=np.float64), F)


def double_precision():
    with C.default_options(dtype=np.float64):
        return L.Sequential(
            [L.Convolution2D((3, 3), 4, pad=True), L.BatchNormalization(map_rank=1), C.relu, L.Dense(3)]
        )(C.input_variable((2, 6, 6), dtype=np.float64, name="x"))


def sequence_of_one():
    x = C.sequence.input_variable(5, name="x")
    return L.Sequential([L.Dense(4, activation=C.relu), L.Dense(2)])(x)


def free_dimension():
    x = C.input_variable((3, C.FreeDimension, C.FreeDimension), name="free")
    h = C.reduce_mean(L.Convolution2D((3, 3), 4, pad=True, activation=C.relu)(x), axis=(1, 2))
    return L.Dense(2)(h)


def crops():
    return C.combine([C.crop_manual(image(2, 8, 8), image(2, 4, 5, name="y"), 2, 1), C.alias(image(1, name="z"))])


def batch_axis():
    x = image(3)
    return C.combine([C.to_batch(C.unpack_batch(x) * 2), x])


def long_chain():
    h = image(4)
    for i in range(120):
        h = C.plus(C.element_times(h, 0.9), 0.01 * i, name=f"s{i}")
    return h


def names_beyond_ascii():
    return L.Sequential([L.Dense(3, name="größe"), L.Dense(2, name="層 2")])(image(4))


NETWORKS = [
    conv_same, conv_valid_strides, conv_same_strides_even, conv_dilated, conv_groups, conv_depthwise, conv_1d, conv_3d,
    conv_no_reduction, conv_plain_op, conv_op_padded_channels, conv_1x1, deconv, deconv_output_shape, deconv_valid,
    deconv_bilinear, pools, pool_ceil, pool_explicit, pool_global, unpool, roi, bn_spatial, bn_plain, bn_cntk_engine,
    layer_norm, lrn, mvn, dropouts, noise_inside, lenet, resnet, resnet_block_layer, inception, vgg, alexnet, densenet,
    squeeze_excite, autoencoder, unet, transfer, shared_twice, two_towers, two_heads, own_block, function_decorator,
    as_block_named, criteria, weighted_criterion, elementwise, elementwise_more, comparisons, broadcasts, softmaxes,
    reductions, shapes, slices, lambdas_in_sequential, depth_space, upsample, products, one_hot_embedding,
    sparse_input, embedding_of_weights,
    constants_and_parameters, stop_gradients, topk, casts, double_precision, sequence_of_one, free_dimension, crops,
    batch_axis, long_chain, names_beyond_ascii,
]  # fmt: skip
