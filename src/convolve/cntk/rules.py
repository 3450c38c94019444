"""Rules of lowering for operations beyond those of the files that convolve reads."""

import numpy as np

from convolve.cntk import along
from convolve.importers.cntk.call import Call
from convolve.importers.cntk.lower import RULES as FILES
from convolve.importers.cntk.plain import Rule


def _random(call: Call) -> str:
    """The shape only: the numbers are drawn before each pass (`lowering.py`)."""
    if call.operands:
        return call.operand(0)
    shape = call.attributes.get("newShape", tuple)[::-1]
    return call.draft.parameter(np.broadcast_to(np.float32(0), shape), 0.0)


def _sample(call: Call) -> str:
    """One vector per class that is drawn."""
    shape = (call.attributes.get("numSamples", int), *call.shape())
    return call.draft.parameter(np.broadcast_to(np.float32(0), shape), 0.0)


def _user_function(call: Call) -> tuple[str, ...]:
    from convolve.cntk.ops.user_functions import UserLayer

    function = call.attributes.values["function"]
    made = call.add("layer", *call.operands, layer=UserLayer(function))
    return tuple(call.add("item", made, index=at, shape=each.shape) for at, each in enumerate(function.outputs))


def _unpack_batch(call: Call) -> str:
    return call.add("unpack_batch", call.operand(0), size=call.attributes.get("batchSize", int))


DRAWN = ("RandomDistribution", "RandomSample", "RandomSampleInclusionFrequency")  # whose numbers are fed

RULES: dict[str, Rule] = {
    **FILES,
    **{op: each.rule for op, each in along.RULES.items()},
    "Assign": lambda call: call.operand(1),
    "EyeLikeOp": lambda call: call.add("eye_like", call.operand(0)),
    "Gather": lambda call: call.add("gather_rows", *call.operands),
    "RandomDistribution": _random,
    "RandomSample": _sample,
    "RandomSampleInclusionFrequency": Call.operand,
    "ToBatch": lambda call: call.add("to_batch", call.operand(0)),
    "UnpackBatch": _unpack_batch,
    "UserFunction": _user_function,
}
