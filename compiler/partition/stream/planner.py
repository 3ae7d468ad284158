"""The streaming partitioner on one page: graph + cluster + options -> Plan.

Folds and dies from `place`, the netlist from `compiler.ops.stream.assemble`, FIFO depths from its timing, figures; a
netlist that with all its FIFOs and converters is over a die's budget goes back with more held back for them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import islice

from compiler.ir.graph import Graph, HostSegment
from compiler.isa.program import DeviceProgram
from compiler.isa.stream.network import Work, cycle_ps
from compiler.isa.stream.table import MEMORIES, VARIANTS
from compiler.ops.stream.assemble import (
    Assembly,
    Seat,
    assemble,
    engine_id,
    fabric_dies,
    own_name,
    programs_of,
)
from compiler.ops.stream.joins import LEAST_DEPTH
from compiler.ops.stream.lower import price
from compiler.ops.stream.measure import busy_ps, channels, crossing_wires, die_use, engine_use, link_ps
from compiler.ops.stream.sliced import WHOLE, Cuts, expand, layer_of, role_of, task_of
from compiler.partition.infeasible import check_limits, no_layer
from compiler.partition.options import PartitionOptions, host_time_ns
from compiler.partition.prediction.predict import number
from compiler.partition.stream.copies import MOST_COPIES, Arrangement, most_first, rates
from compiler.partition.stream.depths import Depths, derive
from compiler.partition.stream.figures import predict
from compiler.partition.stream.forced import forced, notes_of
from compiler.partition.stream.joined import PROVED_BY, raised
from compiler.partition.stream.joint import Bound
from compiler.partition.stream.place import TYPES, Placement, Problem, amounts, does_not_fit, make_problem
from compiler.partition.stream.slicing import homes, make_menu
from compiler.plan.model import (
    SCHEMA,
    EnginePlan,
    HostSegmentPlan,
    LayerPlan,
    Plan,
    ResourcePlan,
    SlicePlan,
    SolverPlan,
)
from cost_models.primitives import ceil_div, ps_cycles
from device_db.errors import FvcError
from device_db.model import Cluster, Resources

SEARCHES = 4  # with cuts
WORTH_CUTTING = 0.03  # the gap of a plan of whole layers that is left as it is
BY_MENU = "prices on the merged die, cuts included"
OFFERED = "layers whole, or cut as the notes name"
ROUNDS = 9  # of holding more back where a die came out over its budget
SHARES = 200  # of a die, one more each round for what is short
SLL_WIRES = "SLL wires"
SHORTEST_FIFOS = f"FIFOs of {LEAST_DEPTH} words or more"
TRIES = 3  # numbers of copies for which --replicas auto makes plans
WORTH_PERMILLE = 980  # another number is tried where its bound is below this share of the interval reached


def validate(options: PartitionOptions) -> None:
    """Raises FVC201 for what streaming engines do not do."""

    def bad(what: str, help: str) -> None:
        raise FvcError("FVC201", f"--style streaming: {what}", help=(help,), exit_code=2)

    if options.objective != "throughput":
        bad("only the throughput objective is there", "use --objective throughput, or --style tiled")
    if options.replicas > MOST_COPIES:
        bad(f"{options.replicas} copies of the net", f"use --replicas {MOST_COPIES} or fewer")
    if options.cores is not None:
        bad("--cores counts tiled engines", "leave --cores out")
    if any(f not in ("Pm", "Pn") for f, n in options.force_split if n > 1):
        bad("layers are sliced by output channels (Pm) and input channels (Pn)", "use --force-split Pm=2 or Pn=2")
    if options.memory == "external":
        bad("weights stand on the chip", "use --memory auto, bram or uram")


def work_of(graph: Graph, options: PartitionOptions) -> list[Work]:
    """The host's segments with their times."""
    return [
        Work(
            s.name,
            tuple(graph.root(x) for x in s.inputs),
            tuple(graph.root(x) for x in s.outputs),
            host_time_ns(s.name, options) * 1000,
        )
        for s in graph.host_segments
    ]


