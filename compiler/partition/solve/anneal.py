"""Local search to a target interval: layers move, swap and split between engines until nothing is over the target.

Needs a Problem and a first Allocation; guarantees an Allocation whose interval (engines, links and banks alike) is not
worse, deterministic for a seed and a number of steps. Energy is what engines and shared links and banks are over the
target, plus a little for every tick of traffic, which keeps neighbours together.
"""

from __future__ import annotations

from math import exp
from random import Random

from compiler.partition.boxes import Key
from compiler.partition.options_table import Option
from compiler.partition.problem import HOST_SLOT, Allocation, Problem, Share, load_of

LOCALITY = 0.05  # energy of one tick of traffic on one link
# Links and banks are kept below this share of the target: shared max-min, they delay their users long before full.
SHARED_LIMIT = 0.5
# Phases: share of the steps, first and last temperature as shares of the target. The first finds where layers belong,
# the others balance what it found.
PHASES = ((0.7, 0.02, 0.0005), (0.15, 0.004, 0.0003), (0.15, 0.004, 0.0003))

WHOLE: Key = ("", 0, 1, "full")
Pieces = tuple[tuple[int, int], ...]  # (slot, units)…, units add up to the layer's


class Annealer:
    """The state of the search: pieces of each movable layer, loads of engines, links and banks in ticks."""

    def __init__(self, problem: Problem, start: Allocation, seed: int) -> None:
        self.p = problem
        self.random = Random(seed)
        self.units: list[int] = []
        self.factor: list[str] = []  # by which each layer may be cut
        self.cost: list[dict[int, dict[int, Option]]] = []  # layer -> kind -> units -> option
        stuck = {x for g in problem.stuck for x in g}
        self.fixed = {
            x: shares
            for x, shares in start.items()
            if x in stuck or x in problem.forced or any(s.option.role != "full" for s in shares)
        }
        kinds = sorted(set(problem.kind_of))
        for layer in problem.table.layers:
            ranges = [r for r in problem.splits[layer.index] if r.factor != "Pn"]
            n = ranges[0].units if ranges else 1
            factor = ranges[0].factor if ranges else ""
            self.units.append(n)
            self.factor.append(factor)
            table: dict[int, dict[int, Option]] = {}
            for k in kinds:
                table[k] = {}
                whole = problem.table.whole(layer.index, k)
                if whole is not None:
                    table[k][n] = whole
                for o in problem.table.of(layer.index, k):
                    if o.split == factor and o.split and o.share[0] < n:
                        best = table[k].get(o.share[0])
                        if best is None or o.ticks < best.ticks:
                            table[k][o.share[0]] = o
            self.cost.append(table)
        self.pieces: list[Pieces] = []
        for layer in problem.table.layers:
            shares = start[layer.index]
            if layer.index in self.fixed:
                self.pieces.append(())
            elif len(shares) == 1:
                self.pieces.append(((shares[0].slot, self.units[layer.index]),))
            else:
                self.pieces.append(tuple((s.slot, s.units) for s in shares))
        self.place = {e: k for k, e in enumerate(problem.order)}
        self.movable = [x.index for x in problem.table.layers if x.index not in self.fixed]
        links = len(problem.links)
        self.per_bit = [problem.ref_khz * 1000 / k.bits_per_second for k in problem.links]
        self.per_bit += [problem.ref_khz * 1000 / (8 * rate) for rate in problem.bank_rate]
        self.engines = len(self.per_bit)  # from here on: what messages cost each engine
        self.per_bit += [
            w * problem.ref_khz * 1000 / (8 * problem.bank_rate[b])
            for w, b in zip(problem.message_weight, problem.bank_of, strict=True)
        ]
        self.way: dict[tuple[int, int], tuple[int, ...]] = {}
        for (i, j), route in problem.route.items():
            ends = tuple(links + problem.bank_of[e] for e in (i, j) if e != HOST_SLOT)
            lost = tuple(self.engines + e for e in (i, j) if e != HOST_SLOT and problem.message_weight[e])
            self.way[(i, j)] = route + ends + lost
        self.links = links
        self.flow_of: list[list[int]] = [[] for _ in problem.table.layers]
        for f, flow in enumerate(problem.flows):
            for x in {flow.producer, *flow.consumers}:
                if x != HOST_SLOT:
                    self.flow_of[x].append(f)
        self.lossy = any(problem.message_weight)
        loads = load_of(problem, start)
        self.load = [float(v) for v in loads.engine]
        self.shared = [float(v) for v in (*loads.link, *loads.bank)]
        self.on: list[set[int]] = [set() for _ in range(problem.slots)]
        for x in self.movable:
            for e, _ in self.pieces[x]:
                self.on[e].add(x)
        self.target, self.locality = 0.0, LOCALITY

    def option(self, layer: int, slot: int, units: int) -> Option | None:
        return self.cost[layer][self.p.kind_of[slot]].get(units)

    def _tasks(self, layer: int) -> list[tuple[int, Key]]:
        """(slot, what it does) of each piece of a layer."""
        if layer in self.fixed:
            return [(s.slot, s.key) for s in self.fixed[layer]]
        pieces = self.pieces[layer]
        if len(pieces) == 1:
            return [(pieces[0][0], WHOLE)]
        out: list[tuple[int, Key]] = []
        first, factor = 0, self.factor[layer]
        for e, u in sorted(pieces, key=lambda s: self.place[s[0]]):
            out.append((e, (factor, first, u, "full")))
            first += u
        return out

    def _flow_ticks(self, f: int, out: dict[int, float], sign: float) -> None:
        flow, boxes = self.p.flows[f], self.p.boxes
        makers: list[tuple[int, tuple[int, Key] | None]] = [(HOST_SLOT, None)]
        if flow.producer != HOST_SLOT:
            makers = [(e, (flow.producer, k)) for e, k in self._tasks(flow.producer) if k[3] != "partial"]
        readers: dict[int, list[tuple[int, Key]]] = {}
        for c in flow.consumers:
            for e, k in self._tasks(c):
                if k[3] != "reduce":
                    readers.setdefault(e, []).append((c, k))
        if flow.to_host:
            readers[HOST_SLOT] = []
        for i, maker in makers:
            for j, here in readers.items():
                if i != j:
                    bits = sign * boxes.bits(flow.tensor, maker, tuple(here))
                    for r in self.way[(i, j)]:
                        out[r] = out.get(r, 0.0) + bits * self.per_bit[r]

    def _bank_ticks(self, slot: int, o: Option, out: dict[int, float], sign: float) -> None:
        r = self.links + self.p.bank_of[slot]
        out[r] = out.get(r, 0.0) + sign * 8 * (o.read_bytes + o.write_bytes) * self.per_bit[r]

    def attempt(self, changes: list[tuple[int, Pieces]], heat: float) -> bool:
        """Applies the changes if the energy allows it at this temperature."""
        engine: dict[int, float] = {}
        shared: dict[int, float] = {}
        flows: dict[int, None] = {}
        old = [(x, self.pieces[x]) for x, _ in changes]
        for x, new in changes:
            for e, u in self.pieces[x]:
                o = self.cost[x][self.p.kind_of[e]][u]
                engine[e] = engine.get(e, 0.0) - o.ticks
                self._bank_ticks(e, o, shared, -1.0)
            for e, u in new:
                got = self.cost[x][self.p.kind_of[e]].get(u)
                if got is None:
                    return False
                engine[e] = engine.get(e, 0.0) + got.ticks
                self._bank_ticks(e, got, shared, 1.0)
            for f in self.flow_of[x]:
                flows[f] = None
        target, delta = self.target, 0.0
        for e, d in engine.items():
            was = self.load[e]
            delta += max(0.0, was + d - target) - max(0.0, was - target)
        if delta > 12 * heat:
            return False
        for f in flows:
            self._flow_ticks(f, shared, -1.0)
        for x, new in changes:
            self.pieces[x] = new
        for f in flows:
            self._flow_ticks(f, shared, 1.0)
        if self.lossy:
            for r in [r for r in shared if r >= self.engines]:
                e, d = r - self.engines, shared.pop(r)
                was = self.load[e] + engine.get(e, 0.0)
                delta += max(0.0, was + d - target) - max(0.0, was - target)
                engine[e] = engine.get(e, 0.0) + d
        limit = target * SHARED_LIMIT
        for r, d in shared.items():
            was = self.shared[r]
            delta += max(0.0, was + d - limit) - max(0.0, was - limit)
            if r < self.links:
                delta += self.locality * d
        if delta > 0 and self.random.random() >= exp(-delta / heat):
            for x, before in old:
                self.pieces[x] = before
            return False
        for e, d in engine.items():
            self.load[e] += d
        for r, d in shared.items():
            self.shared[r] += d
        for (x, before), (_, new) in zip(old, changes, strict=True):
            for e, _ in before:
                self.on[e].discard(x)
            for e, _ in new:
                self.on[e].add(x)
        return True

    def step(self, heat: float) -> None:
        """One random move: mostly away from an engine that is over the target."""
        rnd, p = self.random, self.p
        over = [e for e in range(p.slots) if self.load[e] > self.target]
        e = rnd.choice(over) if over and rnd.random() < 0.6 else rnd.randrange(p.slots)
        if not self.on[e]:
            return
        x = rnd.choice(sorted(self.on[e]))
        allowed = p.slots_of(x)
        other = self._other(e)
        if other not in allowed:
            return
        pieces, n = self.pieces[x], self.units[x]
        dice = rnd.random()
        if len(pieces) == 1:
            if dice < 0.4 or (n == 1 and dice < 0.5):
                self.attempt([(x, ((other, n),))], heat)
            elif dice < 0.75 or n == 1:
                if not self.on[other]:
                    return
                y = rnd.choice(sorted(self.on[other]))
                if y != x and len(self.pieces[y]) == 1 and e in p.slots_of(y):
                    self.attempt([(x, ((other, n),)), (y, ((e, self.units[y]),))], heat)
            else:
                k = rnd.randrange(1, n)
                self.attempt([(x, ((e, k), (other, n - k)))], heat)
            return
        if dice < 0.35:
            self.attempt([(x, ((e if dice < 0.2 else other, n),))], heat)
            return
        i = next(k for k, (slot, _) in enumerate(pieces) if slot == e)
        if dice < 0.7:
            j = rnd.randrange(len(pieces))
            if i == j:
                return
            take = rnd.randrange(1, pieces[i][1] + 1)
            changed = list(pieces)
            changed[i] = (e, pieces[i][1] - take)
            changed[j] = (pieces[j][0], pieces[j][1] + take)
            self.attempt([(x, tuple(c for c in changed if c[1]))], heat)
        elif all(slot != other for slot, _ in pieces):
            changed = list(pieces)
            changed[i] = (other, pieces[i][1])
            self.attempt([(x, tuple(changed))], heat)

    def _other(self, e: int) -> int:
        """Another engine, the near ones more often."""
        rnd, n = self.random, self.p.slots
        if rnd.random() < 0.5:
            at = self.p.order.index(e) + rnd.choice((-3, -2, -1, 1, 2, 3))
            if 0 <= at < n:
                return self.p.order[at]
        other = rnd.randrange(n - 1)
        return other if other < e else other + 1

    def worst(self) -> float:
        return max(max(self.load), max(self.shared, default=0.0))

    def allocation(self) -> Allocation:
        """The pieces as shares, slices in machine order."""
        out: Allocation = dict(self.fixed)
        for x in self.movable:
            shares: list[Share] = []
            first, n = 0, self.units[x]
            for e, u in sorted(self.pieces[x], key=lambda s: self.place[s[0]]):
                o = self.cost[x][self.p.kind_of[e]][u]
                shares.append(Share(e, "", 0, 1, o) if u == n else Share(e, self.factor[x], first, u, o))
                first += u
            out[x] = tuple(shares)
        return {x.index: out[x.index] for x in self.p.table.layers}


