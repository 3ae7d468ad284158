"""The instruction set in one table: encoder, decoder, assembler, disassembler and reference page come from it.

A word is 256 bits, little-endian. Every instruction starts with the 128-bit head `HEAD`; its own fields follow
in table order, packed from bit 128 on, a field never crossing a 64-bit boundary; extension words carry on
at bit 256. Unused bits are zero, and a reader rejects others. What each instruction does is written in docs/machine.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, IntFlag


class Queue(IntEnum):
    """The six in-order queues of a core."""

    LD = 0
    CX = 1
    ST = 2
    TX = 3
    RX = 4
    CTL = 5


class Space(IntEnum):
    """Address spaces of a core. CONST and WORK are DRAM, the others scratchpads."""

    CONST = 0  # DRAM, read-only: weights, tables
    WORK = 1  # DRAM: activations
    ACT = 2  # scratchpad: input and output tiles, 8 bits
    WGT = 3  # scratchpad: weights
    ACC = 4  # scratchpad: int32 accumulators
    TAB = 5  # scratchpad: biases, requantiser entries, look-up tables


class Flag(IntFlag):
    ONCE = 1 << 0  # effect only in the first iteration whose frame exists (resident weights)
    INIT = 1 << 1  # MAC, VSUM: start from BIAS or zero instead of adding to what the accumulator holds
    BIAS = 1 << 2  # MAC, VSUM with INIT: start from int32[m] at tab_addr
    X_UNSIGNED = 1 << 3  # first operand bytes are uint8 (else int8)
    W_UNSIGNED = 1 << 4  # second operand bytes are uint8 (else int8)
    Y_UNSIGNED = 1 << 5  # result bytes are uint8 (else int8)
    TABLE = 1 << 6  # VCOPY: map each byte through the 256-entry table at tab_addr
    LAST = 1 << 7  # VARG: on ties the last index (else the first)


@dataclass(frozen=True, slots=True)
class Field:
    """One bit field. `signed`: two's complement. `reloc`: what a linker adds (see RELOCATIONS), or ''."""

    name: str
    bits: int
    signed: bool = False
    reloc: str = ""
    doc: str = ""


# What a relocation adds to a field: a base that depends on where the program is placed.
RELOCATIONS = ("dram", "act", "wgt", "acc", "tab", "scratch", "part", "rank", "channel")

HEAD: tuple[Field, ...] = (
    Field("opcode", 8, doc="which instruction"),
    Field("queue", 4, doc="Queue"),
    Field("words", 4, doc="length in words, head included"),
    Field("flags", 16, doc="Flag"),
    Field("wait", 8, doc="bit q: before it starts, take one token from semaphore q -> this queue"),
    Field("post", 8, doc="bit q: when complete, add one token to semaphore this queue -> q"),
    Field("stage", 16, doc="iteration i of the body works on frame i - stage"),
    Field("packet", 32, doc="index into the packet table"),
    Field("debug", 32, doc="index into the debug table"),
)

_DRAM = (
    Field("dram_addr", 40, reloc="dram", doc="byte address in dram_space, slot 0"),
    Field("depth", 8, doc="frame slots; address = dram_addr + (frame mod depth) * frame_stride"),
    Field("frame_stride", 32, doc="bytes between frame slots"),
)
_BOX = (
    Field("n2", 24, doc="outer count"),
    Field("n1", 24, doc="middle count"),
    Field("n0", 32, doc="inner count, elements"),
    Field("dram_s2", 32, True, doc="DRAM stride of n2, bytes"),
    Field("dram_s1", 32, True, doc="DRAM stride of n1, bytes"),
    Field("dram_s0", 32, True, doc="DRAM stride of n0, bytes"),
)
_WINDOW = (
    Field("in_h", 16, doc="rows of the tile in the scratchpad, padding included"),
    Field("in_w", 16, doc="columns of it"),
    Field("kh", 16),
    Field("kw", 16),
    Field("sh", 16),
    Field("sw", 16),
    Field("dh", 16),
    Field("dw", 16),
    Field("oh", 16, doc="result rows"),
    Field("ow", 16, doc="result columns"),
)


@dataclass(frozen=True, slots=True)
class Op:
    """One instruction: number, mnemonic, the queues it may stand in, its fields after the head, one line of doc."""

    code: int
    name: str
    queues: tuple[Queue, ...]
    fields: tuple[Field, ...]
    doc: str


