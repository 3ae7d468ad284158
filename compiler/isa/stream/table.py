"""The netlist's instructions in one table: encoder, decoder, listing, checker and reference page come from it.

Words and head are those of `compiler.isa.table` (256 bits, fields from bit 128 on); `debug` names the unit's row of
the UNITS table, every other field of the head but opcode and words is zero. What each unit does: docs/streaming.md.
"""

from __future__ import annotations

from compiler.isa.layout import OpLayout, layout_of
from compiler.isa.table import Field, Op, Queue

NET = (Queue.CTL,)  # a netlist is no queue; its words bear the number of CTL

_DIE = Field("die", 8, doc="row of FABRIC_DIES")
_PE = Field("pe", 16, doc="elements of a word: lanes")
_X = (Field("x_bits", 8, doc="bits of an input element"), Field("x_signed", 1))
_Y = (Field("y_bits", 8, doc="bits of an output element"), Field("y_signed", 1))
_PIXELS = Field("pixels", 32, doc="positions of a frame")
_CHANNELS = Field("channels", 32, doc="elements of a position")
_ALIKE = (_DIE, _PE, *_X, *_Y, _PIXELS, _CHANNELS)
_IMAGE = (Field("in_h", 16), Field("in_w", 16))
_MORE = Field("more", 16, doc="images of a frame after the first: all that is said is of one image")
_RESULT = (Field("oh", 16), Field("ow", 16))
_BOUNDARY = (
    _DIE,
    _PE,
    Field("bits", 8, doc="bits of an element; a message holds ceil(bits / 8) bytes each"),
    Field("signed", 1),
    _PIXELS,
    _CHANNELS,
    Field("rank", 16, doc="the other end: a fabric, a core, or the host"),
    Field("channel", 16),
    Field("tag", 32),
    Field("bytes", 32, doc="of the message of one frame"),
)
_BRIDGE = (
    _DIE,
    _PE,
    Field("bits", 8, doc="bits of an element; messages hold ceil(bits / 8) bytes each"),
    Field("signed", 1),
    Field("frames", 8, doc="frame slots of its buffer"),
    Field("memory", 3, doc="buffer in 0 LUTRAM, 1 BRAM, 2 URAM"),
    Field("stage", 16, doc="by how many frames its streams lag: one number for all bridges of a region's side"),
    Field("images", 32, doc="n of the tensor"),
    _CHANNELS,
    Field("in_h", 32),
    Field("in_w", 32),
)
_WEIGHTS = (
    Field("w_bits", 8),
    Field("variant", 2, doc="0 hls, 1 rtl"),
    Field("memory", 3, doc="weights in 0 LUTRAM, 1 BRAM, 2 URAM, 3 DRAM (port 1)"),
    Field("bias", 1, doc="1: accumulators start from preload slot 1, int32 (int64 where y has more than 32 bits)"),
)

