"""What the fields of a prototxt are called and hold: the part of Caffe's schema that describes networks.

A kind ending in `*` may stand several times. Fields of kind "-" are known and have no bearing on what a trained
network computes. Source: caffe.proto of BVLC Caffe 1.0.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from convolve.errors import FormatError, UnsupportedError, legible, unknown_name
from convolve.importers.caffe.text import Block, Entry, Prototxt, Scalar

T = TypeVar("T")

# Layer types of Caffe's old syntax in the order of their numbers, and what they are called today.
_V1_TYPES = (
    "NONE=NONE ACCURACY=Accuracy BNLL=BNLL CONCAT=Concat CONVOLUTION=Convolution DATA=Data DROPOUT=Dropout "
    "EUCLIDEAN_LOSS=EuclideanLoss FLATTEN=Flatten HDF5_DATA=HDF5Data HDF5_OUTPUT=HDF5Output IM2COL=Im2col "
    "IMAGE_DATA=ImageData INFOGAIN_LOSS=InfogainLoss INNER_PRODUCT=InnerProduct LRN=LRN "
    "MULTINOMIAL_LOGISTIC_LOSS=MultinomialLogisticLoss POOLING=Pooling RELU=ReLU SIGMOID=Sigmoid SOFTMAX=Softmax "
    "SOFTMAX_LOSS=SoftmaxWithLoss SPLIT=Split TANH=TanH WINDOW_DATA=WindowData ELTWISE=Eltwise POWER=Power "
    "SIGMOID_CROSS_ENTROPY_LOSS=SigmoidCrossEntropyLoss HINGE_LOSS=HingeLoss MEMORY_DATA=MemoryData ARGMAX=ArgMax "
    "THRESHOLD=Threshold DUMMY_DATA=DummyData SLICE=Slice MVN=MVN ABSVAL=AbsVal SILENCE=Silence "
    "CONTRASTIVE_LOSS=ContrastiveLoss EXP=Exp DECONVOLUTION=Deconvolution"
)
V1_TYPES = dict(pair.split("=") for pair in _V1_TYPES.split())

# The words of each, by their numbers from 0.
ENUMS: dict[str, tuple[str, ...]] = {
    "Phase": ("TRAIN", "TEST"),
    "PoolMethod": ("MAX", "AVE", "STOCHASTIC"),
    "RoundMode": ("CEIL", "FLOOR"),
    "EltwiseOp": ("PROD", "SUM", "MAX"),
    "NormRegion": ("ACROSS_CHANNELS", "WITHIN_CHANNEL"),
    "V1Type": tuple(V1_TYPES),
}


def _fields(kinds: dict[str, str]) -> dict[str, str]:
    """ "int: a b" for each kind -> the kind of each field."""
    return {name: kind for kind, names in kinds.items() for name in names.split()}


# Parameters that stand in layers of both syntaxes.
_PARAMETERS = _fields({
    "TransformationParameter": "transform_param",
    "ConcatParameter": "concat_param",
    "ConvolutionParameter": "convolution_param",
    "DataParameter": "data_param image_data_param window_data_param",
    "DropoutParameter": "dropout_param",
    "DummyDataParameter": "dummy_data_param",
    "EltwiseParameter": "eltwise_param",
    "ExpParameter": "exp_param",
    "FlattenParameter": "flatten_param",
    "InnerProductParameter": "inner_product_param",
    "LRNParameter": "lrn_param",
    "MemoryDataParameter": "memory_data_param",
    "PoolingParameter": "pooling_param",
    "PowerParameter": "power_param",
    "ReLUParameter": "relu_param",
    "SliceParameter": "slice_param",
    "SoftmaxParameter": "softmax_param",
    "-": "accuracy_param argmax_param contrastive_loss_param hdf5_data_param hdf5_output_param hinge_loss_param "
    "infogain_loss_param loss_param mvn_param sigmoid_param tanh_param threshold_param",
})  # fmt: skip

MESSAGES: dict[str, dict[str, str]] = {
    "NetParameter": _fields({
        "text": "name", "text*": "input", "int*": "input_dim", "BlobShape*": "input_shape", "NetState": "state",
        "LayerParameter*": "layer", "V1LayerParameter*": "layers", "-": "force_backward debug_info",
    }),
    "BlobShape": {"dim": "int*"},
    "NetState": {"phase": "-", "level": "int", "stage": "text*"},
    "NetStateRule": _fields({"Phase": "phase", "int": "min_level max_level", "text*": "stage not_stage"}),
    "ParamSpec": _fields({"text": "name", "float": "lr_mult", "-": "share_mode decay_mult"}),
    "LayerParameter": _PARAMETERS | _fields({
        "text": "name type", "text*": "bottom top", "ParamSpec*": "param", "NetStateRule*": "include exclude",
        "BatchNormParameter": "batch_norm_param",
        "ScaleParameter": "scale_param bias_param",
        "CropParameter": "crop_param",
        "ELUParameter": "elu_param",
        "InputParameter": "input_param",
        "PReLUParameter": "prelu_param",
        "ReshapeParameter": "reshape_param",
        "-": "phase loss_weight propagate_down blobs clip_param embed_param log_param parameter_param python_param "
        "recurrent_param reduction_param spp_param swish_param tile_param",
    }),
    "V1LayerParameter": _PARAMETERS | _fields({
        "text": "name", "text*": "bottom top param", "V1Type": "type", "float*": "blobs_lr",
        "NetStateRule*": "include exclude", "-": "layer weight_decay loss_weight blob_share_mode blobs",
    }),
    "TransformationParameter": _fields({
        "float": "scale", "int": "crop_size", "float*": "mean_value", "text": "mean_file",
        "bool": "force_color force_gray", "-": "mirror",
    }),
    "BatchNormParameter": _fields({"bool": "use_global_stats", "float": "eps", "-": "moving_average_fraction"}),
    "ConcatParameter": {"axis": "int", "concat_dim": "int"},
    "ConvolutionParameter": _fields({
        "int": "num_output pad_h pad_w kernel_h kernel_w stride_h stride_w group axis",
        "int*": "pad kernel_size stride dilation", "bool": "bias_term",
        "-": "weight_filler bias_filler engine force_nd_im2col",
    }),
    "CropParameter": {"axis": "int", "offset": "int*"},
    "DataParameter": _fields({
        "float": "scale", "int": "crop_size new_height new_width", "text": "mean_file", "bool": "is_color",
        "-": "source batch_size rand_skip backend mirror force_encoded_color prefetch shuffle root_folder fg_threshold "
        "bg_threshold fg_fraction context_pad crop_mode cache_images",
    }),
    "DropoutParameter": {"dropout_ratio": "float"},
    "DummyDataParameter": _fields({"BlobShape*": "shape", "int*": "num channels height width", "-": "data_filler"}),
    "EltwiseParameter": {"operation": "EltwiseOp", "coeff": "float*", "stable_prod_grad": "-"},
    "ELUParameter": {"alpha": "float"},
    "ExpParameter": _fields({"float": "base scale shift"}),
    "FlattenParameter": _fields({"int": "axis end_axis"}),
    "InnerProductParameter": _fields({
        "int": "num_output axis", "bool": "bias_term transpose", "-": "weight_filler bias_filler",
    }),
    "InputParameter": {"shape": "BlobShape*"},
    "LRNParameter": _fields({"int": "local_size", "float": "alpha beta k", "NormRegion": "norm_region", "-": "engine"}),
    "MemoryDataParameter": _fields({"int": "batch_size channels height width"}),
    "PoolingParameter": _fields({
        "PoolMethod": "pool", "bool": "global_pooling", "RoundMode": "round_mode", "-": "engine",
        "int": "pad kernel_size stride pad_h pad_w kernel_h kernel_w stride_h stride_w",
    }),
    "PowerParameter": _fields({"float": "power scale shift"}),
    "PReLUParameter": {"channel_shared": "bool", "filler": "-"},
    "ReLUParameter": {"negative_slope": "float", "engine": "-"},
    "ReshapeParameter": {"shape": "BlobShape", "axis": "int", "num_axes": "int"},
    "ScaleParameter": _fields({"int": "axis num_axes", "bool": "bias_term", "-": "filler bias_filler"}),
    "SliceParameter": {"axis": "int", "slice_dim": "int", "slice_point": "int*"},
    "SoftmaxParameter": {"axis": "int", "engine": "-"},
}  # fmt: skip


@dataclass(frozen=True)
class Message:
    """A block with the values of its fields, checked; `unknown` are the fields that the schema does not have."""

    source: Prototxt
    kind: str
    offset: int
    values: dict[str, list[Any]] = field(default_factory=dict)
    unknown: tuple[Entry, ...] = ()

    def __contains__(self, name: str) -> bool:
        return name in self.values

    def error(self, what: str) -> FormatError:
        return self.source.error(self.offset, what)

    def unsupported(self, what: str) -> UnsupportedError:
        return UnsupportedError(f"{self.source.path}: {self.source.place(self.offset)}: {what}")

    def get(self, name: str, default: T) -> T:
        """The value of a field that stands once; it has the type of `default`."""
        value: T = self.values.get(name, [default])[0]
        return value

    def all(self, name: str) -> list[Any]:
        return self.values.get(name, [])

    def message(self, name: str) -> Message:
        """The block `name`; an empty one where it is left out."""
        kind = MESSAGES[self.kind][name].rstrip("*")
        found: Message = self.values.get(name, [Message(self.source, kind, self.offset)])[0]
        return found

    def unknown_fields(self) -> Iterable[str]:
        """A sentence for each."""
        for entry in self.unknown:
            known = unknown_name("field", legible(entry.name), MESSAGES[self.kind])
            yield f"{self.source.place(entry.offset)}: {known}"


def read_message(source: Prototxt, block: Block, kind: str) -> Message:
    """`block` as the schema's message `kind`. Raises FormatError where a field holds what it cannot."""
    values: dict[str, list[Any]] = {}
    unknown = []
    for entry in block.fields:
        wanted = MESSAGES[kind].get(entry.name)
        if wanted is None:
            unknown.append(entry)
            continue
        if entry.name in values and not wanted.endswith("*") and wanted != "-":
            raise source.error(entry.offset, f"{entry.name} stands twice")
        values.setdefault(entry.name, []).append(_value(source, entry, wanted.rstrip("*")))
    return Message(source, kind, block.offset, values, tuple(unknown))


