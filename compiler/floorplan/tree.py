"""Any floorplan as one CP-SAT model: slots as a tree with one boolean a kernel and tree edge, or as a plain graph.

Needs a FixedCase; guarantees that `bound` is CP-SAT's proven bound. Where the connections form a forest, "kernel v
stands below tree edge t" and two crossing booleans a graph edge and tree edge replace pairs of slots; equality of their
difference with the positions of the two ends makes every walk cross an edge as often as its ends say (parity), and the
longest path of kernels (the backbone) must enter and leave whatever it visits. Otherwise one boolean a graph edge and
connection.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from compiler.floorplan.budget import Clock
from compiler.floorplan.fit import slot_rows
from compiler.floorplan.problem import FixedCase

Plan = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class SlotTree:
    """The connections as a rooted tree: parents before children; `virtual` edges join components and carry nothing."""

    order: tuple[int, ...]
    parent: tuple[int, ...]  # of the root: -1
    children: tuple[tuple[int, ...], ...]


def slot_tree(case: FixedCase) -> SlotTree | None:
    """The tree, rooted at the slot with the most neighbours; None where the connections have a cycle."""
    neighbours: dict[int, set[int]] = {s: set() for s in case.slots}
    for c in case.connections:
        neighbours[c.src].add(c.dst)
        neighbours[c.dst].add(c.src)
    root = max(case.slots, key=lambda s: (len(neighbours[s]), -s))
    order: list[int] = []
    parent = [-1] * len(case.slots)
    seen: set[int] = set()
    for start in [root, *case.slots]:
        if start in seen:
            continue
        if start != root:
            parent[start] = root
        seen.add(start)
        frontier = [start]
        while frontier:
            s = frontier.pop(0)
            order.append(s)
            for t in sorted(neighbours[s] - ({parent[s]} if s != start else set())):
                if t in seen:
                    return None
                seen.add(t)
                parent[t] = s
                frontier.append(t)
    children = tuple(tuple(t for t in order if parent[t] == s) for s in case.slots)
    return SlotTree(tuple(order), tuple(parent), children)


def backbone(case: FixedCase) -> list[int]:
    """Edges (indices) of a longest directed path of kernels; empty where the kernels form a cycle."""
    into: list[list[int]] = [[] for _ in case.nodes]
    out: list[list[int]] = [[] for _ in case.nodes]
    for i, e in enumerate(case.edges):
        if e.src != e.dst:
            into[e.dst].append(i)
            out[e.src].append(i)
    missing = [len(x) for x in into]
    ready = [v for v in case.nodes if missing[v] == 0]
    length, last = [0] * len(case.versions), [-1] * len(case.versions)
    done = 0
    while ready:
        v = ready.pop(0)
        done += 1
        for i in out[v]:
            t = case.edges[i].dst
            if length[v] + 1 > length[t]:
                length[t], last[t] = length[v] + 1, i
            missing[t] -= 1
            if missing[t] == 0:
                ready.append(t)
    if done < len(case.versions):
        return []
    v = max(case.nodes, key=lambda x: (length[x], -x))
    path: list[int] = []
    while last[v] >= 0:
        path.append(last[v])
        v = case.edges[last[v]].src
    return path[::-1]


class FixedModel:
    """The CP-SAT model: place literals, version literals, capacities; `traffic` adds the edges."""

    def __init__(self, case: FixedCase, slots_of: Callable[[int], frozenset[int]] | None = None) -> None:
        from ortools.sat.python import cp_model

        self.case = case
        self.m: Any = cp_model.CpModel()
        self.at: dict[tuple[int, int], Any] = {}
        self.pick: dict[tuple[int, int, int], Any] = {}
        self.cost: list[Any] = []
        allowed = [case.allowed[v] if slots_of is None else case.allowed[v] & slots_of(v) for v in case.nodes]
        for v in case.nodes:
            for s in case.slots:
                self.at[v, s] = self.m.new_bool_var(f"x{v}.{s}")
                if s not in allowed[v]:
                    self.m.add(self.at[v, s] == 0)
                    continue
                literals = [self.m.new_bool_var(f"z{v}.{s}.{k}") for k in range(len(case.versions[v]))]
                for k, z in enumerate(literals):
                    self.pick[v, s, k] = z
                self.m.add(sum(literals) == self.at[v, s])
            self.m.add_exactly_one([self.at[v, s] for s in case.slots])
        for group in case.together:
            for v in group[1:]:
                for s in case.slots:
                    self.m.add(self.at[group[0], s] == self.at[v, s])
        self.used = [self.m.new_bool_var(f"u{s}") for s in case.slots]
        for s in case.slots:
            for v in case.nodes:
                self.m.add_implication(self.at[v, s], self.used[s])
            for row in slot_rows(case, frozenset({s})):
                use = [a * self.pick[v, s, k] for (v, k), a in row.terms.items() if a and (v, s, k) in self.pick]
                if use:
                    self.m.add(sum(use) <= row.bound * self.used[s])
        for r in range(len(case.resources)):
            need = sum(min(version[r] for version in versions) for versions in case.versions)
            self.m.add(sum(case.budget[s][r] * self.used[s] for s in case.slots) >= need)

    def _carry(self, src: int, dst: int, literals: Sequence[Any]) -> None:
        """The directed connection src -> dst crossed by edge i where literals[i]; forbidden where there is none."""
        c = self.case.link.get((src, dst))
        if c is None:
            for x in literals:
                self.m.add(x == 0)
            return
        self.cost.append(c.cost * sum(literals))
        if c.max_wires is not None:
            self.m.add(sum(e.wires * x for e, x in zip(self.case.edges, literals, strict=True)) <= c.max_wires)
        if c.max_bps is not None:
            self.m.add(sum(e.bps * x for e, x in zip(self.case.edges, literals, strict=True)) <= c.max_bps)

    def tree_traffic(self, tree: SlotTree) -> None:
        """Crossings of tree edges; an edge of the graph stays in its slot or crosses exactly one."""
        m, case = self.m, self.case
        if not case.edges:
            return
        below = {(v, t): m.new_bool_var(f"b{v}.{t}") for v in case.nodes for t in tree.order[1:]}
        for v in case.nodes:
            for s in case.slots:
                top = below[v, s] if tree.parent[s] >= 0 else 1
                m.add(self.at[v, s] == top - sum(below[v, c] for c in tree.children[s]))
        crossed: list[list[Any]] = [[] for _ in case.edges]
        path = backbone(case)
        for t in tree.order[1:]:
            down = [m.new_bool_var(f"d{i}.{t}") for i in range(len(case.edges))]
            up = [m.new_bool_var(f"p{i}.{t}") for i in range(len(case.edges))]
            for i, e in enumerate(case.edges):
                m.add(down[i] - up[i] == below[e.dst, t] - below[e.src, t])
                crossed[i] += [down[i], up[i]]
            self._carry(tree.parent[t], t, down)
            self._carry(t, tree.parent[t], up)
            if path:
                self._backbone(path, t, below, down, up)
        for literals in crossed:
            m.add_at_most_one(literals)

    def _backbone(
        self, path: list[int], t: int, below: dict[tuple[int, int], Any], down: list[Any], up: list[Any]
    ) -> None:
        """A path that visits one side of tree edge t and ends on the other crosses t to get there and back."""
        m, edges = self.m, self.case.edges
        line = [edges[path[0]].src, *(edges[i].dst for i in path)]
        crossings = sum(down[i] + up[i] for i in path)
        some, other = m.new_bool_var(f"some{t}"), m.new_bool_var(f"other{t}")
        for v in line:
            m.add_implication(below[v, t], some)
            m.add_implication(~below[v, t], other)
        first, last = below[line[0], t], below[line[-1], t]
        m.add(crossings >= 2 * some - first - last)
        m.add(crossings >= 2 * other - (1 - first) - (1 - last))

    def graph_traffic(self) -> None:
        """One boolean a graph edge and connection, for connections with cycles."""
        m, case = self.m, self.case
        on: dict[tuple[int, int], list[Any]] = {
            (c.src, c.dst): [m.new_bool_var(f"f{i}.{c.src}.{c.dst}") for i in range(len(case.edges))]
            for c in case.connections
        }
        for i, e in enumerate(case.edges):
            m.add_at_most_one([f[i] for f in on.values()])
            for (a, b), f in on.items():
                m.add_implication(f[i], self.at[e.src, a])
                m.add_implication(f[i], self.at[e.dst, b])
            for s in case.slots:
                leaving = [f[i] for (a, _), f in on.items() if a == s]
                entering = [f[i] for (_, b), f in on.items() if b == s]
                m.add(self.at[e.src, s] - sum(leaving) == self.at[e.dst, s] - sum(entering))
        for (a, b), f in on.items():
            self._carry(a, b, f)

    def solve(
        self, clock: Clock, seconds: float, *, floor: int = 0, below: int | None = None, hint: Plan | None = None
    ) -> tuple[str, int, Plan | None]:
        """(status, proven bound, plan). floor: a proven bound; below: only plans of less cost are wanted."""
        m = self.m
        total = sum(self.cost) if self.cost else 0
        if self.cost:
            m.add(total >= floor)
            if below is not None:
                m.add(total <= below - 1)
            m.minimize(total)
        if hint is not None:
            for v, (s, k) in enumerate(hint):
                for t in self.case.slots:
                    m.add_hint(self.at[v, t], t == s)
                if (v, s, k) in self.pick:
                    m.add_hint(self.pick[v, s, k], True)
        status, solver = clock.solve(m, seconds)
        if status == "INFEASIBLE":
            return status, floor, None
        bound = floor
        if solver is not None and self.cost and status != "UNKNOWN":
            bound = max(floor, round(solver.best_objective_bound))
        elif solver is not None and self.cost:
            found = solver.best_objective_bound
            bound = max(floor, round(found)) if abs(found) < 1e15 else floor
        if status not in ("OPTIMAL", "FEASIBLE"):
            return status, bound, None
        plan = [(-1, -1)] * len(self.case.versions)
        for (v, s, k), z in self.pick.items():
            if solver.value(z):
                plan[v] = (s, k)
        return status, bound, tuple(plan)


def build(case: FixedCase, slots_of: Callable[[int], frozenset[int]] | None = None) -> FixedModel:
    """The model with the traffic that suits the connections."""
    model = FixedModel(case, slots_of)
    tree = slot_tree(case)
    if tree is not None:
        model.tree_traffic(tree)
    else:
        model.graph_traffic()
    return model


def cost_of(case: FixedCase, plan: Plan) -> int:
    """Sum of connection costs of a plan."""
    return sum(case.link[plan[e.src][0], plan[e.dst][0]].cost for e in case.edges if plan[e.src][0] != plan[e.dst][0])
