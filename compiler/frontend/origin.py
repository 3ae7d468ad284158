"""Where a model comes from, as far as the names in other tools' files depend on it.

Needs a model file that the import has accepted; says whether FINN takes such a graph too, and how many quantisers
stand between its inputs and its first product: they run on the host here and are hardware nodes there.
"""

from __future__ import annotations

from pathlib import Path

import onnx

from compiler.frontend.lowbit.quantizers import DOMAINS

_QUANTISERS = ("Quant", "IntQuant", "BipolarQuant", "MultiThreshold")
_PRODUCTS = ("Conv", "ConvTranspose", "MatMul", "Gemm", "XnorPopcountMatMul")


def finn_front(path: Path) -> int | None:
    """Quantisers in front of the first products of a low-bit graph; None for a graph that FINN does not read."""
    graph = onnx.load(str(path), load_external_data=False).graph
    if not any(n.domain.startswith(DOMAINS) for n in graph.node):
        return None
    fixed = {i.name for i in graph.initializer}
    live = {i.name for i in graph.input} - fixed
    count = 0
    for n in graph.node:  # ONNX graphs are sorted
        if n.op_type in _PRODUCTS or not live.intersection(n.input):
            continue
        live.update(n.output)
        count += n.op_type in _QUANTISERS
    return count
