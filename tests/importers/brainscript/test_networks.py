"""Networks written in BrainScript: the published parameter counts, shapes, initial values; the corpus of mistakes."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from convolve.errors import ConvolveError
from convolve.graph.build import build
from convolve.graph.graph import Graph
from convolve.importers.brainscript.config import read_config
from convolve.importers.brainscript.criterion import trained
from convolve.importers.brainscript.lower import lower
from convolve.importers.brainscript.network import Network, read_network
from convolve.importers.brainscript.text import of_lines

REPOSITORY = Path(__file__).parents[3]
CORPUS = REPOSITORY / "tests" / "corpus" / "brainscript"
EXAMPLES = REPOSITORY / "examples" / "BrainScript"

# Published: CNTK's CI logs for the examples; He et al. with projections (2015); torchvision for the ImageNet networks;
# the Caffe model's for BN-Inception, whose convolutions have biases.
PARAMETERS = {
    EXAMPLES / "ConvNet_MNIST.cntk": 98_778,
    EXAMPLES / "ConvNet_CIFAR10.cntk": 949_834,
    EXAMPLES / "ConvNet_CIFAR10_DataAug.cntk": 949_834,
    EXAMPLES / "ConvNetLRN_CIFAR10_DataAug.cntk": 949_834,
    EXAMPLES / "AlexNet_ImageNet.cntk": 62_003_496,
    CORPUS / "valid" / "ResNet20_CIFAR10.cntk": 272_474,
    CORPUS / "valid" / "ResNet110_CIFAR10.cntk": 1_730_714,
    CORPUS / "valid" / "ResNet18_ImageNet.cntk": 11_689_512,
    CORPUS / "valid" / "ResNet50_ImageNet.cntk": 25_557_032,
    CORPUS / "valid" / "ResNet152_ImageNet.cntk": 60_192_808,
    CORPUS / "valid" / "VGG16_ImageNet.cntk": 138_357_544,
    CORPUS / "valid" / "BNInception_ImageNet.cntk": 11_295_240,
    CORPUS / "valid" / "InceptionV3_ImageNet.cntk": 23_834_568,
    # Counted by hand, layer by layer.
    CORPUS / "valid" / "Idioms_CIFAR10.cntk": 44_370,
    CORPUS / "valid" / "OneHidden_MNIST.cntk": 785 * 200 + 201 * 10,
    CORPUS / "valid" / "OldStyle_MNIST.cntk": 26 * 16 + (14 * 14 * 16 + 1) * 32 + 33 * 10,
}

LARGE = [file.stem for file in PARAMETERS if file.stem.endswith("_ImageNet") and file.parent != EXAMPLES]


def network_of(file: Path) -> Network:
    root, folders = read_config([str(file)])
    block = root.block(root.words("command")[0])
    assert block is not None
    text = block.raw("BrainScriptNetworkBuilder")
    assert text is not None
    return read_network(text, folders)


def graph_of(file: Path) -> Graph:
    return lower(trained(network_of(file)).outputs[:1], None, "BrainScript")


@pytest.mark.parametrize("file", PARAMETERS, ids=lambda file: file.stem)
def test_published_parameter_counts(file: Path) -> None:
    graph = graph_of(file)
    assert sum(p.array.size for p in graph.parameters if p.learning_rate_multiplier) == PARAMETERS[file]


def test_every_text_of_the_corpus_is_counted() -> None:
    found = {*EXAMPLES.glob("*.cntk"), *(CORPUS / "valid").glob("*.cntk")}
    assert found == PARAMETERS.keys()


def test_response_normalization_is_found() -> None:
    (one, two) = (n for n in graph_of(EXAMPLES / "AlexNet_ImageNet.cntk").nodes if n.op.startswith("local_response"))
    assert one.attributes == pytest.approx({"size": 5, "alpha": 1e-4, "beta": 0.75, "k": 1})
    assert (one.name, two.name) == ("norm1", "norm2")


@pytest.mark.parametrize("name", ["ResNet20_CIFAR10", *(pytest.param(n, marks=pytest.mark.slow) for n in LARGE)])
def test_a_step_of_training(name: str) -> None:
    """Gradients reach every parameter, and a small step along them lowers the loss."""
    network = network_of(CORPUS / "valid" / f"{name}.cntk")
    graph = lower(trained(network).outputs[:1], torch.Generator().manual_seed(1), "BrainScript")
    module = build(graph).train()
    images = torch.rand(2, *graph.inputs[0].shape, generator=torch.Generator().manual_seed(2)) * 255
    labels = torch.tensor([3, 5])
    losses = []
    for _ in range(2):
        loss = torch.nn.functional.cross_entropy(module(images), labels)
        losses.append(loss.item())
        module.zero_grad()
        loss.backward()
        with torch.no_grad():
            for parameter in filter(lambda parameter: parameter.requires_grad, module.parameters()):
                assert parameter.grad is not None and parameter.grad.isfinite().all()
                parameter.sub_(parameter.grad, alpha=1e-3)
    assert losses[1] < losses[0]


# -- parts -----------------------------------------------------------------------------------------------------------


def lowered(members: str, output: str = "z", seed: int | None = None) -> Graph:
    """The graph of a network over an image of 4x3x2 (width, height, channels) with the given members."""
    text = of_lines("net.bs", ["{ features = Input {(4:3:2)}", *members.split("\n"), "}"])
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    return lower([read_network(text, []).members[output]], generator, "BrainScript")


@pytest.mark.parametrize(
    ("member", "shape"),
    [
        ("ConvolutionalLayer {5, (3:2)} (features)", (5, 2, 2)),
        ("ConvolutionalLayer {5, (3:3), pad = true, stride = 2} (features)", (5, 2, 2)),
        ("ConvolutionalLayer {5, (3:3), pad = (true:false)} (features)", (5, 1, 4)),
        ("ConvolutionalLayer {5, (1:1), lowerPad = (1:0), upperPad = (2:1)} (features)", (5, 4, 7)),
        ("Convolution (Parameter (6, 18), features, (3:3), mapDims = 6, autoPadding = true)", (6, 3, 4)),
        ("Convolution (ParameterTensor {(3:3:2:6)}, features, (3:3:2), stride = (1:1:2), "
         "autoPadding = (true:true:false))", (6, 3, 4)),
        ("ConvolutionTransposeLayer {5, (2:2), 2, stride = 2} (features)", (5, 6, 8)),
        ("MaxPoolingLayer {(2:3), stride = 1} (features)", (2, 1, 3)),
        ("MaxPoolingLayer {(3:3), stride = 2, pad = true} (features)", (2, 2, 2)),
        ("MaxPooling (features, 2, 2, 2, 1)", (2, 2, 2)),
        ("AveragePoolingLayer {(4:3)} (features)", (2, 1, 1)),
        ("Pooling (features, 'average', (2:2))", (2, 3, 4)),
        ("DenseLayer {7} (features)", (7,)),
        ("LinearLayer {(7:3), bias = false} (features)", (3, 7)),
        ("LinearLayer {7, mapRank = 1} (features)", (2, 7)),
        ("Parameter (7, 4) * features", (2, 3, 7)),
        ("ParameterTensor {(7:0:0:0)} * features", (7,)),
        ("Splice (features : features, axis = 3)", (4, 3, 4)),
        ("RowStack (features : features)", (2, 3, 8)),
        ("Splice (Constant (1) : Constant (2), axis = 3) .* features", (2, 3, 4)),
        ("SplitDimension (features, 1, 2)", (2, 3, 2, 2)),
        ("FlattenDimensions (features, 1, 3)", (24,)),
        ("NewReshape (features, (6:0))", (4, 6)),
        ("NewReshape (features, 12, beginAxis = 1, endAxis = 3)", (2, 12)),
        ("TransposeDimensions (features, 1, 3)", (4, 3, 2)),
        ("Slice (1, 3, features)", (2, 3, 2)),
        ("Slice (0, -1, features, axis = 2)", (2, 2, 4)),
        ("ReduceSum (features, axis = 3)", (1, 3, 4)),
        ("BatchNormalizationLayer {spatialRank = 2} (features)", (2, 3, 4)),
        ("BatchNormalizationLayer {} (features)", (2, 3, 4)),
        ("MeanVarNorm (features)", (2, 3, 4)),
        ("if features > 0 then features else -features", (2, 3, 4)),
        ("1 / (features / 2) - Clip (0, 1, features)", (2, 3, 4)),
        ("ReLU (features) + ParameterTensor {(1:1:2)}", (2, 3, 4)),
        ("features .* ParameterTensor {0}", (2, 3, 4)),
        ("Softmax (FlattenDimensions (features, 1, 3))", (24,)),
        ("Parallel ((x => 2 .* x) : (x => x), xs => Splice (xs, axis = 3)) (features)", (4, 3, 4)),
    ],
)  # fmt: skip
def test_shapes(member: str, shape: tuple[int, ...]) -> None:
    """Slowest axis first, as numpy has it; the module's own result has that shape too."""
    graph = lowered(f"z = {member}")
    assert graph.values()[graph.outputs[0]].shape == shape
    assert build(graph)(torch.rand(5, 2, 3, 4)).shape == (5, *shape)