def partition_streaming(graph: Graph, cluster: Cluster, options: PartitionOptions) -> Plan:
    """The best streaming plan found, judged before it is returned. FvcError FVC2xx when there is none."""
    validate(options)
    if not graph.nodes:
        raise no_layer(graph)
    if len({d.board.family for d in cluster.devices}) > 1:
        raise FvcError(
            "FVC201",
            "--style streaming: the boards of a cluster must be of one family",
            help=("use boards of one family, or --style tiled",),
            exit_code=2,
        )
    counts = range(1, len(cluster.devices) + 1) if options.min_devices else [len(cluster.devices)]
    last: FvcError | None = None
    for count in counts:
        try:
            return _judged(graph, cluster, options, count)
        except FvcError as error:
            if error.exit_code != 1:
                raise
            last = error
    assert last is not None
    raise last


def _judged(graph: Graph, cluster: Cluster, options: PartitionOptions, devices: int) -> Plan:
    from compiler.partition.check import check_plan
    from compiler.partition.infeasible import refused

    plan = _searched(graph, cluster, options, devices)
    check_limits(plan, graph, cluster, options, search=False)
    findings = check_plan(plan, graph, cluster)
    if findings:
        raise refused(findings, plan, graph, cluster, options, search=False)
    return plan


def _searched(base: Graph, cluster: Cluster, options: PartitionOptions, devices: int) -> Plan:
    """The best plan of whole layers, or with cuts where they are needed or may help; then the bound is over all cuts
    that were on offer. Several copies of the net are of whole layers, or cut as asked."""
    if options.force_split or options.replicas != 1:
        return _best(base, forced(base, options), cluster, options, devices)
    menu = make_menu(base, cluster, options, devices)
    work = work_of(base, options)
    best: Plan | None = None
    taken: Cuts = ()
    error: FvcError | None = None

    def attempt(cuts: Cuts) -> None:
        nonlocal best, taken, error
        try:
            plan = _best(base, cuts, cluster, options, devices)
        except FvcError as refusal:
            if refusal.exit_code != 1:
                raise
            error = error or refusal
            return
        if best is None or plan.predicted["interval_ns"] < best.predicted["interval_ns"]:
            best, taken = plan, cuts

    def known_ps() -> int | None:
        return None if best is None else int(best.predicted["pace_ps"])

    if not menu.must():
        attempt(())
    if best is None or best.solver.gap > WORTH_CUTTING:
        floor = max(sum(w.time_ps for w in work), (options.interval or 0) * menu.whole.cycle(), 1)
        for cuts in islice(menu.proposals(floor, known_ps), SEARCHES):
            attempt(cuts)
        if best is not None and menu.tried:
            proved_ps = menu.bound_ps(floor)
            assert proved_ps is not None
            solver = _solver(Bound(proved_ps, BY_MENU), best.predicted, cluster, options, work, 1, None, OFFERED)
            best = replace(best, solver=replace(solver, notes=(*solver.notes, *menu.notes(taken))))
            best.predicted["replicas_auto"] = {
                "replicas": 1,
                "fps": best.predicted["fps"],
            }  # copies are of whole layers
    if best is None:
        raise error or does_not_fit(menu.whole)
    return best


def _best(base: Graph, cuts: Cuts, cluster: Cluster, options: PartitionOptions, devices: int) -> Plan:
    """The plan with the number of copies asked for, or with as many as give the most frames a second: the numbers are
    tried in the order of what their bounds allow, while one may still be better. Says what `auto` would give."""
    graph = expand(base, cuts)
    one = make_problem(graph, cluster, options, devices, home=homes(base, cuts))
    host_ps = sum(w.time_ps for w in work_of(graph, options))
    offered = rates(one, host_ps)
    ranked = most_first(offered)
    bounds = {r.copies: r.frame_ps for r in offered}
    if options.replicas:
        plan = _plan((base, cuts), cluster, options, devices, options.replicas, None)
        auto = ranked[0].copies if ranked else 1
        fps = float(plan.predicted["fps"])
        if auto != plan.replicas and plan.replicas in bounds:  # a bound scaled by what this plan really gives
            fps = round(fps * bounds[plan.replicas] / bounds[auto], 1)
        if auto == plan.replicas or plan.replicas not in bounds:
            auto, fps = plan.replicas, float(plan.predicted["fps"])
        return _told(plan, auto, fps)
    if not ranked:
        raise does_not_fit(one)
    best: Plan | None = None
    problem: FvcError | None = None
    tried, least = 0, MOST_COPIES + 1
    for r in ranked:
        reached = best.predicted["interval_ns"] * 1000 if best is not None else 0
        if best is not None and (tried >= TRIES or r.frame_ps * 1000 >= reached * WORTH_PERMILLE):
            break
        if r.copies >= least:  # what joins layers is in no bound: where so many did not fit, more will not
            continue
        try:
            plan = _plan((base, cuts), cluster, options, devices, r.copies, ranked[0].frame_ps)
        except FvcError as error:
            if error.exit_code != 1:
                raise
            problem, least = problem or error, min(least, r.copies)
            continue
        tried += 1
        if best is None or plan.predicted["interval_ns"] < best.predicted["interval_ns"]:
            best = plan
    if best is None:
        assert problem is not None
        raise problem
    return _told(best, best.replicas, float(best.predicted["fps"]))


