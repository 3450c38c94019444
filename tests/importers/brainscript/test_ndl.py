"""NDL and SimpleNetworkBuilder: the same networks, and the same numbers, as those of their BrainScript equivalents."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from convolve.errors import ConvolveError, FormatError, UnsupportedError
from convolve.graph.build import build
from convolve.graph.graph import Graph
from convolve.importers.brainscript.criterion import trained
from convolve.importers.brainscript.job import TrainStep, read_job
from convolve.importers.brainscript.lower import lower

HEAD = """
command = Train
modelPath = m/net
imageLayout = "cudnn"
Train = [
    action = train
    SGD = [ maxEpochs = 2 ; minibatchSize = 8 ; learningRatesPerMB = 0.5 ]
    reader = [
        readerType = "CNTKTextFormatReader" ; file = "train.txt"
        input = [ features = [ dim = 48 ; format = "dense" ] ; labels = [ dim = 3 ; format = "dense" ] ]
    ]
"""


def step_of(folder: Path, builder: str, head: str = "") -> TrainStep:
    file = folder / "net.cntk"
    file.write_text(f"{head}\n{HEAD}{builder}\n]\n", encoding="utf-8")
    (step,) = read_job([str(file)]).steps
    assert isinstance(step, TrainStep)
    return step


def graph_of(step: TrainStep) -> Graph:
    return lower(trained(step.network).outputs[:1], torch.Generator().manual_seed(1), "BrainScript")


def ndl(folder: Path, script: str, head: str = "") -> TrainStep:
    return step_of(folder, f"NDLNetworkBuilder = [\n run = net\n net = [\n{script}\n]\n]", head)


def same(ours: TrainStep, text: str, folder: Path) -> None:
    """`text` is the BrainScript of `ours`: every parameter, and what comes of an image, is equal to the bit."""
    theirs = step_of(folder, f"BrainScriptNetworkBuilder = {{\n{text}\n}}")
    one, two = graph_of(ours), graph_of(theirs)
    assert [p.array.tobytes() for p in one.parameters] == [p.array.tobytes() for p in two.parameters]
    assert [(node.op, dict(node.attributes)) for node in one.nodes] == [(n.op, dict(n.attributes)) for n in two.nodes]
    images = torch.rand((2, *one.inputs[0].shape), generator=torch.Generator().manual_seed(2))
    assert torch.equal(build(one).eval()(images), build(two).eval()(images))


LAYERS = """
    ConvReLU(inp, outMap, inWCount, kW, kH, hStride, vStride, wScale, bValue) [
        W = Parameter(outMap, inWCount, init=uniform, initValueScale=wScale)
        b = ImageParameter(1, 1, outMap, init=fixedvalue, value=bValue, imageLayout=$imageLayout$)
        c = Convolution(W, inp, kW, kH, outMap, hStride, vStride, zeroPadding=true, imageLayout=$imageLayout$)
        p = Plus(c, b); y = RectifiedLinear(p)
    ]
    DNN(inDim, outDim, x, parmScale)
    {
        W = Parameter(outDim, inDim, init=Gaussian, initValueScale=parmScale)
        b = Parameter(outDim, value=0.25, init=fixedValue)
        DNN = Plus(Times(W, x), b)
        unused = Constant(1)
    }
"""
NET = """
    ImageW = 4; ImageH = 4
    features = ImageInput(ImageW, ImageH, 3, imageLayout=$imageLayout$, tag=feature)
    labels = Input(3, tag="label")
    featScale = Const(0.00390625)
    conv1 = ConvReLU(Scale(featScale, features), 8, 27, 3, 3, 1, 1, 2, 0.5)
    pool1 = MaxPooling(conv1, 2, 2, 2, 2, imageLayout=$imageLayout$)
    OL = DNN(32, 3, Dropout(pool1), 1.5)   # the node called like the macro
    CE = CrossEntropyWithSoftmax(labels, OL, tag=criterion)
    Err = ErrorPrediction(labels, ol, tag=eval)
    topN = Constant(2)
    Top2 = ClassificationError(labels, OL, topN)
    EvalNodes = (Err : Top2)
    OutputNodes = (OL)
"""
BRAINSCRIPT = """
    features = Input {(4:4:3)} ; labels = Input {3}
    conv (x) = {
        W = Parameter (8, 27, init = "uniform", initValueScale = 2)
        b = ParameterTensor ((1:1:8), init = "fixedValue", value = 0.5)
        y = RectifiedLinear (Plus (Convolution (W, x, (3:3), mapDims = 8, autoPadding = true), b))
    }.y
    pool1 = MaxPooling (conv (Scale (Constant (0.00390625), features)), 2, 2, 2, 2)
    W = Parameter (3, 32, init = "gaussian", initValueScale = 1.5)
    b = ParameterTensor (3, init = "fixedValue", value = 0.25)
    z = Plus (Times (W, Dropout (pool1)), b)
    ce = CrossEntropyWithSoftmax (labels, z, tag = "criterion")
"""


def test_a_network_with_macros(tmp_path: Path) -> None:
    step = ndl(tmp_path, LAYERS + NET)
    same(step, BRAINSCRIPT, tmp_path)
    assert {name for name in step.network.members if "unnamed" in name} == {"unnamed1", "OL.unnamed2", "unnamed3"}
    names = {"conv1.W", "conv1.b", "conv1.c", "conv1.p", "conv1.y", "OL.W", "OL.b", "OL.DNN", "OL.unused", "CE", "Err"}
    assert names <= {*step.network.members}
    roles = {role: [node.name for node in nodes] for role, nodes in step.network.roles.items()}
    assert roles["criterionNodes"] == ["CE"] and roles["evaluationNodes"] == ["Err", "Top2"]
    assert roles["featureNodes"] == ["features"] and roles["outputNodes"] == ["OL.DNN"]
    assert step.network.members["Top2"].number("top") == 2


def test_files_sections_and_macros_of_files(tmp_path: Path) -> None:
    (tmp_path / "net.ndl").write_text(f"load = first\nrun = all\nfirst = [{LAYERS}]\nall = [{NET}]\n", encoding="utf-8")
    same(step_of(tmp_path, 'NDLNetworkBuilder = [ networkDescription = "net.ndl" ]'), BRAINSCRIPT, tmp_path)
    (tmp_path / "plain.ndl").write_text(NET, encoding="utf-8")
    (tmp_path / "macros.ndl").write_text(f"load = m\nm = [{LAYERS}]\n", encoding="utf-8")
    (tmp_path / "more.ndl").write_text("Twice(x) = Plus(x, x)\n", encoding="utf-8")
    builder = 'NDLNetworkBuilder = [ networkDescription = "plain.ndl" ]'
    same(step_of(tmp_path, builder, 'ndlMacros = "macros.ndl+more.ndl"'), BRAINSCRIPT, tmp_path)
    twice = NET.replace("Dropout(pool1)", "Twice(pool1)")
    (tmp_path / "plain.ndl").write_text(twice, encoding="utf-8")
    expected = BRAINSCRIPT.replace("Dropout (pool1)", "Plus (pool1, pool1)")
    same(step_of(tmp_path, builder, 'ndlMacros = "macros.ndl+more.ndl"'), expected, tmp_path)


def test_options_of_macros(tmp_path: Path) -> None:
    """A default, and an option that only the call knows, of a macro in a macro; dotted names lead inside."""
    script = """
    Inner(x, size=5) { W = Parameter(size, 48, initValueScale=scale) ; h = Times(W, x) ; y = Sigmoid(h) }
    Outer(x) { a = Inner(x, scale=3) ; b = Inner(x, size=4, scale=2) }
    features = InputValue(48) ; labels = InputValue(3)
    o = Outer(features)
    z = Times(Parameter(3, 9), RowStack(o.a.h, o.b))
    ce = CrossEntropyWithSoftmax(labels, z)
    CriteriaNodes = (ce)
    """
    text = """
    features = Input {48} ; labels = Input {3}
    a = Times (Parameter (5, 48, init = "uniform", initValueScale = 3), features)
    b = Sigmoid (Times (Parameter (4, 48, init = "uniform", initValueScale = 2), features))
    z = Times (Parameter (3, 9, init = "uniform"), Splice (a : b))
    ce = CrossEntropyWithSoftmax (labels, z) ; criterionNodes = (ce)
    """
    same(ndl(tmp_path, script), text, tmp_path)


def test_batch_normalization_of_both_eras(tmp_path: Path) -> None:
    """expAvgFactor is the weight of a minibatch, here of 8 samples."""
    script = """
    features = ImageInput(4, 4, 3, imageLayout=cudnn) ; labels = InputValue(3)
    W = Parameter(8, 27) ; sc = Parameter(8, 1, init=fixedValue, value=1) ; b = Parameter(8, 1, init=fixedValue)
    m = Parameter(8, 1, init=fixedValue, needGradient=false)
    isd = Parameter(8, 1, init=fixedValue, needGradient=false)
    c = Convolution(W, features, {3, 3, 3}, mapCount=8, stride={2, 2, 3}, autoPadding={true, true, false}, lowerPad=0)
    n = BatchNormalization(c, sc, b, m, isd, spatial=true, expAvgFactor=0.25, imageLayout=cudnn)
    p = Pooling(n, average, {2, 2}, stride={1, 1}, autoPadding={false})
    z = Times(Parameter(3, 8), p)
    ce = CrossEntropyWithSoftmax(labels, z, tag=criterion)
    """
    text = """
    features = Input {(4:4:3)} ; labels = Input {3}
    c = Convolution (Parameter (8, 27, init = "uniform"), features, (3:3), mapDims = 8, stride = (2:2))
    sc = Parameter (8, 1, init = "fixedValue", value = 1) ; b = Parameter (8, 1, init = "fixedValue", value = 0)
    m = Parameter (8, 1, init = "fixedValue", learningRateMultiplier = 0)
    v = Parameter (8, 1, init = "fixedValue", learningRateMultiplier = 0)
    n = BatchNormalization (c, sc, b, m, v, spatial = true, normalizationTimeConstant = 0 - 8 / Log (0.75))
    p = Pooling (n, "average", (2:2), autoPadding = false)
    z = Times (Parameter (3, 8, init = "uniform"), p)
    ce = CrossEntropyWithSoftmax (labels, z) ; criterionNodes = (ce)
    """
    same(ndl(tmp_path, script.replace("average, ", '"average", ')), text, tmp_path)


def test_channels_first_serve_each_place(tmp_path: Path) -> None:
    """Without an imageLayout, the older one: a column of as many numbers as maps is added to each place."""
    script = """
    features = ImageInput(4, 4, 1) ; labels = InputValue(3)
    W = Parameter(8, 9) ; b = Parameter(8, 1, init=fixedValue, value=1)
    c = Convolution(W, features, 3, 3, 8, 1, 1)
    h = Tanh(Plus(c, b))
    z = Times(Parameter(3, 32), AveragePooling(h, 1, 1, 1, 1))
    ce = CrossEntropyWithSoftmax(labels, z, tag=criteria)
    """
    text = """
    features = Input {(4:4:1)} ; labels = Input {3}
    c = Convolution (Parameter (8, 9, init = "uniform"), features, (3:3), mapDims = 8, autoPadding = false)
    h = Tanh (c + ParameterTensor {(1:1:8), initValue = 1})
    z = Times (Parameter (3, 32, init = "uniform"), AveragePooling (h, 1, 1, 1, 1))
    ce = CrossEntropyWithSoftmax (labels, z) ; criterionNodes = (ce)
    """
    same(ndl(tmp_path, script), text, tmp_path)


SIMPLE = """
    SimpleNetworkBuilder = [
        layerSizes = 48:7*2:3 ; layerTypes = Sigmoid:Tanh ; initValueScale = 2 ; applyMeanVarNorm = true
        trainingCriterion = CrossEntropyWithSoftmax ; evalCriterion = ErrorPrediction ; addDropoutNodes = true
        needPrior = true
    ]"""


def test_simple_network(tmp_path: Path) -> None:
    step = step_of(tmp_path, SIMPLE)
    text = """
    features = Input {48} ; labels = Input {3}
    W (out, in) = Parameter (out, in, init = "uniform", initValueScale = 2)
    layer (x, out, in) = W (out, in) * x + ParameterTensor {out, initValue = 0}
    x = PerDimMeanVarNormalization (features, Mean (features), InvStdDev (features))
    h1 = Sigmoid (layer (x, 7, 48)) ; h2 = Tanh (layer (Dropout (h1), 7, 7))
    z = layer (Dropout (h2), 3, 7)
    ce = CrossEntropyWithSoftmax (labels, z) ; criterionNodes = (ce)
    """
    same(step, text, tmp_path)
    made = {"W0", "B0", "W2", "B2", "H1", "H2", "DropH1", "HLast", "CrossEntropyWithSoftmax", "EvalErrorPrediction"}
    others = {"W0*features", "W0*features+B0", "W1*H1", "W1*H1+B1", "W2*H1", "MeanOfFeatures", "PosteriorProb"}
    assert {*made, *others} <= {*step.network.members}
    assert [node.name for node in step.network.roles["outputNodes"]] == ["ScaledLogLikelihood"]


def test_simple_network_of_one_layer(tmp_path: Path) -> None:
    step = step_of(tmp_path, "SimpleNetworkBuilder = [ layerSizes = 48:3 ; uniformInit = false ]")
    graph = graph_of(step)
    assert {p.source: p.shape for p in graph.parameters} == {"W0": (3, 48), "B0": (3,)} or len(graph.parameters) == 2
    weight = next(p.array for p in graph.parameters if p.array.size == 144)
    assert np.std(weight) == pytest.approx(0.2 / 48**0.5, rel=0.2)  # CNTK's Gaussian


BAD = {
    "a = Foo(1)": "unknown function or macro 'Foo'",
    "a = Plus(b, c)": "unknown name 'b'",
    "a = Plus(a, a)": "a depends on itself; a recurrent network is not supported",
    "p = PastValue(3, x)": "PastValue is not supported; convolve trains networks of images",
    "Plus = Constant(1)": "'Plus' is the name of a function",
    "a = 1 ; A = 2": "'A' is defined twice",
    "M(x) { y = M(x) }\na = M(1)": "macros are nested more than 100 deep; does M call itself?",
    "M(x) { y = Plus(x, x) }\na = M(1, 2)": "M takes 1 arguments (x), but got 2",
    "x = Input(3, tag=featur)": "unknown tag 'featur'",
    "x = ImageInput(3, 3, 1, imageLayout=rows)": "unknown imageLayout 'rows'",
    "x = Convolution(1, 2)": "Convolution does not take 2 arguments",
    "x = (": "the text ends within a statement",
    "x = 'a": "has no meaning here",
    "x = 3 )": "unexpected",
    "OutputNodes = 3": "a node of the network is expected here",
    "M() {}\nx = M()": "the macro M makes no node",
}


@pytest.mark.parametrize("script", BAD)
def test_mistakes_are_told_with_their_place(script: str, tmp_path: Path) -> None:
    (tmp_path / "net.ndl").write_text(script, encoding="utf-8")
    with pytest.raises(ConvolveError, match=re.escape(BAD[script])) as caught:
        step_of(tmp_path, 'NDLNetworkBuilder = [ networkDescription = "net.ndl" ]')
    assert re.search(r"net.ndl: line \d+, column \d+: ", str(caught.value))
    assert caught.type in (FormatError, UnsupportedError)


def test_what_is_passed_over_is_said(tmp_path: Path) -> None:
    file = tmp_path / "net.cntk"
    script = NET.replace("Dropout(pool1)", "Dropout(pool1, rte=0.5)")
    file.write_text(f"{HEAD}NDLNetworkBuilder = [ run = net\n net = [{LAYERS}{script}] ]\n]\n", encoding="utf-8")
    (warning,) = [sentence for sentence in read_job([str(file)]).warnings if "rte" in sentence]
    assert "it is ignored, as in CNTK" in warning