@pytest.mark.parametrize(
    ("init", "kind", "width"),
    [
        ("'uniform'", "uniform", 0.05),
        ("'gaussian'", "normal", 0.2 / 60**0.5),
        ("'normal'", "normal", 1.0),
        ("'xavier'", "uniform", (3 / 60) ** 0.5),
        ("'glorotUniform'", "uniform", (6 / (60 + 400)) ** 0.5),
        ("'glorotNormal'", "normal", (2 / (60 + 400)) ** 0.5),
        ("'heUniform'", "uniform", (6 / 60) ** 0.5),
        ("'heNormal', initValueScale = 0.5", "normal", 0.5 * (2 / 60) ** 0.5),
    ],
)
def test_initial_values(init: str, kind: str, width: float) -> None:
    """Of a convolution's weight: fan-in is width * height * channels, fan-out width * height * maps."""
    graph = lowered(f"z = ConvolutionalLayer {{200, (2:1), init = {init}}} (Pad30 (features))\n"
                    "Pad30 (x) = Splice (Repeat (15, x), axis = 3)", seed=7)  # fmt: skip
    weight = next(p.array for p in graph.parameters if p.array.ndim == 4)
    assert weight.shape == (200, 30, 1, 2)
    spread = width / 3**0.5 if kind == "uniform" else width
    assert weight.std() == pytest.approx(spread, rel=0.03)
    if kind == "uniform":
        assert np.abs(weight).max() == pytest.approx(width, rel=0.01)


