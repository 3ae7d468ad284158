"""Low-bit models (QONNX, FINN): quantisers of any width become integers and thresholds, scales are absorbed.

`quantizers.expand` writes the custom operators out in standard float operators and remembers which tensors lie on an
integer grid; `walk.convert` then replaces what lies between two grids by integer operators that give the same integers.
"""

from compiler.frontend.lowbit.quantizers import expand, is_lowbit, refuse_unknown
from compiler.frontend.lowbit.walk import convert

__all__ = ["convert", "expand", "is_lowbit", "refuse_unknown"]
