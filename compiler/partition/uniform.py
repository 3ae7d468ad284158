"""One engine for the whole cluster (`--uniform`): one bitstream, one <Tm, Tn>, as a shared one-hot choice.

Needs the places and their pools; guarantees the same array, lanes and scratchpads on every die, with resources that fit
the least of them. Folds are explored divisor-aware: all Tm and Tn at which the trips of some layer change. Every
engine of that space is ranked by the closed estimate of the whole model, the best are priced exactly.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from compiler.ir.graph import Conv, Graph
from compiler.isa.program import EngineSpec
from compiler.partition.engines import EngineChoice
from compiler.partition.kinds import (
    FOLDS_M,
    FOLDS_N,
    LANES,
    TYPES,
    WGT_WORDS,
    Candidate,
    bare_spec,
    fits,
    resources_of,
    share_of,
    with_memories,
)
from compiler.partition.layout import Place
from cost_models.primitives import ceil_div
from device_db.model import Board, Cluster, Resources

PRICED = 24  # engines, the best by estimate, that are priced exactly
WIDEST = 512  # channels or taps a cycle


def trip_points(extents: Iterable[int], least: int) -> tuple[int, ...]:
    """Every fold from `least` to WIDEST at which ceil(extent / fold) of some extent is reached for the first time:
    any fold between two of them takes more hardware for the same trips."""
    points = {ceil_div(e, trips) for e in set(extents) for trips in range(1, e + 1)}
    return tuple(sorted({least, *(p for p in points if least <= p <= WIDEST)}))


def folds_of(graph: Graph) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """(Tm, Tn) worth trying: the table's, and the trip points of channels and of channels times taps."""
    rows: set[int] = set()
    lanes: set[int] = set()
    for node in graph.nodes:
        if isinstance(node, Conv):
            m, n, kh, kw = node.weight.shape
            rows.add(m if n == 1 else m // node.groups)  # depthwise: the rows of the array take different groups
            lanes |= {n, n * kh * kw}
    tms = {*FOLDS_M, *trip_points(rows, FOLDS_M[0])}
    tns = {*FOLDS_N, *trip_points(lanes, FOLDS_N[0])}
    return tuple(sorted(tms)), tuple(sorted(tns))


class _Site:
    """What the places of one pool offer an engine."""

    def __init__(self, cluster: Cluster, places: Sequence[Place]) -> None:
        first = places[0]
        self.board: Board = cluster.devices[first.ref.device].board
        self.die, self.port = first.ref.die, first.port
        shares = [share_of(cluster.devices[p.ref.device].board.dies[p.ref.die].usable, p.cores_on_die) for p in places]
        self.have = Resources(*(min(getattr(s, t) for s in shares) for t in TYPES))
        self.bare = bare_spec(self.board, self.die, self.port)


def engines_for_all(
    cluster: Cluster, places: Sequence[Place], folds: tuple[Sequence[int], Sequence[int]], memory: str
) -> list[dict[int, Candidate]]:
    """By pool, every engine of these folds that all places can hold: the widest Tn of each Tm, lanes and depth of WGT,
    and as much ACT, ACC and TAB as the place with the least has."""
    sites = {q: _Site(cluster, [p for p in places if p.pool == q]) for q in sorted({p.pool for p in places})}
    most_dsp = min(s.have.dsp * max(1, s.board.macs_per_dsp) for s in sites.values())
    out: list[dict[int, Candidate]] = []
    for lanes in LANES:
        for depth in WGT_WORDS:
            for tm in reversed(folds[0]):
                for tn in reversed(folds[1]):
                    if tm * tn > most_dsp:
                        continue
                    made = _everywhere(sites, tm, tn, lanes, depth, memory)
                    if made is not None:
                        out.append(made)
                        break
    return out


def _everywhere(
    sites: dict[int, _Site], tm: int, tn: int, lanes: int, depth: int, memory: str
) -> dict[int, Candidate] | None:
    found: dict[int, EngineSpec] = {}
    for q, s in sites.items():
        spec = replace(s.bare, tm=tm, tn=tn, vector_lanes=lanes, wgt_bytes=tm * tn * depth)
        if not fits(resources_of(spec, s.board, s.die, memory), s.have):
            return None
        made = with_memories(s.board, s.die, s.have, spec, memory)
        if made is None:
            return None
        found[q] = made.spec
    act, acc, tab = (min(getattr(x, f"{k}_bytes") for x in found.values()) for k in ("act", "acc", "tab"))
    out: dict[int, Candidate] = {}
    for q, s in sites.items():
        spec = replace(found[q], act_bytes=act, acc_bytes=acc, tab_bytes=tab)
        need = resources_of(spec, s.board, s.die, memory)
        if not fits(need, s.have):
            return None
        out[q] = Candidate(spec, need)
    return out


def slowest_clock(cluster: Cluster) -> tuple[Cluster, list[str]]:
    """The cluster with every die at the clock of the slowest, as one bitstream has it, and what that changes."""
    from compiler.partition.measured import with_clocks

    clocks = {cluster.die_name(ref): cluster.die(ref).clock_khz for ref in cluster.dies}
    least = min(clocks.values())
    faster = [name for name, khz in clocks.items() if khz > least]
    if not faster:
        return cluster, []
    told = f"--uniform: every die runs at {least / 1000:g} MHz, also {', '.join(faster)}"
    return with_clocks(cluster, dict.fromkeys(clocks, least)), [told]


def uniform_engines(choice: EngineChoice, cluster: Cluster, places: Sequence[Place]) -> dict[int, Candidate] | None:
    """Pool -> the one engine; None if none holds every layer."""
    best: tuple[int, dict[int, Candidate]] | None = None
    priced = 0
    for _, trial in _ranked(choice, engines_for_all(cluster, places, folds_of(choice.graph), choice.memory)):
        got = choice.rate(trial, exact=True)
        if got is not None:
            priced += 1
            if best is None or got < best[0]:
                best = (got, trial)
        if priced >= PRICED:
            break
    return None if best is None else best[1]


def _ranked(
    choice: EngineChoice, offered: Sequence[dict[int, Candidate]]
) -> list[tuple[tuple[float, int, int], dict[int, Candidate]]]:
    """By the estimated interval of all engines working at their own rates, then by hardware."""
    listed = []
    for trial in offered:
        speed = sum(choice.count[q] / max(1, choice.total(c)) for q, c in trial.items())
        first = trial[min(trial)]
        listed.append(((1 / speed, first.resources.dsp, first.resources.lut), trial))
    return sorted(listed, key=lambda x: x[0])
