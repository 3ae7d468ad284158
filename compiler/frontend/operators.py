"""Which ONNX operators run where: the facts of docs/operators.md, one row an operator of the readers' registries.

The names come from the registries of the importer, so that the page lists just what is there; the words beside them are
written here. A test holds both together.
"""

from __future__ import annotations

from dataclasses import dataclass

from compiler.frontend import fuse_ops, islands, read_moves, read_ops, reader
from compiler.frontend.onnxgraph import MS


@dataclass(frozen=True, slots=True)
class Row:
    """One operator: how an engine does it, and what sends it to the host instead."""

    op: str
    how: str
    host: str


_FLOAT = {
    "Conv": (
        "convolution of 1 or 2 spatial dimensions: groups, depthwise, dilations, every kind of pads",
        "3 spatial dimensions; weights that are no constant",
    ),
    "ConvTranspose": (
        "convolution with a kernel a phase of the stride, interleaved and cropped",
        "3 spatial dimensions; weights that are no constant",
    ),
    "Gemm": (
        "matrix product; transA, alpha, beta and any bias are rewritten exactly",
        "both operands computed; in a QDQ model an alpha of 0 or less, or a bias that is not one value a column",
    ),
    "MatMul": (
        "matrix product with a constant, on either side",
        "both operands computed (attention); a constant with more than one matrix",
    ),
    "Add": ("addition of two tensors, or of a tensor and a constant, broadcast", "more than 4 dimensions broadcast in the middle"),
    "Sub": ("as Add, of the negated operand", "as Add"),
    "Mul": ("product of two tensors, or of a tensor and a constant, broadcast", "as Add"),
    "AveragePool": ("pool of 1 or 2 spatial dimensions, ceil_mode and count_include_pad too", "dilations; 3 spatial dimensions"),
    "GlobalAveragePool": ("sum and one requantisation a channel", "3 spatial dimensions"),
    "ReduceMean": ("as GlobalAveragePool, over the spatial axes", "any other axes"),
    "Concat": ("copies, requantised by a table where scales differ", "at the tail of a float model: one scale for boxes and scores would ruin both"),
}  # fmt: skip
_INTEGER = {
    "QLinearConv": ("as Conv", "zero points of the weights that differ by channel and cannot be made one; mixed signedness"),
    "QLinearMatMul": ("as MatMul", "a constant on the left; more than one matrix"),
    "QGemm": ("as Gemm", "transA; alpha other than 1; a float result"),
    "QLinearAdd": ("as Add", "parameters that are no constants"),
    "QLinearMul": ("as Mul", "parameters that are no constants"),
    "QLinearAveragePool": ("as AveragePool", "channels_last; dilations"),
    "QLinearGlobalAveragePool": ("as GlobalAveragePool", "channels_last"),
    "QLinearConcat": ("as Concat", "parameters that are no constants"),
    "ConvInteger": ("as Conv, where fvc wrote it for a low-bit model", "in any other place"),
    "MatMulInteger": ("as MatMul, where fvc wrote it for a low-bit model", "in any other place"),
    "MaxPool": ("pool of 1 or 2 spatial dimensions, dilations and ceil_mode too", "the second output (indices); 3 spatial dimensions"),
    "ArgMax": ("index of the greatest element along an axis, first or last", "-"),
}  # fmt: skip
_MOVES = {
    "Transpose": "-",
    "Slice": "an empty result",
    "Split": "an unnamed or empty part",
    "Pad": "a value that is infinite or no constant",
    "Expand": "-",
    "Tile": "-",
    "Gather": "indices that are no constants; of a table of weights (embedding)",
    "DepthToSpace": "-",
    "SpaceToDepth": "-",
    "Resize": "modes other than nearest, tf_crop_and_resize, a kept aspect ratio",
    "Concat": "-",
}


def rows() -> dict[str, list[Row]]:
    """Rows by section, in the order of the page. KeyError for an operator of a registry that has no words here."""
    integer = sorted({op for _, op in read_ops.RULES} | {op for domain, op in read_moves.RULES if domain == MS})
    moves = sorted(op for domain, op in read_moves.RULES if not domain)
    return {
        "Arithmetic": [Row(op, *_FLOAT[op]) for op in sorted(fuse_ops.RULES)],
        "Integer operators": [Row(op, *_INTEGER[op]) for op in integer],
        "Data movement": [Row(op, "strided copies", _MOVES[op]) for op in moves],
        "Views": [Row(op, "nothing moves: another shape of the same bytes", "shapes that are not static") for op in sorted(reader.ALIASES)],
    }  # fmt: skip


def unary() -> list[str]:
    """Element-wise operators that become one 256-entry table where all they read is one tensor and constants."""
    return sorted(islands.ELEMENTWISE)
