"""The streaming problem as numbers: layers with their options, dies with their budgets; and its flat model.

`joint` solves it. The model here is for problems in which layers must stand together: T counts picoseconds a frame, and
at T an option that takes longer is not offered; the bound is the least T at which the layers fit all dies taken as one;
plans are looked for from there upward by bisection, and the last one is improved towards fewer and narrower crossings.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from compiler.ir.graph import Graph, Node
from compiler.isa.stream.banks import frame_bytes, word_ps
from compiler.isa.stream.network import cycle_ps
from compiler.isa.stream.program import FabricBank, FabricDie
from compiler.isa.stream.table import DRAM, MEMORIES, VARIANTS
from compiler.ops.stream.lower import Option, excess, legal_folds, lower, price, priced, signature, undominated
from compiler.ops.stream.memory import banks_of
from compiler.ops.stream.netlists import Seat, own_name
from compiler.ops.stream.parts import stream_inputs
from compiler.ops.stream.programs import fabric_dies
from compiler.ops.stream.sliced import Part, layer_of
from compiler.partition.constraints.rows import resources as resource_rows
from compiler.partition.options import PartitionOptions
from device_db.errors import FvcError
from device_db.model import Cluster, DieRef
from device_db.topology import link_specs, route, transport

Budgets = Sequence[Sequence[int]]  # die, resource type
TYPES = ("lut", "ff", "bram18", "uram", "dsp")
MOST_OPTIONS = 10  # of a layer in the model over all dies; the merged die sees all
STEPS = 24  # of the bisection: T to better than a permille
CROSSING_WEIGHT = 1000


@dataclass(frozen=True, slots=True)
class Placement:
    """Seats by layer, the interval at which they were found, what all dies as one allow, and whether that is met."""

    seats: dict[str, Seat]
    interval_ps: int
    bound_ps: int
    at_bound: bool


@dataclass(slots=True)
class Problem:
    """Layers with their options, dies with their budgets."""

    graph: Graph
    nodes: tuple[Node, ...]
    every: list[tuple[Option, ...]]  # options of each layer, quickest first
    options: list[tuple[Option, ...]]  # of these, those that none beats
    devices: list[str]
    refs: list[DieRef]
    dies: list[FabricDie]
    budgets: list[tuple[int, ...]]  # by die
    wires: list[int]  # by die: to the next one on the same device
    edges: list[tuple[int, int, int]]  # producer, consumer, bits a frame
    anchors: dict[int, set[int]]
    together: list[tuple[int, int]]
    link_bits_per_second: list[int]  # a device: towards the next one, 0 where there is no link
    out_bits: list[int]  # a layer: of its result, a frame
    seconds: float
    seed: int
    workers: int
    names: list[str] = field(default_factory=list)  # a layer: `own_name` of it, copy by copy
    copies: int = 1

    def __post_init__(self) -> None:
        self.names = self.names or [n.name for n in self.nodes]

    def cycle(self) -> int:
        """Picoseconds of the slowest cycle on the dies: what an option's cycles are counted in."""
        return max(cycle_ps(d.clock_khz) for d in self.dies)


def amounts(option: Option) -> tuple[int, ...]:
    return tuple(getattr(option.resources, t) for t in TYPES)


