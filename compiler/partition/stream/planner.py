"""The streaming partitioner on one page: graph + cluster + options -> Plan.

Folds and dies from `place`, the netlist from `compiler.ops.stream.assemble`, FIFO depths from its timing; a netlist
that with all its FIFOs and converters is over a die's budget goes back with more held back for them. One that fits has
its layers made quicker (`quicken`) and is told as a plan (`told`).
"""

from __future__ import annotations

from dataclasses import replace
from itertools import islice

from compiler.ir.graph import Graph
from compiler.isa.stream.network import Work, cycle_ps
from compiler.ops.stream.assemble import assemble
from compiler.ops.stream.measure import pace_ps
from compiler.ops.stream.netlists import Seat
from compiler.ops.stream.programs import programs_of
from compiler.ops.stream.sliced import Cuts, expand
from compiler.partition.infeasible import check_limits, no_layer
from compiler.partition.options import PartitionOptions, host_time_ns
from compiler.partition.prediction.predict import number
from compiler.partition.stream.copies import MOST_COPIES, Arrangement, most_first, rates
from compiler.partition.stream.depths import derive
from compiler.partition.stream.external import BY_BANKS, EXTERNAL, Order, external_told, reading_ps, styles_told
from compiler.partition.stream.forced import forced
from compiler.partition.stream.joined import PROVED_BY, raised
from compiler.partition.stream.joint import Bound
from compiler.partition.stream.over import Over, hold_back, over_budget
from compiler.partition.stream.place import TYPES, Problem, does_not_fit, make_problem
from compiler.partition.stream.quicken import Quickening, limits
from compiler.partition.stream.slicing import homes, make_menu
from compiler.partition.stream.told import Built, solver_of_plan, told
from compiler.plan.model import Plan
from cost_models.primitives import PS_PER_SECOND
from device_db.errors import FvcError
from device_db.model import Cluster

SEARCHES = 4  # with cuts
WORTH_CUTTING = 0.03  # the gap of a plan of whole layers that is left as it is
BY_MENU = "prices on the merged die, cuts included"
OFFERED = "layers whole, or cut as the notes name"
ROUNDS = 9  # of holding more back where a die came out over its budget
TURNS = 6  # of choosing how many layers may have their weights in DRAM
TRIES = 3  # numbers of copies for which --replicas auto makes plans
SLOWER_PERMILLE = (1500, 2250, 3400)  # of the least interval: tried where the latency needs more room
WORTH_PERMILLE = 980  # another number is tried where its bound is below this share of the interval reached


def validate(options: PartitionOptions) -> None:
    """Raises FVC201 for what streaming engines do not do."""

    def bad(what: str, help: str) -> None:
        raise FvcError("FVC201", f"--style streaming: {what}", help=(help,), exit_code=2)

    if options.replicas > MOST_COPIES:
        bad(f"{options.replicas} copies of the net", f"use --replicas {MOST_COPIES} or fewer")
    if options.cores is not None:
        bad("--cores counts tiled engines", "leave --cores out")
    if any(f not in ("Pm", "Pn") for f, n in options.force_split if n > 1):
        bad("layers are sliced by output channels (Pm) and input channels (Pn)", "use --force-split Pm=2 or Pn=2")


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

    plan = _anywhere(graph, cluster, options, devices)
    check_limits(plan, graph, cluster, options, search=False)
    findings = check_plan(plan, graph, cluster)
    if findings:
        raise refused(findings, plan, graph, cluster, options, search=False)
    return plan


def _anywhere(graph: Graph, cluster: Cluster, options: PartitionOptions, devices: int) -> Plan:
    """The best plan with weights on the chip, unless they are to be in DRAM; where there is none, one with weights in
    DRAM, too. Layers then are whole, or cut as asked: each has a bank for itself in the search, its parts would have
    several."""
    if options.memory == EXTERNAL:
        return _best(graph, forced(graph, options), cluster, options, devices)
    try:
        return _searched(graph, cluster, options, devices)
    except FvcError as error:
        if error.code != "FVC203" or options.memory != "auto":
            raise
        plan = _outside(graph, cluster, options, devices)
        if plan is None:
            raise error from None
        return external_told(plan)


