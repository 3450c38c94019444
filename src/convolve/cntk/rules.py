"""What programs compute beyond the files that convolve reads: rules of lowering for these."""

from __future__ import annotations

from convolve.importers.cntk.call import Call
from convolve.importers.cntk.lower import RULES as FILES
from convolve.importers.cntk.plain import Rule


def _assign(call: Call) -> str:
    return call.operand(1)


def _gather(call: Call) -> str:
    return call.add("gather_rows", *call.operands)


RULES: dict[str, Rule] = {**FILES, "Assign": _assign, "Gather": _gather}
