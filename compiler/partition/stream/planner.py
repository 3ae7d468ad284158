"""The streaming partitioner on one page: graph + cluster + options -> Plan.

Folds and dies from `place`, the netlist from `compiler.ops.stream.assemble`, FIFO depths from its timing, figures; a
netlist that with all its FIFOs and converters is over a die's budget goes back with more held back for them.
"""

from __future__ import annotations

from compiler.ir.graph import Graph, HostSegment
from compiler.isa.program import DeviceProgram
from compiler.isa.stream.network import Work
from compiler.isa.stream.table import MEMORIES, VARIANTS
from compiler.ops.boxes import whole_box
from compiler.ops.stream.assemble import (
    Assembly,
    assemble,
    engine_id,
    fabric_dies,
    programs_of,
)
from compiler.ops.stream.lower import price
from compiler.ops.stream.measure import busy_ps, channels, crossing_wires, die_use, engine_use, link_ps
from compiler.ops.stream.parts import view
from compiler.partition.infeasible import check_limits, no_layer
from compiler.partition.options import PartitionOptions, host_time_ns
from compiler.partition.stream.depths import Depths, derive
from compiler.partition.stream.figures import predict
from compiler.partition.stream.place import TYPES, Placement, make_problem, place
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

ROUNDS = 6  # of holding more back where a die came out over its budget
MARGIN_PERCENT = 4


def validate(options: PartitionOptions) -> None:
    """Raises FVC201 for what streaming engines do not do."""

    def bad(what: str, help: str) -> None:
        raise FvcError("FVC201", f"--style streaming: {what}", help=(help,), exit_code=2)

    if options.objective != "throughput":
        bad("only the throughput objective is there", "use --objective throughput, or --style tiled")
    if options.replicas != 1:
        bad("one copy of the pipeline only", "use --replicas 1, or --style tiled")
    if options.cores is not None:
        bad("--cores counts tiled engines", "leave --cores out")
    if options.force_split:
        bad("layers are not sliced", "leave --force-split out, or use --style tiled")
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

    plan = _plan(graph, cluster, options, devices)
    check_limits(plan, graph, cluster, options, search=False)
    findings = check_plan(plan, graph, cluster)
    if findings:
        raise refused(findings, plan, graph, cluster, options, search=False)
    return plan


def _plan(graph: Graph, cluster: Cluster, options: PartitionOptions, devices: int) -> Plan:
    work = work_of(graph, options)
    margin: dict[int, int] = {}
    over: list[tuple[str, str, int, int]] = []
    for _ in range(ROUNDS):
        problem = make_problem(graph, cluster, options, devices, margin)
        floor = max(sum(w.time_ps for w in work), (options.interval or 0) * problem.cycle(), 1)
        found = place(problem, floor)
        assembly = assemble(graph, cluster, found.seats, options.measured)
        bare = programs_of(graph, cluster, assembly, found.interval_ps, {}, {})
        pace = max(*busy_ps(bare).values(), *(ps for _, ps in link_ps(bare).values()), sum(w.time_ps for w in work))
        depths = derive(graph, cluster, assembly, pace, work)
        programs = programs_of(graph, cluster, assembly, pace, depths.words, depths.memory)
        over = _over(cluster, programs)
        if not over:
            return _assembled(graph, cluster, options, found, assembly, depths, programs, work, pace)
        for die, _, need, have in over:
            k = next(i for i, r in enumerate(problem.refs) if cluster.die_name(r) == die)
            margin[k] = min(90, margin.get(k, MARGIN_PERCENT) + 2 + ceil_div(100 * (need - have), max(1, have)))
    die, what, need, have = over[0]
    raise FvcError(
        "FVC203",
        f"{what} over budget on {die}: {need:,} needed, {have:,} usable",
        where=("constraint: resources",),
        help=("add a device", "--interval CYCLES gives up speed for area"),
        exit_code=1,
    )


