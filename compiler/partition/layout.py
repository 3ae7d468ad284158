"""Where engines can stand: one place a core, on the dies of the cluster, in machine order, with bank and port.

Needs the cluster and the cores a device; guarantees places ordered so that neighbours are close (device by device,
die by die), and memory ports that the boundaries' wires carry.
"""

from __future__ import annotations

from dataclasses import dataclass

from compiler.partition.ports import Port, assign_ports
from device_db.errors import FvcError
from device_db.model import Board, Cluster, DieRef


@dataclass(frozen=True, slots=True)
class Place:
    """One core to be: the die, its number on that die, the cores that share the die, its port. `pool` is equal for
    places that can hold the same engines."""

    ref: DieRef
    number: int
    cores_on_die: int
    port: Port
    pool: int


def cores_by_die(board: Board, cores: int | None) -> list[int]:
    """Cores on each die: one each by default; otherwise `cores` dealt out, the largest dies first."""
    count = len(board.dies)
    if cores is None:
        return [1] * count
    order = sorted(range(count), key=lambda d: (-board.dies[d].usable.dsp, d))
    out = [0] * count
    for k in range(cores):
        out[order[k % count]] += 1
    return out


def places(cluster: Cluster, cores: int | None) -> list[Place]:
    """All places of the cluster. FVC202 if a board's memory ports cannot reach its cores."""
    out: list[Place] = []
    pools: dict[tuple[object, ...], int] = {}
    known: dict[int, list[Port] | None] = {}
    for d, device in enumerate(cluster.devices):
        board = device.board
        counts = cores_by_die(board, cores)
        dies = [die for die, n in enumerate(counts) for _ in range(n)]
        ports = known[id(board)] if id(board) in known else assign_ports(board, dies, board.dies[0].clock_khz)
        known[id(board)] = ports
        if ports is None:
            raise FvcError(
                "FVC202",
                f"no memory port reaches every one of {len(dies)} cores of {device.name}",
                where=(f"{board.name}: {len(board.banks)} banks, {board.sll_wires} wires between dies",),
                help=("ask for fewer --cores",),
                exit_code=1,
            )
        number = [0] * len(counts)
        for die, port in zip(dies, ports, strict=True):
            key = (board.dies[die], board.macs_per_dsp, counts[die], board.banks[port.bank].bytes_per_second,
                   board.banks[port.bank].efficiency_percent, board.banks[port.bank].capacity_bytes, port.bits, port.sharers)  # fmt: skip
            pool = pools.setdefault(key, len(pools))
            out.append(Place(DieRef(d, die), number[die], counts[die], port, pool))
            number[die] += 1
    return out