OPS: tuple[Op, ...] = (
    Op(0x00, "SYNC", tuple(Queue), (), "waits and posts only"),
    Op(
        0x01,
        "LD",
        (Queue.LD,),
        (
            Field("dram_space", 4, doc="CONST or WORK"),
            Field("scratch_space", 4, doc="ACT, WGT, ACC or TAB"),
            Field("elem", 4, doc="bytes an element: 1, 4 or 8"),
            Field("fill", 8, doc="byte written outside the box (padding)"),
            Field("pad_top", 16),
            *_DRAM,
            *_BOX,
            Field("scratch_addr", 32, reloc="scratch"),
            Field("scratch_s2", 32, doc="scratchpad stride of the padded box's n2, bytes"),
            Field("scratch_s1", 32, doc="scratchpad stride of its n1, bytes; inner is dense"),
            Field("pad_left", 16, doc="elements"),
            Field("pad_bottom", 16),
            Field("pad_right", 16, doc="elements"),
        ),
        "DRAM box to scratchpad, padded with an explicit value",
    ),
    Op(
        0x02,
        "ST",
        (Queue.ST,),
        (
            Field("scratch_space", 4, doc="ACT or ACC"),
            Field("elem", 4),
            *_DRAM,
            *_BOX,
            Field("scratch_addr", 32, reloc="scratch"),
            Field("scratch_s2", 32),
            Field("scratch_s1", 32),
        ),
        "scratchpad box to DRAM (WORK)",
    ),
    Op(
        0x03,
        "TX",
        (Queue.TX,),
        (
            Field("elem", 4),
            Field("rank", 16, reloc="rank", doc="destination core; 0xFFFF is the host"),
            Field("channel", 16, reloc="channel", doc="index into the channel table"),
            Field("wgt", 1, doc="0: a box of WORK; 1: n0 bytes of WGT from part_addr on"),
            Field("act", 1, doc="1: n0 bytes of ACT from part_addr on"),
            *_DRAM,
            *_BOX,
            Field("tag", 32, doc="must equal the tag of the RX that takes it"),
            Field("bytes", 32, doc="n2*n1*n0*elem; the message is the box packed row-major"),
            Field("part_addr", 32, reloc="part", doc="with wgt: where in WGT; with act: in ACT"),
        ),
        "DRAM box (WORK), or a part of a weight (WGT) or input block (ACT), as one message into a channel",
    ),
    Op(
        0x04,
        "RX",
        (Queue.RX,),
        (
            Field("elem", 4),
            Field("rank", 16, reloc="rank", doc="source core; 0xFFFF is the host"),
            Field("channel", 16, reloc="channel"),
            Field("wgt", 1, doc="0: a box of WORK; 1: n0 bytes of WGT from part_addr on"),
            Field("act", 1, doc="1: n0 bytes of ACT from part_addr on"),
            *_DRAM,
            *_BOX,
            Field("tag", 32),
            Field("bytes", 32),
            Field("part_addr", 32, reloc="part", doc="with wgt: where in WGT; with act: in ACT"),
        ),
        "one message of a channel into a DRAM box (WORK), or into a weight (WGT) or input block (ACT)",
    ),
    Op(
        0x10,
        "MAC",
        (Queue.CX,),
        (
            Field("mode", 4, doc="0 channel (lanes take input channels), 1 window (lanes take channel x kernel taps)"),
            Field("act_addr", 32, reloc="act", doc="[groups*n][in_h][in_w] bytes"),
            Field("wgt_addr", 32, reloc="wgt", doc="[m][n][kh][kw] bytes"),
            Field("acc_addr", 32, reloc="acc", doc="[m][oh][ow] int32"),
            Field("tab_addr", 32, reloc="tab", doc="int32[m], with BIAS"),
            Field("m", 16, doc="output channels, all groups"),
            Field("n", 16, doc="input channels of one group"),
            Field("groups", 16),
            Field("row_sum", 16, True, doc="coefficient of sum x' (the weight zero point's correction)"),
            *_WINDOW,
        ),
        "convolution or matrix product of one tile into int32 accumulators",
    ),
    Op(
        0x20,
        "VREQ",
        (Queue.CX,),
        (
            Field("acc_addr", 32, reloc="acc", doc="[m][count] int32"),
            Field("dst_addr", 32, reloc="act", doc="[m][count] bytes"),
            Field("tab_addr", 32, reloc="tab", doc="m entries of 16 bytes"),
            Field("m", 16),
            Field("zero_point", 16, True),
            Field("lo", 16, True),
            Field("hi", 16, True),
            Field("count", 32),
        ),
        "requantise int32 to 8 bits, per channel by fixed point, thresholds or float32",
    ),
    Op(
        0x21,
        "VBIN",
        (Queue.CX,),
        (
            Field("kind", 4, doc="0 add, 1 mul"),
            Field("a_addr", 32, reloc="act"),
            Field("b_addr", 32, reloc="act"),
            Field("dst_addr", 32, reloc="act", doc="dense [n2][n1][n0]"),
            Field("tab_addr", 32, reloc="tab", doc="one 32-byte entry"),
            Field("n2", 24),
            Field("n1", 24),
            Field("n0", 32),
            Field("a_s2", 32, True),
            Field("a_s1", 32, True),
            Field("a_s0", 32, True),
            Field("b_s2", 32, True),
            Field("b_s1", 32, True),
            Field("b_s0", 32, True),
            Field("lo", 16, True),
            Field("hi", 16, True),
        ),
        "quantised add or multiply of two strided operands",
    ),
    Op(
        0x22,
        "VACC",
        (Queue.CX,),
        (Field("dst_addr", 32, reloc="acc"), Field("src_addr", 32, reloc="acc"), Field("count", 32, doc="int32 words")),
        "acc[dst] += acc[src], wrapping int32 (partial sums)",
    ),
    Op(
        0x23,
        "VPOOL",
        (Queue.CX,),
        (
            Field("kind", 4, doc="0 max, 1 average"),
            Field("src_addr", 32, reloc="act", doc="[c][in_h][in_w] bytes"),
            Field("dst_addr", 32, reloc="act", doc="[c][oh][ow] bytes"),
            Field("tab_addr", 32, reloc="tab", doc="average: one 16-byte entry"),
            Field("c", 16),
            *_WINDOW,
            Field(
                "valid_top",
                16,
                doc="real elements of the tile: [top, bottom) x [left, right)",
            ),
            Field("valid_left", 16),
            Field("valid_bottom", 16),
            Field("valid_right", 16),
            Field("count_top", 16, doc="average: the divisor counts window taps inside [top, bottom) x [left, right)"),
            Field("count_left", 16),
            Field("count_bottom", 16),
            Field("count_right", 16),
            Field("lo", 16, True),
            Field("hi", 16, True),
        ),
        "max or average pooling of one tile",
    ),
    Op(
        0x24,
        "VSUM",
        (Queue.CX,),
        (
            Field("src_addr", 32, reloc="act", doc="[c][count] bytes"),
            Field("acc_addr", 32, reloc="acc", doc="int32[c]"),
            Field("tab_addr", 32, reloc="tab", doc="int32[c], with BIAS"),
            Field("c", 16),
            Field("count", 32),
        ),
        "sums of each channel into int32 (global average)",
    ),
    Op(
        0x25,
        "VCOPY",
        (Queue.CX,),
        (
            Field("src_addr", 32, reloc="act"),
            Field("dst_addr", 32, reloc="act"),
            Field("tab_addr", 32, reloc="tab", doc="with TABLE: table of index i3 at tab_addr + i3*table_stride"),
            Field("table_stride", 16, doc="0 or 256"),
            Field("n3", 24),
            Field("n2", 24),
            Field("n1", 24),
            Field("n0", 32),
            Field("src_s3", 32, True),
            Field("src_s2", 32, True),
            Field("src_s1", 32, True),
            Field("src_s0", 32, True),
            Field("dst_s3", 32, True),
            Field("dst_s2", 32, True),
            Field("dst_s1", 32, True),
            Field("dst_s0", 32, True),
        ),
        "strided byte copy within ACT, optionally through a table",
    ),
    Op(
        0x26,
        "VFILL",
        (Queue.CX,),
        (Field("dst_addr", 32, reloc="act"), Field("count", 32), Field("value", 8)),
        "fills bytes of ACT",
    ),
    Op(
        0x27,
        "VARG",
        (Queue.CX,),
        (
            Field("src_addr", 32, reloc="act", doc="[outer][axis][inner] bytes"),
            Field("dst_addr", 32, reloc="act", doc="[outer][inner] int64"),
            Field("outer", 32),
            Field("axis", 32),
            Field("inner", 32),
        ),
        "index of the greatest element along an axis",
    ),
    Op(
        0x30,
        "CRC",
        (Queue.CTL,),
        (Field("dram_addr", 40, reloc="dram", doc="in CONST"), Field("bytes", 40), Field("expect", 32)),
        "CRC-32 (IEEE) of a CONST region; a difference stops the core",
    ),
    Op(0x31, "END", (Queue.CTL,), (), "end of the body: one iteration is complete"),
)

