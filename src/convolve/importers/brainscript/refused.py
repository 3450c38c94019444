"""Names of CNTK's BrainScript library that are known and not supported: why, and what to do instead."""

_SEQUENCE = (
    "works along a sequence, and an image is a sample of its own here; describe the network by layers of one sample, "
    "such as DenseLayer and ConvolutionalLayer"
)
_LANGUAGE_MODEL = (
    "is a criterion of sequences or of rankings; train classes by CrossEntropyWithSoftmax (labels, z), numbers by "
    "SquareError (labels, z)"
)
_INSIDE = "is for the use of CNTK's library alone; use the functions that are documented"

_GROUPS = {
    _SEQUENCE: (
        "RecurrentLSTMLayer RecurrentLSTMLayerStack DelayLayer PastValue FutureValue Delay Shift DynamicAxis Where "
        "GatherPacked ScatterPacked PackedIndex TimeReverse OptimizedRNNStack RNNStack Sequences Loop RNNs S2S Seq2Seq "
        "Toggle RecurrentGRULayer RecurrentBirectionalLSTMLayer LSTMP BeamSearchSequenceDecoderFrom"
    ),
    _LANGUAGE_MODEL: (
        "EditDistanceError SequenceWithLattice SequenceWithSoftmax LatticeSequenceWithSoftmax ForwardBackward "
        "LabelsToGraph LambdaRank NDCG1Eval ClassBasedCrossEntropyWithSoftmax ClassCrossEntropyWithSoftmax "
        "NCEBasedCrossEntropyWithSoftmax NoiseContrastiveEstimation CosDistanceWithNegativeSamples GMMLogLikelihood "
        "DummyCriterion"
    ),
    _INSIDE: "_AsNodes _PFValue _PoolingLayer _AreElementsTheSame _ForceResizeArray",
    "adds numbers of the whole minibatch; use L1RegWeight and L2RegWeight of the SGD block": "MatrixL1Reg MatrixL2Reg",
    "multiplies in whole numbers of few bits; use Times (x, y)": "QuantizedTimes",
    "is a table for words; use EmbeddingLayer {dim} on dense input": "Embedding",
    "reads a number from CNTK's own process; write it as Constant (...)": "EnvironmentInput",
    "multiplies each number with each; use Times with weights, or ElementTimes": (
        "KhatriRaoProduct ColumnwiseCrossProduct"
    ),
    "draws classes at random; train by CrossEntropyWithSoftmax (labels, z)": (
        "RandomSample RandomSampleInclusionFrequency GetRandomSample GetInclusionFrequency"
    ),
}

REFUSED: dict[str, str] = {name: why for why, names in _GROUPS.items() for name in names.split()}
