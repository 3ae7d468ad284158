"""Primitive durations: the table "Time" of docs/machine.md as pure integer functions of numbers.

Needs numbers only. The simulator and the analytical prediction both take their durations here, and share nothing
else. Cycles are those of the core's own clock; times across cores are integer picoseconds, rounded up.
Arguments are Python integers; where no comparison is made (`ceil_div`, `mac_cycles` but for `n`, `groups` and `mode`,
`vector_cycles`, `dma_port_cycles`, `dma_bus_bytes`) int64 NumPy arrays work element by element too.
"""

from __future__ import annotations

from collections.abc import Sequence

MODE_CHANNEL, MODE_WINDOW = 0, 1

# Pipeline depths of the tiled engine. Assumptions of this project's engine, to be calibrated by synthesis:
# operand fetch 4, multiplier 4, adder tree of 64 lanes 6, accumulator 2.
MAC_FILL_CYCLES = 16
# Operand fetch 4, requantiser multiply (27x35 bits over DSP cascades) 6, shift, clamp and write 4, decode 2.
VECTOR_FILL_CYCLES = 16
# From the queue's head to the first data beat: AXI address phase, memory controller and burst pipeline, whole
# instruction. AMD PG276 (AXI HBM controller) and PG150 (DDR4) state read latencies of 100-200 ns when nothing is
# pipelined; one LD keeps its bursts in flight and LD follows LD, so only what cannot overlap is charged.
DMA_SETUP_CYCLES = 32
# SYNC, CRC, END and instructions whose frame does not exist.
OTHER_CYCLES = 1
# The smallest access a DRAM bank is charged for: AXI4 64-byte beat of a 512-bit DDR4 controller port (PG150),
# two 32-byte atoms of an HBM2 pseudo-channel (PG276).
BURST_BYTES = 64
# Bytes a cycle at which a core's scratchpad meets the links: one 512-bit stream (device_db.topology.SLL_STREAM_BITS).
STREAM_BYTES_PER_CYCLE = 64
PS_PER_SECOND = 1_000_000_000_000


