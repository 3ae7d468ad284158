"""Weights in DRAM: the reader's unit, its words as they lie in memory, and the bank that each reader takes.

Needs a convolution whose fold has `memory` DRAM, and the boards; guarantees words in the order in which MVAU or VVAU
takes them, and banks that hold what is put there. Which bank is decided from the plan's seats alone, so planner, judge
and scheduler find the same: the reader with the most bytes a frame first, each to the bank that is done with it first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from compiler.ir.graph import Conv
from compiler.isa.stream.banks import frame_bytes, stored_bytes
from compiler.isa.stream.program import FabricBank
from compiler.ops.stream.parts import Draft, Fold
from cost_models.primitives import PS_PER_SECOND, ceil_div
from device_db.errors import FvcError
from device_db.model import Board

PACKED_AT_ONCE = 1 << 12  # words: their single bits take eight times the room and more
ALIGNMENT_BYTES = 4096  # of the weights of a reader: no burst crosses such a boundary


def words_of(node: Conv, fold: Fold, bits: int, depthwise: bool) -> NDArray[np.signedinteger]:
    """[word][pe * simd]: w - zw of one turn, in the order of the unit's firings."""
    wide = np.dtype(np.int16 if node.weight.dtype.itemsize == 1 else np.int32)
    w = (node.weight.astype(wide) - wide.type(node.weight_zero_point)).transpose(0, 2, 3, 1)
    rows = w.shape[0] if depthwise else w.shape[0] // node.groups
    lanes = w.reshape(-1, rows // fold.pe, fold.pe, w[0].size // fold.simd, fold.simd)
    return np.ascontiguousarray(lanes.transpose(0, 1, 3, 2, 4)).reshape(-1, fold.pe * fold.simd)


def packed(words: NDArray[np.signedinteger], bits: int) -> bytes:
    """Words of whole bytes, element 0 in the lowest bits; -1 of one bit is 0."""
    if bits == 8:
        return words.astype(np.int8).tobytes()
    out = []
    for first in range(0, len(words), PACKED_AT_ONCE):
        some = words[first : first + PACKED_AT_ONCE]
        values = (some > 0).astype(np.int32) if bits == 1 else some
        each = ((values[:, :, None] >> np.arange(bits)) & 1).astype(np.uint8)
        out.append(np.packbits(each.reshape(len(some), -1), axis=1, bitorder="little").tobytes())
    return b"".join(out)


def reader(node: Conv, fold: Fold, bits: int, turns: int, depthwise: bool) -> Draft:
    """MEM without its bank; turns: times a frame that all weights pass."""
    lanes = fold.pe * fold.simd
    f = {"pe": lanes, "x_bits": bits, "x_signed": 1, "words": node.weight.size // lanes, "turns": turns}
    return Draft("MEM", f, {0: (f"{node.name}.weights", lambda: packed(words_of(node, fold, bits, depthwise), bits))})


@dataclass(frozen=True, slots=True)
class Stored:
    """Where a reader's weights lie: row of the device's banks, byte."""

    bank: int
    address: int


def banks_of(board: Board) -> list[FabricBank]:
    """The memory banks of a board as streaming engines read them."""
    return [
        FabricBank(b.name, b.die, b.bytes_per_second * b.efficiency_percent // 100, b.capacity_bytes, b.port_bits)
        for b in board.banks
    ]


def store(device: str, banks: Sequence[FabricBank], wanted: Mapping[str, tuple[str, Draft]]) -> dict[str, Stored]:
    """A bank and an address for each reader of a device. wanted: key -> (layer, reader). Raises FVC208."""
    used, load = [0] * len(banks), [0] * len(banks)
    out: dict[str, Stored] = {}
    order = sorted(enumerate(wanted.items()), key=lambda x: (-frame_bytes(x[1][1][1].fields), x[0]))
    for _, (key, (layer, draft)) in order:
        size, asked = stored_bytes(draft.fields), frame_bytes(draft.fields)
        room = [k for k, b in enumerate(banks) if used[k] + size <= b.capacity_bytes]
        if not room:
            most = max((b.capacity_bytes - u for b, u in zip(banks, used, strict=True)), default=0)
            raise FvcError(
                "FVC208",
                f"weights over DRAM capacity on {device}: {size:,} bytes needed in one bank, {most:,} there",
                where=("constraint: memory banks", f"layer '{layer}'"),
                help=("use --memory auto, bram or uram", "add a device, or take a board with more memory"),
                exit_code=1,
            )
        k = min(room, key=lambda k: (ceil_div((load[k] + asked) * PS_PER_SECOND, banks[k].bytes_per_second), k))
        out[key] = Stored(k, used[k])
        used[k] += size + -size % ALIGNMENT_BYTES
        load[k] += asked
    return out
