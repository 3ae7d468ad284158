"""Placement for the least latency of one frame: slices over dies against the messages they cost.

Needs a Problem; guarantees an Allocation and a proven bound: no frame is quicker than the longest path through the
graph when every layer takes its shortest option over all engines at once and messages between engines are free.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from compiler.ir.graph import Graph
from compiler.partition.options import PartitionOptions, host_time_ns
from compiler.partition.pairwise import FORBIDDEN, Answer, Effort, Pairwise, solve
from compiler.partition.pairwise.problem import Costs
from compiler.partition.problem import Allocation, Problem, Share
from compiler.partition.solve.clock import MOST_KEPT, Clock
from compiler.partition.solve.contiguous import forced_slices, on_slots
from compiler.partition.solve.held import held
from compiler.partition.solve.latency_bound import longest_path, message_bound
from compiler.partition.solve.strategies import Strategies, Strategy

WORK_PER_SECOND = 250_000  # messages and tasks timed that count as one second of the time limit
BREAKS = 8  # positions tried at which one family of slices gives way to another
RUNS = (2, 4, 8, 16)  # lengths of runs of layers that change together
FAMILIES, OPTIMA = 3, 2  # starts that are worked on and given: of families of cuts, of the additive model
WIDEST, WIDEST_PERCENT = 6, 150  # whole families over all engines that are given, up to so much of the best's time
GIVEN_WORK = 5000  # others that are nearly as good are given for as much work (of the prediction)
MESSAGE_PERCENT = (100, 75, 50)  # of the additive model's costs of messages, at which a search begins
WORTH_PERMILLE = 990  # of the additive optimum so far: more options must promise that
HELD, HELD_PART = 2, 10  # allocations with layers made whole for weights on chip, each for such a part of the limit
SUITED = 6  # strategies tried of a layer that suit its neighbours
BOUND_CELLS, MODEL_CELLS = 1200, 600  # of a layer's strategies, up to which messages are in the bound, in the model


@dataclass(frozen=True, slots=True)
class Fastest:
    """allocations: the best first, none if none fits. bound: ticks, with what proves it and over what."""

    allocations: list[Allocation]
    bound: int
    proved_by: str
    scope: tuple[str, str] = ("", "")  # of slices, of messages
    notes: tuple[str, ...] = ()
    additive: int = 0  # cost of the additive model's best choice


def fastest(
    problem: Problem, graph: Graph, options: PartitionOptions, latency_ticks: dict[tuple[int, int], int]
) -> Fastest:
    """The best allocations found by two ways, one over families of cuts, one from the optimum of the additive model."""
    clock = Clock(problem, latency_ticks)
    host = {h.name: host_time_ns(h.name, options) * problem.ref_khz // 1_000_000 for h in graph.host_segments}
    choices = {x.index: _choices(problem, x.index) for x in problem.table.layers}
    if any(not c for c in choices.values()):
        return Fastest([], 0, "")
    bound, proved = longest_path(problem, graph, latency_ticks, host), "longest path of shortest options"
    messages = "messages: those with the host, at the quickest link; others left out (so it holds with them)"
    listed = {x: listing(own, MODEL_CELLS) for x, own in choices.items()}
    if max(sum(len(s) for s in own) for own in choices.values()) <= BOUND_CELLS:
        with_messages = message_bound(problem, graph, Strategies(problem, latency_ticks, choices), host)
        if with_messages > bound:
            bound, proved = with_messages, "longest path of shortest strategies and the messages between them"
            messages = (
                "messages: those of one tensor, in the queues of both ends and on links with all they carry; other "
                "traffic left out"
            )
    limit = int(options.time_limit_s * WORK_PER_SECOND)
    families = _families(problem, choices)
    guide = Guide(problem, Strategies(problem, latency_ticks, listed), options)
    found: dict[int, Allocation] = {}
    ranked = sorted(_starts(problem, clock, families, limit // 2), key=lambda x: x[0])[:FAMILIES]
    for k, (value, start) in enumerate(ranked):
        share = clock.work + max(0, limit - clock.work) // (len(ranked) - k)
        value, got = _descend(problem, clock, value, start, choices, families, None, share)
        found.setdefault(value, got)
    guided = sorted(((clock.makespan(a), a) for a in guide.starts()), key=lambda x: x[0])[:OPTIMA]
    for value, start in guided:
        share = clock.work + limit // (2 * OPTIMA)
        value, got = _descend(problem, clock, value, start, choices, families, guide, share)
        found.setdefault(value, got)
    before = clock.work
    clock.makespan(next(iter(found.values())))
    given = min(MOST_KEPT, GIVEN_WORK // (clock.work - before))
    for value in sorted(clock.best):
        if len(found) < given:
            found.setdefault(value, clock.best[value])
    widest = (
        (clock.makespan(a), a) for a in families if problem.slots == len({s.slot for own in a.values() for s in own})
    )
    for value, allocation in sorted(widest, key=lambda x: x[0])[:WIDEST]:
        if value * 100 < min(found) * WIDEST_PERCENT:
            found.setdefault(value, allocation)
    listed_by_time = [found[value] for value in sorted(found)]
    for allocation in listed_by_time[:HELD]:
        _, whole = held(problem, clock, allocation, choices, clock.work + limit // HELD_PART)
        if whole not in listed_by_time:
            listed_by_time.append(whole)
    count = sum(len(own) for own in choices.values())
    slices = f"slices: whole layers and even grids over runs of neighbouring engines, {count} strategies in all"
    return Fastest(listed_by_time, bound, proved, (slices, messages), guide.notes, guide.additive)


def promising(
    problem: Problem, options: PartitionOptions, latency_ticks: dict[tuple[int, int], int], before: int
) -> bool:
    """Whether the additive model's optimum is so far below `before`, that of fewer options, that a search is due."""
    listed = {x.index: listing(_choices(problem, x.index), MODEL_CELLS) for x in problem.table.layers}
    answer = solve(Strategies(problem, latency_ticks, listed).model(), effort_of(options))
    return bool(answer.chosen) and answer.objective * 1000 < before * WORTH_PERMILLE


