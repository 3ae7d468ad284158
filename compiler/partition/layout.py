"""Where engines can stand: one place a core, on the dies of the cluster, in machine order, with bank and port.

Needs the cluster and the cores a device; guarantees places ordered so that neighbours are close (device by device,
die by die), and memory ports that the boundaries' wires carry.
"""

from __future__ import annotations

from dataclasses import dataclass

from compiler.partition.kinds import TYPES, share_of
from compiler.partition.ports import Port, assign_ports
from device_db.errors import FvcError
from device_db.model import Board, Cluster, DieRef, Resources


@dataclass(frozen=True, slots=True)
class Place:
    """One core to be: the die, its number on that die, the cores that share the die, its port. `pool` is equal for
    places that get the same engine: same clock, port, bank and DSP style, and nearly the same usable resources."""

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
    pools: list[tuple[tuple[object, ...], Resources]] = []
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
            bank = board.banks[port.bank]
            key = (board.dies[die].clock_khz, board.macs_per_dsp, board.dies[die].raw.uram > 0, bank.bytes_per_second,
                   bank.efficiency_percent, bank.capacity_bytes, port.bits, port.sharers)  # fmt: skip
            pool = _pool(pools, key, share_of(board.dies[die].usable, counts[die]))
            out.append(Place(DieRef(d, die), number[die], counts[die], port, pool))
            number[die] += 1
    return out


def _pool(pools: list[tuple[tuple[object, ...], Resources]], key: tuple[object, ...], have: Resources) -> int:
    """Index of the pool that a place belongs to: the first with equal ports whose resources are near (DSP within 3 %,
    which decides the array; the rest within 10 %)."""
    for k, (other, least) in enumerate(pools):
        near = all(
            abs(getattr(have, t) - getattr(least, t)) * (33 if t == "dsp" else 10) <= max(1, getattr(have, t))
            for t in TYPES
        )
        if other == key and near:
            pools[k] = (key, Resources(*(min(getattr(have, t), getattr(least, t)) for t in TYPES)))
            return k
    pools.append((key, have))
    return len(pools) - 1
