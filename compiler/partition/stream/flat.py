"""The flat model, for problems in which layers must stand together, and where the search of `joint` gives nothing.

Needs a `problem.Problem`; T counts picoseconds a frame, and at T an option that takes longer is not offered. The bound
is the least T at which the layers fit all dies taken as one; plans are looked for from there upward by bisection, and
the last one is improved towards fewer and narrower crossings.
"""

from __future__ import annotations

from typing import Any

from compiler.ops.stream.lower import Option
from compiler.ops.stream.netlists import Seat
from compiler.partition.constraints.rows import resources as resource_rows
from compiler.partition.stream.problem import TYPES, Budgets, Placement, Problem, amounts

MOST_OPTIONS = 10  # of a layer in the model over all dies; the merged die sees all
CROSSING_WEIGHT = 1000


def offered(p: Problem, t_ps: int) -> list[list[Option]] | None:
    """Options that keep T, none of which another one beats; None if a layer has none."""
    out = []
    for options in p.options:
        keep: list[Option] = []
        for o in sorted((o for o in options if o.cycles * p.cycle() <= t_ps), key=amounts):
            if not any(all(a <= b for a, b in zip(amounts(k), amounts(o), strict=True)) for k in keep):
                keep.append(o)
        if not keep:
            return None
        out.append(keep)
    return out


def _fits_merged(p: Problem, budgets: Budgets, t_ps: int) -> bool | None:
    """Whether the layers fit all dies as one at T: False is a proof, None undecided."""
    from ortools.sat.python import cp_model

    options = offered(p, t_ps)
    if options is None:
        return False
    total = [sum(b[r] for b in budgets) for r in range(len(TYPES))]
    for r in range(len(TYPES)):
        if sum(min(amounts(o)[r] for o in layer) for layer in options) > total[r]:
            return False
    model = cp_model.CpModel()
    take = [[model.new_bool_var("") for _ in layer] for layer in options]
    for choice in take:
        model.add_exactly_one(choice)
    for row in resource_rows([[amounts(o) for o in layer] for layer in options], total, TYPES, "all dies"):
        model.add(row.expression(lambda n, k: take[n][k]) <= row.bound)
    status = solver_of(p, min(5.0, p.seconds)).solve(model)
    return (
        True if status in (cp_model.OPTIMAL, cp_model.FEASIBLE) else (False if status == cp_model.INFEASIBLE else None)
    )


def solver_of(p: Problem, seconds: float) -> Any:
    """CP-SAT with the problem's seed and workers, for so many deterministic seconds."""
    from ortools.sat.python import cp_model

    solver = cp_model.CpSolver()
    solver.parameters.num_workers = p.workers
    solver.parameters.random_seed = p.seed
    solver.parameters.max_deterministic_time = seconds
    return solver


def _few(options: list[Option], budgets: Budgets) -> list[Option]:
    """The options of a layer that the model over all dies sees: those with the least share of the scarcest resource, of
    each resource, and in all."""
    if len(options) <= MOST_OPTIONS:
        return options
    total = [max(1, sum(b[r] for b in budgets)) for r in range(len(TYPES))]

    def shares(o: Option) -> list[float]:
        return [a / t for a, t in zip(amounts(o), total, strict=True)]

    chosen: list[Option] = []
    marks = [[max(shares(o)) for o in options], [sum(shares(o)) for o in options]]
    marks += [[amounts(o)[r] for o in options] for r in range(len(TYPES))]
    for mark in marks:
        for k in sorted(range(len(options)), key=lambda k, mark=mark: (mark[k], marks[0][k], k))[:2]:  # type: ignore[misc]
            o = options[k]
            if o not in chosen and len(chosen) < MOST_OPTIONS:
                chosen.append(o)
    return chosen


