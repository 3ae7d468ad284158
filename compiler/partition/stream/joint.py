"""Folds and dies decided together by the solver of `fvc floorplan`: the streaming problem as a JointCase and back.

Needs a `problem.Problem`; guarantees seats whose engines keep the budgets they were given and whose streams, transit
included, keep the wires and bits of every boundary as the model counts them, and a bound that is proved on whole dies.
Dies stand in a line, device after device, as the links of every topology join at least neighbours.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from compiler.floorplan.budget import Clock, Settings
from compiler.floorplan.joint import Search, start
from compiler.floorplan.problem import Boundary, JointCase
from compiler.isa.stream.table import DRAM
from compiler.ops.stream.netlists import Seat
from compiler.partition.stream.bandwidth import Within, asked, within_banks
from compiler.partition.stream.flat import in_order, place
from compiler.partition.stream.problem import TYPES, Budgets, Placement, Problem, amounts
from cost_models.primitives import PS_PER_SECOND, ceil_div

FLAT_SEATS = 300  # layers x dies; larger models of everything take minutes where this search has found nothing
PLAN_SHARE = 0.4  # of the time limit, a search for a plan
PROBE_SHARE = 0.01  # and one at an interval in which the banks are to be done
OPEN = 1 << 50  # wires that never bind


@dataclass(frozen=True, slots=True)
class Bound:
    """No plan has an interval below `interval_ps`; who says so."""

    interval_ps: int
    proved_by: str


def as_case(p: Problem, budgets: Budgets, floor_ps: int, read: Within | None = None) -> JointCase:
    """Layers as kernels, options as versions; no interval below `floor_ps` counts as shorter. read: what each die may
    read from DRAM is one more resource, and slower options are none."""
    cycle = p.cycle()
    least = max(1, ceil_div(floor_ps, cycle))
    dies = range(len(p.refs))
    boundaries = []
    more = {} if read is None else {"dram": read[0]}
    options = [[o for o in own if read is None or o.cycles * cycle < read[1]] for own in p.options]  # quickest first
    for d in list(dies)[:-1]:
        a, b = p.refs[d], p.refs[d + 1]
        if a.device == b.device:
            boundaries.append(Boundary(p.wires[d], None))
        else:
            rate = p.link_bits_per_second[a.device]
            boundaries.append(Boundary(None, rate * cycle // PS_PER_SECOND if rate else None))
    return JointCase(
        name="streaming",
        resources=(*TYPES, *more),
        node_names=tuple(p.names),
        out_bits=tuple(p.out_bits),
        cycles=tuple(tuple(max(least, o.cycles) for o in layer) for layer in options),
        versions=tuple(
            tuple((*amounts(o), *(asked(p, n, o) for _ in more)) for o in layer) for n, layer in enumerate(options)
        ),
        edges=tuple((a, b) for a, b, _ in p.edges),
        slot_ids=tuple(dies),
        capacity=tuple(
            tuple(max(0, x) for x in (*b, *(own[d] for own in more.values()))) for d, b in enumerate(budgets)
        ),
        boundaries=tuple(boundaries),
        allowed=tuple(frozenset(p.anchors.get(n, set(dies))) for n in range(len(p.nodes))),
        devices=tuple(r.device for r in p.refs),
    )


def choose(p: Problem, budgets: Budgets, floor_ps: int) -> Placement | None:
    """The best seats found within these budgets, of weights in DRAM the time of their reading counted; None where the
    search found none."""
    if not p.together and any(o.fold.memory == DRAM for own in p.options for o in own):
        return within_banks(p, floor_ps, lambda ps, read: _seats(p, budgets, ps, read))
    return _seats(p, budgets, floor_ps)


def _seats(p: Problem, budgets: Budgets, floor_ps: int, read: Within | None = None) -> Placement | None:
    """The best seats found, with the quickest bank for each reader; read: None: whatever they read."""
    if p.together:
        return place(p, budgets, floor_ps)
    share = PLAN_SHARE if read is None else PROBE_SHARE
    found = _search(as_case(p, budgets, floor_ps, read), p, p.seconds * share)
    if found is None:
        return None
    if found.plan is None or found.best is None:
        if read is not None:
            return None
        if p.anchors or len(p.names) * len(p.refs) <= FLAT_SEATS:  # layers in order know no anchors
            return place(p, budgets, floor_ps)
        return in_order(p, budgets, floor_ps, found.merged * p.cycle())
    seats = {
        name: Seat(p.refs[s], layer[k].fold) for name, layer, (s, k) in zip(p.names, p.options, found.plan, strict=True)
    }
    return Placement(seats, found.best * p.cycle(), found.merged * p.cycle(), found.merged == found.best)


def bound(p: Problem, budgets: Budgets, floor_ps: int, known: Placement | None) -> Bound | None:
    """The proved bound on whole dies with nothing held back and every boundary open, which is true of every plan; None:
    proved that there is no plan. known: a plan within the same budgets."""
    merged = "CP-SAT and prices on the merged die"
    if known is not None and known.at_bound:
        return Bound(known.bound_ps, merged)
    case = as_case(p, budgets, floor_ps)
    found = _search(replace(case, boundaries=tuple(Boundary(OPEN, None) for _ in case.boundaries)), p, p.seconds / 4)
    if found is None:
        return None
    flat = found.low > found.values.index(found.merged)
    return Bound(found.values[found.low] * p.cycle(), "CP-SAT on all dies, boundaries open" if flat else merged)


def _search(case: JointCase, p: Problem, seconds: float) -> Search | None:
    """The search over one case, run for as long as it may; None: proved that no interval fits."""
    able = all(case.allowed) and all(case.versions)
    found = start(case, Clock(Settings(seconds, p.seed, p.workers))) if able else None
    if found is not None:
        found.run()
    return None if found is None or found.refuted else found