def effort_of(options: PartitionOptions) -> Effort:
    """What one solution of the additive model may take."""
    return Effort(seconds=options.time_limit_s / 5, seed=options.seed, workers=options.workers)


class Guide:
    """The additive model: where a search begins, and which strategies of a layer suit those of its neighbours."""

    def __init__(self, problem: Problem, strategies: Strategies, options: PartitionOptions) -> None:
        self.choices = strategies.choices
        self.model = strategies.model()
        self.effort = effort_of(options)
        self.at = {id(s): k for own in self.choices.values() for k, s in enumerate(own)}
        self.near: list[list[tuple[int, Costs]]] = [[] for _ in self.model.costs]
        for e in self.model.edges:
            self.near[e.a].append((e.b, e.cost))
            self.near[e.b].append((e.a, e.cost.T))
        self.notes: tuple[str, ...] = ()
        self.additive = 0  # cost of the model's best choice

    def starts(self) -> list[Allocation]:
        """The optimum, and those with cheaper messages: more pass beside the layers' work than the model sees."""
        out: list[Allocation] = []
        for percent in MESSAGE_PERCENT:
            edges = [
                (e.a, e.b, np.where(e.cost < FORBIDDEN, e.cost * percent // 100, FORBIDDEN)) for e in self.model.edges
            ]
            answer = solve(Pairwise.of(self.model.costs, edges), self.effort)
            if percent == 100:
                self.notes = (additive_note(answer, self.choices),)
                self.additive = answer.objective
            if answer.chosen:
                got = {x: own[s] for (x, own), s in zip(self.choices.items(), answer.chosen, strict=True)}
                if got not in out:
                    out.append(got)
        return out

    def suited(self, allocation: Allocation, layer: int) -> list[Strategy]:
        """The strategies that cost least beside the neighbours' present ones, the best first."""
        total = self.model.costs[layer].copy()
        for other, cost in self.near[layer]:
            k = self.at.get(id(allocation[other]))
            if k is not None:
                total += cost[:, k]
        own = self.choices[layer]
        return [own[k] for k in np.argsort(total, kind="stable")[:SUITED] if own[k] is not allocation[layer]]


def listing(strategies: list[tuple[Share, ...]], cells: int) -> list[tuple[Share, ...]]:
    """Of too many strategies the first run of engines for every grid, then the second, while there is room."""
    turns: dict[str, int] = {}
    ranked: list[tuple[int, int]] = []
    for k, shares in enumerate(strategies):
        name = shares[0].split
        ranked.append((turns.setdefault(name, 0), k))
        turns[name] += 1
    kept: list[int] = []
    for _, k in sorted(ranked):
        cells -= len(strategies[k])
        if cells < 0 and kept:
            break
        kept.append(k)
    return [strategies[k] for k in sorted(kept)]


def additive_note(answer: Answer, listed: Mapping[int, Sequence[tuple[Share, ...]]]) -> str:
    """What of the additive model is proven, in words."""
    count = sum(len(own) for own in listed.values())
    proof = "its optimum" if answer.status == "OPTIMAL" else f"bound {answer.bound}, gap {answer.gap:.2%}"
    return (
        f"additive model (layers one after another, {count} strategies of {len(listed)} layers, messages between "
        f"neighbours): {answer.objective} ticks, {proof} ({answer.proved_by}); the search began with it, among others"
    )


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
    """Every family alone, and the better ones one after the other with the change at a few places; with makespans."""
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
    return out


def _descend(
    problem: Problem,
    clock: Clock,
    value: int,
    allocation: Allocation,
    choices: dict[int, list[tuple[Share, ...]]],
    families: list[Allocation],
    guide: Guide | None,
    limit: int,
) -> tuple[int, Allocation]:
    """Better and better by changing one layer, first to what suits its neighbours, or a run of layers to another
    family, while there is work left."""
    stuck = {x for g in problem.stuck for x in g}
    free = [x for x in choices if x not in stuck]
    while True:
        before = value
        for x in free if guide is not None else ():
            for shares in guide.suited(allocation, x) if guide is not None else ():
                if clock.work > limit:
                    return value, allocation
                trial = {**allocation, x: shares}
                got = clock.makespan(trial)
                if got < value:
                    value, allocation = got, trial
        if value < before:
            continue
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
