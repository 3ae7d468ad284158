"""Proved requantisation: the cheapest integer or float form that equals ONNX Runtime's on every reachable input.

`requantise` + `pack_vreq` make the table of a VREQ instruction, `binary_entry` that of a VBIN.
"""

from compiler.requant.binary import BinaryEntry, binary_entry
from compiler.requant.stepped import MOST_STEPS, conv_step_plan, entry_bytes, fixed_plan, step_plan
from compiler.requant.vreq import MODE_NAMES, RequantPlan, pack_vreq, packed_bytes, reachable_range, requantise

__all__ = [
    "MODE_NAMES",
    "MOST_STEPS",
    "BinaryEntry",
    "RequantPlan",
    "binary_entry",
    "conv_step_plan",
    "entry_bytes",
    "fixed_plan",
    "pack_vreq",
    "packed_bytes",
    "reachable_range",
    "requantise",
    "step_plan",
]
