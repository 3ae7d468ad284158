"""Placement for the least latency of one frame: slices over dies against the messages they cost.

Needs a Problem; guarantees an Allocation and a proven bound: no frame is quicker than the longest path through the
graph when every layer takes its shortest option over all engines at once and messages between engines are free.
"""

from __future__ import annotations

from compiler.ir.graph import Graph, HostSegment
from compiler.ops.boxes import box_elements, intersect
from compiler.partition.boxes import Key
from compiler.partition.options import PartitionOptions, host_time_ns
from compiler.partition.options_table import Option
from compiler.partition.problem import HOST_SLOT, Allocation, Problem, Share, ticks_of_bits
from compiler.partition.solve.contiguous import forced_slices, on_slots

WORK_PER_SECOND = 250_000  # messages and tasks timed that count as one second of the time limit
BREAKS = 8  # positions tried at which one family of slices gives way to another
RUNS = (2, 4, 8, 16)  # lengths of runs of layers that change together
ALTERNATIVES = 3  # allocations given, the best first

Reader = tuple[int, Key]


class Clock:
    """Makespan of one frame under an allocation: cores in order, messages after the last store of their producer and
    through the queues of both ends in order. A message is what its target needs of one piece: halos of row slices."""

    def __init__(self, problem: Problem, latency_ticks: dict[tuple[int, int], int]) -> None:
        self.p, self.latency = problem, latency_ticks
        self.work = 0  # tasks and messages timed so far
        self.inputs: dict[int, list[int]] = {x.index: [] for x in problem.table.layers}
        for f, flow in enumerate(problem.flows):
            for c in flow.consumers:
                self.inputs[c].append(f)
        self.rate: dict[tuple[int, int], int] = {}
        for pair, links in problem.route.items():
            self.rate[pair] = min((problem.links[k].bits_per_second for k in links), default=0)

    def makespan(self, allocation: Allocation) -> int:
        p = self.p
        free = [0] * p.slots
        sent, taken = [0] * p.slots, [0] * p.slots
        made: dict[int, list[tuple[int, int, Key]]] = {}  # layer -> (slot, end, what)
        readers: dict[tuple[int, int], list[Reader]] = {}  # (flow, slot)
        for x, shares in allocation.items():
            for s in shares:
                if s.option.role != "reduce":
                    for f in self.inputs[x]:
                        readers.setdefault((f, s.slot), []).append((x, s.key))
        here: dict[tuple[int, int], int] = {}

        def moved(i: int, j: int, bits: int, ready: int) -> int:
            self.work += 1
            rate = self.rate[(i, j)]
            ticks = ticks_of_bits(bits, rate, p.ref_khz) if rate else 0
            if i != HOST_SLOT:
                ready = max(ready, sent[i])
                sent[i] = ready + ticks
            tail = ready + ticks + self.latency[(i, j)]
            if j != HOST_SLOT:
                tail = taken[j] = max(tail, taken[j] + ticks)
            return tail

        def arrival(f: int, slot: int) -> int:
            flow, who = p.flows[f], tuple(readers[(f, slot)])
            if flow.producer == HOST_SLOT:
                return moved(HOST_SLOT, slot, p.boxes.bits(flow.tensor, None, who), 0)
            last = 0
            for source, end, key in made[flow.producer]:
                if source == slot:
                    last = max(last, end)
                elif bits := p.boxes.bits(flow.tensor, (flow.producer, key), who):
                    last = max(last, moved(source, slot, bits, end))
            return last

        end_all = 0
        for layer in p.table.layers:
            partial: list[tuple[int, int, Key]] = []
            out: list[tuple[int, int, Key]] = []
            for s in allocation[layer.index]:
                ready = 0
                if s.option.role == "reduce":
                    own = p.boxes.made(layer.index, s.key)
                    for slot, end, key in partial:
                        common = intersect(p.boxes.made(layer.index, key), own)
                        if common is not None:
                            there = end if slot == s.slot else moved(slot, s.slot, box_elements(common) * 32, end)
                            ready = max(ready, there)
                else:
                    for f in self.inputs[layer.index]:
                        if (f, s.slot) not in here:
                            here[(f, s.slot)] = arrival(f, s.slot)
                        ready = max(ready, here[(f, s.slot)])
                self.work += 1
                end = max(ready, free[s.slot]) + s.option.ticks
                free[s.slot] = end
                (partial if s.option.role == "partial" else out).append((s.slot, end, s.key))
                end_all = max(end_all, end)
            made[layer.index] = out
        for flow in p.flows:
            if flow.to_host and flow.producer != HOST_SLOT:
                for slot, end, key in made[flow.producer]:
                    bits = p.boxes.bits(flow.tensor, (flow.producer, key), ())
                    end_all = max(end_all, moved(slot, HOST_SLOT, bits, end))
        return end_all