def _told(plan: Plan, auto: int, fps: float) -> Plan:
    plan.predicted["replicas_auto"] = {"replicas": auto, "fps": number(fps)}
    if auto == plan.replicas:
        return plan
    note = f"--replicas auto would take {auto} and give about {number(fps)} frames a second"
    return replace(plan, solver=replace(plan.solver, notes=(*plan.solver.notes, note)))


def _plan(
    whole: tuple[Graph, Cuts],
    cluster: Cluster,
    options: PartitionOptions,
    devices: int,
    copies: int,
    any_ps: int | None,
) -> Plan:
    """whole: the graph with the layers that are cut. any_ps: where the number of copies was free, what bounds the
    interval with any number."""
    graph = expand(*whole)
    work = work_of(graph, options)
    host_ps = copies * sum(w.time_ps for w in work)
    slowest = max(cycle_ps(d.clock_khz) for dev in cluster.devices[:devices] for d in dev.board.dies)
    floor = max(host_ps, copies * (options.interval or 0) * slowest, 1)
    seats = Arrangement(graph, cluster, options, devices, copies, floor, homes(*whole))
    problem = seats.problem
    found, proved = seats.first()
    if proved is None or found is None:
        raise does_not_fit(problem)
    held = [[0] * len(TYPES) for _ in problem.refs]
    over: list[Over] = []
    for turn in range(ROUNDS):
        assembly = assemble(graph, cluster, found.seats, options.measured)
        bare = programs_of(graph, cluster, assembly, found.interval_ps, {}, {})
        pace = max(*busy_ps(bare).values(), *(ps for _, ps in link_ps(bare).values()), host_ps)
        depths = derive(graph, cluster, assembly, pace, work)
        programs = programs_of(graph, cluster, assembly, pace, depths.words, depths.memory)
        over = over_budget(cluster, programs)
        if not over:
            proved = _sharper(problem, proved, pace)
            return _assembled(
                whole, graph, cluster, options, found, assembly, depths, programs, work, pace, proved, any_ps
            )
        hold_back(problem, found.seats, programs, over, held, turn)
        budgets = [
            [have - less for have, less in zip(b, h, strict=True)] for b, h in zip(problem.budgets, held, strict=True)
        ]
        found = seats.again(budgets)
        if found is None:
            break
    worst = over[0]
    fewer = ("fewer --replicas",) if copies > 1 else ()
    raise FvcError(
        "FVC203",
        f"{worst.what} over budget on {worst.device}/{worst.die}: {worst.need:,} needed, {worst.have:,} usable",
        where=("constraint: resources",),
        help=(*fewer, "add a device", "--interval CYCLES gives up speed for area"),
        exit_code=1,
    )


def _sharper(p: Problem, proved: Bound, pace_ps: int) -> Bound:
    """The bound where the plan does not meet it: with what joins layers."""
    if pace_ps <= proved.interval_ps or p.together:
        return proved
    higher = raised(p, proved.interval_ps, pace_ps)
    return Bound(higher, PROVED_BY) if higher > proved.interval_ps else proved


@dataclass(frozen=True, slots=True)
class Over:
    """A budget that the netlists with their FIFOs do not keep; `what` is a resource or "SLL wires" to the next die."""

    device: str
    die: str
    what: str
    need: int
    have: int


