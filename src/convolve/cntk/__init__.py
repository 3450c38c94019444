"""CNTK 2.7's Python API for networks on images, on PyTorch.

`import convolve.cntk as C` in new code and notebooks; `convolve run PROGRAM.py` answers a program's `import cntk` with
this package.
"""

from convolve.cntk import (
    axis,
    cntk_py,
    core,
    debugging,
    device,
    eval,
    initializer,
    internal,
    io,
    layers,
    learners,
    logging,
    losses,
    metrics,
    ops,
    random,
    train,
    variables,
)
from convolve.cntk.axis import Axis
from convolve.cntk.core import MinibatchData, NDArrayView, Value, asarray, asvalue
from convolve.cntk.default_options import (
    default_options,
    default_options_for,
    default_override_or,
    get_default_override,
)
from convolve.cntk.device import DeviceDescriptor, cpu, gpu, use_default_device
from convolve.cntk.initializer import *
from convolve.cntk.layers import *
from convolve.cntk.learners import *
from convolve.cntk.losses import *
from convolve.cntk.metrics import *
from convolve.cntk.ops import *
from convolve.cntk.ops import sequence
from convolve.cntk.ops.functions import Function, load_model
from convolve.cntk.train import *
from convolve.cntk.train import distributed, trainer
from convolve.cntk.variables import Constant, Parameter, Record, Variable

__version__ = "2.7"

from convolve.cntk import refused as _refused

__getattr__ = _refused.attribute(__name__)

from convolve.cntk import lent as _lent

_lent.lend()