def fill(p: Problem, budgets: Budgets, t_ps: int, seconds: float, improve: bool) -> dict[str, Seat] | None:
    """Seats at T, or None if none was found in the time. improve: few and narrow crossings, little hardware."""
    from ortools.sat.python import cp_model

    offers = offered(p, t_ps)
    if offers is None:
        return None
    options = [_few(o, budgets) for o in offers]
    dies = range(len(p.refs))
    model = cp_model.CpModel()
    seat = [[[model.new_bool_var("") for _ in layer] for _ in dies] for layer in options]
    on = [[model.new_bool_var("") for _ in dies] for _ in options]
    for n in range(len(options)):
        model.add_exactly_one(on[n])
        for d in dies:
            model.add(sum(seat[n][d]) == on[n][d])
            if n in p.anchors and d not in p.anchors[n]:
                model.add(on[n][d] == 0)
    for d in dies:
        rows = resource_rows([[amounts(o) for o in layer] for layer in options], budgets[d], TYPES, str(d))
        for row in rows:
            model.add(sum(amount * seat[n][d][k] for (n, k), amount in row.terms.items() if amount) <= row.bound)
    for a, b in p.together:
        for d in dies:
            model.add(on[a][d] == on[b][d])
    crossings = []
    below = [[model.new_bool_var("") for _ in list(dies)[:-1]] for _ in options]
    for n in range(len(options)):
        for d in list(dies)[:-1]:
            model.add(sum(on[n][: d + 1]) == below[n][d])
    for a, b, bits in p.edges:
        for d in list(dies)[:-1]:
            cross = model.new_bool_var("")
            model.add(cross >= below[a][d] - below[b][d])
            model.add(cross >= below[b][d] - below[a][d])
            between = p.refs[d].device != p.refs[d + 1].device
            crossings.append((8 if between else 1) * (1 + bits * 20 // max(1, t_ps // p.cycle())) * cross)
    if improve:
        # Each die's share of its scarcest resource, in permille, after the crossings.
        most = [max(1, max(b[r] for b in budgets)) for r in range(len(TYPES))]
        area = sum(
            max(1000 * a // m for a, m in zip(amounts(o), most, strict=True)) * seat[n][d][k]
            for n, layer in enumerate(options)
            for k, o in enumerate(layer)
            for d in dies
        )
        model.minimize(CROSSING_WEIGHT * sum(crossings) + area)
    first = _in_order(p, budgets, options)
    if first is not None:
        for n, (d, k) in enumerate(first):
            for e in dies:
                model.add_hint(on[n][e], e == d)
                for j in range(len(options[n])):
                    model.add_hint(seat[n][e][j], (e, j) == (d, k))
    elif not improve and len(options) * len(p.refs) > 4000:
        return None
    solver = solver_of(p, seconds)
    if not improve and first is not None:
        return {p.names[n]: Seat(p.refs[d], options[n][k].fold) for n, (d, k) in enumerate(first)}
    status = solver.solve(model)
    if status not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        if first is None:
            return None
        return {p.names[n]: Seat(p.refs[d], options[n][k].fold) for n, (d, k) in enumerate(first)}
    out = {}
    for n, layer in enumerate(options):
        d = next(d for d in dies if solver.value(on[n][d]))
        k = next(k for k in range(len(layer)) if solver.value(seat[n][d][k]))
        out[p.names[n]] = Seat(p.refs[d], layer[k].fold)
    return out


def _in_order(p: Problem, budgets: Budgets, options: list[list[Option]]) -> list[tuple[int, int]] | None:
    """Layers in the graph's order onto dies in the machine's, each with the option that takes the least share of what
    is left there; None where that does not fit, or a wish is in the way."""
    if p.anchors or p.together:
        return None
    out: list[tuple[int, int]] = []
    d, left = 0, list(budgets[0])
    for layer in options:
        while True:
            best = None
            for k, o in enumerate(layer):
                a = amounts(o)
                if all(x <= y for x, y in zip(a, left, strict=True)):
                    share = max(x / max(1, y) for x, y in zip(a, left, strict=True))
                    if best is None or share < best[0]:
                        best = (share, k)
            if best is not None:
                k = best[1]
                out.append((d, k))
                left = [x - y for x, y in zip(left, amounts(layer[k]), strict=True)]
                break
            d += 1
            if d == len(p.refs):
                return None
            left = list(budgets[d])
    return out


def in_order(p: Problem, budgets: Budgets, floor_ps: int, bound_ps: int) -> Placement | None:
    """Layers in the graph's order, die after die, at the least T not below `floor_ps` at which they fit so; None where
    they never do. Few streams cross, so this often becomes a netlist where seats that are spread do not."""
    ladder_ps = sorted({max(floor_ps, bound_ps, o.cycles * p.cycle()) for layer in p.options for o in layer})
    found: tuple[int, dict[str, Seat]] | None = None
    lo, hi = 0, len(ladder_ps) - 1
    while lo <= hi:
        mid = (lo + hi) // 2
        offers = offered(p, ladder_ps[mid])
        options = None if offers is None else [_few(o, budgets) for o in offers]
        seats = None if options is None else _in_order(p, budgets, options)
        if options is None or seats is None:
            lo = mid + 1
            continue
        hi = mid - 1
        named = {p.names[n]: Seat(p.refs[d], options[n][k].fold) for n, (d, k) in enumerate(seats)}
        found = (ladder_ps[mid], named)
    return None if found is None else Placement(found[1], found[0], bound_ps, found[0] == bound_ps)


def place(p: Problem, budgets: Budgets, floor_ps: int) -> Placement | None:
    """The best seats found within the budgets, T not below `floor_ps`; None where there are none."""
    ladder_ps = sorted({max(floor_ps, o.cycles * p.cycle()) for layer in p.options for o in layer})
    if _fits_merged(p, budgets, ladder_ps[-1]) is False:
        return None
    lo, hi = 0, len(ladder_ps) - 1  # the bound: the least T that the merged die does not refuse
    while lo < hi:
        mid = (lo + hi) // 2
        if _fits_merged(p, budgets, ladder_ps[mid]) is False:
            lo = mid + 1
        else:
            hi = mid
    bound = ladder_ps[lo]
    found = None
    lo, hi = lo, len(ladder_ps) - 1
    share = max(0.5, p.seconds / 8)
    while lo <= hi:
        mid = (lo + hi) // 2 if found is not None else lo
        seats = fill(p, budgets, ladder_ps[mid], share, improve=False)
        if seats is not None:
            found = (ladder_ps[mid], seats)
            hi = mid - 1
        else:
            lo = mid + 1
            if found is None:  # gallop away from the bound, then bisect back
                seats_at = min(len(ladder_ps) - 1, lo + max(1, (len(ladder_ps) - lo) // 4))
                got = fill(p, budgets, ladder_ps[seats_at], share, improve=False)
                if got is not None:
                    found, hi = (ladder_ps[seats_at], got), seats_at - 1
                else:
                    lo = seats_at + 1
    if found is None:
        return None
    t_ps, seats = found
    better = fill(p, budgets, t_ps, p.seconds / 2, improve=True)
    return Placement(better or seats, t_ps, bound, t_ps == bound)
