"""What no latency plan beats: the longest path through the graph, layer by layer and with the messages between layers.

Needs the Problem and, for the messages, the strategies that the search may use; guarantees ticks that hold for the
prediction of every plan made of them. Without messages layers of one engine may overlap.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from compiler.ir.graph import Graph, HostSegment
from compiler.partition.options_table import Option
from compiler.partition.problem import HOST_SLOT, Flow, Problem
from compiler.partition.solve.earliest import Earliest
from compiler.partition.solve.strategies import FREE, Rent, Strategies


def message_bound(problem: Problem, graph: Graph, known: Strategies, host_ticks: Mapping[str, int]) -> int:
    """The best of message_path without rents and with one that layers pay for weights on chip, less what all of that
    memory takes in: a plan is later by no more than what its layers pay, as each is at most once on a path, and
    together they pay no more than that."""
    bound = message_path(problem, graph, known, host_ticks)
    room = sum(problem.resident_bytes)
    saved: list[Rent] = []  # of each layer: ticks that staying on chip saves beside its other strategies, for its bytes
    for layer, own in known.choices.items():
        kept = [k for shares in own if (k := known.kept(layer, shares[0])) is not None and k.resident_bytes]
        if kept:
            other = min(max(max(s.option.least_ticks, s.option.load_ticks[1]) for s in shares) for shares in own)
            saved.append(max((Rent(other - k.least_ticks, k.resident_bytes) for k in kept), key=lambda x: x.ticks))

    def promise(rent: Rent) -> int:
        return sum(min(x.ticks, rent.of(x.size_bytes)) for x in saved if x.ticks > 0) - rent.of(room)

    best = max((x for x in saved if x.ticks > 0), key=promise, default=FREE)
    if promise(best) <= 0:
        return bound
    known.rent = best
    return max(bound, message_path(problem, graph, known, host_ticks) - best.of(room))


def message_path(problem: Problem, graph: Graph, known: Strategies, host_ticks: Mapping[str, int]) -> int:
    """Proven over the strategies listed: for every layer and strategy the earliest ends of its slices (earliest.py),
    over all strategies of each of its producers (two layers may see different strategies of one producer)."""
    flows = {f.tensor: f for f in problem.flows}
    earliest = Earliest(known, problem.flows)
    hosted: dict[str, int] = {}
    finish = index = 0

    def at_host(root: str) -> int:
        flow = flows.get(root)
        if flow is None or flow.producer == HOST_SLOT:
            return hosted.get(root, 0)
        return earliest.at_host(flow)

    for step in graph.steps:
        if isinstance(step, HostSegment):
            done = max((at_host(graph.root(name)) for name in step.inputs), default=0) + host_ticks[step.name]
            hosted.update((graph.root(name), done) for name in step.outputs)
            finish = max(finish, done)
            continue
        inputs: dict[Flow, int] = {}
        for name in dict.fromkeys(step.inputs):
            flow = flows.get(name)
            if flow is not None and index in flow.consumers:
                inputs[flow] = hosted.get(name, 0)
        ends = earliest.layer(inputs)
        finish = max(finish, int(np.maximum(ends.last, ends.upto).min()))
        index += 1
    return max([finish, *(at_host(graph.root(name)) for name in graph.outputs)])


def longest_path(
    problem: Problem, graph: Graph, latency: dict[tuple[int, int], int], host_ticks: dict[str, int]
) -> int:
    """Proven: every layer takes at least its shortest option (a sliced one its largest slice's even share), every host
    segment its time, what passes between host and engines at least the latency of the quickest route; what goes to the
    host also an even share of its bits. What comes from there has no such share: every board has a host link of its
    own, and slices of a strided layer together need less than the tensor. Other messages are free."""
    quick = {
        to: min(latency[pair] for pair in problem.route if pair[end_of] == HOST_SLOT)
        for to, end_of in (("engine", 0), ("host", 1))
    }
    fastest_link = max((k.bits_per_second for k in problem.links), default=1)

    def message(to: str, tensor: str) -> int:
        if to == "engine" or tensor not in graph.tensors:
            return quick[to]
        bits = graph.tensors[tensor].bytes * 8
        return quick[to] + bits * problem.ref_khz * 1000 // (fastest_link * problem.slots)

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
