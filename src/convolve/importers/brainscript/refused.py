"""Names of CNTK's BrainScript library that are known but not supported: why, and what to do instead."""

_SEQUENCE = (
    "works along sequences, but each image is a sample of its own; describe the network by layers such as DenseLayer "
    "and ConvolutionalLayer"
)
_LANGUAGE_MODEL = (
    "is a criterion of sequences or of rankings; for classes, use CrossEntropyWithSoftmax (labels, z), for numbers "
    "SquareError (labels, z)"
)
_INSIDE = "is internal to CNTK's library; use the documented functions"

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
    "adds up the whole minibatch; use L1RegWeight and L2RegWeight of the SGD block": "MatrixL1Reg MatrixL2Reg",
    "multiplies quantized numbers; use Times (x, y)": "QuantizedTimes",
    "looks up word vectors; use EmbeddingLayer {dim} on dense input": "Embedding",
    "reads a number from CNTK's own process; write it as Constant (...)": "EnvironmentInput",
    "multiplies all pairs of numbers; use Times with weights, or ElementTimes": (
        "KhatriRaoProduct ColumnwiseCrossProduct"
    ),
    "samples classes at random; use CrossEntropyWithSoftmax (labels, z)": (
        "RandomSample RandomSampleInclusionFrequency GetRandomSample GetInclusionFrequency"
    ),
}

REFUSED: dict[str, str] = {name: why for why, names in _GROUPS.items() for name in names.split()}
