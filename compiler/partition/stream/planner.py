"""The streaming partitioner on one page: graph + cluster + options -> Plan.

Which devices, where weights may stand, which layers are cut, how many copies: each is tried as far as its bound is
better than what was found. `job` makes the plan of each.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import islice

from compiler.ir.graph import Graph
from compiler.ops.stream.sliced import Cuts, expand
from compiler.partition.infeasible import check_limits, no_layer
from compiler.partition.min_devices import on_devices
from compiler.partition.options import PartitionOptions
from compiler.partition.prediction.predict import number
from compiler.partition.stream.copies import MOST_COPIES, most_first, rates
from compiler.partition.stream.external import EXTERNAL, Order, external_told, styles_told
from compiler.partition.stream.forced import forced
from compiler.partition.stream.job import Job, better, in_time, plan_of, work_of
from compiler.partition.stream.joint import Bound
from compiler.partition.stream.problem import make_problem
from compiler.partition.stream.refusal import does_not_fit
from compiler.partition.stream.slicing import homes, make_menu
from compiler.partition.stream.told import solver_of_plan
from compiler.plan.model import Plan
from device_db.errors import FvcError
from device_db.model import Cluster

SEARCHES = 4  # with cuts
WORTH_CUTTING = 0.03  # the gap of a plan of whole layers that is left as it is
BY_MENU = "prices on the merged die, cuts included"
BY_MENU_AND_BANKS = "prices on the merged die, cuts and reading through all memory banks included"
OFFERED = "layers whole, or cut as the notes name"
TURNS = 6  # of choosing how many layers may have their weights in DRAM
TRIES = 3  # numbers of copies for which --replicas auto makes plans
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
    return on_devices(lambda count: _judged(graph, cluster, options, count), cluster, options)


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
    DRAM, too."""
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
    order = Order(graph, cluster, devices)
    best: Plan | None = None
    count = order.fewest(lambda layers: make_problem(graph, cluster, options, devices, external=layers))
    for turn in range(TURNS):
        try:
            plan = _searched(graph, cluster, options, devices, order.first(count))
        except FvcError as error:
            if error.exit_code != 1:
                raise
            if best is not None or count >= len(order.layers):
                break
            count = min(len(order.layers), count + 2**turn)
            continue
        if best is not None and not better(plan, best, options):
            break
        best = plan
        waits = plan.predicted["limiting"]["kind"] == "bank" and count < len(order.layers)  # others may read less
        more = max(order.read_in(int(plan.predicted["pace_ps"]) // plan.replicas), count + waits)
        if more == count:
            break
        count = more
    return best


def _searched(
    base: Graph, cluster: Cluster, options: PartitionOptions, devices: int, external: frozenset[str] = frozenset()
) -> Plan:
    """The best plan of whole layers, or with cuts where they are needed or may help; then the bound is over all cuts
    that were on offer. Several copies of the net are of whole layers, or cut as asked.

    external: layers whose weights may stand in DRAM. A part reads from a bank of its own, so layers whose reading holds
    up all others are cut before anything is placed whole."""
    if options.force_split or options.replicas != 1:
        return _best(base, forced(base, options), cluster, options, devices, external)
    menu = make_menu(base, cluster, options, devices, external)
    work = work_of(base, options)
    floor = max(sum(w.time_ps for w in work), (options.interval or 0) * menu.whole.cycle(), 1)
    best: Plan | None = None
    taken: Cuts = ()
    error: FvcError | None = None

    def attempt(cuts: Cuts) -> None:
        nonlocal best, taken, error
        try:
            first = best is not None and options.objective != "latency" and in_time(best, options)
            beat_ps = known_ps(cuts) if first else None
            plan = _best(base, cuts, cluster, options, devices, external, beat_ps)
        except FvcError as refusal:
            if refusal.exit_code != 1:
                raise
            error = error or refusal
            return
        if best is None or better(plan, best, options) or (not cuts and not better(best, plan, options)):
            best, taken = plan, cuts

    def known_ps(cuts: Cuts | None = None) -> int | None:
        """The interval reached; layers whole are as good at the same one."""
        return None if best is None else int(best.predicted["pace_ps"]) + (cuts == ())

    must = menu.must()
    later = not must and bool(external) and menu.worth_cutting(floor)
    whole_ps = menu.bound_ps(floor) if later else None
    if not must and not later:
        attempt(())
    # The gap of a latency says nothing of what cuts would give.
    if best is None or (options.objective != "latency" and best.solver.gap > WORTH_CUTTING):
        for cuts in islice(menu.proposals(floor, known_ps), SEARCHES):
            attempt(cuts)
        if later and (best is None or (whole_ps is not None and whole_ps <= best.predicted["pace_ps"])):
            attempt(())
        if best is not None and menu.tried:
            proved_ps = menu.bound_ps(floor)
            assert proved_ps is not None
            by = BY_MENU_AND_BANKS if external else BY_MENU
            styles = styles_told(external, options)
            solver = solver_of_plan(
                base, Bound(proved_ps, by), best.predicted, cluster, options, work, 1, None, OFFERED, styles
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
    beat_ps: int | None = None,
) -> Plan:
    """The plan with the number of copies asked for, or with as many as give the most frames a second: the numbers are
    tried in the order of what their bounds allow, while one may still be better. Says what `auto` would give.

    external: layers whose weights may stand in DRAM. beat_ps: see `Job`, of the number of copies asked for."""
    graph = expand(base, cuts)
    one = make_problem(graph, cluster, options, devices, home=homes(base, cuts), external=external)
    host_ps = sum(w.time_ps for w in work_of(graph, options))
    offered = rates(one, host_ps)
    ranked = most_first(offered)
    if options.objective == "latency":  # copies make no frame quicker: the fewest that keep --target-fps
        ranked.sort(key=lambda r: r.copies)
    bounds = {r.copies: r.frame_ps for r in offered}
    if options.replicas:
        plan = plan_of(Job((base, cuts), cluster, options, devices, options.replicas, None, external, beat_ps))
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
            plan = plan_of(Job((base, cuts), cluster, options, devices, r.copies, ranked[0].frame_ps, external))
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
