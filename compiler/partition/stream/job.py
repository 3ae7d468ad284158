"""The plan of one number of copies: folds and dies, a netlist with all its FIFOs, what it goes over, quicker layers.

Folds and dies come from `joint`, the netlist from `compiler.ops.stream.assemble`, FIFO depths from its timing; one that
with all its FIFOs and converters is over a die's budget goes back with more held back for them. One that fits has its
layers made quicker (`quicken`) and is told as a plan (`told`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from compiler.ir.graph import Graph
from compiler.isa.stream.network import Work, cycle_ps
from compiler.ops.stream.assemble import assemble
from compiler.ops.stream.measure import pace_ps
from compiler.ops.stream.netlists import Seat
from compiler.ops.stream.programs import programs_of
from compiler.ops.stream.sliced import Cuts, expand
from compiler.partition.options import PartitionOptions, host_time_ns
from compiler.partition.stream.copies import Arrangement
from compiler.partition.stream.depths import derive, shortest
from compiler.partition.stream.external import BY_BANKS, BY_READING, read_at_least, reading_ps, styles_told
from compiler.partition.stream.joined import PROVED_BY, raised
from compiler.partition.stream.joint import Bound
from compiler.partition.stream.over import Over, hold_back, left, over_budget, with_deep_fifos
from compiler.partition.stream.problem import TYPES, Problem
from compiler.partition.stream.quicken import Bare, Quickening, limits
from compiler.partition.stream.reading import rate_of
from compiler.partition.stream.refusal import does_not_fit, no_quicker, still_over
from compiler.partition.stream.slicing import homes
from compiler.partition.stream.told import Built, told
from compiler.plan.model import Plan
from cost_models.primitives import PS_PER_SECOND
from device_db.errors import FvcError
from device_db.model import Cluster

ROUNDS = 9  # of holding more back where a die came out over its budget
NETLISTS = 3  # with quicker layers, of which the quickest that fits is taken
SLOWER_PERMILLE = (1500, 2250, 3400)  # of the least interval: tried where the latency needs more room


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


def in_time(plan: Plan, options: PartitionOptions) -> bool:
    return options.max_latency_ms is None or float(plan.predicted["latency_ms"]) <= options.max_latency_ms


def better(plan: Plan, best: Plan, options: PartitionOptions) -> bool:
    """Whether a plan keeps the latency's limit where the best one does not, or is the quicker one of two that do."""
    first = "latency_ns" if options.objective == "latency" else "interval_ns"
    a, b = ((not in_time(x, options), x.predicted[first]) for x in (plan, best))
    return bool(a < b)


@dataclass(slots=True)
class Job:
    """Plans of one number of copies, at the least interval and at longer ones; what is proved of the first holds.

    whole: the graph with the layers that are cut. any_ps: where the number of copies was free, what bounds the
    interval with any number. external: layers whose weights may stand in DRAM. beat_ps: the interval of a plan that is
    there; where none can be shorter by a cycle, none is made."""

    whole: tuple[Graph, Cuts]
    cluster: Cluster
    options: PartitionOptions
    devices: int
    copies: int
    any_ps: int | None
    external: frozenset[str]
    beat_ps: int | None = None
    graph: Graph = field(init=False)
    work: list[Work] = field(init=False)
    host_ps: int = field(init=False)
    reading_ps: int = field(init=False)
    floor_ps: int = field(init=False)
    proved: Bound | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        cluster, options, copies = self.cluster, self.options, self.copies
        self.graph = expand(*self.whole)
        self.work = work_of(self.graph, options)
        self.host_ps = copies * sum(w.time_ps for w in self.work)
        slowest = max(cycle_ps(d.clock_khz) for dev in cluster.devices[: self.devices] for d in dev.board.dies)
        self.reading_ps = copies * reading_ps(self.graph, cluster, options, self.devices)
        self.floor_ps = max(self.host_ps, copies * (options.interval or 0) * slowest, self.reading_ps, 1)

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
        if self.beat_ps is not None and self.proved.interval_ps >= self.beat_ps:
            raise no_quicker(self.proved.interval_ps, self.beat_ps)
        held = [[0] * len(TYPES) for _ in problem.refs]
        bare = problem.options
        over: list[Over] = []
        for turn in range(ROUNDS):
            built = self._built(found.seats, found.interval_ps)
            over = over_budget(cluster, built.programs)
            if not over:
                problem.options = bare
                if floor_ps is None:
                    self.proved = self._sharper(problem, self.proved, built.pace_ps)
                return self._quick(problem, built)
            if seats.whole:
                problem.options = with_deep_fifos(problem, bare, built.assembly, built.depths)
            hold_back(problem, found.seats, built.programs, over, held, turn)
            found = seats.again(left(problem, held))
            if found is None:
                break
        raise still_over(over[0], self.copies)

    def _sharper(self, p: Problem, proved: Bound, pace_ps: int) -> Bound:
        """The bound where the plan does not meet it: with what joins layers, with what is read from DRAM."""
        out = proved
        if pace_ps > out.interval_ps and not p.together:
            higher = raised(p, out.interval_ps, pace_ps)
            out = Bound(higher, PROVED_BY) if higher > out.interval_ps else out
        if self.reading_ps and out.interval_ps <= self.reading_ps:
            out = Bound(self.reading_ps, BY_BANKS)
        if pace_ps > out.interval_ps:
            higher = read_at_least(p, rate_of(self.cluster, self.devices), out.interval_ps, pace_ps)
            out = Bound(higher, BY_READING) if higher > out.interval_ps else out
        return out

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
            if in_time(plan, options):
                return plan
        for all_of_it in (True,) if first else (False, True):
            plan = self._told(self._quicker(problem, built, all_of_it))
            if in_time(plan, options):
                break
        assert plan is not None
        return plan

    def _quicker(self, problem: Problem, built: Built, all_of_it: bool) -> Built:
        """The netlist of the quickest seats found that fit with their FIFOs."""

        def bare(seats: Mapping[str, Seat]) -> Bare:
            assembly = assemble(self.graph, self.cluster, seats, self.options.measured)
            return assembly, programs_of(self.graph, self.cluster, assembly, built.pace_ps, shortest(assembly), {})

        search = Quickening(self.cluster, problem, bare, self.work, built.pace_ps)
        most = limits(problem, self.cluster, built.programs, all_of_it)
        steps = search.steps(built.seats, built.programs, most)
        for step in steps[:0:-1][:NETLISTS]:
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


def plan_of(job: Job) -> Plan:
    """The plan of a job. Where the latency comes first, or is over its limit, longer intervals are tried as well: they
    leave more room."""
    options = job.options
    best = job.plan(None)
    pace_ps = int(best.predicted["pace_ps"])
    for permille in SLOWER_PERMILLE:
        if options.objective != "latency" and in_time(best, options):
            break
        floor_ps = pace_ps * permille // 1000
        if options.target_fps is not None and floor_ps * options.target_fps > job.copies * PS_PER_SECOND:
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