def _value(source: Prototxt, entry: Entry, kind: str) -> Any:
    value = entry.value
    if kind == "-":
        return None
    if kind in MESSAGES:
        if isinstance(value, Block):
            return read_message(source, value, kind)
        raise source.error(value.offset, f"{entry.name} must be a block in braces, not {value}")
    result = _scalar(value, kind) if isinstance(value, Scalar) else None
    if result is None:
        wanted = _WORDS.get(kind) or " or ".join(ENUMS[kind])
        raise source.error(value.offset, f"{entry.name} must be {wanted}, not {value}")
    return result


_WORDS = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "text": "a text in quotes",
    "V1Type": "a type of the V1 syntax, such as CONVOLUTION",
}
_FLAGS = {"true": True, "True": True, "t": True, "1": True, "false": False, "False": False, "f": False, "0": False}


def _scalar(value: Scalar, kind: str) -> Any:
    """The value as one of `kind`; None where it is none."""
    if kind == "text":
        return value.text if value.kind == "text" else None
    if kind == "bool":
        return _FLAGS.get(value.text) if value.kind != "text" else None
    if kind in ENUMS:
        names = dict(zip(map(str, range(len(ENUMS[kind]))), ENUMS[kind], strict=True))
        known = value.kind != "text" and (value.text in ENUMS[kind] or value.text in names)
        return names.get(value.text, value.text) if known else None
    if value.kind != "number":
        return None
    return _whole(value.text) if kind == "int" else _finite(value.text)


def _whole(text: str) -> int | None:
    digits = text.lstrip("+-")
    base = 16 if digits[:2] in ("0x", "0X") else 8 if digits[0] == "0" else 10
    try:
        number = int(text, base) if len(text) < 30 else 2**63
    except ValueError:
        return None
    return number if -(2**63) <= number < 2**63 else None


def _finite(text: str) -> float | None:
    hexadecimal = "x" in text.lower()
    number = float(_whole(text) or 0) if hexadecimal else float(text.rstrip("fF"))
    return number if math.isfinite(number) else None