def anneal(
    problem: Problem, start: Allocation, goal: int, steps: int, seed: int, locality: float = LOCALITY
) -> Allocation:
    """The allocation with the least interval that `steps` random moves find; stops when `goal` is met.

    locality: energy of a tick of traffic; more of it trades interval for fewer messages.

    The target falls to just under the best so far whenever it is met; each phase cools down from the best so far.
    """
    best, value = start, load_of(problem, start).interval
    if value <= goal or problem.slots < 2:
        return best
    for k, (share, hot, cold) in enumerate(PHASES):
        search = Annealer(problem, best, seed + k)
        search.target, search.locality = max(goal, value * 0.997 if k else goal * 1.002), locality
        span = max(1, int(steps * share))
        for i in range(span):
            search.step(search.target * hot * (cold / hot) ** (i / span))
            if i % 50 == 0 and search.worst() < value:
                got = search.allocation()
                now = load_of(problem, got).interval
                if now < value:
                    best, value = got, now
                    if value <= goal:
                        return best
                    search.target = max(goal, min(search.target, value * 0.998))
    return best


def settle(problem: Problem, start: Allocation, steps: int, seed: int) -> Allocation:
    """At the interval of `start`, less traffic between engines and fewer slices: the tie-break of a throughput plan."""
    load = load_of(problem, start)
    if problem.slots < 2:
        return start
    search = Annealer(problem, start, seed)
    search.target, search.locality = float(load.interval), 1.0
    best, value = start, (sum(load.link), sum(len(s) for s in start.values()))
    for i in range(steps):
        search.step(max(1.0, search.target * 0.002 * (0.01 ** (i / steps))))
        if i % 200 == 0 and search.worst() <= load.interval:
            got = search.allocation()
            now = load_of(problem, got)
            new = (sum(now.link), sum(len(s) for s in got.values()))
            if now.interval <= load.interval and new < value:
                best, value = got, new
    return best