BY_NAME: dict[str, Op] = {op.name: op for op in OPS}
BY_CODE: dict[int, Op] = {op.code: op for op in OPS}

HOST_RANK = 0xFFFF
MAC_CHANNEL, MAC_WINDOW = 0, 1
KIND_ADD, KIND_MUL = 0, 1
POOL_MAX, POOL_AVERAGE = 0, 1
# Entries in TAB, little-endian.
#   VREQ 16 bytes: <i4 multiplier (fixed) | f4 scale (fp32) | i4 base (threshold)> <u1 shift> <u1 mode> <u2 steps>
#                  <i8 add (fixed) | byte offset of int32 thresholds from tab_addr>
#   VBIN 32 bytes: <u1 mode> <u1 shift> <i2 za> <i2 zb> <i2 zy> <i4 ma | f4 ra or s> <i4 mb | f4 rb>
#                  <i8 add | f4 c, 0> <8 zero bytes>
#   VPOOL average 16 bytes: <f4 xs> <f4 ys> <i2 zx> <i2 zy> <4 zero bytes>
MODE_FIXED, MODE_THRESHOLD, MODE_FP32 = 0, 1, 2
MODE_EVEN = 3  # of the netlists' REQ alone: fixed, halves to even
VREQ_ENTRY_BYTES, VBIN_ENTRY_BYTES, VPOOL_ENTRY_BYTES = 16, 32, 16