def over_budget(cluster: Cluster, programs: list[DeviceProgram]) -> list[Over]:
    """Every budget that is not kept."""
    out = []
    for p in programs:
        assert p.fabric is not None
        used = die_use(p)
        for k, die in enumerate(p.fabric.dies):
            for t in TYPES:
                if getattr(used[k], t) > getattr(die, t):
                    out.append(Over(p.name, die.name, t.upper(), getattr(used[k], t), getattr(die, t)))
    for name, wires in crossing_wires(programs).items():
        device, pair = name.split("/")
        dies = next(p.fabric.dies for p in programs if p.name == device and p.fabric)
        low = min(next(k for k, d in enumerate(dies) if d.name == x) for x in pair.split(">"))
        if wires > dies[low].wires:
            out.append(Over(device, dies[low].name, SLL_WIRES, wires, dies[low].wires))
    return out


def hold_back(
    p: Problem,
    seats: dict[str, Seat],
    programs: list[DeviceProgram],
    over: list[Over],
    held: list[list[int]],
    turn: int,
) -> None:
    """Takes off the budgets what joins layers (FIFOs, converters, duplicators, boundary units), as the last netlist had
    it; a die that is over again gives up more."""
    names = {(p.devices[r.device], d.name): k for k, (r, d) in enumerate(zip(p.refs, p.dies, strict=True))}
    chosen = [[0] * len(TYPES) for _ in p.refs]
    for name, layer in zip(p.names, p.options, strict=True):
        seat = seats[name]
        option = next(o for o in layer if o.fold == seat.fold)
        k = p.refs.index(seat.ref)
        chosen[k] = [a + b for a, b in zip(chosen[k], amounts(option), strict=True)]
    for program in programs:
        assert program.fabric is not None
        for die, used in zip(program.fabric.dies, die_use(program), strict=True):
            if (program.name, die.name) not in names:
                continue
            k = names[(program.name, die.name)]
            for r, t in enumerate(TYPES):
                own = getattr(used, t) + p.budgets[k][r] - getattr(die, t) - chosen[k][r]
                held[k][r] = max(held[k][r], own)
    short: set[int] = set()
    for x in over:
        k = names[(x.device, x.die)]
        if x.what == SLL_WIRES:
            p.wires[k] = max(0, p.wires[k] - 2 * (x.need - x.have))
        elif turn:  # another placement joins others: what is short anywhere is kept back everywhere
            r = TYPES.index(x.what.lower())
            held[k][r] += ceil_div(turn * (x.need - x.have), 2)
            short.add(r)
    for k, budget in enumerate(p.budgets):
        for r in short:
            held[k][r] += budget[r] * turn // SHARES


