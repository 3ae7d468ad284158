"""What one instruction takes: its fields and engine in; cycles, DRAM bursts and work out (docs/machine.md, "Time")."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from compiler.isa.program import EngineSpec, Instruction
from cost_models.primitives import (
    OTHER_CYCLES,
    contiguous_runs,
    dma_bus_bytes,
    dma_port_cycles,
    mac_cycles,
    vector_cycles,
)


@dataclass(frozen=True, slots=True)
class Transfer:
    """A DRAM box: data bytes, bytes of whole bursts that the bank moves, cycles its own port is busy (with set-up)."""

    data_bytes: int
    bus_bytes: int
    port_cycles: int


def transfer(ins: Instruction, port_bytes_per_cycle: int) -> Transfer:
    """The DRAM side of an LD, ST, TX or RX."""
    f = ins.fields.get
    counts, strides = (f("n2", 0), f("n1", 0), f("n0", 0)), (f("dram_s2", 0), f("dram_s1", 0), f("dram_s0", 0))
    runs, run_bytes = contiguous_runs(*counts, *strides, max(f("elem", 1), 1))
    return Transfer(
        runs * run_bytes, dma_bus_bytes(runs, run_bytes), dma_port_cycles(runs, run_bytes, port_bytes_per_cycle)
    )


def mac_operations(ins: Instruction) -> int:
    """Multiply-accumulates that a MAC instruction needs, whatever array does them."""
    f = defaultdict(int, ins.fields)
    return f["m"] * f["n"] * f["kh"] * f["kw"] * f["oh"] * f["ow"]


def compute_cycles(ins: Instruction, engine: EngineSpec) -> int:
    """Cycles of an instruction that touches no DRAM."""
    f = defaultdict(int, ins.fields)
    lanes = engine.vector_lanes
    match ins.op:
        case "MAC":
            window = (f["kh"], f["kw"], f["oh"], f["ow"])
            return mac_cycles(f["mode"], f["m"], f["n"], max(f["groups"], 1), *window, engine.tm, engine.tn)
        case "VREQ":
            return vector_cycles(f["m"] * f["count"], 1, lanes)
        case "VBIN":
            return vector_cycles(f["n2"] * f["n1"] * f["n0"], 1, lanes)
        case "VACC" | "VFILL":
            return vector_cycles(f["count"], 1, lanes)
        case "VPOOL":
            return vector_cycles(f["c"] * f["oh"] * f["ow"], f["kh"] * f["kw"], lanes)
        case "VSUM":
            return vector_cycles(f["c"] * f["count"], 1, lanes)
        case "VCOPY":
            return vector_cycles(f["n3"] * f["n2"] * f["n1"] * f["n0"], 1, lanes)
        case "VARG":
            return vector_cycles(f["outer"] * f["inner"], f["axis"], lanes)
    return OTHER_CYCLES
