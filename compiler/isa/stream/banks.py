"""What the readers of weights in DRAM ask of the memory banks: words in memory, bytes a frame, time a word.

Needs a fabric whose MEM units name banks that are there. A word takes whole bytes; a reader sends all its words once
for every turn of a frame. Readers of one bank share it by their bytes, as channels share a link: each then takes as
long a frame as the bank does for all of them.
"""

from __future__ import annotations

from collections.abc import Mapping

from compiler.isa.program import Instruction
from compiler.isa.stream.program import Fabric, FabricBank
from compiler.isa.stream.table import DRAM
from cost_models.primitives import PS_PER_SECOND, ceil_div

MOST_WORD_BITS = 1024  # widest memory port: a wider word would only wait for it


def word_bytes(f: Mapping[str, int]) -> int:
    """Bytes of a word of MEM in its bank."""
    return ceil_div(f["pe"] * f["x_bits"], 8)


def stored_bytes(f: Mapping[str, int]) -> int:
    """Bytes that the weights of MEM take in its bank."""
    return f["words"] * word_bytes(f)


def frame_bytes(f: Mapping[str, int]) -> int:
    """Bytes a frame that MEM reads."""
    return f["turns"] * stored_bytes(f)


def readers(fabric: Fabric) -> dict[int, list[Instruction]]:
    """Row of FABRIC_BANKS -> the units that read there."""
    out: dict[int, list[Instruction]] = {}
    for ins in fabric.units():
        if ins.op == "MEM":
            out.setdefault(ins.fields["bank"], []).append(ins)
    return out


def reads_dram(ins: Instruction) -> bool:
    """Whether a unit takes its weights from a stream, port 1."""
    return ins.op in ("MVAU", "VVAU") and ins.fields["memory"] == DRAM


def word_ps(f: Mapping[str, int], bank: FabricBank, load_bytes: int, clock_ps: int) -> int:
    """Picoseconds between two words of MEM. load_bytes: of a frame, of all readers of its bank."""
    share = ceil_div(load_bytes * PS_PER_SECOND, bank.bytes_per_second * f["turns"] * f["words"])
    return max(share, ceil_div(8 * word_bytes(f), bank.port_bits) * clock_ps)


def word_times(fabric: Fabric, clocks_ps: list[int]) -> dict[int, int]:
    """Unit -> `word_ps` of every MEM. clocks_ps: picoseconds of a cycle of each die."""
    load = {bank: sum(frame_bytes(u.fields) for u in units) for bank, units in readers(fabric).items()}
    return {
        k: word_ps(u.fields, fabric.banks[u.fields["bank"]], load[u.fields["bank"]], clocks_ps[u.fields["die"]])
        for k, u in enumerate(fabric.units())
        if u.op == "MEM"
    }