def ceil_div(a: int, b: int) -> int:
    """The least integer not below a / b, b > 0."""
    return -(-a // b)


def mac_cycles(mode: int, m: int, n: int, groups: int, kh: int, kw: int, oh: int, ow: int, tm: int, tn: int) -> int:
    """Cycles of one MAC instruction on a Tm x Tn array (docs/machine.md, "Time").

    m: output channels of all groups; n: input channels of one group; kernel kh x kw; result oh x ow.
    channel: lanes take input channels. window: lanes take input channel x kernel taps; with n = 1 (depthwise)
    the rows of the array take different groups, otherwise groups run one after the other.
    """
    if mode == MODE_CHANNEL:
        return groups * ceil_div(m // groups, tm) * ceil_div(n, tn) * kh * kw * oh * ow + MAC_FILL_CYCLES
    if groups == 1 or n == 1:
        return ceil_div(m, tm) * ceil_div(n * kh * kw, tn) * oh * ow + MAC_FILL_CYCLES
    return groups * ceil_div(m // groups, tm) * ceil_div(n * kh * kw, tn) * oh * ow + MAC_FILL_CYCLES


def best_mac_mode(m: int, n: int, groups: int, kh: int, kw: int, oh: int, ow: int, tm: int, tn: int) -> tuple[int, int]:
    """(mode, cycles) of the quicker MAC mode; channel when they are level."""
    channel = mac_cycles(MODE_CHANNEL, m, n, groups, kh, kw, oh, ow, tm, tn)
    window = mac_cycles(MODE_WINDOW, m, n, groups, kh, kw, oh, ow, tm, tn)
    return (MODE_WINDOW, window) if window < channel else (MODE_CHANNEL, channel)


def vector_cycles(elements: int, taps: int, lanes: int) -> int:
    """Cycles of a vector instruction: `elements` results of `taps` operand steps each, `lanes` steps a cycle.

    elements, taps by instruction: VREQ m*count, 1; VBIN n2*n1*n0, 1; VACC count, 1; VPOOL c*oh*ow, kh*kw;
    VSUM c*count, 1; VCOPY n3*n2*n1*n0, 1; VFILL count, 1; VARG outer*inner, axis.
    """
    return ceil_div(elements * taps, lanes) + VECTOR_FILL_CYCLES


def contiguous_runs(n2: int, n1: int, n0: int, s2: int, s1: int, s0: int, elem: int) -> tuple[int, int]:
    """(number of runs, bytes a run) of a DRAM box: counts n, strides s in bytes, elements of `elem` bytes.

    Inner dimensions that lie end to end are merged (a count of 1 has no stride); an empty box has (0, 0).
    """
    if n2 <= 0 or n1 <= 0 or n0 <= 0:
        return (0, 0)
    runs, run_bytes, dense = 1, elem, True
    for count, stride in ((n0, s0), (n1, s1), (n2, s2)):
        if count == 1:
            continue
        dense = dense and stride == run_bytes
        if dense:
            run_bytes *= count
        else:
            runs *= count
    return (runs, run_bytes)


def dma_port_cycles(runs: int, run_bytes: int, port_bytes_per_cycle: int) -> int:
    """Cycles that the core's own port is busy with an LD or ST: sum of ceil(run / port), and the set-up."""
    return runs * ceil_div(run_bytes, port_bytes_per_cycle) + DMA_SETUP_CYCLES


def dma_bus_bytes(runs: int, run_bytes: int) -> int:
    """Bytes that the bank is busy for: every run takes whole bursts of 64 bytes."""
    return runs * ceil_div(run_bytes, BURST_BYTES) * BURST_BYTES


def dma_cycles(runs: int, run_bytes: int, port_bytes_per_cycle: int, bank_bytes_per_second: int, clock_khz: int) -> int:
    """Cycles of one LD or ST that has `bank_bytes_per_second` of its bank to itself (the slower of port and bank).

    bank_bytes_per_second is peak x burst efficiency (`EngineSpec.bank_bytes_per_second`), or the max-min share of it.
    """
    data = runs * ceil_div(run_bytes, port_bytes_per_cycle)
    bank = ceil_div(dma_bus_bytes(runs, run_bytes) * clock_khz * 1000, bank_bytes_per_second)
    return max(data, bank) + DMA_SETUP_CYCLES


def cycles_ps(cycles: int, clock_khz: int) -> int:
    """Picoseconds of so many cycles of a clock, rounded up."""
    return ceil_div(cycles * 1_000_000_000, clock_khz)


def ps_cycles(picoseconds: int, clock_khz: int) -> int:
    """Whole cycles of a clock that cover so many picoseconds."""
    return ceil_div(picoseconds * clock_khz, 1_000_000_000)


def transfer_ps(size_bytes: int, bits_per_second: int) -> int:
    """Picoseconds to move so many bytes at a rate, rounded up; no latency."""
    return ceil_div(size_bytes * 8 * PS_PER_SECOND, bits_per_second)


def message_ps(size_bytes: int, bits_per_second: int, latency_ns: int) -> int:
    """Picoseconds of one TX/RX message: cut-through over the slowest link of its route, plus the route's latency."""
    return transfer_ps(size_bytes, bits_per_second) + latency_ns * 1000


def max_min_shares(
    flows: Sequence[Sequence[int]], capacities: Sequence[int], demands: Sequence[int | None] | None = None
) -> list[int]:
    """Max-min fair rates of flows over shared resources, by progressive filling.

    flows[f]: indices of the resources that flow f loads (each once); capacities[r]: units a second of resource r;
    demands[f]: the most that flow f can take (its own port), or None. Returns integer units a second, at least 1
    (rates are rounded down, so a resource is never overbooked by more than its number of flows).
    A flow with neither resource nor demand is unbounded: ValueError.
    """
    count = len(flows)
    wanted = list(demands) if demands is not None else [None] * count
    rates = [0] * count
    left = list(capacities)
    users = [0] * len(left)
    for resources in flows:
        for r in resources:
            users[r] += 1
    open_flows = list(range(count))
    while open_flows:
        level: int | None = None
        for r, u in enumerate(users):
            if u and (level is None or left[r] // u < level):
                level = left[r] // u
        for f in open_flows:
            want = wanted[f]
            if want is not None and (level is None or want < level):
                level = want
        if level is None:
            raise ValueError("a flow without resource and demand has no rate")
        tight = {r for r, u in enumerate(users) if u and left[r] // u <= level}
        rest: list[int] = []
        done: list[int] = []
        for f in open_flows:
            want = wanted[f]
            stop = (want is not None and want <= level) or any(r in tight for r in flows[f])
            (done if stop else rest).append(f)
        for f in done:
            rates[f] = max(1, level)
            for r in flows[f]:
                left[r] = max(0, left[r] - level)
                users[r] -= 1
        open_flows = rest
    return rates


def ring_all_gather_ps(members: int, total_bytes: int, bits_per_second: int, latency_ns: int) -> int:
    """Ring all-gather of `total_bytes` spread evenly: (p-1) steps of one share each (Patarasuk & Yuan 2009)."""
    if members <= 1:
        return 0
    return (members - 1) * message_ps(ceil_div(total_bytes, members), bits_per_second, latency_ns)


def ring_reduce_scatter_ps(members: int, elements: int, bits_per_second: int, latency_ns: int) -> int:
    """Ring reduce-scatter of `elements` int32 partial sums a member: the all-gather's steps with 4-byte words."""
    return ring_all_gather_ps(members, elements * 4, bits_per_second, latency_ns)


def ring_link_bytes(members: int, total_bytes: int) -> int:
    """Bytes that each link of a ring carries, one direction, in an all-gather of `total_bytes`: (p-1)/p of them."""
    return 0 if members <= 1 else (members - 1) * ceil_div(total_bytes, members)