def make_problem(
    graph: Graph,
    cluster: Cluster,
    options: PartitionOptions,
    devices: int,
    copies: int = 1,
    home: Callable[[Node], Graph] | None = None,
    external: frozenset[str] = frozenset(),
) -> Problem:
    """The problem of so many copies of the net on the first `devices` of a cluster. home: the graph in which a node is
    priced, `graph` unless said otherwise. external: layers whose weights may stand in DRAM, too. Raises FVC206, FVC208,
    FVC214, FVC218."""
    refs, dies = [], []
    for d in range(devices):
        for k, die in enumerate(fabric_dies(cluster, d)):
            refs.append(DieRef(d, k))
            dies.append(die)
    budgets = [tuple(getattr(die, t) for t in TYPES) for die in dies]
    families = {d.family for d in dies}
    family = sorted(families)[0]
    uram = any(d.uram for d in dies)
    wanted = {"bram": (0, 1), "uram": (0, 2), "external": (DRAM,)}.get(options.memory)
    banks = [b for d in range(devices) for b in banks_of(cluster.devices[d].board)]
    if options.memory == "external" and not banks:
        raise FvcError(
            "FVC208",
            "--memory external: no board has a memory bank for weights",
            where=(", ".join(d.name for d in cluster.devices[:devices]),),
            help=("use --memory auto, bram or uram", "use boards with DRAM"),
            exit_code=1,
        )
    outside = external if options.memory != "external" else frozenset(layer_of(n) for n in graph.nodes)
    outside = outside if banks else frozenset()
    cycle = max(cycle_ps(d.clock_khz) for d in dies)
    every: list[tuple[Option, ...]] = []
    known: dict[object, tuple[Option, ...]] = {}
    given = {f[0]: f for f in options.folds}
    for n in graph.nodes:
        if n.name in given:
            asked = _given(graph, n, given[n.name], family, uram, options.measured, devices)
            every.append(tuple(_read(graph, n, o, banks, cycle) for o in asked))
            continue
        own = graph if home is None else home(n)
        free = layer_of(n) in outside
        alike = (signature(own, n), free) if isinstance(n, Part) else None
        if alike not in known or alike is None:
            measured = tuple(m for m in options.measured if m[0] == n.name)
            known[alike] = priced(own, n, family, uram, measured, devices, free)
        whole = known[alike]
        if free:
            whole = tuple(sorted((_read(own, n, o, banks, cycle) for o in whole), key=lambda o: o.cycles))
        all_of = tuple(o for o in whole if wanted is None or o.fold.memory in wanted)
        every.append(all_of or whole)
    number = {n.name: k for k, n in enumerate(graph.nodes)}
    maker = {n.y: k for k, n in enumerate(graph.nodes)}
    edges = []
    for k, n in enumerate(graph.nodes):
        for tensor in dict.fromkeys(stream_inputs(graph, n)):
            if tensor in maker:
                edges.append((maker[tensor], k, graph.tensors[tensor].bytes * 8))
    cuts = [(number[a], number[b]) for a, b in options.forbidden_cuts if a in number and b in number]
    anchors = _anchors(graph, cluster, options, refs)
    starts = [c * len(graph.nodes) for c in range(copies)]
    return Problem(
        graph, graph.nodes * copies, every * copies, [undominated(own) for own in every] * copies,
        [d.name for d in cluster.devices[:devices]], refs, dies, budgets,
        [d.wires for d in dies], [(s + a, s + b, bits) for s in starts for a, b, bits in edges],
        {s + n: here for s in starts for n, here in anchors.items()}, [(s + a, s + b) for s in starts for a, b in cuts],
        [link_rate(cluster, d) for d in range(devices)], [graph.tensors[n.y].bytes * 8 for n in graph.nodes] * copies,
        options.time_limit_s, options.seed, options.workers,
        [own_name(n.name, c) for c in range(copies) for n in graph.nodes], copies,
    )  # fmt: skip


