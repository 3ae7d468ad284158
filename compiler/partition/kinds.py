"""Engine candidates: which Tm x Tn, vector lanes, scratchpads and ports a die can hold.

Needs the board and the die's core count; guarantees that every candidate's resources, by cost_models.tiled, fit the
core's share of the die's usable resources, in every type.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from compiler.isa.program import EngineSpec
from compiler.partition.ports import Port, effective_rate
from cost_models.tiled import engine_resources
from device_db.model import Board, Resources

FOLDS_M = (8, 16, 24, 32, 48, 64, 96, 128, 192, 256)
FOLDS_N = (4, 8, 12, 16, 24, 32, 48, 64, 72, 96, 128, 192, 256)
LANES = (8, 16, 32, 48, 64, 96, 128, 192)
WGT_WORDS = (4096, 512, 64, 16)  # words a MAC: a full URAM, a full BRAM, LUTRAM
ACC_WORDS = (1024, 512, 256)  # int32 words an output channel
TAB_BYTES = (64 * 1024, 32 * 1024, 16 * 1024, 8 * 1024)
BRAM_BYTES = 2048  # of a byte-wide bank in one 18 kb half
LEAST_ACT_BYTES = 16 * 1024
TYPES = ("lut", "ff", "bram18", "uram", "dsp")


@dataclass(frozen=True, slots=True)
class Candidate:
    """An engine as it would stand on a die: its spec without a name, and what it takes."""

    spec: EngineSpec
    resources: Resources


def share_of(usable: Resources, cores: int) -> Resources:
    """What each of `cores` engines on a die may take."""
    return Resources(*(getattr(usable, k) // cores for k in TYPES))


def fits(need: Resources, have: Resources) -> bool:
    """True if no type is over budget."""
    return all(getattr(need, k) <= getattr(have, k) for k in TYPES)


def weight_style(memory: str) -> str:
    """The memory that holds WGT under `--memory`: the one asked for, else whatever takes the least share of a die."""
    return memory if memory in ("bram", "uram") else "auto"


def resources_of(spec: EngineSpec, board: Board, die: int, memory: str = "auto") -> Resources:
    """What an engine takes on a die of this board, its weights in the memory that `--memory` names."""
    return engine_resources(
        spec.tm,
        spec.tn,
        spec.act_bytes,
        spec.wgt_bytes,
        spec.acc_bytes,
        spec.tab_bytes,
        spec.ld_bytes_per_cycle,
        spec.st_bytes_per_cycle,
        vector_lanes=spec.vector_lanes,
        macs_per_dsp=board.macs_per_dsp,
        has_uram=board.dies[die].raw.uram > 0,
        wgt_memory=weight_style(memory),
    )


def bare_spec(board: Board, die: int, port: Port) -> EngineSpec:
    """An engine of no size on this die, with its clock, port and bank."""
    bank = board.banks[port.bank]
    return EngineSpec(
        id="",
        die=board.dies[die].name,
        tm=1,
        tn=1,
        act_bytes=0,
        wgt_bytes=0,
        acc_bytes=0,
        tab_bytes=0,
        vector_lanes=0,
        ld_bytes_per_cycle=port.bits // 8,
        st_bytes_per_cycle=port.bits // 8,
        clock_khz=board.dies[die].clock_khz,
        bank=bank.name,
        bank_bytes_per_second=effective_rate(board, port.bank),
        dram_bytes=bank.capacity_bytes // port.sharers // 4096 * 4096,
    )


def with_memories(board: Board, die: int, have: Resources, spec: EngineSpec, memory: str) -> Candidate | None:
    """The engine with the deepest ACC and TAB of the table, and ACT in what BRAM is left."""
    for tab in TAB_BYTES:
        for acc in ACC_WORDS:
            base = replace(
                spec,
                acc_bytes=spec.tm * 4 * acc,
                tab_bytes=tab,
                act_bytes=spec.tn * BRAM_BYTES,
            )
            need = resources_of(base, board, die, memory)
            if not fits(need, have):
                continue
            more = (have.bram18 - need.bram18) // spec.tn
            made = replace(base, act_bytes=spec.tn * BRAM_BYTES * (1 + min(more, 31)))
            if made.act_bytes < max(LEAST_ACT_BYTES, made.acc_bytes // 4) and (tab, acc) != (
                TAB_BYTES[-1],
                ACC_WORDS[-1],
            ):
                continue
            return Candidate(made, resources_of(made, board, die, memory))
    return None


def candidates(board: Board, die: int, port: Port, have: Resources, memory: str = "auto") -> list[Candidate]:
    """Every engine of the table that fits `have`, and that no other with the same lanes and weight depth exceeds in
    both folds."""
    bare = bare_spec(board, die, port)
    found: list[Candidate] = []
    for lanes in LANES:
        for wgt in WGT_WORDS:
            widest: list[Candidate] = []
            for tm in reversed(FOLDS_M):
                for tn in reversed(FOLDS_N):
                    if any(c.spec.tm >= tm and c.spec.tn >= tn for c in widest):
                        break
                    spec = replace(bare, tm=tm, tn=tn, vector_lanes=lanes, wgt_bytes=tm * tn * wgt)
                    if not fits(resources_of(spec, board, die, memory), have):
                        continue
                    made = with_memories(board, die, have, spec, memory)
                    if made is not None:
                        widest.append(made)
                        break
            found += widest
    return found


def smallest_engine(board: Board, die: int, port: Port, memory: str = "auto") -> Resources:
    """What the least engine of the table takes."""
    spec = replace(
        bare_spec(board, die, port),
        tm=FOLDS_M[0],
        tn=FOLDS_N[0],
        vector_lanes=LANES[0],
        wgt_bytes=FOLDS_M[0] * FOLDS_N[0] * WGT_WORDS[-1],
        acc_bytes=FOLDS_M[0] * 4 * ACC_WORDS[-1],
        tab_bytes=TAB_BYTES[-1],
        act_bytes=FOLDS_N[0] * BRAM_BYTES,
    )
    return resources_of(spec, board, die, memory)
