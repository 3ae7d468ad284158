"""Chooses the engine of every die: the combination of candidates with the best lower bound on the interval.

Needs the places and closed-form estimates, then exact whole-layer costs of the best few. Places of one pool (same die
type, port and bank) get equal engines. The choice is a heuristic; the bound that a plan reports holds for the chosen
engines, and `proved_scope` says so.
"""

from __future__ import annotations

from collections.abc import Sequence

from compiler.ir.graph import Graph, Node
from compiler.isa.program import EngineSpec
from compiler.ops.registry import bare
from compiler.partition.bound import Pool, lower_bound
from compiler.partition.costs import CostBook
from compiler.partition.estimate import estimate_cycles
from compiler.partition.kinds import TYPES, Candidate, candidates, share_of
from compiler.partition.layout import Place
from compiler.partition.options_table import Option
from compiler.partition.ports import Port
from compiler.partition.tabulate import node_box, reduce_extent
from device_db.model import Board, Cluster, Resources

KEEP = 24  # candidates a pool that the search looks at
EXACT = 3  # best combinations that are priced exactly


def pool_candidates(cluster: Cluster, places: Sequence[Place], memory: str) -> list[Candidate]:
    """All engines that every place of a pool can hold."""
    shares = [share_of(cluster.devices[p.ref.device].board.dies[p.ref.die].usable, p.cores_on_die) for p in places]
    have = Resources(*(min(getattr(s, t) for s in shares) for t in TYPES))
    first = places[0]
    return _offered(cluster.devices[first.ref.device].board, first.ref.die, first.port, have, memory)


_KNOWN: dict[tuple[object, ...], list[Candidate]] = {}


def _offered(board: Board, die: int, port: Port, have: Resources, memory: str) -> list[Candidate]:
    key = (board.name, board.banks, board.dies[die], board.macs_per_dsp, port, have, memory)
    if key not in _KNOWN:
        _KNOWN[key] = candidates(board, die, port, have, memory)
    return _KNOWN[key]


class EngineChoice:
    """The candidates of every pool and the search over them."""

    def __init__(
        self,
        graph: Graph,
        cluster: Cluster,
        place_list: Sequence[Place],
        book: CostBook,
        ref_khz: int,
        memory: str = "auto",
    ) -> None:
        """memory: what `--memory` asks for."""
        self.graph, self.book, self.ref_khz, self.memory = graph, book, ref_khz, memory
        self.pools = sorted({p.pool for p in place_list})
        self.count = {q: sum(1 for p in place_list if p.pool == q) for q in self.pools}
        self.offered: dict[int, list[Candidate]] = {
            q: pool_candidates(cluster, [p for p in place_list if p.pool == q], memory) for q in self.pools
        }
        self.nodes: dict[int, tuple[Node, int]] = {}  # shape class -> (a node of it, how many)
        for node in graph.nodes:
            c = book.shape_class(node)
            kept = self.nodes.get(c)
            self.nodes[c] = (node, 1) if kept is None else (kept[0], kept[1] + 1)
        self.classes = sorted(self.nodes)
        self._estimate: dict[tuple[int, EngineSpec], int] = {}

    def ticks(self, cycles: int, spec: EngineSpec) -> int:
        """Reference-clock cycles, rounded down."""
        return cycles * self.ref_khz // spec.clock_khz

    def estimated(self, c: int, spec: EngineSpec) -> int | None:
        key = (c, bare(spec))
        if key not in self._estimate:
            self._estimate[key] = estimate_cycles(self.graph, self.nodes[c][0], spec)
        return self._estimate[key]

    def exact(self, c: int, spec: EngineSpec) -> int | None:
        node = self.nodes[c][0]
        got = self.book.cost(node, "full", node_box(self.graph, node), (0, reduce_extent(node)), spec, "stream")
        return None if got is None else got.busy

    def rate(self, combo: dict[int, Candidate], exact: bool) -> int | None:
        """The bound on the interval that these engines allow; None if some layer fits none of them."""
        options: list[Option] = []
        for i, c in enumerate(self.classes):
            any_fits = False
            for kind, q in enumerate(self.pools):
                spec = combo[q].spec
                cycles = self.exact(c, spec) if exact else self.estimated(c, spec)
                if cycles is not None:
                    any_fits = True
                    ticks = max(1, self.ticks(cycles, spec))
                    options.append(Option(i, kind, "", (1, 1), "full", "stream", cycles, ticks, ticks))
            if not any_fits:
                return None
        pools = [Pool((kind,), self.count[q]) for kind, q in enumerate(self.pools)]
        return lower_bound(options, pools, len(self.classes), [self.nodes[c][1] for c in self.classes]).bound

    def total(self, candidate: Candidate) -> int:
        """Estimated ticks of the whole model on one engine."""
        return sum(
            self.nodes[c][1] * self.ticks(self.estimated(c, candidate.spec) or 0, candidate.spec) for c in self.classes
        )

    def shortlist(self) -> dict[int, list[Candidate]]:
        """The best candidates of each pool by estimated work of the whole model, at most two of one shape."""
        short: dict[int, list[Candidate]] = {}
        for q in self.pools:
            ranked = sorted(self.offered[q], key=lambda c: (self.total(c), c.resources.lut, c.resources.dsp))
            seen: list[Candidate] = []
            for c in ranked:
                same = [
                    s
                    for s in seen
                    if (s.spec.tm, s.spec.tn, s.spec.vector_lanes) == (c.spec.tm, c.spec.tn, c.spec.vector_lanes)
                ]
                if len(same) < 2:
                    seen.append(c)
            short[q] = seen[:KEEP]
        return short

    def ranked(self, latency: bool) -> list[tuple[int, dict[int, Candidate]]]:
        """Combinations, the best by estimate first, with their estimated interval (latency: work of the model)."""
        short = self.shortlist()
        if not all(short.values()):
            return []
        combo = {q: short[q][0] for q in self.pools}
        if latency or sum(self.count.values()) == 1:
            deep = max(len(x) for x in short.values())
            listed = [{q: short[q][min(k, len(short[q]) - 1)] for q in self.pools} for k in range(deep)]
            return [(max(self.total(c) for c in t.values()), t) for t in listed]
        value = self.rate(combo, exact=False) or 0
        scored = [(value, combo)]
        for _ in range(2):
            before = value
            for q in self.pools:
                for c in short[q]:
                    trial = {**combo, q: c}
                    got = self.rate(trial, exact=False)
                    if got is None:
                        continue
                    scored.append((got, trial))
                    if got < value:
                        value, combo = got, trial
            if value == before:
                break
        return sorted(scored, key=lambda x: x[0])

    def best(self, latency: bool) -> dict[int, Candidate] | None:
        """Pool -> engine; None if no combination holds every layer."""
        tried: list[dict[int, Candidate]] = []
        best: tuple[int, dict[int, Candidate]] | None = None
        for _, trial in self.ranked(latency):
            if trial in tried:
                continue
            tried.append(trial)
            got = self.rate(trial, exact=True)
            if got is not None and (best is None or got < best[0]):
                best = (got, trial)
            if len(tried) >= EXACT and best is not None:
                break
        return best[1] if best is not None else None
