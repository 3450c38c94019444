"""BrainScript's library: every name of CNTK's is known or refused by name, and gives what the real CNTK gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from convolve.errors import UnsupportedError
from convolve.graph.build import build
from convolve.importers.brainscript.evaluate import Evaluator
from convolve.importers.brainscript.lower import lower
from convolve.importers.brainscript.network import read_network
from convolve.importers.brainscript.refused import REFUSED
from convolve.importers.brainscript.text import of_lines

GOLDEN = Path(__file__).parents[2] / "golden" / "cntk" / "brainscript_layers.npz"  # by the program beside it
RECORDED = np.load(GOLDEN)
NAMES = [str(name) for name in RECORDED["names"]]

# The names at the top of CNTK's own library, version 2.7; those that begin with _ are for its own use.
LIBRARY = """
Abs Acos Asin Asinh Atanh AveragePooling AveragePoolingLayer BFF BS BatchNormalization BatchNormalizationLayer
BilinearUpsamplingLayer CNTK2 CastAs Ceil Chr ClassBasedCrossEntropyWithSoftmax ClassificationError Clip
ColumnElementTimes ColumnwiseCrossProduct Constant ConstantFromString ConstantTensor Convolution ConvolutionTranspose
ConvolutionTransposeLayer ConvolutionalLayer CosDistance CosDistanceWithNegativeSamples Cosh Cosine CrossEntropy
CrossEntropyWithSoftmax Delay DelayLayer DenseLayer DiagTimes Dropout DynamicAxis EditDistanceError ElementDivide
ElementTimes Embedding EmbeddingLayer EnvironmentInput Equal ErrorPrediction Exp Fac Fail FeatureMVNLayer
FlattenDimensions Floor Format ForwardBackward FutureValue GMMLogLikelihood GatherPacked Greater GreaterEqual Hardmax
Identity ImageInput Inferred Input IntDiv InvStdDev IsArray IsBool IsDouble IsSameObject KhatriRaoProduct LabelsToGraph
LambdaRank LayerNormalizationLayer LayerStack LearnableParameter Length Less LessEqual LinearLayer Log LogPlus LogPrior
LogPriorLayer LogSoftmax Logistic MatrixL1Reg MatrixL2Reg Max MaxPooling MaxPoolingLayer MaxUnpooling MaxUnpoolingLayer
Mean MeanVarNorm MergeBinary Min Minus Mod NDCG1Eval Negate NewReshape None NotEqual OptimizedRNNStack PackedIndex
Parallel Parameter ParameterTensor Pass PastValue PerDimMeanVarDeNormalization PerDimMeanVarNormalization Plus Pooling
Print QuantizedTimes RNNStack ROIPooling ReLU Reciprocal ReconcileDynamicAxis ReconcileMBLayout RectifiedLinear
RecurrentLSTMLayer RecurrentLSTMLayerStack ReduceLogSum ReduceMax ReduceMean ReduceMin ReduceSum Repeat Replace Reshape
ReshapeDimension Round RowRepeat RowSlice RowStack SBFF Scale ScatterPacked Sequential SequenceWithLattice Shift Sigmoid
Sign Sin Sinh Slice Softmax SparseImageInput SparseInput Splice SplitDimension Sqrt SquareError StabilizerLayer Substr
SumColumnElements SumElements Tanh TimeReverse Times Trace Transpose TransposeDimensions TransposeTimes WeightedLogistic
Where _AreElementsTheSame _AsArray _AsNodes _ConcatArrays _ForceResizeArray _PFValue _PoolingLayer
"""


@pytest.mark.parametrize("name", NAMES)
def test_values_of_the_real_cntk(name: str, tmp_path: Path) -> None:
    (tmp_path / "W.txt").write_text("\n".join(map(str, RECORDED["W"].reshape(-1))), encoding="utf-8")
    text = f"""{{ x = Input {{(4:3:2)}}
        W = ParameterTensor {{(2:2:3:2), initFromFilePath = "{tmp_path / "W.txt"}"}}
        z = {name} }}"""
    network = read_network(of_lines("net.bs", text.split("\n")), [])
    module = build(lower([network.members["z"]], torch.Generator().manual_seed(1), "BrainScript"))
    with torch.no_grad():
        got = module(torch.from_numpy(RECORDED["x"])).numpy()
    wanted = RECORDED[f"{NAMES.index(name):02d}"]
    np.testing.assert_allclose(got.reshape(wanted.shape), wanted, rtol=2e-5, atol=2e-6)


def test_every_name_is_known_or_refused() -> None:
    library = Evaluator([]).library
    assert library.outer is not None
    known = library.members.keys() | library.outer.members.keys()
    assert not [name for name in LIBRARY.split() if name not in known and name not in REFUSED]
    assert not known & REFUSED.keys()


@pytest.mark.parametrize(
    "name", ["PastValue (0, x)", "RecurrentLSTMLayer {4} (x)", "BS.RNNs.LSTMBlock {4}", "Where (x)"]
)
def test_refusals_name_the_place_and_a_way_out(name: str) -> None:
    with pytest.raises(UnsupportedError, match=r"net\.bs: line 2, column \d+: \w+ is not supported: it .*; describe"):
        read_network(of_lines("net.bs", ["{ x = Input {4}", f"z = {name} }}"]), [])
