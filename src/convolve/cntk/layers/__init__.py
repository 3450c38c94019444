"""CNTK's layers."""

from types import ModuleType

from convolve.cntk.default_options import default_options, default_options_for
from convolve.cntk.layers.blocks import (
    Stabilizer,
    identity,
)
from convolve.cntk.layers.higher_order_layers import (
    Activation,
    For,
    Label,
    ResNetBlock,
    Sequential,
    SequentialClique,
)
from convolve.cntk.layers.layers import (
    AveragePooling,
    BatchNormalization,
    Convolution,
    Convolution1D,
    Convolution2D,
    Convolution3D,
    ConvolutionTranspose,
    ConvolutionTranspose1D,
    ConvolutionTranspose2D,
    ConvolutionTranspose3D,
    Dense,
    Dropout,
    Embedding,
    GlobalAveragePooling,
    GlobalMaxPooling,
    LayerNormalization,
    MaxPooling,
    MaxUnpooling,
)
from convolve.cntk.layers.typing import (
    ParameterTensor,
    Sequence,
    SequenceOver,
    Signature,
    SparseTensor,
    Tensor,
    tensor,
)

__all__ = [
    name for name, value in list(globals().items()) if not (name.startswith("_") or isinstance(value, ModuleType))
]

from convolve.cntk import refused as _refused

__getattr__ = _refused.attribute(__name__)