def _over(cluster: Cluster, programs: list[DeviceProgram]) -> list[tuple[str, str, int, int]]:
    """(die, resource, needed, usable) of every budget that the netlists with their FIFOs do not keep."""
    out = []
    for p in programs:
        assert p.fabric is not None
        used = die_use(p)
        for k, die in enumerate(p.fabric.dies):
            for t in TYPES:
                if getattr(used[k], t) > getattr(die, t):
                    out.append((f"{p.name}/{die.name}", t.upper(), getattr(used[k], t), getattr(die, t)))
    for name, wires in crossing_wires(programs).items():
        device, pair = name.split("/")
        dies = next(p.fabric.dies for p in programs if p.name == device and p.fabric)
        low = min(next(k for k, d in enumerate(dies) if d.name == x) for x in pair.split(">"))
        if wires > dies[low].wires:
            out.append((f"{device}/{dies[low].name}", "SLL wires", wires, dies[low].wires))
    return out


def _assembled(
    graph: Graph,
    cluster: Cluster,
    options: PartitionOptions,
    found: Placement,
    assembly: Assembly,
    depths: Depths,
    programs: list[DeviceProgram],
    work: list[Work],
    pace_ps: int,
) -> Plan:
    """The plan of a netlist."""
    seats = found.seats
    use = {k: v for p in programs for k, v in engine_use(p).items()}
    ranks = {n.device: n.rank for n in assembly.nets}
    engines, layers, names = [], [], {}
    order = {step.name: k for k, step in enumerate(graph.steps)}
    for node in graph.nodes:
        seat = seats[node.name]
        name = engine_id(cluster, graph, node.name, seat.ref)
        names[name] = node.name
        r = use[name] + assembly.excess.get(node.name, Resources())
        die = cluster.die(seat.ref)
        parameters = {
            "clock_khz": die.clock_khz,
            "variant": VARIANTS[seat.fold.variant],
            "memory": MEMORIES[seat.fold.memory],
            "fifo_depths": depths.words.get(node.name, []),
            "fifo_memories": [MEMORIES[m] for m in depths.memory.get(node.name, [])],
        }
        engines.append(
            EnginePlan(
                name, ranks[seat.ref.device], cluster.devices[seat.ref.device].name, die.name, "streaming",
                {"pe": seat.fold.pe, "simd": seat.fold.simd}, parameters,
                ResourcePlan(r.lut, r.ff, r.bram18, r.uram, r.dsp),
            )
        )  # fmt: skip
        cycles = price(graph, node, seat.fold, fabric_dies(cluster, seat.ref.device)[0].family).cycles
        box = whole_box(view(graph, node.y))
        part = SlicePlan(
            f"{node.name}#0", name, "full", box, 0, 0, 0, order[node.name], MEMORIES[seat.fold.memory], {}, cycles
        )
        layers.append(LayerPlan(node.name, node.op, "whole", (part,)))
    hosts = tuple(
        HostSegmentPlan(s.name, s.nodes, s.reason, 0, order[s.name], host_time_ns(s.name, options))
        for s in graph.steps
        if isinstance(s, HostSegment)
    )
    predicted = predict(programs, cluster, engines, names, work)
    predicted["pace_ps"] = pace_ps
    predicted["fifo_interval_ps"] = depths.interval_ps
    return Plan(
        schema=SCHEMA,
        model={"name": graph.name},
        cluster={"spec": cluster.name, "topology": cluster.topology, "devices": [d.name for d in cluster.devices]},
        options=options.as_json(),
        solver=_solver(found, predicted, cluster, options, work),
        engines=tuple(engines),
        layers=tuple(layers),
        channels=tuple(channels(graph, cluster, assembly, seats)),
        host_segments=hosts,
        predicted=predicted,
        fallbacks=tuple(graph.fallbacks),
    )


def _solver(
    found: Placement, predicted: dict[str, object], cluster: Cluster, options: PartitionOptions, work: list[Work]
) -> SolverPlan:
    ref_khz = max(d.clock_khz for dev in cluster.devices for d in dev.board.dies)
    objective = int(str(predicted["interval_cycles"]))
    host = sum(w.time_ps for w in work)
    bound_ps = max(found.bound_ps, host)
    bound = min(objective, ps_cycles(bound_ps, ref_khz))
    proved = "the host's own time a frame" if host >= found.bound_ps and work else found.proved_by
    status = "OPTIMAL" if objective <= bound else "FEASIBLE"
    gap = round((objective - bound) / objective, 6) if objective else 0.0
    notes = (f"{options.workers} workers: the plan may differ from run to run",) if options.workers > 1 else ()
    return SolverPlan(status, objective, bound, gap, proved, found.scope, options.seed, options.workers, notes)
