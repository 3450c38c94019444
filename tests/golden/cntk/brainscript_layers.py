"""What BrainScript's layers and operations give in the real CNTK 2.7, of its Python library: brainscript_layers.py OUT.npz"""
import sys

import cntk as C
import numpy as np

x = C.input_variable((2, 3, 4), name="x")  # BrainScript's (4:3:2)
image = (np.sin(np.arange(24) * 1.7) * 2).astype(np.float32).reshape(1, 2, 3, 4)
weight = (np.cos(np.arange(2 * 3 * 2 * 2) * 0.9)).astype(np.float32).reshape(2, 3, 2, 2)  # in, out, kH, kW

mean, inverse = C.constant(0.25), C.constant(2.5)
x0 = x - C.reduce_mean(x, axis=C.Axis.all_static_axes())
deviation = C.sqrt(C.reduce_mean(x0 * x0, axis=C.Axis.all_static_axes()))
beta = C.log(1 + C.exp(4 * C.constant(0.99537863))) / 4
bilinear = C.parameter((2, 2, 4, 4), init=C.bilinear(4, 4))
flat = C.reshape(x, (24,))
pooled = C.pooling(x, C.MAX_POOLING, (2, 2), (2, 2), auto_padding=[True, True])

values = {
    "ConvolutionTranspose (W, x, (2:2:3), stride = 2, autoPadding = false)": C.convolution_transpose(
        C.constant(weight), x, strides=(2, 2), auto_padding=[False, False, False]),
    "ConvolutionTranspose (W, x, (2:2:3), stride = 2, autoPadding = (true:true:false))": C.convolution_transpose(
        C.constant(weight), x, strides=(2, 2), auto_padding=[False, True, True]),
    "ConvolutionTranspose (W, x, (2:2:3), stride = 2, autoPadding = false, outputShape = (8:6:3))": C.convolution_transpose(
        C.constant(weight), x, strides=(2, 2), auto_padding=[False, False, False], output_shape=(3, 6, 8)),
    "BilinearUpsamplingLayer {2, 4, 2} (x)": C.convolution_transpose(
        bilinear, x, strides=(2, 2), auto_padding=[False, False, False]),
    "MaxUnpoolingLayer {(2:2), stride = 2, pad = true} (MaxPoolingLayer {(2:2), stride = 2, pad = true} (x), x)": C.unpooling(
        pooled, x, C.MAX_UNPOOLING, (2, 2), (2, 2), auto_padding=[True, True]),
    "LayerNormalizationLayer {initScale = 3, initBias = 0.5} (x)": x0 / deviation * 3 + 0.5,
    "StabilizerLayer {} (x)": beta * x,
    "PerDimMeanVarDeNormalization (x, Constant (0.25), Constant (2.5))": x / inverse + mean,
    "CosDistance (NewReshape (x, 24), NewReshape (x .* x, 24))": C.cosine_distance(flat, flat * flat),
    "ReduceProd (x, axis = 1)": C.reduce_prod(x, axis=2),
    "ReduceLogSum (x, axis = 3)": C.reduce_log_sum_exp(x, axis=0),
    "Softmax (x, axis = 3)": C.softmax(x, axis=0),
    "RowRepeat (x, 2)": C.splice(x, x, axis=2),
    "Reshape (x, 24)": C.reshape(x, (24,)),
    "Reshape (x, 24, imageWidth = 2, imageHeight = 6, imageChannels = 2)": C.reshape(x, (2, 6, 2)),
    "Round (x)": C.round(x),
    "Ceil (x)": C.ceil(x),
    "Sinh (x)": C.sinh(x), "Cosh (x)": C.cosh(x), "Asinh (x)": C.asinh(x), "Asin (x / 3)": C.asin(x / 3),
    "Acos (x / 3)": C.acos(x / 3), "Atanh (x / 3)": C.atanh(x / 3),
    "DiagTimes (Splice (Constant (1) : Constant (2) : Constant (3) : Constant (4)), x)": C.constant(
        np.array([1, 2, 3, 4], np.float32)) * x,
    "BS.Boolean.Xor (x > 0, x < 1)": C.not_equal(C.greater(x, 0), C.less(x, 1)),
    "CNTK2.Clip (x, -1, 0.5)": C.clip(x, -1, 0.5),
    "CNTK2.Slice (x, 1, 3)": C.slice(x, 2, 1, 3),
}
found = {name: f.eval({x: image}) for name, f in values.items()}
np.savez_compressed(sys.argv[1], x=image, W=weight, **{"%02d" % n: np.asarray(v, np.float32) for n, v in enumerate(found.values())}, names=np.array(list(found)))
