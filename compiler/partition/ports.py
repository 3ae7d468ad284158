"""Which DRAM bank serves each core, and over how wide a port: under the wires between the dies.

Needs a board and the dies of its cores; guarantees ports whose SLL wires (memory ports and the inter-die stream) fit
every boundary, each core on a bank of its own where there are enough banks.
"""

from __future__ import annotations

from dataclasses import dataclass

from device_db.model import Board
from device_db.topology import SLL_STREAM_WIRES, memory_wires

PORT_BITS = (32, 64, 128, 256, 512, 1024)
FIRST_PORT_BITS = 256


@dataclass(frozen=True, slots=True)
class Port:
    """One core's way to its bank: index into Board.banks, port width, cores that share the bank."""

    bank: int
    bits: int
    sharers: int


def boundaries(die: int, bank_die: int) -> range:
    """Indices i of the boundaries (die i to i+1) that a port from `die` to its bank crosses."""
    return range(min(die, bank_die), max(die, bank_die))


def effective_rate(board: Board, bank: int) -> int:
    """Bytes a second that long bursts get of a bank."""
    b = board.banks[bank]
    return b.bytes_per_second * b.efficiency_percent // 100


def _worth(board: Board, bank: int, bits: int, sharers: int, clock_khz: int) -> int:
    """Bytes a second reading alone, and reading while writing."""
    port, share = bits // 8 * clock_khz * 1000, effective_rate(board, bank) // sharers
    return min(port, share) + min(2 * port, share)


def assign_ports(board: Board, dies: list[int], clock_khz: int) -> list[Port] | None:
    """A port for each core, in the order of `dies` (die index of each core); None if the wires do not suffice.

    First every core gets its best bank over a port of up to 256 bits, then ports are doubled in turn as long as wires
    and bank give something for it. A port whose loads and stores take up to three quarters of the bank together is not
    widened beyond what the bank gives both at once: the rest is for messages, which would otherwise slow every tile.
    """
    wires = [w - SLL_STREAM_WIRES for w in board.sll_wires]
    users = [0] * len(board.banks)
    chosen: list[list[int]] = []
    for die in dies:
        best: tuple[tuple[int, ...], int, int] | None = None
        for bank, b in enumerate(board.banks):
            for bits in PORT_BITS:
                crossed = boundaries(die, b.die)
                if bits > min(b.port_bits, FIRST_PORT_BITS) or any(wires[i] < memory_wires(bits) for i in crossed):
                    continue
                gain = _worth(board, bank, 4 * bits, users[bank] + 1, clock_khz)
                key = (-gain, users[bank], memory_wires(bits) * len(crossed), bits, bank)
                if best is None or key < best[0]:
                    best = (key, bank, bits)
        if best is None:
            return None
        _, bank, bits = best
        for i in boundaries(die, board.banks[bank].die):
            wires[i] -= memory_wires(bits)
        users[bank] += 1
        chosen.append([bank, bits])
    widened = True
    while widened:
        widened = False
        for (bank, bits), die, entry in zip(chosen, dies, chosen, strict=True):
            crossed = boundaries(die, board.banks[bank].die)
            extra = memory_wires(2 * bits) - memory_wires(bits)
            if 2 * bits > board.banks[bank].port_bits or any(wires[i] < extra for i in crossed):
                continue
            now, then = (_worth(board, bank, w, users[bank], clock_khz) for w in (bits, 2 * bits))
            narrow_is_free = 2 * bits // 8 * clock_khz * 1000 * 4 <= effective_rate(board, bank) // users[bank] * 3
            wide_is_free = 4 * bits // 8 * clock_khz * 1000 <= effective_rate(board, bank) // users[bank]
            if then > now and (wide_is_free or not narrow_is_free):
                entry[1] = 2 * bits
                for i in crossed:
                    wires[i] -= extra
                widened = True
    return [Port(bank, bits, users[bank]) for bank, bits in chosen]