def _read(graph: Graph, node: Node, option: Option, banks: Sequence[FabricBank], cycle: int) -> Option:
    """An option with the cycles that its weights take from the quickest bank, which it then has for itself."""
    if option.fold.memory != DRAM:
        return option
    mem = next(u.fields for u in lower(graph, node, option.fold).units if u.op == "MEM")
    words = mem["words"] * mem["turns"]
    reading = min((words * word_ps(mem, b, frame_bytes(mem), cycle) for b in banks), default=0)
    return replace(option, cycles=max(option.cycles, reading // cycle))


def link_rate(cluster: Cluster, device: int) -> int:
    """Bits a second from a device to the next one, over as many links as it takes."""
    ends = [
        DieRef(d, cluster.devices[d].board.network_die or 0) for d in (device, device + 1) if d < len(cluster.devices)
    ]
    if len(ends) < 2:
        return 0
    try:
        way = route(cluster, *ends)
    except ValueError:
        return 0
    specs = link_specs(cluster)
    return min((specs[name][0] for name in way if transport(name) != "SLL"), default=0)


def _given(
    graph: Graph, n: Node, fold: tuple[str, int, int, str, str], family: str, uram: bool,
    measured: tuple[tuple[Any, ...], ...], devices: int,
) -> tuple[Option, ...]:  # fmt: skip
    """The options of a layer whose fold is given. Raises FVC218 if these dies have none."""
    _, pe, simd, memory, variant = fold
    found = [
        replace(o := price(graph, n, f, family, devices), resources=o.resources + excess(graph, n, f, family, measured))
        for f in legal_folds(graph, n, uram, memory == MEMORIES[DRAM])
        if (f.pe, f.simd) == (pe, simd) and memory in ("", MEMORIES[f.memory]) and variant in ("", VARIANTS[f.variant])
    ]
    if not found:
        raise FvcError(
            "FVC218",
            f"PE={pe}, SIMD={simd} {memory} {variant}".rstrip() + " cannot be built here",
            where=(f"layer '{n.name}'",),
            help=("take the entry out of the fold file",),
        )
    return tuple(sorted(found, key=lambda o: o.cycles))


def _anchors(graph: Graph, cluster: Cluster, options: PartitionOptions, refs: list[DieRef]) -> dict[int, set[int]]:
    out: dict[int, set[int]] = {}
    slices: dict[str, list[int]] = {}
    for k, n in enumerate(graph.nodes):
        slices.setdefault(layer_of(n), []).append(k)
    for layer, place in options.anchors:
        if layer not in slices:
            raise FvcError("FVC206", f"--anchor names no layer: '{layer}'", help=("fvc explain DIR lists them",))
        here = {k for k, r in enumerate(refs) if place in (cluster.die_name(r), cluster.devices[r.device].name)}
        if not here:
            raise FvcError("FVC206", f"--anchor names no die of the cluster: '{place}'", help=("like u280-0/SLR1",))
        out |= dict.fromkeys(slices[layer], here)
    return out


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


def does_not_fit(p: Problem) -> FvcError:
    """The smallest engines of all layers are too much, or no die holds its share: which resource, who, what relieves
    it."""
    need = [sum(min(amounts(o)[r] for o in layer) for layer in p.options) for r in range(len(TYPES))]
    have = [sum(b[r] for b in p.budgets) for r in range(len(TYPES))]
    r = max(range(len(TYPES)), key=lambda k: need[k] / max(1, have[k]))
    heavy = sorted(
        ((min(amounts(o)[r] for o in layer), n.name) for n, layer in zip(p.nodes, p.options, strict=True)), reverse=True
    )
    heavy = list(dict.fromkeys(heavy))[:5]
    layers = "all layers" if p.copies == 1 else f"all layers of {p.copies} copies"
    fewer = []
    if p.copies > 1:
        most = min(p.copies * have[k] // max(1, need[k]) for k in range(len(TYPES)))
        fewer = [f"--replicas {most} or fewer" if 0 < most < p.copies else "fewer --replicas"]
    if need[r] <= have[r]:  # each resource would do if all dies were one
        return FvcError(
            "FVC203",
            f"no placement of {layers} on {len(p.refs)} dies was found",
            where=(
                "constraint: resources of each die, SLL wires, links",
                f"{TYPES[r].upper()}: {need[r]:,} needed at least, {have[r]:,} usable on all dies",
                f"largest: {heavy[0][1]}",
            ),
            help=(*fewer, "add a device", "use --style tiled, whose engines are shared by all layers"),
            exit_code=1,
        )
    devices = len({x.device for x in p.refs})
    more = -(-need[r] * devices // max(1, have[r])) - devices
    help = ["use --style tiled, whose engines are shared by all layers"]
    if more > 0:
        help.insert(0, f"at least {more} more devices are needed")
    help = [*fewer, *help]
    return FvcError(
        "FVC203",
        f"no folding of {layers} fits: {need[r]:,} {TYPES[r].upper()} needed at least, {have[r]:,} usable",
        where=("constraint: resources", ", ".join(f"{name} ({amount:,})" for amount, name in heavy)),
        help=tuple(help),
        exit_code=1,
    )
