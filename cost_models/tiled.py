"""Resources of a tiled engine: an estimate from its parameters, to be calibrated by synthesis.

Each constant says where it comes from. The LUT and FF shares are set so that an engine of the size of AMD's
DPUCZDX8G B4096 (2,048 MACs) comes out near PG338's table (53,540 LUT, 105,008 FF); a test holds them to that.
"""

from __future__ import annotations

from cost_models.primitives import ceil_div
from device_db.model import Resources

# Slope between B512 (256 MACs: 27,893 LUT, 35,435 FF) and B4096 (2,048 MACs: 53,540 LUT, 105,008 FF) of AMD PG338,
# "DPUCZDX8G resource utilization": 14.3 LUT and 38.8 FF a MAC (adder trees and operand registers).
LUT_PER_MAC_TENTHS = 143
FF_PER_MAC_TENTHS = 388
# Assumptions, all to be calibrated by synthesis: a vector lane holds a 32x27 requantiser, a 64-bit shifter, the
# threshold search, a float32 multiply-add path, clamp and byte swap.
LUT_PER_LANE, FF_PER_LANE = 400, 600
# 32x27 bits take two DSP48E2 (27x18) each; the float32 path and VBIN's second product take two more.
DSP_PER_LANE = 4
# Decoder, address generators and semaphores of one of the six queues; the core's control and registers.
LUT_PER_QUEUE, FF_PER_QUEUE, QUEUES = 1_200, 1_500, 6
LUT_CONTROL, FF_CONTROL = 2_000, 3_000
# A DMA port: byte aligner (six stages of a 64-byte shifter), burst splitter and FIFO, for each byte of width.
LUT_PER_PORT_BYTE, FF_PER_PORT_BYTE = 50, 60
# Instruction FIFOs: six queues of 512 words x 256 bits would be 48; they are prefetched, 64 words deep in LUTRAM.
BRAM18_PER_PORT = 8  # 512-bit DMA FIFO: 512 bits / 36 bits, half of it (LD and ST share a 64-byte lane width)

BRAM18_BITS, BRAM18_WIDTH, BRAM18_DEPTH = 18_432, 36, 512  # AMD UG573: widest simple dual port of an 18 kb half
URAM_WIDTH, URAM_DEPTH = 72, 4096  # AMD UG573
LUTRAM_BITS_PER_EIGHT_LUT = 7 * 64  # AMD UG574: RAM64M8, seven 64-bit read ports of eight LUTs
LUTRAM_DEPTH_LIMIT = 256  # four RAM64M8 and one multiplexer level: still one pipeline stage at 300 MHz
# A weight memory may be made of any of the three; `auto` takes what needs the least share of a middle-sized die
# (usable amounts of an SLR of the U280, rounded).
REFERENCE_DIE = Resources(lut=250_000, bram18=760, uram=256)


def mac_array_dsp(tm: int, tn: int, macs_per_dsp: int) -> int:
    """DSP slices of a Tm x Tn int8 array.

    1: one product a slice. 2: two products that share the activation, so output channels pair up (AMD WP486).
    3: a dot product of three input channels (DSP58 INT8 mode, AMD AM004).
    """
    if macs_per_dsp >= 3:
        return tm * ceil_div(tn, macs_per_dsp)
    return ceil_div(tm, macs_per_dsp) * tn


def bram18_blocks(width_bits: int, depth: int) -> int:
    """18 kb halves of one simple dual-port memory: the better of wide (36 x 512) and narrow (9 x 2048, 18 x 1024)."""
    if width_bits <= 0 or depth <= 0:
        return 0
    return min(ceil_div(width_bits, w) * ceil_div(depth, d) for w, d in ((36, 512), (18, 1024), (9, 2048)))


def uram_blocks(width_bits: int, depth: int) -> int:
    """URAM288 blocks of one memory: 72 bits x 4096 words each."""
    return ceil_div(width_bits, URAM_WIDTH) * ceil_div(depth, URAM_DEPTH)


def lutram_luts(bits: int) -> int:
    """LUTs of distributed simple dual-port memory."""
    return ceil_div(bits, LUTRAM_BITS_PER_EIGHT_LUT) * 8


def weight_memory(tm: int, tn: int, wgt_bytes: int, memory: str = "auto", has_uram: bool = True) -> Resources:
    """The WGT scratchpad. The array takes Tm*Tn weights a cycle, so it is Tm*Tn bytes wide.

    memory: lutram, bram, uram, or auto: what takes the least share of a middle-sized die (REFERENCE_DIE).
    """
    width, depth = tm * tn * 8, ceil_div(wgt_bytes, tm * tn)
    if memory == "auto":
        styles = ["lutram"] if depth <= LUTRAM_DEPTH_LIMIT else []
        styles += ["bram", "uram"] if has_uram else ["bram"]
        return min((weight_memory(tm, tn, wgt_bytes, style) for style in styles), key=_share)
    if memory == "lutram":
        return Resources(lut=lutram_luts(width * depth))
    if memory == "bram":
        return Resources(bram18=bram18_blocks(width, depth))
    if memory == "uram":
        return Resources(uram=uram_blocks(width, depth))
    raise ValueError(f"unknown memory style {memory!r}")


def _share(r: Resources) -> float:
    d = REFERENCE_DIE
    return max(r.lut / d.lut, r.bram18 / d.bram18, r.uram / d.uram)


def engine_resources(
    tm: int,
    tn: int,
    act_bytes: int,
    wgt_bytes: int,
    acc_bytes: int,
    tab_bytes: int,
    ld_bytes_per_cycle: int,
    st_bytes_per_cycle: int,
    *,
    vector_lanes: int = 16,
    macs_per_dsp: int = 2,
    has_uram: bool = True,
    wgt_memory: str = "auto",
) -> Resources:
    """LUT, FF, BRAM18, URAM and DSP of one tiled engine (docs/machine.md).

    act: Tn banks of one byte, each with its own address (window mode reads Tn taps a cycle). wgt: `weight_memory`.
    acc: Tm banks of 32 bits, read and written every cycle. tab: 128-bit entries, and a 256-entry table port for each
    two vector lanes. Everything is an estimate; `--measured` overrides it.
    """
    macs = tm * tn
    act = tn * bram18_blocks(8, ceil_div(act_bytes, tn))
    acc = tm * bram18_blocks(32, ceil_div(acc_bytes, 4 * tm))
    tab = max(bram18_blocks(128, ceil_div(tab_bytes, 16)), ceil_div(tab_bytes * 8, BRAM18_BITS)) + ceil_div(
        vector_lanes, 2
    )
    port_bytes = ld_bytes_per_cycle + st_bytes_per_cycle
    fifo = ceil_div(port_bytes * BRAM18_PER_PORT, 64)
    lut = (
        ceil_div(macs * LUT_PER_MAC_TENTHS, 10)
        + vector_lanes * LUT_PER_LANE
        + QUEUES * LUT_PER_QUEUE
        + LUT_CONTROL
        + port_bytes * LUT_PER_PORT_BYTE
    )
    ff = (
        ceil_div(macs * FF_PER_MAC_TENTHS, 10)
        + vector_lanes * FF_PER_LANE
        + QUEUES * FF_PER_QUEUE
        + FF_CONTROL
        + port_bytes * FF_PER_PORT_BYTE
    )
    dsp = mac_array_dsp(tm, tn, macs_per_dsp) + vector_lanes * DSP_PER_LANE
    return Resources(lut, ff, act + acc + tab + fifo, 0, dsp) + weight_memory(tm, tn, wgt_bytes, wgt_memory, has_uram)