def _outside(graph: Graph, cluster: Cluster, options: PartitionOptions, devices: int) -> Plan | None:
    """The best plan of those with few weights in DRAM and with as many as the banks read in its time."""
    cuts = forced(graph, options)
    order = Order(graph, cluster, devices)
    best: Plan | None = None
    count = order.fewest(lambda layers: make_problem(graph, cluster, options, devices, external=layers))
    for turn in range(TURNS):
        try:
            plan = _best(graph, cuts, cluster, options, devices, order.first(count))
        except FvcError as error:
            if error.exit_code != 1:
                raise
            if best is not None or count >= len(order.layers):
                break
            count = min(len(order.layers), count + 2**turn)
            continue
        if best is not None and not _better(plan, best, options):
            break
        best = plan
        waits = plan.predicted["limiting"]["kind"] == "bank" and count < len(order.layers)  # others may read less
        more = max(order.read_in(int(plan.predicted["pace_ps"]) // plan.replicas), count + waits)
        if more == count:
            break
        count = more
    return best


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
        if best is None or _better(plan, best, options):
            best, taken = plan, cuts

    def known_ps() -> int | None:
        return None if best is None else int(best.predicted["pace_ps"])

    if not menu.must():
        attempt(())
    # The gap of a latency says nothing of what cuts would give.
    if best is None or (options.objective != "latency" and best.solver.gap > WORTH_CUTTING):
        floor = max(sum(w.time_ps for w in work), (options.interval or 0) * menu.whole.cycle(), 1)
        for cuts in islice(menu.proposals(floor, known_ps), SEARCHES):
            attempt(cuts)
        if best is not None and menu.tried:
            proved_ps = menu.bound_ps(floor)
            assert proved_ps is not None
            solver = solver_of_plan(
                base, Bound(proved_ps, BY_MENU), best.predicted, cluster, options, work, 1, None, OFFERED
            )
            best = replace(best, solver=replace(solver, notes=(*solver.notes, *menu.notes(taken))))
            best.predicted["replicas_auto"] = {
                "replicas": 1,
                "fps": best.predicted["fps"],
            }  # copies are of whole layers
    if best is None:
        raise error or does_not_fit(menu.whole)
    return best


def _best(
    base: Graph,
    cuts: Cuts,
    cluster: Cluster,
    options: PartitionOptions,
    devices: int,
    external: frozenset[str] = frozenset(),
) -> Plan:
    """The plan with the number of copies asked for, or with as many as give the most frames a second: the numbers are
    tried in the order of what their bounds allow, while one may still be better. Says what `auto` would give.

    external: layers whose weights may stand in DRAM."""
    graph = expand(base, cuts)
    one = make_problem(graph, cluster, options, devices, home=homes(base, cuts), external=external)
    host_ps = sum(w.time_ps for w in work_of(graph, options))
    offered = rates(one, host_ps)
    ranked = most_first(offered)
    if options.objective == "latency":  # copies make no frame quicker: the fewest that keep --target-fps
        ranked.sort(key=lambda r: r.copies)
    bounds = {r.copies: r.frame_ps for r in offered}
    if options.replicas:
        plan = _plan((base, cuts), cluster, options, devices, options.replicas, None, external)
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
        if best is not None and options.objective == "latency":
            if best.predicted["fps"] >= (options.target_fps or 0):
                break
        elif best is not None and (tried >= TRIES or r.frame_ps * 1000 >= reached * WORTH_PERMILLE):
            break
        if r.copies >= least:  # what joins layers is in no bound: where so many did not fit, more will not
            continue
        try:
            plan = _plan((base, cuts), cluster, options, devices, r.copies, ranked[0].frame_ps, external)
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
    """Copies are for the frames a second: of a plan for the latency nothing is told."""
    if plan.options["objective"] == "latency":
        auto, fps = plan.replicas, float(plan.predicted["fps"])
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
    external: frozenset[str],
) -> Plan:
    """The plan of so many copies. whole: the graph with the layers that are cut. any_ps: where the number of copies was
    free, what bounds the interval with any number.

    Where the latency comes first, or is over its limit, longer intervals are tried as well: they leave more room."""
    job = _Job(whole, cluster, options, devices, copies, any_ps, external)
    best = job.plan(None)
    pace_ps = int(best.predicted["pace_ps"])
    for permille in SLOWER_PERMILLE:
        if options.objective != "latency" and _in_time(best, options):
            break
        floor_ps = pace_ps * permille // 1000
        if options.target_fps is not None and floor_ps * options.target_fps > copies * PS_PER_SECOND:
            break
        try:
            other = job.plan(floor_ps)
        except FvcError as error:
            if error.exit_code != 1:
                raise
            break
        slow = options.target_fps is not None and other.predicted["fps"] < options.target_fps
        if not slow and other.predicted["latency_ns"] < best.predicted["latency_ns"]:
            best = other
    return best


def _in_time(plan: Plan, options: PartitionOptions) -> bool:
    return options.max_latency_ms is None or float(plan.predicted["latency_ms"]) <= options.max_latency_ms


def _better(plan: Plan, best: Plan, options: PartitionOptions) -> bool:
    """Whether a plan keeps the latency's limit where the best one does not, or is the quicker one of two that do."""
    first = "latency_ns" if options.objective == "latency" else "interval_ns"
    a, b = ((not _in_time(x, options), x.predicted[first]) for x in (plan, best))
    return bool(a < b)


class _Job:
    """Plans of one number of copies, at the least interval and at longer ones; what is proved of the first holds."""

    def __init__(
        self,
        whole: tuple[Graph, Cuts],
        cluster: Cluster,
        options: PartitionOptions,
        devices: int,
        copies: int,
        any_ps: int | None,
        external: frozenset[str],
    ) -> None:
        self.whole, self.cluster, self.options = whole, cluster, options
        self.devices, self.copies, self.any_ps, self.external = devices, copies, any_ps, external
        self.graph = expand(*whole)
        self.work = work_of(self.graph, options)
        self.host_ps = copies * sum(w.time_ps for w in self.work)
        slowest = max(cycle_ps(d.clock_khz) for dev in cluster.devices[:devices] for d in dev.board.dies)
        self.reading_ps = copies * reading_ps(self.graph, cluster, options, devices)
        self.floor_ps = max(self.host_ps, copies * (options.interval or 0) * slowest, self.reading_ps, 1)
        self.proved: Bound | None = None

    def plan(self, floor_ps: int | None) -> Plan:
        """The plan of the least interval found; floor_ps: no shorter one is looked for. Raises FVC203."""
        graph, cluster, options = self.graph, self.cluster, self.options
        floor = max(self.floor_ps, floor_ps or 0)
        home = homes(*self.whole)
        seats = Arrangement(graph, cluster, options, self.devices, self.copies, floor, home, self.external)
        problem = seats.problem
        if floor_ps is None:
            found, self.proved = seats.first()
        else:
            found = seats.again(problem.budgets)
        if self.proved is None or found is None:
            raise does_not_fit(problem)
        held = [[0] * len(TYPES) for _ in problem.refs]
        over: list[Over] = []
        for turn in range(ROUNDS):
            built = self._built(found.seats, found.interval_ps)
            over = over_budget(cluster, built.programs)
            if not over:
                if floor_ps is None:
                    self.proved = _sharper(problem, self.proved, built.pace_ps)
                    if self.reading_ps and self.proved.interval_ps <= self.reading_ps:
                        self.proved = Bound(self.reading_ps, BY_BANKS)
                return self._quick(problem, built)
            hold_back(problem, found.seats, built.programs, over, held, turn)
            budgets = [
                [have - less for have, less in zip(b, h, strict=True)]
                for b, h in zip(problem.budgets, held, strict=True)
            ]
            found = seats.again(budgets)
            if found is None:
                break
        worst = over[0]
        fewer = ("fewer --replicas",) if self.copies > 1 else ()
        raise FvcError(
            "FVC203",
            f"{worst.what} over budget on {worst.device}/{worst.die}: {worst.need:,} needed, {worst.have:,} usable",
            where=("constraint: resources",),
            help=(*fewer, "add a device", "--interval CYCLES gives up speed for area"),
            exit_code=1,
        )

    def _built(self, seats: dict[str, Seat], interval_ps: int) -> Built:
        """The netlists of seats with their FIFOs."""
        graph, cluster = self.graph, self.cluster
        assembly = assemble(graph, cluster, seats, self.options.measured)
        bare = programs_of(graph, cluster, assembly, interval_ps, {}, {})
        pace = max(pace_ps(bare), self.host_ps)
        depths = derive(graph, cluster, assembly, pace, self.work)
        programs = programs_of(graph, cluster, assembly, pace, depths.words, depths.memory)
        return Built(seats, assembly, depths, programs, pace)

    def _quick(self, problem: Problem, built: Built) -> Plan:
        """The plan of a netlist that fits, its layers made quicker: as far as leaves the clock alone; with all that is
        left where the latency comes first or is over its limit. --interval asks for area, so without such a wish none
        is spent."""
        options = self.options
        first = options.objective == "latency"
        plan: Plan | None = None
        if options.interval and not first:
            plan = self._told(built)
            if _in_time(plan, options):
                return plan
        for all_of_it in (True,) if first else (False, True):
            plan = self._told(self._quicker(problem, built, all_of_it))
            if _in_time(plan, options):
                break
        assert plan is not None
        return plan

    def _quicker(self, problem: Problem, built: Built, all_of_it: bool) -> Built:
        """The netlist of the quickest seats found that fit with their FIFOs."""
        search = Quickening(self.graph, self.cluster, self.options, problem, self.work, built.pace_ps)
        most = limits(problem, self.cluster, built.programs, all_of_it)
        steps = search.steps(built.seats, built.programs, most)
        for step in steps[:0:-1][:TRIES]:
            other = self._built(step.seats, built.pace_ps)
            slow = other.pace_ps > built.pace_ps or other.depths.interval_ps > built.depths.interval_ps
            unproved = built.depths.steady and not other.depths.steady
            if not slow and not unproved and not over_budget(self.cluster, other.programs):
                return other
        return built

    def _told(self, built: Built) -> Plan:
        assert self.proved is not None
        styles = styles_told(self.external, self.options)
        return told(
            self.whole, self.graph, self.cluster, self.options, built, self.work, self.proved, self.any_ps, styles
        )


def _sharper(p: Problem, proved: Bound, pace_ps: int) -> Bound:
    """The bound where the plan does not meet it: with what joins layers."""
    if pace_ps <= proved.interval_ps or p.together:
        return proved
    higher = raised(p, proved.interval_ps, pace_ps)
    return Bound(higher, PROVED_BY) if higher > proved.interval_ps else proved