def test_initial_values_of_a_matrix() -> None:
    graph = lowered("z = LinearLayer {300} (features)", seed=1)
    weight = next(p.array for p in graph.parameters if p.array.ndim == 4)
    assert np.abs(weight).max() == pytest.approx((6 / (24 + 300)) ** 0.5, rel=0.01)
    again = lowered("z = LinearLayer {300} (features)", seed=1)
    assert (weight == next(p.array for p in again.parameters if p.array.ndim == 4)).all()


def test_initial_values_that_are_given(tmp_path: Path) -> None:
    """A text has a row on each line; CNTK keeps them column by column, the first axis of a shape fastest."""
    (tmp_path / "w.txt").write_text("1 2 3 4\n5 6 7 8\n", encoding="utf-8")
    x = torch.rand(1, 2, 3, 4)
    for init, rows in (
        (f"initFromFilePath = '{tmp_path}/w.txt'", [[1.0, 2, 3, 4], [5, 6, 7, 8]]),
        ("init = 'fromLiteral', initFromLiteral = '1 -2 3e1 .5'", [[1, -2, 30, 0.5]]),
    ):
        module = build(lowered(f"z = Parameter ({len(rows)}, 4, {init}) * features", seed=1))
        torch.testing.assert_close(module(x), torch.einsum("ow,bchw->bcho", torch.tensor(rows), x))
    with pytest.raises(ConvolveError, match=r"cannot read nowhere\.txt"):
        lowered("z = ParameterTensor {3, initFromFilePath = 'nowhere.txt'} + 1", seed=1)


