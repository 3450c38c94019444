"""The SimpleNetworkBuilder block of a configuration: dense layers one after the other.

Names of nodes are those that CNTK's builder gives: W0, B0, W0*features, W0*features+B0, H1, ..., HLast.
"""

from convolve.errors import UnsupportedError, unknown_name
from convolve.importers.brainscript.config import Block
from convolve.importers.brainscript.ndl.maker import Maker
from convolve.importers.brainscript.syntax import Spot
from convolve.importers.brainscript.values import Array, Node, Value

MAX_LAYERS = 1_000

# Those of other networks: language models, recurrent ones.
_OTHERS = (
    "recurrentLayer defaultHiddenActivity directConnect word2cls cls2index vocabSize nbrClass noise_number maOrder "
    "lookupTableOrder streamSizes labelEmbeddingSize auxfeatdim sparseinput outputLayerSize"
)
_LAYERS = ("Sigmoid", "Tanh", "RectifiedLinear", "None")
_CRITERIA = ("CrossEntropyWithSoftmax", "SquareError", "Logistic")
_ERRORS = {"ErrorPrediction": "EvalErrorPrediction", "ClassificationError": "EvalClassificationError"}


def read_simple(block: Block) -> Maker:
    """Raises FormatError with line and column, UnsupportedError for a network of another kind."""
    kind = block.text("rnnType", "SIMPLENET").upper()
    if kind != "SIMPLENET":
        raise UnsupportedError(f"{block.unsupported('rnnType', f'a network of the kind {kind}')}; SIMPLENET is")
    for key in _OTHERS.split():
        block.find(key, inherit=False)
    sizes = block.integers("layerSizes", (100,))
    if not 2 <= len(sizes) <= MAX_LAYERS or min(sizes) < 1:
        raise block.error("layerSizes", f"{block.path('layerSizes')} must be two or more sizes, as in 784:256:10")
    return _Simple(block, sizes).built()


class _Simple:
    def __init__(self, block: Block, sizes: tuple[int, ...]) -> None:
        self.block, self.sizes = block, sizes
        self.maker, self.spot = Maker(), Spot(block.bodies[0], 0)
        self.init = "uniform" if block.flag("uniformInit", True) else "gaussian"
        self.scale = block.number("initValueScale", 1.0)

    def made(self, name: str, function: str, *operands: Node) -> Node:
        return self.maker.call(self.spot, name, function, operands)

    def built(self) -> Maker:
        maker, last = self.maker, len(self.sizes) - 2
        features = x = maker.call(self.spot, "features", "InputValue", [float(self.sizes[0])])
        if self.block.flag("applyMeanVarNorm"):
            mean, deviation = self.made("MeanOfFeatures", "Mean", x), self.made("InvStdOfFeatures", "InvStdDev", x)
            x = self.made("MVNormalizedFeatures", "PerDimMeanVarNormalization", x, mean, deviation)
        dropout = self.block.flag("addDropoutNodes")
        for layer in range(last):
            x = self.activated(layer, self.dense(layer, x, f"H{layer}" if layer else "features"))
            x = self.made(f"DropH{layer + 1}", "Dropout", x) if dropout else x
        # As in CNTK, the last layer's product is named after the layer before the one that it reads.
        z = self.dense(last, x, f"H{last - 1}", "HLast")
        labels = maker.call(self.spot, "labels", "InputValue", [float(self.sizes[-1])])
        maker.tag("featureNodes", features)
        maker.tag("labelNodes", labels)
        self.add_criteria(labels, z)
        output = z
        if self.block.flag("needPrior"):
            prior = self.made("LogOfPrior", "Log", self.made("Prior", "Mean", labels))
            output = self.made("ScaledLogLikelihood", "Minus", z, prior)
        maker.tag("outputNodes", output)
        self.made("PosteriorProb", "Softmax", z)
        return maker

    def dense(self, layer: int, x: Node, x_name: str, name: str = "") -> Node:
        """W x + B, under the names of CNTK."""
        outputs, inputs = float(self.sizes[layer + 1]), float(self.sizes[layer])
        how: dict[str, Value] = {"init": self.init, "initValueScale": self.scale}
        dims = Array((outputs, inputs))
        weight = self.maker.call(self.spot, f"W{layer}", "LearnableParameter", [dims], how)
        fixed: dict[str, Value] = {"init": "fixedValue", "value": 0.0}
        bias = self.maker.call(self.spot, f"B{layer}", "LearnableParameter", [Array((outputs, 1.0))], fixed)
        product = self.made(f"W{layer}*{x_name}", "Times", weight, x)
        return self.made(name or f"W{layer}*{x_name}+B{layer}", "Plus", product, bias)

    def activated(self, layer: int, x: Node) -> Node:
        """The layer's activation; the last one of a shorter list is repeated. A linear layer is called H1 itself."""
        types = self.block.words("layerTypes") or ("Sigmoid",)
        kind = types[min(layer, len(types) - 1)] or "None"
        known = {name.lower(): name for name in _LAYERS}
        if kind.lower() not in known:
            raise self.block.error("layerTypes", unknown_name("layer type", kind, _LAYERS))
        if known[kind.lower()] != "None":
            return self.made(f"H{layer + 1}", known[kind.lower()], x)
        self.maker.rename(x.path, f"H{layer + 1}")
        return x

    def add_criteria(self, labels: Node, z: Node) -> None:
        criterion = self.block.choice("trainingCriterion", _CRITERIA, "CrossEntropyWithSoftmax")
        trained = self.made(criterion, criterion, labels, z)
        self.maker.tag("criterionNodes", trained)
        error = self.block.choice("evalCriterion", (*_ERRORS, *_CRITERIA), "ErrorPrediction")
        if error == criterion:
            self.maker.tag("evaluationNodes", trained)
            return
        function = "ClassificationError" if error in _ERRORS else error
        self.maker.tag("evaluationNodes", self.made(_ERRORS.get(error, error), function, labels, z))
