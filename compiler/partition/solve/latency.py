"""Placement for the least latency of one frame: slices over dies against the messages they cost.

Needs a Problem; guarantees an Allocation and a proven bound: no frame is quicker than the longest path through the
graph when every layer takes its shortest option over all engines at once and messages between engines are free.
"""

from __future__ import annotations

from compiler.ir.graph import Graph, HostSegment
from compiler.partition.options import PartitionOptions, host_time_ns
from compiler.partition.options_table import Option
from compiler.partition.problem import HOST_SLOT, Allocation, Problem, Share, ticks_of_bits
from compiler.partition.solve.contiguous import forced_slices

MESSAGE_TICKS = 40  # latency of a die crossing and the set-up at both ends, in the estimate only


class Clock:
    """Makespan of one frame under an allocation: cores in order, messages after the last store of their producer."""

    def __init__(self, problem: Problem, latency_ticks: dict[tuple[int, int], int]) -> None:
        self.p, self.latency = problem, latency_ticks
        self.inputs: dict[int, list[int]] = {x.index: [] for x in problem.table.layers}
        for f, flow in enumerate(problem.flows):
            for c in flow.consumers:
                self.inputs[c].append(f)
        self.rate: dict[tuple[int, int], int] = {}
        for pair, links in problem.route.items():
            self.rate[pair] = min((problem.links[k].bits_per_second for k in links), default=0)

    def _moved(self, i: int, j: int, bits: int, ready: int) -> int:
        rate = self.rate[(i, j)]
        return ready + self.latency[(i, j)] + (ticks_of_bits(bits, rate, self.p.ref_khz) if rate else 0)

    def makespan(self, allocation: Allocation) -> int:
        p = self.p
        free = [0] * p.slots
        made: dict[int, list[tuple[int, int, int]]] = {}  # layer -> (slot, end, share permille)
        end_all = 0
        here: dict[tuple[int, int], int] = {}
        for layer in p.table.layers:
            shares = allocation[layer.index]
            partial: list[tuple[int, int]] = []
            out: list[tuple[int, int, int]] = []
            total = sum(s.units for s in shares if s.option.role == "full") or 1
            for s in shares:
                ready = 0
                if s.option.role == "reduce":
                    for slot, end in partial:
                        ready = max(
                            ready, end if slot == s.slot else self._moved(slot, s.slot, layer.output_bits * 4, end)
                        )
                else:
                    for f in self.inputs[layer.index]:
                        key = (f, s.slot)
                        if key not in here:
                            here[key] = self._arrival(f, s.slot, made)
                        ready = max(ready, here[key])
                end = max(ready, free[s.slot]) + s.option.ticks
                free[s.slot] = end
                if s.option.role == "partial":
                    partial.append((s.slot, end))
                else:
                    out.append((s.slot, end, 1000 * s.units // total if s.option.role == "full" else 1000))
                end_all = max(end_all, end)
            made[layer.index] = out
        return end_all

    def _arrival(self, f: int, slot: int, made: dict[int, list[tuple[int, int, int]]]) -> int:
        flow = self.p.flows[f]
        if flow.producer == HOST_SLOT:
            return self._moved(HOST_SLOT, slot, flow.bits, 0)
        arrival = 0
        queue = 0
        for source, end, share in made[flow.producer]:
            if source == slot:
                arrival = max(arrival, end)
            else:
                queue = max(queue, end)
                queue = self._moved(source, slot, flow.bits * share // 1000, queue)
                arrival = max(arrival, queue)
        return arrival


def fastest(
    problem: Problem, graph: Graph, options: PartitionOptions, latency_ticks: dict[tuple[int, int], int]
) -> tuple[Allocation | None, int, str]:
    """(allocation or None, bound in ticks, what proves the bound)."""
    clock = Clock(problem, latency_ticks)
    host = {h.name: host_time_ns(h.name, options) * problem.ref_khz // 1_000_000 for h in graph.host_segments}
    bound = longest_path(problem, graph, latency_ticks, host)
    choices = {x.index: _choices(problem, x.index) for x in problem.table.layers}
    stuck = {x: g for g in problem.stuck for x in g}
    if any(not c for c in choices.values()):
        return None, bound, ""
    best: tuple[int, Allocation] | None = None
    for start in _starts(problem, choices, stuck):
        value = clock.makespan(start)
        if best is None or value < best[0]:
            best = (value, start)
    if best is None:
        return None, bound, ""
    value, allocation = best
    effort = max(1, int(options.time_limit_s * 60_000) // max(1, len(choices)))
    for _ in range(4):
        before = value
        for layer in choices:
            if layer in stuck:
                continue
            for shares in choices[layer]:
                if effort <= 0 or shares == allocation[layer]:
                    continue
                effort -= 1
                trial = {**allocation, layer: shares}
                got = clock.makespan(trial)
                if got < value:
                    value, allocation = got, trial
        if value == before:
            break
    return allocation, bound, "longest path of shortest options over all engines"


def _choices(problem: Problem, layer: int) -> list[tuple[Share, ...]]:
    """Whole on each engine, and even Pm slices over runs of neighbouring engines."""
    out: list[tuple[Share, ...]] = []
    slots = problem.slots_of(layer)
    order = [e for e in problem.order if e in slots]
    forced = problem.forced.get(layer)
    if forced is not None:
        got = forced_slices(problem, layer, forced[0], forced[1], [0] * problem.slots)
        return [got] if got is not None else []
    for e in order:
        o = problem.table.whole(layer, problem.kind_of[e])
        if o is not None:
            out.append((Share(e, "", 0, 1, o),))
    if any(layer in g for g in problem.stuck):
        return out
    for split in problem.table.layers[layer].splits:
        if split.factor != "Pm":
            continue
        for count in range(2, min(len(order), split.units) + 1):
            for at in range(0, len(order) - count + 1, max(1, count)):
                shares = _even(problem, layer, split.factor, split.units, order[at : at + count])
                if shares is not None:
                    out.append(shares)
    return out


def _even(problem: Problem, layer: int, factor: str, units: int, slots: list[int]) -> tuple[Share, ...] | None:
    out: list[Share] = []
    first = 0
    for k, e in enumerate(slots):
        size = units * (k + 1) // len(slots) - first
        o = problem.table.slice(layer, problem.kind_of[e], factor, size)
        if o is None:
            return None
        out.append(Share(e, factor, first, size, o))
        first += size
    return tuple(out)


def _starts(
    problem: Problem, choices: dict[int, list[tuple[Share, ...]]], stuck: dict[int, tuple[int, ...]]
) -> list[Allocation]:
    """First allocations: everything on one engine, and everything sliced over the first k engines."""
    out: list[Allocation] = []
    for k in range(1, problem.slots + 1):
        prefix = set(problem.order[:k])
        for narrow in (False, True):
            allocation: Allocation = {}
            for layer, offered in choices.items():
                inside = [s for s in offered if all(x.slot in prefix for x in s)] or offered
                if layer in stuck:
                    slots = set.intersection(*({s[0].slot for s in choices[x]} for x in stuck[layer]))
                    inside = [s for s in offered if s[0].slot == min(slots, default=-1)] or inside
                key = (
                    (lambda s: (max(x.option.ticks for x in s), len(s)))
                    if not narrow
                    else (lambda s: (len(s), s[0].option.ticks))
                )
                allocation[layer] = min(inside, key=key)
            out.append(allocation)
            if k == 1:
                break
    return out


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
        o.ticks
        for kind in sorted(set(problem.kind_of))
        for o in problem.table.of(layer, kind)
        if o.role != "reduce" and (not o.split or _may_be_largest(o, problem.slots))
    ]
    return min(least, default=0)


def _may_be_largest(o: Option, slots: int) -> bool:
    """Some slice of a layer on `slots` engines has at least an even share of its units."""
    return o.share[0] * slots >= o.share[1]