def test_bilinear_initial_values_enlarge_each_map() -> None:
    """A constant stays the constant inside, and no map gets anything of another."""
    layer = "ConvolutionTransposeLayer {2, (4:4), 2, stride = 2, bias = false, init = 'bilinear'}"
    module = build(lowered(f"z = {layer} (features)", seed=1))
    images = torch.zeros(1, 2, 3, 4)
    images[:, 0] = 7
    enlarged = module(images)
    assert enlarged.shape == (1, 2, 8, 10)
    torch.testing.assert_close(enlarged[0, 0, 2:-2, 2:-2], torch.full((4, 6), 7.0))
    assert not enlarged[0, 1].any()


def test_layers_share_what_they_own() -> None:
    """A layer that is applied twice has one weight; a constructor that is called twice makes two."""
    shared = lowered("l = ConvolutionalLayer {2, (1:1)}\nz = l (l (features))")
    apart = lowered("l () = ConvolutionalLayer {2, (1:1)}\nz = l () (l () (features))")
    assert [len(shared.parameters), len(apart.parameters)] == [2, 4]


@pytest.mark.parametrize(
    ("member", "words"),
    [
        ("z = ConvolutionalLayer {5, (9:9)} (features)", "line 2, column 5: z.c: a window of 9 over 3 cells"),
        ("z = ReLU (1:2)", "ReLU takes nodes of the network, not an array"),
        ("z = Input {(0:1)}", "an input of shape"),
        ("z = Parameter (100000, 100000)\n", "a parameter of the shape (100000, 100000)"),
        ("z = features + ParameterTensor {(1:1:1:0)}", "has 4 axes, but 3 are needed"),
        ("z = ReLU (ParameterTensor {0})", "cannot be inferred; write it out"),
        ("z = ParameterTensor {3, init = 'magic'} + 1", "unknown initializer 'magic'"),
        ("z = ParameterTensor {3, init = 'fromLiteral', initFromLiteral = '1 2'} + 1", "2 initial values for"),
        ("z = ParameterTensor {3, init = 'fromLiteral', initFromLiteral = '1 2 x'} + 1", "the same number of values"),
        ("z = ParameterTensor {3, init = 'bilinear'} + 1", "need a square window and as many maps"),
        ("z = Pooling (features, 'median', (2:2))", "unknown kind of pooling 'median'"),
        ("z = new ComputationNode [ operation = 'LSTM' ; inputs = features ]", "unknown operation 'LSTM'"),
        ("z = Splice (features : Input {(5:4)})", "side by side"),
        ("z = Softmax (features, axis = 5)", "axis 4 of a value with 3 axes"),
        ("z = ClassificationError (features, features, axis = 1)", "a criterion along one axis is not supported"),
        ("z = ImageInput (3, 3, 1, imageLayout = 'HWC')", "only the layout CHW is supported"),
        ("z = Sequential (array[1..30000] (i => ReLU)) (features)", "30,000 elements"),
        ("z = { f (x, n) = if n == 0 then x else f (ReLU (x) + x, n-1) }.f (features, 9999)", "nested deeper than"),
    ],
)
def test_mistakes(member: str, words: str) -> None:
    with pytest.raises(ConvolveError) as error:
        lowered(member)
    assert re.search(words.replace("(", r"\(").replace(")", r"\)"), str(error.value)), error.value
    assert re.search(r"net\.bs: line \d+, column \d+: ", str(error.value))


@pytest.mark.parametrize("file", sorted((CORPUS / "invalid").glob("*.cntk")), ids=lambda file: file.stem)
def test_invalid_corpus(file: Path) -> None:
    """The first line of each file says what is to be said of it."""
    expected = file.read_text(encoding="utf-8", errors="replace").splitlines()[0].removeprefix("# ")
    with pytest.raises(ConvolveError) as error:
        graph_of(file)
    assert expected in str(error.value)


def test_nodes_have_roles_by_list_or_by_tag() -> None:
    text = """{ features = Input {4} ; labels = Input {2} ; z = LinearLayer {2} (features)
    ce = CrossEntropyWithSoftmax (labels, z, tag = 'criterion') ; errs = ErrorPrediction (labels, z, tag = 'eval')
    outputNodes = z }"""
    network = read_network(of_lines("net.bs", text.split("\n")), [])
    assert network.roles["criterionNodes"] == (network.members["ce"],)
    assert network.roles["evaluationNodes"] == (network.members["errs"],)
    assert trained(network).outputs[0] is network.roles["outputNodes"][0] is network.members["z"]