OPS: tuple[Op, ...] = (
    Op(0x40, "SRC", NET, _BOUNDARY, "messages of a channel become a stream"),
    Op(0x41, "SNK", NET, _BOUNDARY, "a stream becomes messages of a channel"),
    Op(
        0x42,
        "PAD",
        NET,
        (
            _DIE,
            _PE,
            *_X,
            _CHANNELS,
            *_IMAGE,
            Field("top", 16),
            Field("left", 16),
            Field("bottom", 16),
            Field("right", 16),
            Field("fill", 32, True, doc="value of the padding"),
            _MORE,
        ),
        "a border around every image",
    ),
    Op(
        0x43,
        "WIN",
        NET,
        (
            _DIE,
            Field("pe", 16, doc="elements of an input word; divides block"),
            Field("pe_out", 16, doc="elements of an output word: pe, or a whole window of a block (pe = block)"),
            *_X,
            _CHANNELS,
            Field("block", 32, doc="channels that stay together: order is [channels/block][kh][kw][block]"),
            *_IMAGE,
            Field("kh", 16),
            Field("kw", 16),
            Field("sh", 16),
            Field("sw", 16),
            Field("dh", 16),
            Field("dw", 16),
            *_RESULT,
            Field("depth", 32, doc="words of the line buffer"),
            Field("memory", 3, doc="line buffer in 0 LUTRAM, 1 BRAM, 2 URAM"),
            _MORE,
        ),
        "the windows of a convolution, one after the other",
    ),
    Op(
        0x44,
        "MVAU",
        NET,
        (
            _DIE,
            Field("pe", 16, doc="rows at once"),
            Field("simd", 16, doc="columns at once: elements of an input word"),
            *_X,
            Field("y_bits", 8),
            Field("y_signed", 1),
            _PIXELS,
            Field("mh", 32, doc="rows of a group"),
            Field("mw", 32, doc="columns of a group"),
            Field("groups", 16),
            *_WEIGHTS,
        ),
        "matrix times vector: acc[g][m] = bias + sum of w[g][m][k] x[g][k], wrapping at y_bits",
    ),
    Op(
        0x45,
        "VVAU",
        NET,
        (
            _DIE,
            Field("pe", 16, doc="channels at once"),
            Field("simd", 16, doc="taps at once: 1 or all"),
            *_X,
            Field("y_bits", 8),
            Field("y_signed", 1),
            _PIXELS,
            _CHANNELS,
            Field("taps", 32),
            *_WEIGHTS,
        ),
        "a vector of taps for each channel: acc[c] = bias + sum of w[c][t] x[c][t] (depthwise)",
    ),
    Op(
        0x46,
        "REQ",
        NET,
        (*_ALIKE, Field("zero_point", 16, True), Field("lo", 16, True), Field("hi", 16, True)),
        "requantise: preload slot 0 holds a VREQ entry a channel (machine.md)",
    ),
    Op(
        0x47,
        "THR",
        NET,
        (
            *_ALIKE,
            Field("steps", 32),
            Field("base", 32, True),
            Field("step", 16, doc="what a passed threshold adds"),
            Field("memory", 3, doc="thresholds in 0 LUTRAM, 1 BRAM, 2 URAM"),
            Field("variant", 2, doc="0 hls, 1 rtl"),
        ),
        "y = base + step * #{t <= x}: preload slot 0 holds int32 [channels][steps], ascending (int64 where x has more "
        "than 32 bits)",
    ),
    Op(
        0x48,
        "TAB",
        NET,
        (*_ALIKE, Field("tables", 32, doc="1, or one a channel")),
        "y = table[raw byte of x]: preload slot 0 holds tables of 256 bytes",
    ),
    Op(
        0x49,
        "POOL",
        NET,
        (
            *_ALIKE,
            Field("taps", 32),
            Field("kind", 2, doc="0 max, 1 average"),
            Field("lo", 16, True),
            Field("hi", 16, True),
            _MORE,
        ),
        "over the taps of windows in the order [channels/pe][taps][pe]; average: slot 0 a VPOOL entry, slot 1 uint16 "
        "divisors, one a position of an image",
    ),
    Op(0x4A, "SUM", NET, (*_ALIKE, Field("bias", 1), _MORE), "sums of each channel over all positions of an image"),
    Op(
        0x4B,
        "BIN",
        NET,
        (
            *_ALIKE,
            Field("kind", 2, doc="0 add, 1 mul"),
            Field("a_shape", 4, doc="bit 0: one position, bit 1: one channel, bit 2: constant (slot 1)"),
            Field("b_shape", 4, doc="as a_shape (constant: slot 2)"),
            Field("b_signed", 1),
            Field("lo", 16, True),
            Field("hi", 16, True),
            _MORE,
        ),
        "add or multiply: preload slot 0 holds one VBIN entry (machine.md)",
    ),
    Op(
        0x4C,
        "CAT",
        NET,
        (
            _DIE,
            _PE,
            *_X,
            _PIXELS,
            Field("inputs", 16),
            *(Field(f"c{k}", 32, doc=f"channels of input {k}") for k in range(8)),
        ),
        "at each position the channels of the inputs one after the other",
    ),
    Op(0x4D, "DUP", NET, (_DIE, _PE, *_X, _PIXELS, _CHANNELS, Field("outputs", 16)), "every word to every output"),
    Op(
        0x4E,
        "DWC",
        NET,
        (_DIE, Field("pe", 16), Field("pe_out", 16), *_X, Field("elements", 40, doc="of a frame")),
        "words of pe elements become words of pe_out; one divides the other",
    ),
    Op(
        0x4F,
        "CROP",
        NET,
        (
            _DIE,
            _PE,
            *_X,
            _CHANNELS,
            *_IMAGE,
            Field("top", 16),
            Field("left", 16),
            *_RESULT,
            Field("sh", 16),
            Field("sw", 16),
            Field("first", 32, doc="first channel that stays"),
            Field("kept", 32, doc="channels that stay"),
            _MORE,
        ),
        "rows, columns and channels that stay; the others are dropped",
    ),
    Op(
        0x50,
        "UPS",
        NET,
        (_DIE, _PE, *_X, _CHANNELS, *_IMAGE, Field("fh", 16), Field("fw", 16), _MORE),
        "every row fh times and every column fw times (nearest neighbour)",
    ),
    Op(
        0x51,
        "BUF",
        NET,
        (
            _DIE,
            _PE,
            *_X,
            Field("inputs", 16),
            *(Field(f"n{k}", 32, doc=f"elements of input {k}") for k in range(8)),
            Field("elements", 32, doc="of the output"),
            Field("copies", 32, doc="rows of slot 0"),
            Field("fill", 32, True),
            Field("memory", 3),
            _MORE,
        ),
        "two buffers and an address generator: slot 0 holds the copies, slot 1 their tables of 256 bytes; images, or "
        "groups of rows, that are copied alike follow one another",
    ),
    Op(
        0x52,
        "ARG",
        NET,
        (_DIE, _PE, *_X, _PIXELS, _CHANNELS, Field("last", 1, doc="on ties the last index")),
        "index of the greatest channel of each position, 64 bits",
    ),
    Op(
        0x53,
        "ADD",
        NET,
        (*_ALIKE, Field("inputs", 16, doc="streams that are added, 2 to 8")),
        "sum of its inputs word by word, wrapping at y_bits: partial sums of a layer sliced by columns",
    ),
    Op(
        0x54,
        "BRI",
        NET,
        _BRIDGE,
        "boxes of a tensor, each a message in storage order, fill a frame buffer; it is read as a stream n, h, w, c",
    ),
    Op(0x55, "BRO", NET, _BRIDGE, "a stream n, h, w, c fills a frame buffer; boxes of it leave in storage order"),
    Op(
        0x56,
        "MEM",
        NET,
        (
            _DIE,
            Field("pe", 16, doc="weights of a word"),
            *_X,
            Field("words", 32, doc="in memory"),
            Field("turns", 32, doc="times a frame that all words are sent, one after the other"),
            Field("bank", 16, doc="row of FABRIC_BANKS"),
            Field("address", 40, doc="of the first word in the bank, bytes; a word takes whole bytes"),
        ),
        "weights out of a DRAM bank become a stream for port 1 of MVAU or VVAU: preload slot 0 holds them",
    ),
    Op(
        0x60,
        "PRE",
        NET,
        (
            Field("unit", 32),
            Field("slot", 8),
            Field("offset", 40, doc="into FABRIC_CONSTANTS"),
            Field("bytes", 40),
            Field("crc", 32, doc="CRC-32 (IEEE) of them"),
        ),
        "fills a memory of a unit before the first frame",
    ),
    Op(
        0x61,
        "CON",
        NET,
        (
            Field("source", 32, doc="unit"),
            Field("source_port", 8),
            Field("target", 32, doc="unit"),
            Field("target_port", 8),
            Field("pe", 16, doc="elements of a word"),
            Field("bits", 8, doc="of an element"),
            Field("signed", 1),
            Field("words", 40, doc="of a frame"),
            Field("depth", 32, doc="words of the FIFO"),
            Field("hops", 8, doc="boundaries between dies that it crosses"),
            Field("memory", 3, doc="FIFO in 0 LUTRAM (shift registers), 1 BRAM, 2 URAM"),
        ),
        "a stream from a unit to a unit through a FIFO",
    ),
    Op(
        0x63,
        "MSG",
        NET,
        (
            Field("unit", 32, doc="BRI or BRO"),
            Field("rank", 16, doc="the other end: a core, a netlist, or the host"),
            Field("channel", 16),
            Field("tag", 32),
            Field("bytes", 32),
            Field("stage", 16, doc="as that of the other end"),
            *(
                Field(f"{a}{k}", 32, doc=f"half-open storage4 bounds along {a}" if k == 0 else "")
                for a in "nchw"
                for k in (0, 1)
            ),
        ),
        "a message of a bridge: a box of its tensor, row-major; they stand in the order in which they pass",
    ),
    Op(
        0x62,
        "RUN",
        NET,
        (Field("units", 32), Field("preloads", 32), Field("streams", 32), Field("messages", 32, doc="of bridges")),
        "the netlist is complete: it runs frame after frame",
    ),
)

BY_NAME: dict[str, Op] = {op.name: op for op in OPS}
LAYOUTS: dict[str, OpLayout] = {op.name: layout_of(op) for op in OPS}
BY_CODE: dict[int, OpLayout] = {op.code: LAYOUTS[op.name] for op in OPS}
UNITS = tuple(op.name for op in OPS if op.code < 0x60)
BRIDGES = ("BRI", "BRO")
BOX = ("n0", "n1", "c0", "c1", "h0", "h1", "w0", "w1")  # of MSG

ONE_POSITION, ONE_CHANNEL, CONSTANT = 1, 2, 4  # BIN's shapes
LUTRAM, BRAM, URAM, DRAM = 0, 1, 2, 3
MEMORIES = ("lutram", "bram", "uram", "external")
HLS, RTL = 0, 1
VARIANTS = ("hls", "rtl")
MAX_INPUTS = 8
MAX_DIMS = 6
# Slot 0 of BUF, int64: n, c, h, w of each input and of the output, then a row a copy: source,
# dims, source offset, destination offset, table (-1: none), then MAX_DIMS sizes,
# MAX_DIMS source strides, MAX_DIMS destination strides (elements of dense row-major tensors).
COPY_WORDS = 5 + 3 * MAX_DIMS