def fastest(
    problem: Problem, graph: Graph, options: PartitionOptions, latency_ticks: dict[tuple[int, int], int]
) -> tuple[list[Allocation], int, str]:
    """(allocations, the best first; bound in ticks; what proves the bound). None fits: an empty list."""
    clock = Clock(problem, latency_ticks)
    host = {h.name: host_time_ns(h.name, options) * problem.ref_khz // 1_000_000 for h in graph.host_segments}
    bound = longest_path(problem, graph, latency_ticks, host)
    choices = {x.index: _choices(problem, x.index) for x in problem.table.layers}
    if any(not c for c in choices.values()):
        return [], bound, ""
    limit = int(options.time_limit_s * WORK_PER_SECOND)
    families = _families(problem, choices)
    ranked = _starts(problem, clock, families, limit // 2)
    found: list[tuple[int, Allocation]] = []
    for value, start in ranked[:ALTERNATIVES]:
        share = clock.work + max(0, limit - clock.work) // (ALTERNATIVES - len(found))
        got = _descend(problem, clock, value, start, choices, families, share)
        if got[1] not in (a for _, a in found):
            found.append(got)
    found.sort(key=lambda x: x[0])
    return [a for _, a in found], bound, "longest path of shortest options over all engines"


def _choices(problem: Problem, layer: int) -> list[tuple[Share, ...]]:
    """Whole on each engine, and every grid over runs of neighbouring engines."""
    out: list[tuple[Share, ...]] = []
    slots = problem.slots_of(layer)
    order = [e for e in problem.order if e in slots]
    forced = problem.forced.get(layer)
    if forced is not None:
        got = forced_slices(problem, layer, forced, [0] * problem.slots)
        return [got] if got is not None else []
    for e in order:
        o = problem.table.whole(layer, problem.kind_of[e])
        if o is not None:
            out.append((Share(e, "", 0, 1, o),))
    if any(layer in g for g in problem.stuck):
        return out
    for name, grid in problem.table.layers[layer].grids.items():
        for at in range(0, len(order) - grid.places + 1, grid.places):
            shares = on_slots(problem, layer, name, order[at : at + grid.places])
            if shares is not None:
                out.append(shares)
    return out


def _families(problem: Problem, choices: dict[int, list[tuple[Share, ...]]]) -> list[Allocation]:
    """One whole allocation for each way of cutting: every layer by that grid over the first engines; one that has it
    not, by another over as many engines, else whole on the best of these."""
    names: dict[str, int] = {"": 1}
    for x in problem.table.layers:
        names.update((name, grid.places) for name, grid in x.grids.items())
    stuck = {x: g for g in problem.stuck for x in g}
    out: list[Allocation] = []
    for name, places in sorted(names.items(), key=lambda x: (x[1], x[0])):
        prefix = set(problem.order[:places])
        allocation: Allocation = {}
        for layer, offered in choices.items():
            inside = [s for s in offered if all(x.slot in prefix for x in s)] or offered
            if layer in stuck:
                slots = set.intersection(*({s[0].slot for s in choices[x]} for x in stuck[layer]))
                inside = [s for s in offered if s[0].slot == min(slots, default=-1)] or inside
            allocation[layer] = min(
                inside,
                key=lambda s: (s[0].split != name, len({x.slot for x in s}) != places, max(x.option.ticks for x in s)),
            )
        if allocation not in out:
            out.append(allocation)
    return out


def _starts(problem: Problem, clock: Clock, families: list[Allocation], limit: int) -> list[tuple[int, Allocation]]:
    """Every family alone, and the better ones one after the other with the change at a few places; the best first."""
    ranked = sorted(((clock.makespan(a), k) for k, a in enumerate(families)))
    out = [(value, families[k]) for value, k in ranked]
    layers = list(families[0])
    stuck = {x for g in problem.stuck for x in g}
    better = [k for _, k in ranked]
    pairs = sorted((i + j, i, j) for i in range(len(better)) for j in range(len(better)) if i != j)
    for _, i, j in pairs:
        for at in sorted({len(layers) * b // BREAKS for b in range(1, BREAKS)} - {0}):
            if clock.work > limit:
                break
            early = set(layers[:at])
            first, second = families[better[i]], families[better[j]]
            mixed = {x: (first if x in early or x in stuck else second)[x] for x in layers}
            out.append((clock.makespan(mixed), mixed))
    return sorted(out, key=lambda x: x[0])


def _descend(
    problem: Problem,
    clock: Clock,
    value: int,
    allocation: Allocation,
    choices: dict[int, list[tuple[Share, ...]]],
    families: list[Allocation],
    limit: int,
) -> tuple[int, Allocation]:
    """Better and better by changing one layer, or a run of layers to another family, while there is work left."""
    stuck = {x for g in problem.stuck for x in g}
    free = [x for x in choices if x not in stuck]
    while True:
        before = value
        changes = [{x: shares} for x in free for shares in choices[x]]
        for length in RUNS:
            runs = [free[i : i + length] for i in range(0, max(1, len(free) - length + 1), max(1, length // 2))]
            changes += [{x: family[x] for x in run} for run in runs for family in families]
        for change in changes:
            if clock.work > limit:
                return value, allocation
            if all(allocation[x] == shares for x, shares in change.items()):
                continue
            trial = {**allocation, **change}
            got = clock.makespan(trial)
            if got < value:
                value, allocation = got, trial
        if value == before:
            return value, allocation


def longest_path(
    problem: Problem, graph: Graph, latency: dict[tuple[int, int], int], host_ticks: dict[str, int]
) -> int:
    """Proven: every layer takes at least its shortest option (a sliced one its largest slice's even share), every host
    segment its time, what passes between host and engines at least its quickest message; other messages are free."""
    quick = {
        to: min(latency[pair] for pair in problem.route if pair[end_of] == HOST_SLOT)
        for to, end_of in (("engine", 0), ("host", 1))
    }
    fastest_link = max((k.bits_per_second for k in problem.links), default=1)

    def message(to: str, tensor: str) -> int:
        bits = graph.tensors[tensor].bytes * 8 if tensor in graph.tensors else 0
        return quick[to] + bits * problem.ref_khz * 1000 // fastest_link

    end: dict[str, tuple[int, bool]] = {graph.root(name): (0, True) for name in graph.inputs}  # (ticks, on the host)
    index = 0
    finish = 0
    for step in graph.steps:
        here = isinstance(step, HostSegment)
        start = 0
        for name in step.inputs:
            root = graph.root(name)
            if root in end:
                ticks, hosted = end[root]
                moved = 0 if hosted == here else message("host" if here else "engine", root)
                start = max(start, ticks + moved)
        if isinstance(step, HostSegment):
            done = start + host_ticks[step.name]
            for name in step.outputs:
                end[graph.root(name)] = (done, True)
        else:
            done = start + _shortest(problem, index)
            end[step.y] = (done, False)
            index += 1
        finish = max(finish, done)
    for name in graph.outputs:
        ticks, hosted = end.get(graph.root(name), (0, True))
        finish = max(finish, ticks + (0 if hosted else message("host", graph.root(name))))
    return finish


def _shortest(problem: Problem, layer: int) -> int:
    """Ticks of the layer's shortest way."""
    least = [
        o.least_ticks
        for kind in sorted(set(problem.kind_of))
        for o in problem.table.of(layer, kind)
        if o.role != "reduce" and (not o.split or _may_be_largest(o, problem.slots))
    ]
    return min(least, default=0)


def _may_be_largest(o: Option, slots: int) -> bool:
    """Some slice of a layer on `slots` engines has at least an even share of its units."""
    return o.share[0] * slots >= o.share[1]