def _assembled(
    whole: tuple[Graph, Cuts],
    graph: Graph,
    cluster: Cluster,
    options: PartitionOptions,
    found: Placement,
    assembly: Assembly,
    depths: Depths,
    programs: list[DeviceProgram],
    work: list[Work],
    pace_ps: int,
    proved: Bound,
    any_ps: int | None,
) -> Plan:
    """The plan of a netlist; graph: that of `whole` with its cuts."""
    base, cuts = whole
    seats = found.seats
    use = {k: v for p in programs for k, v in engine_use(p).items()}
    ranks = {n.device: n.rank for n in assembly.nets}
    engines: list[EnginePlan] = []
    names: dict[str, str] = {}
    parts: dict[str, list[SlicePlan]] = {}
    order = {step.name: k for k, step in enumerate(graph.steps)}
    for copy, node in [(c, n) for c in range(assembly.copies) for n in graph.nodes]:
        own = own_name(node.name, copy)
        seat = seats[own]
        name = engine_id(cluster, graph, node.name, seat.ref, copy)
        names[name] = layer_of(node)
        r = use[name] + assembly.excess.get(own, Resources())
        die = cluster.die(seat.ref)
        parameters = {
            "clock_khz": die.clock_khz,
            "variant": VARIANTS[seat.fold.variant],
            "memory": MEMORIES[seat.fold.memory],
            "fifo_depths": depths.words.get(own, []),
            "fifo_memories": [MEMORIES[m] for m in depths.memory.get(own, [])],
        }
        engines.append(
            EnginePlan(
                name, ranks[seat.ref.device], cluster.devices[seat.ref.device].name, die.name, "streaming",
                {"pe": seat.fold.pe, "simd": seat.fold.simd}, parameters,
                ResourcePlan(r.lut, r.ff, r.bram18, r.uram, r.dsp), copy,
            )
        )  # fmt: skip
        cycles = price(graph, node, seat.fold, fabric_dies(cluster, seat.ref.device)[0].family).cycles
        role, box, (low, high) = role_of(graph, node)
        memory, at = MEMORIES[seat.fold.memory], order[node.name]
        parts.setdefault(layer_of(node), []).append(
            SlicePlan(task_of(node, copy), name, role, box, low, high, 0, at, memory, {}, cycles, copy)
        )
    cut = dict(cuts)
    layers = [LayerPlan(n.name, n.op, cut.get(n.name, WHOLE).name, tuple(parts[n.name])) for n in base.nodes]
    hosts = tuple(
        HostSegmentPlan(s.name, s.nodes, s.reason, 0, order[s.name], host_time_ns(s.name, options))
        for s in graph.steps
        if isinstance(s, HostSegment)
    )
    predicted = predict(programs, cluster, engines, names, work, assembly.copies)
    told = f"{len(cuts)} layers cut as --force-split asks, the others whole" if cuts else "layers whole"
    predicted["pace_ps"] = pace_ps
    predicted["fifo_interval_ps"] = depths.interval_ps
    return Plan(
        schema=SCHEMA,
        model={"name": graph.name},
        cluster={"spec": cluster.name, "topology": cluster.topology, "devices": [d.name for d in cluster.devices]},
        options=options.as_json(),
        solver=_solver(proved, predicted, cluster, options, work, assembly.copies, any_ps, told),
        engines=tuple(engines),
        layers=tuple(layers),
        channels=tuple(channels(graph, cluster, assembly, seats)),
        host_segments=hosts,
        predicted=predicted,
        replicas=assembly.copies,
        fallbacks=(*graph.fallbacks, *notes_of(base, cuts, options)),
    )


def _solver(
    proved: Bound,
    predicted: dict[str, object],
    cluster: Cluster,
    options: PartitionOptions,
    work: list[Work],
    copies: int,
    any_ps: int | None,
    layers: str,
) -> SolverPlan:
    ref_khz = max(d.clock_khz for dev in cluster.devices for d in dev.board.dies)
    slowest_ps = max(cycle_ps(d.clock_khz) for dev in cluster.devices for d in dev.board.dies)
    objective = int(str(predicted["interval_cycles"]))
    host = sum(w.time_ps for w in work)
    least = ceil_div(proved.interval_ps, copies)
    by = proved.proved_by
    if any_ps is not None and any_ps < least:
        least, by = any_ps, f"prices of all dies as one, each number of copies up to {MOST_COPIES}"
    by_host = bool(work) and least < host + slowest_ps  # the search counts whole cycles
    bound = min(objective, ps_cycles(host if by_host else least, ref_khz))
    by = "the host's own time a frame" if by_host else by
    if options.interval and not by_host and least <= options.interval * slowest_ps:
        by = "--interval: no shorter one was looked for"
    status = "OPTIMAL" if objective <= bound else "FEASIBLE"
    gap = round((objective - bound) / objective, 6) if objective else 0.0
    notes = (f"{options.workers} workers: the plan may differ from run to run",) if options.workers > 1 else ()
    if copies > 1:
        notes = (f"{copies} copies of the net: frame f goes to copy f mod {copies}", *notes)
    scope: tuple[str, ...] = ("every legal PE, SIMD, variant and memory style of each layer",)
    if options.folds:
        scope = (f"{scope[0]} but {len(options.folds)}, whose folds were given",)
    if any_ps is not None:
        told = f"{layers}, any number of copies up to {MOST_COPIES}, frames dealt out in turn"
    else:
        told = f"{layers}, " + (
            "one copy of each" if copies == 1 else f"{copies} copies of each, frames dealt out in turn"
        )
    scope = (*scope, "every die that the anchors allow", told, SHORTEST_FIFOS)
    return SolverPlan(status, objective, bound, gap, by, scope, options.seed, options.workers, notes)
