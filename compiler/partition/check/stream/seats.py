"""A plan's streaming engines against its layers: names, places, legal folds, slices, FIFOs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from compiler.isa.check.findings import Findings
from compiler.isa.stream.table import MEMORIES, VARIANTS
from compiler.partition.check.stream.netlist import Netlist, Own, Seat, engine_of
from compiler.partition.check.stream.pieces import Model, Piece
from compiler.partition.check.stream.words import Fold, Illegal
from compiler.plan.model import EnginePlan, Plan, SlicePlan
from device_db.model import Cluster, DieRef

DEEPEST_FIFO = 1 << 24
FIFO_MEMORIES = MEMORIES[:3]
_PARAMETERS = {"clock_khz", "variant", "memory", "fifo_depths", "fifo_memories"}


@dataclass(frozen=True, slots=True)
class Station:
    """Where a piece's engine must stand and when it works: die (None: there is none), rank, stage, order, copy."""

    ref: DieRef | None
    rank: int
    stage: int
    order: int
    copy: int = 0


def slices_of(plan: Plan, pieces: Sequence[Piece], copies: int) -> dict[Own, SlicePlan] | None:
    """The plan's slice of every piece of every copy, copy by copy; None where they are not as many."""
    layers = {x.name: x for x in plan.layers}
    out: dict[Own, SlicePlan] = {}
    for copy in range(copies):
        for p in pieces:
            own = [s for s in layers[p.node.name].slices if s.replica == copy]
            if len(own) != p.slices:
                return None
            out[(copy, p.key)] = own[p.number]
    return out


def fold_of(e: EnginePlan) -> Fold:
    return Fold(e.fold["pe"], e.fold["simd"], e.parameters["variant"], e.parameters["memory"])


def check_engine(
    model: Model, cluster: Cluster, p: Piece, e: EnginePlan, s: SlicePlan, at: Station, found: Findings
) -> None:
    """FVC220: one piece's engine and slice."""
    where = f"engine {e.id} of {p.key}"
    if at.ref is None:
        found.add("FVC220", f"the cluster has no die {e.device}/{e.die}", where)
        return
    if e.style != "streaming" or set(e.fold) != {"pe", "simd"} or set(e.parameters) != _PARAMETERS:
        found.add("FVC220", f"it is no streaming engine: style {e.style}, fold {e.fold}", where)
        return
    number = model.pieces.index(p) + at.copy * len(model.pieces)
    name = f"{e.device}/{e.die}/{number}"
    if (e.id, e.rank, e.replica) != (name, at.rank, at.copy):
        found.add("FVC220", f"id, rank {e.rank} or replica {e.replica} are not those of {name} in its place", where)
    clock_khz = cluster.die(at.ref).clock_khz
    if e.parameters["clock_khz"] != clock_khz:
        found.add("FVC220", f"clock {e.parameters['clock_khz']} kHz, the die has {clock_khz}", where)
    fold = fold_of(e)
    if fold.variant not in VARIANTS or fold.memory not in MEMORIES:
        found.add("FVC220", f"variant {fold.variant!r}, memory {fold.memory!r}", where)
        return
    try:
        cycles = engine_of(model, p, fold).cycles
    except Illegal as problem:
        found.add("FVC220", str(problem), where)
        return
    told = (s.task, s.engine, s.role, s.box, s.reduce_from, s.reduce_to, s.stage, s.order, s.memory, s.tile)
    meant: tuple[object, ...] = (p.task(at.copy), e.id, p.role, p.box, *p.reduce, at.stage, at.order, fold.memory, {})
    if told != meant or s.cycles != cycles or s.replica != at.copy:
        found.add("FVC220", f"slice {told} with {s.cycles} cycles, {meant} with {cycles} expected", where)


def seats_of(engines: Mapping[Own, EnginePlan], cluster: Cluster) -> dict[Own, Seat]:
    dies = {cluster.die_name(ref): ref for ref in cluster.dies}
    return {own: Seat(dies[f"{e.device}/{e.die}"], fold_of(e), e.id) for own, e in engines.items()}


def check_fifos(engines: Mapping[Own, EnginePlan], net: Netlist, found: Findings) -> bool:
    """A depth and a memory for every stream that a piece's engine reads."""
    before = len(found.kept)
    for own, e in engines.items():
        count = len(net.fifos(own))
        depths, memories = e.parameters["fifo_depths"], e.parameters["fifo_memories"]
        whole = isinstance(depths, list | tuple) and isinstance(memories, list | tuple)
        whole = whole and len(depths) == len(memories) == count
        if not whole or not all(type(d) is int and 0 < d < DEEPEST_FIFO for d in depths):
            found.add("FVC220", f"{count} FIFOs, its depths are {depths!r}", f"engine {e.id}")
        elif not all(m in FIFO_MEMORIES for m in memories):
            found.add("FVC220", f"FIFO memories {memories!r}", f"engine {e.id}")
    return len(found.kept) == before
