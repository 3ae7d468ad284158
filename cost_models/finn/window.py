"""Sliding window generator (ConvolutionInputGenerator_rtl): cyclic buffer, or line buffers with a parallel window.

Constants of the 1-D and depthwise cycle counts are the peer's calibration against simulation.
"""

from __future__ import annotations

from dataclasses import dataclass

from cost_models.finn.memory import LADDER, uram288
from cost_models.finn.types import Attributes, CaseError, Estimate, bits
from cost_models.primitives import ceil_div

CONTROL_LUTS = 300
SRL_DEPTH = 38  # words a LUT of distributed buffer holds on average, the peer's figure


@dataclass(frozen=True, slots=True)
class Window:
    """Shape of one generator; `folds` = channels / SIMD, sizes as (height, width)."""

    kernel: tuple[int, int]
    image: tuple[int, int]
    out: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    folds: int
    word_bits: int
    depthwise: bool
    parallel: bool

    @property
    def one_dimensional(self) -> bool:
        return 1 in self.image


def read_window(a: Attributes) -> Window:
    """The window of a node's attributes; CaseError for a kernel or stride larger than the image."""
    kernel, image = a.pair("ConvKernelDim"), a.pair("IFMDim")
    stride, dilation = a.pair("Stride", (1, 1)), a.pair("Dilation", (1, 1))
    for k in range(2):
        if (kernel[k] - 1) * dilation[k] + 1 > image[k] or stride[k] > image[k]:
            raise CaseError("ConvolutionInputGenerator_rtl: kernel or stride is larger than the image")
    # One tap, or all taps of the window a cycle, needs no address generator: the parallel style.
    taps = a.positive("M", 1) * kernel[0] * kernel[1] if a.integer("parallel_window", 0) else 1
    return Window(
        kernel,
        image,
        a.pair("OFMDim"),
        stride,
        dilation,
        a.fold("IFMChannels", "SIMD"),
        a.positive("SIMD") * bits(a.text("inputDataType")),
        bool(a.integer("depthwise", 0)),
        taps > 1 or kernel == (1, 1),
    )


def cycles(w: Window) -> int:
    """Clock cycles for one frame."""
    if w.parallel:
        return w.image[0] * w.image[1] * w.folds + 2
    if w.one_dimensional:
        along = 0 if w.image[1] == 1 else 1
        taps, stride, size = w.kernel[along], w.stride[along], w.image[along]
        written = w.out[along] * taps * w.folds
        if not w.depthwise:
            return written + 2
        read = size * w.folds + w.folds * (taps - 1) * (stride - 1)
        return max(written + (w.folds - 1) * taps, read) + 2
    row = max(w.out[1] * w.kernel[0] * w.kernel[1], w.stride[1] * w.image[1]) * w.folds
    total = first_window(w)
    if w.depthwise:
        row += w.out[1] * (w.stride[1] - 1) * (w.folds - 1)
        total += (w.stride[0] - 1) * w.image[1] * w.folds
    return total + w.out[0] * row


def first_window(w: Window) -> int:
    """Words that must have arrived before the first window is complete."""
    rows, columns = (w.kernel[0] - 1) * w.dilation[0], (w.kernel[1] - 1) * w.dilation[1]
    return (rows * w.image[1] + columns + 1) * w.folds


def buffer_words(w: Window) -> int:
    """Depth of the whole buffer; a stride adds room to load ahead while a window is read."""
    if w.parallel:
        rows, columns = (w.kernel[0] - 1) * w.dilation[0], (w.kernel[1] - 1) * w.dilation[1]
        return (rows * w.image[1] + columns) * w.folds + 2
    taps = w.kernel[0] * w.kernel[1]
    across = max(0, (w.stride[1] - 1 - taps) * w.folds)
    down = max(0, ((w.stride[0] - 1) * w.image[1] - taps) * w.folds)
    return first_window(w) + across + down


def _lines(w: Window) -> tuple[int, int]:
    """(number of memories, words of each) that are built as RAM."""
    if not w.parallel:
        return 1, buffer_words(w)
    if w.one_dimensional:
        return 0, 0
    width = (w.kernel[1] - 1) * w.dilation[1] + 1
    return w.kernel[0] - 1, w.image[1] - width + w.image[1] * (w.dilation[0] - 1)


def _ladder_width(depth: int) -> int:
    """Widest RAMB18 shape that is still `depth` words deep (1 bit where none is)."""
    return next((w for w, d in reversed(LADDER) if depth <= d), 1)


def _cascade_bram18(width: int, depth: int) -> int:
    """RAMB18 of a buffer; the last, partial stage of a cascade uses a wider shape."""
    stages, across = ceil_div(depth, 16384), ceil_div(width, _ladder_width(depth))
    if depth <= 16384:
        return stages * across
    return (stages - 1) * across + ceil_div(width, _ladder_width(depth % 16384))


def estimate(a: Attributes, model: str) -> Estimate:
    """Cost of ConvolutionInputGenerator_rtl."""
    w = read_window(a)
    style = a.text("ram_style", "distributed")
    count, depth = _lines(w)
    lut, bram, uram = CONTROL_LUTS, 0, 0
    if style == "distributed":
        lut += w.word_bits * ceil_div(buffer_words(w), SRL_DEPTH)
    elif style == "ultra":
        uram = count * uram288(w.word_bits, depth)
    else:
        bram = count * _cascade_bram18(w.word_bits, depth)
    if model == "finn":
        return Estimate(cycles(w), lut, None, bram, uram, 0)
    # fvc: in the parallel style the taps of the window stand in registers; otherwise one output word does.
    registers = w.kernel[0] * ((w.kernel[1] - 1) * w.dilation[1] + 1) if w.parallel else 2
    return Estimate(cycles(w), lut, 200 + registers * w.word_bits, bram, uram, 0)
